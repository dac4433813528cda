"""Pictures of examples: sample grids and scatter plots, by the kind of space."""

import functools
import io
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.spaces import (
    Classes,
    Images,
    Pair,
    PianoRoll,
    Points,
    Space,
    Video,
)
from gan_jax.run.files import write_file

_POINTS = 2000  # in a scatter plot
_ROWS = 8  # of a sample grid of one run
_COLOURS = (1, 3, 4)  # numbers of channels that a PNG can show


def fixed_values(source: Any, key: str, num: int) -> np.ndarray:
    """Returns the same `num` examples, or conditions, of a source at each call.

    They are spread evenly over the source; if it has fewer than `num`, some repeat.

    Args:
      source: random access to examples, or a density with `sample`.
      key: "example" or "condition".
      num: how many.

    Returns:
      `[num, *shape]`, stored values.
    """
    if hasattr(source, "sample"):
        draw = jax.jit(lambda: source.sample(jax.random.key(0), num)[key])
        return np.asarray(draw())
    indices = np.linspace(0, len(source) - 1, num).astype(int)
    return np.stack([source[int(i)][key] for i in indices])


def fixed_conditions(gan: GAN, source: Any, num: int) -> np.ndarray | None:
    """Returns the conditions of a sample grid, the same throughout a run.

    Args:
      gan: the static half.
      source: of the data.
      num: how many.

    Returns:
      `[num, *shape]`, stored values; None for a GAN that needs none or that draws
      each class in turn.
    """
    if gan.condition is None or isinstance(gan.condition, Classes):
        return None
    return fixed_values(source, "condition", num)


# --- The size of a sample grid ------------------------------------------------------


def grid_size(gan: GAN, replicas: int) -> tuple[int, int]:
    """Returns how many examples of each replica a grid shows, and how many in a row."""
    if isinstance(gan.example, Points):
        return _POINTS, 1
    columns = _columns(gan.example)
    if columns > 1 and isinstance(gan.condition, Classes):
        columns = min(gan.condition.num_classes, 16)
    return columns * (_ROWS if replicas == 1 else 1), columns


@functools.singledispatch
def _columns(space: Space) -> int:
    """Returns how many examples are in a row of a grid, by default."""
    return 8


@_columns.register
def _(space: Pair) -> int:
    return 4


@_columns.register
def _(space: Video) -> int:
    return 1


@_columns.register
def _(space: PianoRoll) -> int:
    return 2


def num_pixels(space: Space) -> int:
    """Returns how many pixels the picture of one example has."""
    has_channels = space.axes is not None and space.axes[-1:] == ("channels",)
    colours = has_channels and space.shape[-1] in _COLOURS
    return math.prod(space.shape) // (space.shape[-1] if colours else 1)


# --- One image for each example -----------------------------------------------------


@functools.singledispatch
def as_images(space: Space, examples: np.ndarray) -> np.ndarray:
    """Returns one image of each example; by default a heat map of all its numbers.

    The first axis of an example goes down, all others to the right.

    Args:
      space: of the examples.
      examples: `[num, *shape]`, stored values.

    Returns:
      `[num, height, width, channels]` with 1, 3 or 4 channels, uint8.
    """
    first = space.shape[0] if len(space.shape) > 1 else 1
    return _as_bytes(examples).reshape(len(examples), first, -1, 1)


@as_images.register
def _(space: Images, examples: np.ndarray) -> np.ndarray:
    return _with_colours(_as_bytes(examples))


@as_images.register
def _(space: Pair, examples: np.ndarray) -> np.ndarray:
    return _with_colours(_side_by_side(_as_bytes(examples)))


@as_images.register
def _(space: Video, examples: np.ndarray) -> np.ndarray:
    return _with_colours(_side_by_side(_as_bytes(examples)))


@as_images.register
def _(space: PianoRoll, examples: np.ndarray) -> np.ndarray:
    """Time goes to the right and pitch up; the voices are below each other."""
    time, pitch, voices = space.shape
    rows = _as_bytes(examples)[:, :, ::-1].transpose(0, 3, 2, 1)
    return rows.reshape(len(examples), voices * pitch, time, 1)


def _side_by_side(images: np.ndarray) -> np.ndarray:
    """Joins `[num, n, height, width, channels]` to one image each, left to right."""
    num, n, height, width, channels = images.shape
    return images.swapaxes(1, 2).reshape(num, height, n * width, channels)


def _with_colours(images: np.ndarray) -> np.ndarray:
    """Shows images with channels that are no colours as grey ones, left to right."""
    if images.shape[-1] in _COLOURS:
        return images
    num, height, _, _ = images.shape
    return images.swapaxes(2, 3).reshape(num, height, -1, 1)


def _as_bytes(values: np.ndarray) -> np.ndarray:
    """Returns stored values as uint8; floats from 0, the least, to 255."""
    if values.dtype == np.uint8:
        return values
    values = np.nan_to_num(values.astype(np.float64))
    low, high = values.min(), values.max()
    return np.round(255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)


# --- One picture of all -------------------------------------------------------------


@functools.singledispatch
def png(space: Space, examples: np.ndarray, columns: int) -> bytes:
    """Returns a PNG of examples: a grid of images, or a scatter plot of points.

    Args:
      space: of the examples.
      examples: `[replicas, num, *shape]`, stored values; the rows of one replica follow
        those of another, and each replica has its own scatter plot.
      columns: examples in a row of the grid.
    """
    from PIL import Image

    images = as_images(space, examples.reshape(-1, *space.shape))
    grid = tile(images, columns)
    buffer = io.BytesIO()
    grid = grid[..., 0] if grid.shape[-1] == 1 else grid
    Image.fromarray(grid).save(buffer, "png", optimize=True)
    return buffer.getvalue()


@png.register
def _(space: Points, examples: np.ndarray, columns: int) -> bytes:
    from matplotlib.figure import Figure

    side = math.ceil(math.sqrt(len(examples)))
    rows = -(-len(examples) // side)
    figure = Figure(figsize=(4 * side, 4 * rows), layout="constrained")
    for i, points in enumerate(examples):
        if space.shape == (1,):
            axes = figure.add_subplot(rows, side, i + 1)
            axes.hist(points[:, 0], bins=100)
        else:  # of more than two coordinates, the first two
            axes = figure.add_subplot(rows, side, i + 1, aspect="equal")
            axes.scatter(*points[:, :2].T, s=2, alpha=0.4, linewidths=0)
            axes.set(xlim=(-3, 3), ylim=(-3, 3))
        if len(examples) > 1:
            axes.set_title(f"replica {i}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def save(path: Path, space: Space, examples: np.ndarray, columns: int) -> None:
    """Writes the `png` of examples to a file."""
    write_file(path, png(space, examples, columns))


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Arranges images in rows.

    Args:
      images: `[num, height, width, channels]`; the last row may stay incomplete.
      columns: images in a row.

    Returns:
      `[rows * height, columns * width, channels]`.
    """
    num, height, width, channels = images.shape
    rows = -(-num // columns)
    missing = np.zeros((rows * columns - num, *images.shape[1:]), images.dtype)
    grid = np.concatenate([images, missing])
    grid = grid.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)
