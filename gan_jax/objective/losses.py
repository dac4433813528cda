r"""Adversarial losses: pairs of pure functions on logits.

The discriminator's logit $\ell$ stands for $D = \sigma(\ell)$. Every function returns
one value per example, shape `[batch]`, to be minimised; the step takes the mean. Your
own is a `Loss` of two such functions, named in a config as `my_file.py:name`.
Where the logits have another meaning (`least_squares`, `wasserstein`, `f_gan`), the
reported D(x), V and accuracy, which take their sigmoid, are monitors and no
probabilities.

A function that returns a `Loss` is a family of losses, `least_squares(c=0.5)`; one
whose first argument is a loss changes that, `non_saturating, label_smoothing`.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.nn import logsumexp, relu, softplus

from gan_jax.errors import UserError, unknown
from gan_jax.objective.terms import MAX


class Loss(NamedTuple):
    """What each player minimises.

    Attributes:
      d: `(real_logits, fake_logits) -> [batch]`, the discriminator's loss.
      g: `(fake_logits, real_logits) -> [batch]`, the generator's loss; only
        relativistic losses read the second.
      cost: `(logits, target) -> [batch]` of a loss that has labels: the
        discriminator's is `cost(real_logits, 1) + cost(fake_logits, 0)`. The targets
        are a number or `[batch]`.
      drawn: `key -> Loss` of a loss that is random: the loss of one update, whose
        expectation are `d`, `g` and `cost`.
    """

    d: Callable[[Array, Array], Array]
    g: Callable[[Array, Array], Array]
    cost: Callable[[Array, Array | float], Array] | None = None
    drawn: Callable[[Array], "Loss"] | None = None

    def draw(self, key: Array) -> "Loss":
        """Returns the loss of one update, itself unless it is random."""
        return self.drawn(key) if self.drawn else self


def _d_logistic(real: Array, fake: Array) -> Array:
    r"""$-\log D(x) - \log(1 - D(G(z)))$, the binary cross-entropy."""
    return softplus(-real) + softplus(fake)


# Goodfellow et al. 2014 (arXiv:1406.2661), eq. 1: G minimises log(1 - D(G(z))), which
# saturates where D rejects the samples with confidence.
minimax = Loss(
    d=_d_logistic,
    g=lambda fake, real: -softplus(fake),
    cost=optax.sigmoid_binary_cross_entropy,
)

# Ibid., section 3: G minimises -log D(G(z)); same fixed point, stronger gradients.
non_saturating = minimax._replace(g=lambda fake, real: softplus(-fake))

# Lim and Ye 2017 (arXiv:1705.02894); Miyato et al. 2018 (arXiv:1802.05957), eq. 16-17.
hinge = Loss(
    d=lambda real, fake: relu(1 - real) + relu(1 + fake),
    g=lambda fake, real: -fake,
)

# Arjovsky et al. 2017 (arXiv:1701.07875), eq. 2. The critic must be kept Lipschitz:
# add `--config.penalties=gradient_penalty`.
wasserstein = Loss(d=lambda real, fake: fake - real, g=lambda fake, real: -fake)


def least_squares(a: float = 0.0, b: float = 1.0, c: float = 1.0) -> Loss:
    r"""Returns the loss of LSGAN (Mao et al. 2017, arXiv:1611.04076).

    D minimises $\frac12(\ell_x - b)^2 + \frac12(\ell_{G(z)} - a)^2$ and G
    $\frac12(\ell_{G(z)} - c)^2$ (its eq. 2; the defaults are eq. 9). With $b - c = 1$
    and $b - a = 2$ (eq. 8), G minimises Pearson's $\chi^2$ between the sum of both
    distributions and twice the generated one.

    Args:
      a: what D is to say of generated examples.
      b: what D is to say of real ones, more than `a`.
      c: what G wants D to say of generated ones.

    Raises:
      UserError: these are not three numbers with a < b.
    """
    if not (all(map(_is_number, (a, b, c))) and a < b):
        raise UserError(
            f"least_squares(a={a!r}, b={b!r}, c={c!r}): it needs numbers, a less than b"
        )
    return _labelled(
        lambda logits, target: 0.5 * jnp.square(logits - (a + (b - a) * target)),
        g=lambda fake, real: 0.5 * jnp.square(fake - c),
    )


# What a logit, or the lead of one over another, costs: it falls as that grows.
_FALLING = {
    "logistic": lambda x: softplus(-x),
    "hinge": lambda x: relu(1 - x),
    "least_squares": lambda x: jnp.square(x - 1),
}


def relativistic(f: str | Callable[[Array], Array] = "logistic") -> Loss:
    r"""Returns RpGAN's loss (Jolicoeur-Martineau 2018, arXiv:1807.00734, section 4).

    D minimises $f(\ell_x - \ell_{G(z)})$, that a real example seem more real than a
    generated one it is paired with, and G minimises $f(\ell_{G(z)} - \ell_x)$.

    Args:
      f: 'logistic', $\log(1 + e^{-x})$; 'hinge', $\max(0, 1 - x)$; 'least_squares',
        $(x - 1)^2$; or your own falling function.

    Raises:
      UserError: there is no such `f`.
    """
    f = _falling("relativistic", f)
    return Loss(
        d=lambda real, fake: f(real - fake),
        g=lambda fake, real: f(fake - real),
    )


def relativistic_average(f: str | Callable[[Array], Array] = "logistic") -> Loss:
    r"""Returns RaGAN's loss (Jolicoeur-Martineau 2018, arXiv:1807.00734, section 4).

    Each example is compared with the mean of the other side over the batch: D minimises
    $f(\ell_x - \mathbb E\,\ell_{G(z)}) + f(\mathbb E\,\ell_x - \ell_{G(z)})$, and G the
    same with the sides exchanged.

    Args:
      f: as for `relativistic`.

    Raises:
      UserError: there is no such `f`.
    """
    f = _falling("relativistic_average", f)

    def lead(first: Array, second: Array) -> Array:
        return f(first - second.mean()) + f(first.mean() - second)

    return Loss(d=lead, g=lead)


def _contrast(real: Array, fake: Array) -> Array:
    r"""$\log(1 + \sum_j e^{f_j - r_i}) + \log(1 + \sum_j e^{f_i - r_j})$."""
    return softplus(logsumexp(fake) - real) + softplus(fake + logsumexp(-real))


# Yu et al. 2021 (arXiv:2103.16748), section 3: D tells each real logit from all the
# generated ones of the batch, and each generated one from all the real ones. The game
# is zero-sum: G maximises what D minimises.
dual_contrastive = Loss(
    d=_contrast, g=lambda fake, real: jnp.negative(_contrast(real, fake))
)

# exp goes on along its tangent from here: at a logit of 1e4 it would be infinite, and
# one such logit would end the run. e^20 leaves a gradient and its square, which Adam
# and the norm of the gradient take, finite; f_gan is exact for density ratios below it.
_TANGENT_FROM = 20.0


def _exp(x: Array) -> Array:
    start = _TANGENT_FROM
    tangent = math.exp(start) * (1 + x - start)
    return jnp.where(x < start, jnp.exp(jnp.minimum(x, start)), tangent)


# Of each divergence, v -> -g_f(v) and v -> f*(g_f(v)), from tables 2 and 6 of f-GAN.
_DIVERGENCES = {
    "kl": (jnp.negative, lambda v: _exp(v - 1)),
    "reverse_kl": (lambda v: _exp(-v), lambda v: v - 1),
    "pearson": (jnp.negative, lambda v: 0.25 * jnp.square(v) + v),
    "squared_hellinger": (lambda v: _exp(-v) - 1, lambda v: _exp(v) - 1),
    "jensen_shannon": (
        lambda v: softplus(-v) - math.log(2),
        lambda v: softplus(v) - math.log(2),
    ),
    "gan": (lambda v: softplus(-v), softplus),
}


def f_gan(divergence: str = "kl", saturating: bool = False) -> Loss:
    r"""Returns the loss of f-GAN (Nowozin et al. 2016, arXiv:1606.00709).

    With the critic $T = g_f(\ell)$, D maximises the bound (its eq. 4)
    $\mathbb E\,T(x) - \mathbb E\,f^*(T(G(z))) \le D_f(P \| Q)$, reached at
    $T = f'(p/q)$. Each $g_f$ and $f^*$ (tables 6 and 2) is written out in the logit.

    Args:
      divergence: of the data P from the generator's Q: 'kl', 'reverse_kl', 'pearson',
        'squared_hellinger', 'jensen_shannon' (by the generator of table 1, the sum of
        both divergences from the mixture) or 'gan' (that less $\log 4$).
      saturating: whether G minimises the bound, $-\mathbb E\,f^*(T(G(z)))$, or else, as
        in section 3.2, $-\mathbb E\,T(G(z))$.

    Raises:
      UserError: there is no such divergence.
    """
    if divergence not in _DIVERGENCES:
        raise unknown("divergence", str(divergence), _DIVERGENCES)
    if not isinstance(saturating, bool):
        raise UserError(f"f_gan: saturating is {saturating!r}: it is True or False")
    of_real, of_fake = _DIVERGENCES[divergence]
    return Loss(
        d=lambda real, fake: of_real(real) + of_fake(fake),
        g=lambda fake, real: -of_fake(fake) if saturating else of_real(fake),
    )


def label_smoothing(loss: Loss, *, real: float = 0.9, fake: float = 0.0) -> Loss:
    """Returns the loss with targets that leave some doubt to the discriminator.

    Salimans et al. 2016 (arXiv:1606.03498), section 3.4: of real examples alone, since
    D's optimum would else follow the generated ones where there are no data.

    Args:
      loss: one that has labels.
      real: the target of real examples, instead of 1.
      fake: the target of generated ones, instead of 0.

    Raises:
      UserError: the loss has none, or they are not 0 <= fake < real <= 1.
    """
    _needs_labels("label_smoothing", loss)
    if not (_is_number(real) and _is_number(fake) and 0 <= fake < real <= 1):
        raise UserError(
            f"label_smoothing(real={real!r}, fake={fake!r}): it needs "
            "0 <= fake < real <= 1"
        )

    def smooth(target):
        return fake + (real - fake) * target

    def cost(logits: Array, target) -> Array:
        return loss.cost(logits, smooth(target))

    if loss.drawn:
        return _relabelled(loss, cost, lambda key, target: smooth(target))
    return _labelled(cost, loss.g)


def label_flipping(loss: Loss, *, p: float = 0.05) -> Loss:
    """Returns the loss with each label flipped with probability `p` in each update.

    Chintala et al. 2016 (github.com/soumith/ganhacks), number 6.

    Args:
      loss: one that has labels.
      p: the probability, less than a half.

    Raises:
      UserError: the loss has none, or `p` is not in [0, 0.5).
    """
    _needs_labels("label_flipping", loss)
    if not (_is_number(p) and 0 <= p < 0.5):
        raise UserError(f"label_flipping(p={p!r}): it needs 0 <= p < 0.5")

    def cost(logits: Array, target) -> Array:
        kept, flipped = loss.cost(logits, target), loss.cost(logits, 1 - target)
        return (1 - p) * kept + p * flipped

    def flip(key: Array, target: Array) -> Array:
        flipped = jax.random.bernoulli(key, float(p), target.shape)
        return jnp.where(flipped, 1 - target, target)

    return _relabelled(loss, cost, flip)


def noisy_labels(
    loss: Loss,
    *,
    real: Sequence[float] = (0.7, 1.2),
    fake: Sequence[float] = (0.0, 0.3),
) -> Loss:
    """Returns the loss with targets drawn uniformly from intervals in each update.

    Chintala et al. 2016 (github.com/soumith/ganhacks), number 6.

    Args:
      loss: one that has labels.
      real: the ends of the interval of real examples.
      fake: the ends of that of generated ones.

    Raises:
      UserError: the loss has none, or these are no intervals whose middles lie in
        [0, 1], that of `real` above that of `fake`. Beyond it the cross-entropy would
        have no minimum.
    """
    _needs_labels("noisy_labels", loss)
    if not (_is_interval(real) and _is_interval(fake) and sum(fake) < sum(real)):
        raise UserError(
            f"noisy_labels(real={real!r}, fake={fake!r}): it needs two intervals "
            "[low, high], their middles in [0, 1], that of real above that of fake"
        )

    def at(u, target):
        """Returns the target at `u` in [0, 1] of its interval."""
        of_fake, of_real = ((1 - u) * low + u * high for low, high in (fake, real))
        return of_fake + (of_real - of_fake) * target

    def cost(logits: Array, target) -> Array:
        # Gauss-Legendre at two nodes, exact for costs that are cubic in the target.
        nodes = 0.5 - 0.5 / math.sqrt(3), 0.5 + 0.5 / math.sqrt(3)
        first, second = (loss.cost(logits, at(u, target)) for u in nodes)
        return 0.5 * (first + second)

    def draw(key: Array, target: Array) -> Array:
        return at(jax.random.uniform(key, target.shape, target.dtype), target)

    return _relabelled(loss, cost, draw)


def _labelled(cost: Callable, g: Callable) -> Loss:
    """Returns the loss of a discriminator that pays `cost` for its answers."""
    return Loss(d=lambda real, fake: cost(real, 1.0) + cost(fake, 0.0), g=g, cost=cost)


def _relabelled(loss: Loss, cost: Callable, change: Callable) -> Loss:
    """Returns a random loss that changes the targets of another.

    Args:
      loss: the other; it may be random itself.
      cost: its expectation.
      change: `(key, target) -> target`, both `[batch]`.
    """

    def cost_at(key: Array) -> Callable:
        inner_key, own_key = jax.random.split(key)
        inner = loss.draw(inner_key).cost

        def drawn_cost(logits: Array, target) -> Array:
            targets = jnp.broadcast_to(jnp.asarray(target, logits.dtype), logits.shape)
            return inner(logits, change(own_key, targets))

        return drawn_cost

    def drawn(key: Array) -> Loss:
        of_real, of_fake = map(cost_at, jax.random.split(key))
        return Loss(
            d=lambda real, fake: of_real(real, 1.0) + of_fake(fake, 0.0),
            g=loss.g,
            cost=cost_at(key),
        )

    return _labelled(cost, loss.g)._replace(drawn=drawn)


def _falling(name: str, f: str | Callable) -> Callable:
    if callable(f):
        return f
    if f not in _FALLING:
        raise unknown(f"f of {name}", str(f), _FALLING)
    return _FALLING[f]


def _needs_labels(name: str, loss: Loss) -> None:
    if loss.cost is None:
        raise UserError(
            f"{name} needs a loss with labels, that is with a cost(logits, target), "
            "such as non_saturating, minimax or least_squares"
        )


def _is_number(x) -> bool:
    return type(x) in (int, float) and abs(x) <= MAX


def _is_interval(x) -> bool:
    pair = isinstance(x, list | tuple) and len(x) == 2 and all(map(_is_number, x))
    return pair and x[0] <= x[1] and 0 <= sum(x) <= 2
