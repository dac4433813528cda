"""One program on one device or many: the mesh, and what lies where on it.

The state and the resident data are replicated; batches are split over the devices.
Losses and batch statistics are means over the whole batch, so the numbers are those of
one device, to rounding.
"""

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

AXIS = "data"


def make_mesh(num: int | None = None) -> jax.sharding.Mesh:
    """Returns the mesh of the first `num` devices, one axis, or of all.

    Set it with `jax.set_mesh`.
    """
    devices = jax.devices()[:num]
    return jax.make_mesh(
        (len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns the placement of a whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def copy_of_key(key: Array) -> Array:
    """Copies PRNG keys, placed alike, by way of the host, so that nothing is compiled.

    `jax.device_put(key, may_alias=False)` shares the memory on several devices.
    """
    data = jax.random.key_data(key)
    data = jax.device_put(np.array(data), data.sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


def split_batch(batch, axis: int):
    """Splits the `axis` of every leaf over the devices of the mesh that is set."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return batch
    spec = PartitionSpec(*[None] * axis, AXIS)
    return jax.tree.map(lambda x: lax.with_sharding_constraint(x, spec), batch)
