"""Changes of a loss's labels: soft, noisy and flipped targets of the discriminator.

Each is a transform of a loss, named in a config after it:
`non_saturating, label_smoothing(real=0.9), label_flipping(p=0.05)`. The last one named
changes the labels first. They need a loss with a `cost(logits, target)`, and only
compose its `target`, see `gan_jax.objective.losses.Loss`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError
from gan_jax.objective.losses import Loss, Target, is_number, labelled
from gan_jax.objective.terms import transform


@transform
def label_smoothing(loss: Loss, *, real: float = 0.9, fake: float = 0.0) -> Loss:
    """Returns the loss with targets that leave some doubt to the discriminator.

    Salimans et al. 2016 (arXiv:1606.03498), section 3.4: of real examples alone, since
    with soft targets for generated ones D's optimum would follow their density where
    there are no data.

    Args:
      loss: a loss with labels.
      real: the target of real examples, in place of 1.
      fake: the target of generated ones, in place of 0.

    Raises:
      UserError: the loss has no labels, or not 0 <= fake < real <= 1.
    """
    if not (is_number(real) and is_number(fake) and 0 <= fake < real <= 1):
        raise UserError(
            f"label_smoothing(real={real!r}, fake={fake!r}): it needs "
            "0 <= fake < real <= 1"
        )

    def smooth(key: Array | None, targets: Array) -> Array:
        return fake + (real - fake) * targets

    return _retargeted("label_smoothing", loss, smooth)


@transform
def label_flipping(loss: Loss, *, p: float = 0.05) -> Loss:
    """Returns the loss with each label flipped with probability `p` in each update.

    Chintala et al. 2016 (github.com/soumith/ganhacks), number 6.

    Args:
      loss: a loss with labels.
      p: the probability, less than a half.

    Raises:
      UserError: the loss has no labels, or `p` is not in [0, 0.5).
    """
    if not (is_number(p) and 0 <= p < 0.5):
        raise UserError(f"label_flipping(p={p!r}): it needs 0 <= p < 0.5")

    def flip(key: Array | None, targets: Array) -> Array:
        if key is None:
            return (1 - p) * targets + p * (1 - targets)
        flipped = jax.random.bernoulli(key, float(p), targets.shape)
        return jnp.where(flipped, 1 - targets, targets)

    return _retargeted("label_flipping", loss, flip)


@transform
def noisy_labels(
    loss: Loss,
    *,
    real: Sequence[float] = (0.7, 1.2),
    fake: Sequence[float] = (0.0, 0.3),
) -> Loss:
    """Returns the loss with targets drawn uniformly from intervals in each update.

    Chintala et al. 2016 (github.com/soumith/ganhacks), number 6.

    Args:
      loss: a loss with labels.
      real: the ends of the interval of real examples.
      fake: the ends of that of generated ones.

    Raises:
      UserError: the loss has no labels, or these are not intervals whose middles lie
        in [0, 1], that of `real` above that of `fake`. Outside of [0, 1] the
        cross-entropy has no minimum.
    """
    if not (_is_interval(real) and _is_interval(fake) and sum(fake) < sum(real)):
        raise UserError(
            f"noisy_labels(real={real!r}, fake={fake!r}): it needs two intervals "
            "[low, high], their middles in [0, 1], that of real above that of fake"
        )

    def jitter(key: Array | None, targets: Array) -> Array:
        u = 0.5
        if key is not None:
            u = jax.random.uniform(key, targets.shape, targets.dtype)
        of_fake, of_real = ((1 - u) * low + u * high for low, high in (fake, real))
        return of_fake + (of_real - of_fake) * targets

    return _retargeted("noisy_labels", loss, jitter)


def _retargeted(name: str, loss: Loss, change: Target) -> Loss:
    """Returns the loss with its labels changed before its own `target` changes them.

    Raises:
      UserError: the loss has no labels.
    """
    if loss.cost is None:
        raise UserError(
            f"{name} needs a loss with labels, that is with a cost(logits, target), "
            "such as non_saturating, minimax or least_squares"
        )

    def target(key: Array | None, targets: Array) -> Array:
        inner, outer = (None, None) if key is None else jax.random.split(key)
        changed = change(outer, targets)
        return changed if loss.target is None else loss.target(inner, changed)

    return labelled(loss.cost, loss.g, target)


def _is_interval(x) -> bool:
    pair = isinstance(x, list | tuple) and len(x) == 2 and all(map(is_number, x))
    return pair and x[0] <= x[1] and 0 <= sum(x) <= 2
