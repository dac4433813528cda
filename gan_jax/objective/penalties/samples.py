"""Penalties on what the generator makes."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.lax import stop_gradient

from gan_jax.errors import UserError
from gan_jax.objective.penalties.shared import (
    Critic,
    Memory,
    check_latents,
    moving_averages,
    norm,
)
from gan_jax.objective.terms import check_flag, check_number, penalty


@penalty(weight=1.0, players=("g",))
def feature_matching(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    features: Callable[..., Array],
    real_seen: Array,
    fake_seen: Array,
    fake_condition: Array | None,
) -> Array:
    r"""Returns $\|\mathbb{E}_x f(x) - \mathbb{E}_z f(G(z))\|^2$ of D's features $f$.

    Salimans et al. 2016 (arXiv:1606.03498), section 3.1; the means are of the batch.
    The norm is a sum over the features; the authors' code takes their mean.
    """
    of_fake = features(fake_seen, fake_condition).mean(0)
    gap = stop_gradient(features(real_seen)).mean(0) - of_fake
    return jnp.broadcast_to(jnp.square(gap).sum(), len(real))


@penalty(weight=2.0, players=("g",), initial={"length": 0.0, "weight": 0.0})
def path_length(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    generator: Callable[[Array], Array],
    latents: Array,
    memory: Memory,
    decay: float = 0.99,
) -> tuple[Array, Memory]:
    r"""Returns $(\|J_z^T y\| - a)^2$, $J_z$ the generator's Jacobian.

    Karras et al. 2020 (arXiv:1912.04958), eq. 4, with $z$ in place of the styles $w$.
    $y$ is standard normal over the root of the number of pixels; $a$ is a moving
    average of the lengths that includes this batch's and has no bias to its initial
    value.

    Settings:
      decay: of the average, in [0, 1).

    Raises:
      UserError: the decay is outside of [0, 1), or latents have no coordinates.
    """
    check_number("path_length: decay", decay, below=1)
    check_latents("path_length", latents)
    examples, pull_back = jax.vjp(generator, latents)
    pixels = math.prod(examples.shape[1:-1])
    y = jax.random.normal(key, examples.shape) / math.sqrt(pixels)
    lengths = norm(*pull_back(y.astype(examples.dtype)))
    average, memory = moving_averages(memory, {"length": lengths.mean()}, decay)
    return jnp.square(lengths - average["length"]), memory


@penalty(weight=1.0, players=("g",))
def mode_seeking(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    generator: Callable[[Array], Array],
    latents: Array,
    sample: Array,
    fake_condition: Any,
) -> Array:
    r"""Returns $\overline{|z - z'|} \big/ \overline{|G(z) - G(z')|}$.

    Mao et al. 2019 (arXiv:1903.05628) maximise the inverse; as in the authors' code,
    $10^{-5}$ is added to it. The bars are means over the batch and all coordinates;
    $z'$ is the latent before $z$ in the batch, and both have the condition of $z$. (The
    authors draw $z'$ anew, and both players see its samples too.)

    Raises:
      UserError: there is only one latent, or it has no coordinates.
    """
    check_latents("mode_seeking", latents)
    if len(latents) < 2:
        raise UserError("mode_seeking compares latents: take a batch_size of 2 or more")
    others = jnp.roll(latents, 1, axis=0)
    # Without conditions these samples are there already, in another order.
    made = jnp.roll(sample, 1, axis=0) if fake_condition is None else generator(others)
    change = jnp.abs(sample - made).mean()
    apart = change / jnp.abs(latents - others).mean()
    return jnp.broadcast_to(1 / (apart + 1e-5), len(real))


@penalty(weight=100.0, players=("g",))
def reconstruction(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    example: Array,
    sample: Array,
    squared: bool = False,
) -> Array:
    r"""Returns $\overline{|x - G(z, c)|}$, of the sample that has the condition of $x$.

    Isola et al. 2017 (arXiv:1611.07004), eq. 3: the condition is the image to
    translate, and $x$ its translation. The bar is the mean over the coordinates, as in
    the authors' code.

    Settings:
      squared: whether the differences are squared.

    Raises:
      UserError: `squared` is neither True nor False.
    """
    check_flag("reconstruction: squared", squared)
    gap = sample - example
    gap = jnp.square(gap) if squared else jnp.abs(gap)
    return gap.mean(range(1, gap.ndim))


@penalty(weight=1.0, players=("d", "g"))
def auxiliary_classifier(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    classify: Callable[..., Array],
    real_seen: Array,
    fake_seen: Array,
    condition: Array,
    fake_condition: Array,
    player: str,
) -> Array:
    r"""Returns $-\log P(c \mid x) - \log P(c \mid G(z, c))$, which both players lower.

    The negative of $L_C$ of AC-GAN (Odena et al. 2017, arXiv:1610.09585), eq. 3. The
    conditions are classes, `[batch]`. G's objective has the second part alone: the
    first has no gradient by G.
    """
    cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels
    of_fake = cross_entropy(classify(fake_seen, fake_condition), fake_condition)
    if player == "g":
        return of_fake
    return cross_entropy(classify(real_seen), condition) + of_fake
