"""Penalties on the gradient of the discriminator by its input.

Where D makes several judgements of an example, D(x) stands for their sum. Where it
mixes the examples of a batch, as batch normalisation does, the gradient is that of the
batch's summed judgements by each example: these terms are meant for a D that does not.

Under an augmentation $T$, `r1` and `r2` differentiate what the loss sees, D(T(x)). The
others are of D itself, at examples that were not augmented.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.objective.penalties.shared import Critic, gradient, norm, squared_norm
from gan_jax.objective.terms import check_flag, check_number, penalty


@penalty
def r1(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    real_slope: Callable[[], Array],
) -> Array:
    r"""Returns $\frac12\|\nabla_x D(T(x))\|^2$ at real examples.

    Its weight is the $\gamma$ of Mescheder et al. 2018 (arXiv:1801.04406), eq. 9. The
    authors' code lacks the half: its `reg_param` of 10 is a weight of 20. An
    augmentation $T$ belongs to the function that is differentiated, as in the code of
    StyleGAN2-ADA and of R3GAN.
    """
    return 0.5 * squared_norm(real_slope())


@penalty
def r2(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    fake_slope: Callable[[], Array],
) -> Array:
    r"""Returns $\frac12\|\nabla_x D(T(x))\|^2$ at generated examples.

    Its weight is the $\gamma$ of Mescheder et al. 2018 (arXiv:1801.04406), eq. 10.
    $T$ is that of `r1`.
    """
    return 0.5 * squared_norm(fake_slope())


@penalty
def gradient_penalty(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    one_sided: bool = False,
    target: float = 1.0,
) -> Array:
    r"""Returns $(\|\nabla_{\hat x} D(\hat x)\| - 1)^2$ between real and fake pairs.

    $\hat x$ is uniform on the segment from one to the other; the weight is the
    $\lambda$ of Gulrajani et al. 2017 (arXiv:1704.00028), eq. 3. Use it with networks
    without batch normalisation, which would mix the examples' gradients.

    Settings:
      one_sided: do not penalise norms below the target, $\max(0, \|\nabla\| - 1)^2$
        (WGAN-LP, Petzka et al. 2018, arXiv:1709.08894).
      target: the norm aimed at in place of 1. ProGAN (arXiv:1710.10196), which aims at
        750, also divides by its square: give a weight that much smaller.

    Raises:
      UserError: the target is negative.
    """
    check_number("gradient_penalty: target", target)
    check_flag("gradient_penalty: one_sided", one_sided)
    excess = norm(gradient(critic, _between(key, real, fake))) - target
    return jnp.square(jnp.maximum(excess, 0) if one_sided else excess)


@penalty
def zero_centred_gradient_penalty(
    critic: Critic, real: Array, fake: Array, key: Array
) -> Array:
    r"""Returns $\|\nabla_{\hat x} D(\hat x)\|^2$ between real and fake pairs.

    Thanh-Tung et al. 2019 (arXiv:1902.03984); $\hat x$ is that of `gradient_penalty`.
    """
    return squared_norm(gradient(critic, _between(key, real, fake)))


@penalty
def dragan(critic: Critic, real: Array, fake: Array, key: Array) -> Array:
    r"""Returns $(\|\nabla_{\hat x} D(\hat x)\| - 1)^2$ around real examples.

    Kodali et al. 2017 (arXiv:1705.07215), algorithm 1. $\hat x$ is uniform on the
    segment from $x$ to $x + \frac12 \mathrm{std}(x) u$, with $u$ uniform in [0, 1] in
    each coordinate and the standard deviation that of the batch, as in the authors'
    code.
    """
    noise_key, t_key = jax.random.split(key)
    noise = jax.random.uniform(noise_key, real.shape).astype(real.dtype)
    x = _between(t_key, real, real + 0.5 * real.std() * noise)
    return jnp.square(norm(gradient(critic, x)) - 1)


def _between(key: Array, start: Array, end: Array) -> Array:
    """Draws a point on the segment of each pair, `t` alike in all its coordinates."""
    t = jax.random.uniform(key, (len(start),) + (1,) * (start.ndim - 1))
    return start + t.astype(start.dtype) * (end - start)
