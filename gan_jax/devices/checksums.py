"""CRC-32 of arrays, also of those that are split over several hosts.

The register of a CRC is linear over XOR once its initial value is zero: L(a xor b) =
L(a) xor L(b), and crc32(a) = L(a) xor c, where c depends on the length alone. So every
host computes the CRC of the array in which all but its own shards are zero, the first
with the usual initial value and the others with zero, and the XOR of these numbers is
the CRC-32 of the whole. The hosts exchange four bytes for each array and gather none.
"""

import math
import operator
import zlib
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from jax import Array

_BLOCK = 2**24  # bytes of an array that are filled with zeros and shards at a time
_ZERO = 0xFFFFFFFF  # what zlib.crc32 is to go on from so that its register is zero

# Where a shard begins on each axis, and its values.
Part = tuple[tuple[int, ...], np.ndarray]


def checksums(arrays: Sequence[Array]) -> list[int]:
    """Returns the CRC-32 of each array's bytes in C order; of keys, of their data.

    Every host must call it, with the same arrays.
    """
    arrays = [_data(x) for x in arrays]
    local = [x.is_fully_addressable or x.is_fully_replicated for x in arrays]
    sums = [
        zlib.crc32(np.ascontiguousarray(x)) if here else _of_this_host(x)
        for x, here in zip(arrays, local, strict=True)
    ]
    if all(local):
        return sums
    from jax.experimental import multihost_utils

    gathered = multihost_utils.process_allgather(np.array(sums, np.uint32))
    combined = np.bitwise_xor.reduce(gathered, 0).tolist()
    return [
        own if here else all_hosts
        for own, all_hosts, here in zip(sums, combined, local, strict=True)
    ]


def partial(
    shape: tuple[int, ...],
    dtype: np.dtype,
    parts: Iterable[Part],
    first: bool,
    block: int = _BLOCK,
) -> int:
    """Returns a host's share of an array's CRC-32, which is the XOR of all shares.

    Args:
      shape: of the whole array.
      dtype: of the whole array.
      parts: the start on each axis and the values of the shards that this host answers
        for; together the parts of all hosts cover the array exactly once.
      first: whether this is the first host; exactly one must be.
      block: bytes to hold at a time.
    """
    parts = [(start, values) for start, values in parts if values.size]
    value = _crc(shape, np.dtype(dtype), parts, 0 if first else _ZERO, block)
    return value if first else value ^ _ZERO


def _of_this_host(x: Array) -> int:
    parts = [
        (tuple(s.start or 0 for s in shard.index), np.asarray(shard.data))
        for shard in x.addressable_shards
        if shard.replica_id == 0
    ]
    return partial(x.shape, x.dtype, parts, first=jax.process_index() == 0)


def _crc(shape, dtype: np.dtype, parts: list[Part], value: int, block: int) -> int:
    """Updates `value` with an array that is zero but for its parts."""
    size = math.prod(shape) * dtype.itemsize
    if size <= block or not shape:
        dense = np.zeros(shape, dtype)
        for start, values in parts:
            ends = map(operator.add, start, values.shape)
            dense[tuple(map(slice, start, ends))] = values
        return zlib.crc32(dense, value)
    if shape[0] == 1:
        rows = [(start[1:], values[0]) for start, values in parts]
        return _crc(shape[1:], dtype, rows, value, block)
    step = max(1, block * shape[0] // size)
    for low in range(0, shape[0], step):
        high = min(low + step, shape[0])
        rows = _rows(parts, low, high)
        value = _crc((high - low, *shape[1:]), dtype, rows, value, block)
    return value


def _rows(parts: list[Part], low: int, high: int) -> list[Part]:
    """Returns the parts of rows `low` to `high`, counted from `low`."""
    found = []
    for (first, *rest), values in parts:
        start, stop = max(first, low), min(first + len(values), high)
        if start < stop:
            rows = values[start - first : stop - first]
            found.append(((start - low, *rest), rows))
    return found


def _data(x: Array) -> Array:
    is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(x) if is_key else x
