"""A history of samples, some of which the discriminator is shown again.

Shrivastava et al. 2017 (arXiv:1612.07828), section 2.3, with a coin for each sample as
in the image pool of CycleGAN (Zhu et al. 2017, arXiv:1703.10593, section 4).
"""

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError

Buffer = dict[str, Array]


def start(size: int, example: Array, condition: Array | None = None) -> Buffer:
    """Returns an empty buffer.

    Args:
      size: samples that it holds.
      example: `[batch, *shape]`, any batch of examples, of which the shape is read.
      condition: `[batch, ...]`, any batch of conditions, of which the shape and the
        dtype are read; None if the GAN has none.

    Returns:
      `example`, `[size, *shape]` float32; `condition`, `[size, ...]`, if there is one,
      of its own dtype if that is an integer and else float32; `filled`, how many places
      are taken, a float32 scalar.
    """
    examples = jnp.zeros((size, *example.shape[1:]))
    buffer = {"example": examples, "filled": jnp.float32(0)}
    if condition is None:
        return buffer
    whole = jnp.issubdtype(condition.dtype, jnp.integer)
    dtype = condition.dtype if whole else jnp.float32
    return buffer | {"condition": jnp.zeros((size, *condition.shape[1:]), dtype)}


def mixed(
    buffer: Buffer, samples: Array, condition: Array | None, key: Array
) -> tuple[Array, Array | None, Buffer]:
    """Exchanges about half of the samples for earlier ones.

    Each sample has its own place in the buffer, free places first. A sample with a free
    place is stored and shown. Each of the others is stored with probability 1/2, and
    the sample that was in its place is shown; otherwise it is shown and not stored. A
    sample keeps its condition.

    Args:
      buffer: of at least as many places as there are samples.
      samples: `[batch, *shape]`.
      condition: `[batch, ...]`, that of each sample; None if the GAN has none.
      key: a PRNG key.

    Returns:
      The samples to show and their conditions, of the same shapes, and the new buffer.

    Raises:
      UserError: the buffer has fewer places.
    """
    place_key, coin_key = jax.random.split(key)
    size, num = len(buffer["example"]), len(samples)
    places = _places(size, buffer["filled"], num, place_key)
    is_free = places >= buffer["filled"]
    is_exchanged = ~is_free & jax.random.bernoulli(coin_key, 0.5, (num,))

    def exchange(stored: Array, new: Array) -> tuple[Array, Array]:
        old, along = stored[places], (num,) + (1,) * (new.ndim - 1)
        shown = jnp.where(is_exchanged.reshape(along), old.astype(new.dtype), new)
        kept = (is_free | is_exchanged).reshape(along)
        return shown, stored.at[places].set(jnp.where(kept, new, old))

    samples, examples = exchange(buffer["example"], samples)
    filled = jnp.minimum(buffer["filled"] + num, size).astype(jnp.float32)
    buffer = buffer | {"example": examples, "filled": filled}
    if condition is not None:
        condition, buffer["condition"] = exchange(buffer["condition"], condition)
    return samples, condition, buffer


def _places(size: int, filled: Array, num: int, key: Array) -> Array:
    """Draws distinct places `[num]`, after those that are free, in their order."""
    if size < num:
        raise UserError(f"replay is {size}: it must be at least {num}, the batch_size")
    order = jax.random.uniform(key, (size,))
    order = jnp.where(jnp.arange(size) < filled, order, -1.0)
    return jnp.argsort(order)[:num]  # stable
