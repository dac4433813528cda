r"""Penalties on the discriminator: `(critic, real, fake, key) -> [batch]`.

`critic` maps a batch of images to logits `[batch]`; `real` and `fake` are batches of
one shape. A config names them with a weight and how often they are applied:
`penalties = 'r1(weight=10, every=16)'`. Your own is any such function.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

Critic = Callable[[Array], Array]


def r1(critic: Critic, real: Array, fake: Array, key: Array) -> Array:
    r"""Returns $\frac12\|\nabla_x D(x)\|^2$ at real examples.

    Its weight is the $\gamma$ of Mescheder et al. 2018 (arXiv:1801.04406), eq. 9.
    """
    return 0.5 * _squared_gradient_norm(critic, real)


def r2(critic: Critic, real: Array, fake: Array, key: Array) -> Array:
    r"""Returns $\frac12\|\nabla_x D(x)\|^2$ at generated examples.

    Its weight is the $\gamma$ of Mescheder et al. 2018 (arXiv:1801.04406), eq. 10.
    """
    return 0.5 * _squared_gradient_norm(critic, fake)


def gradient_penalty(critic: Critic, real: Array, fake: Array, key: Array) -> Array:
    r"""Returns $(\|\nabla_{\hat x} D(\hat x)\| - 1)^2$ between real and fake pairs.

    $\hat x$ is uniform on the segment from one to the other; the weight is the
    $\lambda$ of Gulrajani et al. 2017 (arXiv:1704.00028), eq. 3. Use it with networks
    without batch normalisation, which would mix the examples' gradients.
    """
    shape = (len(real),) + (1,) * (real.ndim - 1)
    t = jax.random.uniform(key, shape, real.dtype)
    norm = jnp.sqrt(_squared_gradient_norm(critic, real + t * (fake - real)) + 1e-12)
    return jnp.square(norm - 1)


def _squared_gradient_norm(critic: Critic, x: Array) -> Array:
    gradient = jax.grad(lambda x: critic(x).sum())(x)
    return jnp.square(gradient).sum(range(1, x.ndim))
