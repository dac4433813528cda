"""One program on one device or many: the mesh, and the shardings of arrays on it.

The mesh has two axes. Replicas are split over the first, as far as their number and
that of the devices have a common divisor; the batch of each is split over the second.
Resident data are replicated on every device, and so are the parameters, unless they are
split over the second axis too ('fsdp': Rajbhandari et al. 2020, arXiv:1910.02054,
stage 3). Losses and batch statistics are means over the whole batch, so the numbers are
those of one device, to rounding.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax import Array, lax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

REPLICA, DATA = "replica", "data"
_SMALL = 2**12  # arrays with fewer elements are not worth splitting


def make_mesh(
    num: int | None = None, replicas: int = 1, devices: Sequence | None = None
) -> Mesh:
    """Returns the mesh of the first `num` devices; make it current by `jax.set_mesh`.

    Args:
      num: number of devices, None for all.
      replicas: number of replicas that train on it.
      devices: the devices; None for those of this process and its peers.
    """
    devices = (jax.devices() if devices is None else devices)[:num]
    rows = math.gcd(replicas, len(devices))
    shape = rows, len(devices) // rows
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        grid = mesh_utils.create_device_mesh(
            shape, devices, allow_split_physical_axes=True
        )
    else:  # the slow network between them separates replicas, as far as it can
        slow = math.gcd(rows, slices)
        between = slow, slices // slow
        within = [n // parts for n, parts in zip(shape, between, strict=True)]
        grid = mesh_utils.create_hybrid_device_mesh(
            within, between, devices, allow_split_physical_axes=True
        )
    return Mesh(grid, (REPLICA, DATA), axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def shardings(shapes, mesh: Mesh, how: str):
    """Returns the sharding of each array of a state.

    Args:
      shapes: a state with leaves `[replicas, ...]`, or its `jax.eval_shape`.
      mesh: the devices.
      how: 'replicated' or 'fsdp'.

    Returns:
      A tree of `NamedSharding`. All split the replicas over the mesh's first axis; with
      'fsdp' the largest other axis that the devices divide is split over the second.
    """
    parts = mesh.shape[DATA]

    def sharding(leaf):
        shape = leaf.shape[1:]  # of one replica
        spec = [None] * len(shape)
        divisible = [axis for axis, size in enumerate(shape) if size % parts == 0]
        if how == "fsdp" and divisible and math.prod(shape) >= _SMALL:
            spec[max(divisible, key=lambda axis: shape[axis])] = DATA
        return NamedSharding(mesh, PartitionSpec(REPLICA, *spec))

    return jax.tree.map(sharding, shapes)


def placed(shapes, shardings):
    """Returns an abstract state with a sharding for each leaf."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        shardings,
    )


def without_axis(tree):
    """Removes the leading axis, of size one, of every leaf, on the devices."""

    def sharding(x: Array) -> Sharding:
        if not isinstance(x.sharding, NamedSharding):
            return x.sharding
        return NamedSharding(x.sharding.mesh, PartitionSpec(*x.sharding.spec[1:]))

    return jax.jit(_squeeze, out_shardings=jax.tree.map(sharding, tree))(tree)


def _squeeze(tree):
    return jax.tree.map(lambda x: x[0], tree)


def copy_of_key(key: Array) -> Array:
    """Copies PRNG keys, with their sharding, through the host: compiles nothing.

    `jax.device_put(key, may_alias=False)` shares the memory on several devices.
    """
    data = np.array(fetch(key))
    copy = put(data, jax.random.key_data(key).sharding)
    return jax.random.wrap_key_data(copy, impl=jax.random.key_impl(key))


def put(x: np.ndarray, sharding: NamedSharding) -> Array:
    """Places an array that every host holds whole on the devices."""
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def fetch(x: Array) -> np.ndarray:
    """Returns the whole array to every host; keys as their data.

    Every host must call it. It is for small arrays: one that is split over hosts is
    gathered on each of them.
    """
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if x.is_fully_addressable or x.is_fully_replicated:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def split_batch(batch, axis: int):
    """Splits axis `axis` of every leaf over the devices of the current mesh.

    A leaf that has no such axis, or one that they do not divide, is left as it is.
    """
    spec, num = PartitionSpec(*[None] * axis, DATA), _num_shards()

    def split(leaf):
        fits = leaf.ndim > axis and leaf.shape[axis] % num == 0
        return lax.with_sharding_constraint(leaf, spec) if fits else leaf

    return jax.tree.map(split, batch) if num > 1 else batch


def whole(tree):
    """Gathers parameters that are split over devices, where a network is applied."""
    if _num_shards() == 1:
        return tree
    return lax.with_sharding_constraint(tree, PartitionSpec())


def _num_shards() -> int:
    """Returns how many devices of the current mesh share a batch."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else mesh.shape.get(DATA, 1)
