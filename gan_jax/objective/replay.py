"""A history of samples, of which the discriminator is shown some again.

Shrivastava et al. 2017 (arXiv:1612.07828), section 2.3: half of each batch of samples
is drawn from a buffer, and those that are new take places in it, drawn anew.
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
    """Exchanges half of the new samples for ones of the buffer, once it has some.

    Args:
      buffer: of at least half as many samples as a batch has.
      new: `[batch, *shape]`.
      key: a PRNG key.

    Returns:
      Samples `[batch, *shape]`, half of them new, and the buffer with those taken in.
    """
    samples, filled = buffer["samples"], buffer["filled"]
    half, (show_key, place_key) = len(new) // 2, jax.random.split(key)
    shown = jax.random.uniform(show_key, (half,)) * filled
    old = jnp.where(filled > 0, samples[shown.astype(jnp.int32)], new[:half])
    new = new[half:]
    # Places that are free are taken in their order, before any that is drawn.
    order = jax.random.uniform(place_key, (len(samples),))
    order = jnp.where(jnp.arange(len(samples)) < filled, order, -1.0)
    samples = samples.at[jnp.argsort(order)[:half]].set(new[:half])
    filled = jnp.minimum(filled + half, len(samples))
    return jnp.concatenate([old, new]), {"samples": samples, "filled": filled}
