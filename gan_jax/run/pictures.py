"""Pictures of examples: grids, plots and animations, by the kind of space."""

import functools
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.algorithm.spaces import Images, Pair, PianoRoll, Points, Space, Video
from gan_jax.errors import printable
from gan_jax.metrics.arrays import Neighbours
from gan_jax.run import music, plots
from gan_jax.run.files import write_file

FPS = 10  # of clips
POINTS = 2500  # in a plot: as many as modes are usually counted in
_MOST_PIXELS = 2048  # on a side of a grid of few examples
_LEGIBLE = 64  # pixels, the least width of an image with a caption
_CAPTION = 14  # pixels, the height of a caption
_COLOURS = (1, 3, 4)  # numbers of channels that a PNG can show


# --- The size of a grid --------------------------------------------------------------


def square_grid(
    size: tuple[int, int], group: int = 0, about: int = 64
) -> tuple[int, int]:
    """Returns how many images make a grid that is nearly square, and its columns.

    Args:
      size: height and width of an image.
      group: as for `columns_of`.
      about: how many images, if they are not large; up to four times as many if there
        are more groups than that, or if each is to have a column.
    """
    height, width = size
    side = math.sqrt(about)
    wanted = group if group <= 2 * side else math.sqrt(group)
    side = min(max(side, wanted), 2 * side)
    side = max(1.0, min(side, _MOST_PIXELS / math.sqrt(height * width)))
    columns = columns_of(round(side**2), size, group)
    rows = min(columns * width / height, (2 * side) ** 2 / columns)
    return columns * max(1, round(rows)), columns


def columns_of(num: int, size: tuple[int, int], group: int = 0) -> int:
    """Returns the columns of a grid of `num` images that is nearly square.

    Args:
      num: how many images.
      size: height and width of an image.
      group: the columns are a multiple of it where that leaves the grid nearly square:
        if classes take turns, each column is of one class.
    """
    height, width = size
    wanted = math.sqrt(num * height / width)
    if 0 < group <= 1.5 * wanted:
        return group * max(1, round(wanted / group))
    return max(1, math.ceil(wanted))


def image_size(space: Space, captions: bool = False) -> tuple[int, int]:
    """Returns the height and the width of the picture of one example.

    Args:
      space: of the example.
      captions: whether it has a caption.
    """
    zeros = np.zeros((1, *space.shape), space.stored_dtype)
    height, width = as_images(space, zeros).shape[1:3]
    if not captions:
        return height, width
    scale = -(-_LEGIBLE // width)
    return scale * height + _CAPTION, scale * width


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
    return music.drawn(space, _as_bytes(examples))


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
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    values = np.nan_to_num(np.clip(values, low, high).astype(np.float64), nan=low)
    return np.round(255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)


def images_of(
    space: Space,
    examples: np.ndarray,
    left: np.ndarray | None = None,
    captions: Sequence[str] = (),
) -> np.ndarray:
    """Returns `as_images` with what stands beside and below each image.

    Args:
      space: of the examples.
      examples: `[num, *shape]`, stored values.
      left: `[n, height, width', channels']`, images to the left of the first `n`
        examples, of the next `n`, and so on.
      captions: one for each example.
    """
    images = as_images(space, examples)
    if left is not None:
        left = np.tile(left, (len(images) // len(left), 1, 1, 1))
        channels = max(left.shape[-1], images.shape[-1])
        both = [_in_colours(part, channels) for part in (left, images)]
        images = np.concatenate(both, 2)
    return with_captions(images, captions) if captions else images


def _in_colours(images: np.ndarray, channels: int) -> np.ndarray:
    """Returns images with more channels: grey ones as colours, then as opaque ones."""
    if images.shape[-1] == channels:
        return images
    colours = np.broadcast_to(images, (*images.shape[:-1], 3))
    fill = [(0, 0)] * 3 + [(0, channels - 3)]
    return np.pad(colours, fill, constant_values=255)


def with_captions(images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """Adds a line of text below each image; a small image is enlarged to hold it.

    Args:
      images: `[num, height, width, channels]`, uint8.
      captions: one for each; a longer one than the image is cut.
    """
    from matplotlib.font_manager import findfont
    from PIL import Image, ImageDraw, ImageFont

    *_, width, channels = images.shape
    scale = -(-_LEGIBLE // width)
    width *= scale
    font, lines = ImageFont.truetype(findfont("DejaVu Sans"), 10), {}
    for text in set(captions):
        line = Image.new("L", (width, _CAPTION))
        short = printable(text[:width])
        while font.getlength(short) > width:
            short = short[:-1]
        left = (width - font.getlength(short)) / 2
        ImageDraw.Draw(line).text((left, 1), short, 255, font)
        lines[text] = np.asarray(line)[..., None]
    below = np.stack([lines[text] for text in captions]).repeat(channels, 3)
    return np.concatenate([images.repeat(scale, 1).repeat(scale, 2), below], 1)


# --- One picture of all -------------------------------------------------------------


@functools.singledispatch
def png(
    space: Space,
    examples: np.ndarray,
    columns: int,
    data: np.ndarray | None = None,
    captions: Sequence[str] = (),
) -> bytes:
    """Returns a PNG of examples: a grid of images, or plots of points.

    Args:
      space: of the examples.
      examples: `[replicas, num, *shape]`, stored values; the rows of one replica follow
        those of another, and each replica has its own plots.
      columns: examples in a row of the grid.
      data: of points, `[num, *shape]` real ones, which they are drawn over; they set
        the axes of the plots. Of all else, `[num, height, width', channels']` images
        to the left of the examples of each replica.
      captions: of the images, one for each; none by default.
    """
    images = images_of(space, examples.reshape(-1, *space.shape), data, captions)
    buffer = io.BytesIO()
    picture(tile(images, columns)).save(buffer, "png", optimize=True)
    return buffer.getvalue()


@png.register
def _(space: Points, examples, columns, data=None, captions=()):
    return plots.png(examples, data)


@functools.singledispatch
def files(
    space: Space,
    examples: np.ndarray,
    columns: int,
    data: np.ndarray | None = None,
    captions: Sequence[str] = (),
) -> dict[str, bytes]:
    """Returns the files that show examples, by their suffixes.

    There is always a `.png`; what moves or sounds has a file of its own kind besides.

    Args:
      space: of the examples.
      examples: as for `png`, as are the others.
      columns: see there.
      data: see there.
      captions: see there.
    """
    return {".png": png(space, examples, columns, data, captions)}


@files.register
def _(space: Video, examples, columns, data=None, captions=()):
    """Adds a grid in which all clips run at the same time."""
    clips = examples.reshape(-1, *space.shape)
    frames = _with_colours(np.concatenate(clips.swapaxes(0, 1)))
    frames = frames.reshape(space.shape[0], len(clips), *frames.shape[1:])
    if captions:
        frames = np.stack([with_captions(frame, captions) for frame in frames])
    film = animation(frames, columns_of(len(clips), frames.shape[2:4]), "gif", FPS)
    return {".png": png(space, examples, columns, data, captions), ".gif": film}


@files.register
def _(space: PianoRoll, examples, columns, data=None, captions=()):
    """Adds all examples, one after the other, as MIDI, and the first few as sound."""
    found = _as_bytes(examples.reshape(-1, *space.shape))
    score, heard = (music.in_turn(space, x) for x in (found, found[: music.HEARD]))
    return {
        ".png": png(space, examples, columns, data, captions),
        ".mid": music.midi_file(score, space.shape[2]),
        ".wav": music.wav_file(heard),
    }


def pairs(
    space: Space,
    samples: np.ndarray,
    training: np.ndarray,
    found: Neighbours,
    rows: int = 12,
) -> bytes:
    """Returns a PNG of samples, each in a row with the examples nearest to it.

    The samples that are nearest to the training set come first. Below each training
    example is its distance.

    Args:
      space: of the examples; not `Points`.
      samples: `[n, *shape]`, stored values.
      training: `[m, *shape]`, likewise.
      found: of the training examples, those that are nearest to each sample.
      rows: how many samples are shown.
    """
    first = np.argsort(found.distances[:, 0], kind="stable")[:rows]
    near = training[found.indices[first]]
    examples = np.concatenate([samples[first][:, None], near], 1)
    captions = [
        text
        for distances in found.distances[first]
        for text in ("sample", *map("{:.3g}".format, distances))
    ]
    one = examples.reshape(1, -1, *space.shape)
    return png(space, one, columns=examples.shape[1], captions=captions)


def picture(pixels: np.ndarray) -> Any:
    """Returns `[height, width, channels]` as an image of Pillow."""
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def animation(images: np.ndarray, columns: int, kind: str, fps: float) -> bytes:
    """Returns an animation that repeats for ever.

    Args:
      images: `[frames, num, height, width, channels]`, uint8; a frame is a grid.
      columns: images in a row of the grid.
      kind: 'gif' or 'webp'.
      fps: frames per second; a GIF has hundredths of a second.
    """
    first, *rest = (picture(tile(frame, columns)) for frame in images)
    buffer, duration = io.BytesIO(), round(1000 / fps)
    how = {"save_all": True, "append_images": rest, "duration": duration, "loop": 0}
    first.save(buffer, kind, **how)
    return buffer.getvalue()


def save(
    path: Path,
    space: Space,
    examples: np.ndarray,
    columns: int,
    data: np.ndarray | None = None,
) -> None:
    """Writes the `files` of examples: `path` with each suffix."""
    for suffix, content in files(space, examples, columns, data).items():
        write_file(path.with_suffix(suffix), content)


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
