"""What every metric asks of its arrays, and distances between their rows."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gan_jax.errors import UserError

_BLOCK = 2**23  # numbers in a block of distances: 64 MiB


def features(array: np.ndarray, name: str, least: int = 2) -> np.ndarray:
    """Returns features as a NumPy array of floats, checked.

    Args:
      array: `[n, k]`, of any type of number.
      name: what they are, for a message.
      least: the least n that the metric needs.

    Returns:
      `[n, k]`, float32 if they were, else float64.

    Raises:
      UserError: they have another shape, are too few, or hold a NaN or inf.
    """
    x = np.asarray(array)
    if x.ndim != 2 or not x.shape[1]:
        raise UserError(
            f"{name} have shape {x.shape}: give features as [n, k], a row for each "
            "example"
        )
    if len(x) < least:
        raise UserError(
            f"{name} are {len(x)} examples: this metric needs at least {least}"
        )
    if x.dtype != np.float32:
        x = x.astype(np.float64)
    finite = np.isfinite(x).all(1)
    if not finite.all():
        raise UserError(
            f"{name} hold NaN or inf in {(~finite).sum()} of {len(x)} rows, the first "
            f"is row {finite.argmin()}: leave such examples out, or mend the extractor"
        )
    return x


def pair(
    real: np.ndarray,
    fake: np.ndarray,
    least: int = 2,
    names: tuple[str, str] = ("real features", "generated features"),
) -> tuple[np.ndarray, np.ndarray]:
    """Returns two sets of features, checked one by one and against each other.

    Args:
      real: `[n, k]`.
      fake: `[m, k]`.
      least: the least n and m that the metric needs.
      names: what they are, for a message.

    Raises:
      UserError: one of them is no set of features, or their k differ.
    """
    x, y = features(real, names[0], least), features(fake, names[1], least)
    same_width(x.shape[1], y.shape[1], names)
    return x, y


def same_width(
    a: int, b: int, names: tuple[str, str] = ("real features", "generated features")
) -> None:
    """Checks that two sets of features have as many numbers a row.

    Raises:
      UserError: they have not.
    """
    if a != b:
        raise UserError(
            f"{names[0]} have {a} numbers a row and {names[1]} {b}: take both from the "
            "same extractor"
        )


def class_labels(labels: np.ndarray, num: int, name: str) -> np.ndarray:
    """Returns classes as integers, checked.

    Args:
      labels: `[num]`, integers from 0.
      num: of the examples that they belong to.
      name: what they are, for a message.

    Raises:
      UserError: they have another shape, or are no such integers.
    """
    found = np.asarray(labels)
    if found.shape != (num,):
        raise UserError(
            f"{name} have shape {found.shape}: {num} examples need ({num},)"
        )
    if not np.issubdtype(found.dtype, np.integer) or found.min(initial=0) < 0:
        raise UserError(f"{name} must be integers from 0, one class an example")
    return found


def squared_distances(
    x: np.ndarray, y: np.ndarray, itself: bool = False
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields the squared Euclidean distances of some rows of x to all rows of y.

    In float64, and centred, so that float32 features lose nothing: x·y would otherwise
    cancel against |x|² and |y|² where features lie far from the origin.

    Args:
      x: `[n, k]`.
      y: `[m, k]`.
      itself: whether y is x, and the distance of a row to itself is to be infinite.

    Yields:
      Which rows of x, and their distances `[rows, m]`, which may be written to.
    """
    middle = y.mean(0, dtype=np.float64)
    y = y - middle
    lengths = np.einsum("ij,ij->i", y, y)
    rows = max(1, _BLOCK // len(y))
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        block = x[part] - middle
        found = block @ y.T
        found *= -2
        found += lengths
        found += np.einsum("ij,ij->i", block, block)[:, None]
        np.maximum(found, 0, out=found)
        if itself:
            i = np.arange(len(block))
            found[i, start + i] = np.inf
        yield part, found


class Neighbours(NamedTuple):
    """The nearest rows of another set.

    Attributes:
      indices: of the nearest rows, `[n, count]`, the nearest first.
      distances: to them, Euclidean, `[n, count]`.
    """

    indices: np.ndarray
    distances: np.ndarray


def neighbours(
    x: np.ndarray, y: np.ndarray, count: int = 1, itself: bool = False
) -> Neighbours:
    """Finds the rows of y that are nearest to each row of x, exactly and in blocks.

    Args:
      x: `[n, k]`.
      y: `[m, k]`, m at least `count`.
      count: how many.
      itself: whether y is x, and no row is a neighbour of itself.
    """
    indices = np.empty((len(x), count), np.int64)
    distances = np.empty((len(x), count))
    for rows, found in squared_distances(x, y, itself):
        if count == 1:
            near = found.argmin(1)[:, None]
        else:
            near = np.argpartition(found, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(found, near, axis=1)
        order = np.lexsort((near, values), axis=1)
        indices[rows] = np.take_along_axis(near, order, axis=1)
        distances[rows] = np.sqrt(np.take_along_axis(values, order, axis=1))
    return Neighbours(indices, distances)
