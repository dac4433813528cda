"""Statistics of the batch as features of the discriminator."""

import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError


def append_deviation(x: Array, group: int) -> Array:
    """Appends the standard deviation over groups of examples as one more feature.

    The deviation is computed for each feature at each position, and averaged over
    both: one number for each group, which tells D how much its examples vary (Karras et
    al. 2018, arXiv:1710.10196, section 3). A group consists of neighbours in the batch,
    so that on a mesh each device keeps its examples.

    Args:
      x: `[batch, ..., features]`.
      group: how many examples share a number, at most the whole batch; 0 leaves `x`
        as it is.

    Returns:
      `[batch, ..., features + 1]`.

    Raises:
      UserError: the group has fewer than two examples, or does not divide the batch.
    """
    if not group:
        return x
    deviation = deviations(x, group).astype(x.dtype).repeat(min(group, len(x)))
    shape = len(x), *(1,) * (x.ndim - 1)
    feature = jnp.broadcast_to(deviation.reshape(shape), (*x.shape[:-1], 1))
    return jnp.concatenate([x, feature], -1)


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
    return jnp.sqrt(groups.var(1) + 1e-8).mean(1)  # sqrt has no gradient at 0
