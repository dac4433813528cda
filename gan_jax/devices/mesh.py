"""One program on one device or many: the mesh, and what lies where on it.

The mesh has two axes. Replicas are split over the first, as far as their number and
that of the devices have a common divisor; the batch of each is split over the second.
The resident data lie on every device whole, and so do the parameters, unless they are
split over the second axis as well ('fsdp': Rajbhandari et al. 2020, arXiv:1910.02054,
stage 3). Losses and batch statistics are means over the whole batch, so the numbers are
those of one device, to rounding.
"""

import math

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

REPLICA, DATA = "replica", "data"
_SMALL = 2**12  # arrays of fewer numbers are not worth splitting


def make_mesh(num: int | None = None, replicas: int = 1) -> jax.sharding.Mesh:
    """Returns the mesh of the first `num` devices, or of all; set it by `jax.set_mesh`.

    Args:
      num: how many devices.
      replicas: how many are trained on it.
    """
    devices = jax.devices()[:num]
    rows = math.gcd(replicas, len(devices))
    return jax.make_mesh(
        (rows, len(devices) // rows),
        (REPLICA, DATA),
        axis_types=(AxisType.Auto,) * 2,
        devices=devices,
    )


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns the placement of a whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def placements(shapes, mesh: jax.sharding.Mesh, replicas: int, how: str):
    """Returns where each array of a state lies.

    Args:
      shapes: the state, or what `jax.eval_shape` gives of it.
      mesh: the devices.
      replicas: how many; where there are several they are the leading axis.
      how: 'replicated' or 'fsdp'.

    Returns:
      A tree of `NamedSharding`. With 'fsdp' the largest axis that the devices divide
      is split over them.
    """
    lead = () if replicas == 1 else (REPLICA,)
    parts = mesh.shape[DATA]

    def place(leaf):
        shape, spec = leaf.shape[len(lead) :], [None] * (leaf.ndim - len(lead))
        fit = [axis for axis, n in enumerate(shape) if n % parts == 0]
        if how == "fsdp" and fit and math.prod(shape) >= _SMALL:
            spec[max(fit, key=lambda axis: shape[axis])] = DATA
        return NamedSharding(mesh, PartitionSpec(*lead, *spec))

    return jax.tree.map(place, shapes)


def placed(shapes, shardings):
    """Gives every leaf of an abstract state its placement."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        shardings,
    )


def copy_of_key(key: Array) -> Array:
    """Copies PRNG keys, placed alike, by way of the host, so that nothing is compiled.

    `jax.device_put(key, may_alias=False)` shares the memory on several devices.
    """
    data = np.array(fetch(key))
    copy = put(data, jax.random.key_data(key).sharding)
    return jax.random.wrap_key_data(copy, impl=jax.random.key_impl(key))


def put(x: np.ndarray, sharding: NamedSharding) -> Array:
    """Places an array that every host holds whole."""
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def fetch(x: Array) -> np.ndarray:
    """Returns an array, whatever host it lies on, to all of them; keys as their data.

    Every host must ask for it.
    """
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def split_batch(batch, axis: int):
    """Splits the `axis` of every leaf over the devices of the mesh that is set."""
    return _constrained(batch, PartitionSpec(*[None] * axis, DATA))


def whole(tree):
    """Gathers parameters that are split over devices, where a network is applied."""
    return _constrained(tree, PartitionSpec())


def _constrained(tree, spec: PartitionSpec):
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.shape.get(DATA, 1) == 1:
        return tree
    return jax.tree.map(lambda x: lax.with_sharding_constraint(x, spec), tree)
