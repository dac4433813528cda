"""A history of samples, of which the discriminator is shown some again.

Shrivastava et al. 2017 (arXiv:1612.07828), section 2.3: half of each batch of samples
comes from a buffer, and half of the new ones take the places of those in it that are
drawn at random.
"""

import jax
import jax.numpy as jnp
from jax import Array


def start(size: int, shape: tuple[int, ...]) -> dict[str, Array]:
    """Returns an empty buffer.

    Args:
      size: samples that it holds.
      shape: of one sample.
    """
    return {"samples": jnp.zeros((size, *shape)), "filled": jnp.float32(0)}


def mixed(buffer: dict[str, Array], new: Array, key: Array) -> tuple[Array, dict]:
    """Exchanges half of the new samples for earlier ones, once there are some.

    Args:
      buffer: of at least half as many samples as a batch has.
      new: `[batch, *shape]`.
      key: a PRNG key.

    Returns:
      Samples `[batch, *shape]`, half of them new, and the new buffer.
    """
    samples, filled = buffer["samples"], buffer["filled"]
    size, half = len(samples), len(new) // 2
    # Places that are free come first, in their order; then the draw decides.
    free = jnp.arange(size) >= filled
    order = jnp.where(free, -1.0, jax.random.uniform(key, (size,)))
    where = jnp.argsort(order)[:half]
    old = jnp.where(
        free[where].reshape(-1, *[1] * (new.ndim - 1)), new[:half], samples[where]
    )
    samples = samples.at[where].set(new[:half])
    filled = jnp.minimum(filled + half, size)
    return jnp.concatenate([old, new[half:]]), {"samples": samples, "filled": filled}
