"""Penalties on how the discriminator's logits change with small changes of its input.

$T$ flips images and shifts them by up to an eighth of their side, with reflection at
the border, as in the code of `cr`'s authors. Examples that are not images are moved by
Gaussian noise. $D(x)$ is the logit of the loss, of an augmented example if there is an
augmentation; $T$ takes the example itself.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.objective import augment
from gan_jax.objective.penalties.shared import Critic, check_latents
from gan_jax.objective.terms import check_flag, check_number, penalty


@penalty
def cr(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    real_logits: Array,
    space: Any,
    scale: float = 0.05,
    flip: bool = True,
) -> Array:
    r"""Returns $(D(x) - D(T(x)))^2$ at real examples.

    Consistency regularisation (Zhang et al. 2020, arXiv:1910.12027).

    Settings:
      scale: standard deviation of the noise; images do not use it.
      flip: whether $T$ flips images, with probability ½; not for digits or letters.

    Raises:
      UserError: the scale is no positive number, or `flip` neither True nor False.
    """
    changed = _transform("cr", key, real, space, scale, flip)
    return jnp.square(real_logits - critic(changed))


@penalty
def bcr(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    real_logits: Array,
    fake_logits: Array,
    fake_condition: Any,
    space: Any,
    scale: float = 0.05,
    flip: bool = True,
) -> Array:
    r"""Returns $(D(x) - D(T(x)))^2 + (D(G(z)) - D(T(G(z))))^2$.

    Balanced consistency regularisation (Zhao et al. 2021, arXiv:2002.04724, algorithm
    1), which includes generated examples; the settings are those of `cr`.

    Raises:
      UserError: the scale is no positive number, or `flip` neither True nor False.
    """
    real_key, fake_key = jax.random.split(key)
    changed_real = _transform("bcr", real_key, real, space, scale, flip)
    changed_fake = _transform("bcr", fake_key, fake, space, scale, flip)
    of_real = real_logits - critic(changed_real)
    of_fake = fake_logits - critic(changed_fake, fake_condition)
    return jnp.square(of_real) + jnp.square(of_fake)


@penalty(weight=5.0, players=("d", "g"))
def zcr(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    generator: Callable[[Array], Array],
    latents: Array,
    sample: Array,
    player: str,
    sigma: float = 0.03,
    gamma: float = 0.1,
) -> Array:
    r"""Returns $\overline{(D(x) - D(x'))^2} - \gamma\,\overline{(x - x')^2}$.

    Latent consistency regularisation (Zhao et al. 2021, arXiv:2002.04724, algorithm 2),
    for $x = G(z)$ and $x' = G(z + \Delta z)$. D learns to give them like logits: its
    objective has the first part alone. G learns to make them differ: its objective has
    the second part alone. The bars are means over an example's judgements and over its
    coordinates.

    Settings:
      sigma: standard deviation of $\Delta z$, which is normal.
      gamma: $\lambda_\text{gen} / \lambda_\text{dis}$; the weight is
        $\lambda_\text{dis}$.

    Raises:
      UserError: sigma is no positive number, gamma is negative, or latents have no
        coordinates.
    """
    check_number("zcr: sigma", sigma, zero=False)
    check_number("zcr: gamma", gamma)
    check_latents("zcr", latents)
    noise = jax.random.normal(key, latents.shape).astype(latents.dtype)
    near = generator(latents + sigma * noise)
    if player == "g":
        return -gamma * jnp.square(sample - near).mean(range(1, sample.ndim))
    change = critic(sample) - critic(near)  # `fake` may hold earlier samples
    return jnp.square(change).reshape(len(sample), -1).mean(1)


def _transform(
    name: str, key: Array, x: Array, space: Any, scale: float, flip: bool
) -> Array:
    check_number(f"{name}: scale", scale, zero=False)
    check_flag(f"{name}: flip", flip)
    if not space.is_image:
        return x + scale * jax.random.normal(key, x.shape).astype(x.dtype)
    flip_key, shift_key = jax.random.split(key)
    x = augment.flip(flip_key, x) if flip else x
    return augment.shifted(shift_key, x, 0.125, mode="reflect")
