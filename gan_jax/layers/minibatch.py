"""What a discriminator may know of its batch."""

import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError


def append_deviation(x: Array, group: int) -> Array:
    """Appends the standard deviation over groups of examples as one more feature.

    It is taken of each feature at each position, and averaged over both: one number a
    group, which tells D how much its examples vary (Karras et al. 2018,
    arXiv:1710.10196, section 3). A group is of neighbours in the batch, so that on a
    mesh each device keeps its own examples.

    Args:
      x: `[batch, ..., features]`.
      group: how many examples share a number, the batch if that is fewer; 0 leaves `x`
        as it is.

    Returns:
      `[batch, ..., features + 1]`.

    Raises:
      UserError: the group is of one example, or does not divide the batch.
    """
    if not group:
        return x
    deviation = deviations(x, group).astype(x.dtype).repeat(min(group, len(x)))
    shape = len(x), *(1,) * (x.ndim - 1)
    map_ = jnp.broadcast_to(deviation.reshape(shape), (*x.shape[:-1], 1))
    return jnp.concatenate([x, map_], -1)


def deviations(x: Array, group: int) -> Array:
    """Returns the mean standard deviation of each group of examples, `[groups]`."""
    if not isinstance(group, int) or group < 2:
        raise UserError(
            f"minibatch_std is {group}: a group has at least 2 examples (0 for none)"
        )
    size = min(group, len(x))
    if len(x) % size:
        raise UserError(
            f"minibatch_std is {group}: it must divide the batch of {len(x)} examples"
        )
    groups = x.astype(jnp.float32).reshape(-1, size, x[0].size)
    return jnp.sqrt(groups.var(1) + 1e-8).mean(1)  # the root has no slope at 0
