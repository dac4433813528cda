"""Decodes image files to the square uint8 arrays that an experiment asks for."""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from gan_jax.data.source import TOO_MANY_PIXELS, Info, check_pixels

# What Pillow may open: it knows forty more formats, and runs programs for some.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
warnings.simplefilter("error", Image.DecompressionBombWarning)  # as Pillow advises

_GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N")


def decode(file: str | bytes, size: int, channels: int = 0) -> np.ndarray:
    """Reads one image (of an animation, the first frame).

    Args:
      file: a path, or the content of the file.
      size: height and width of the result.
      channels: 1 (grey) or 3 (RGB); 0 for those of the file.

    Returns:
      `[size, size, channels]`, uint8.

    Raises:
      ValueError: the image has too many pixels; no memory is allocated for them.
      Exception: it is damaged, or in none of the `FORMATS`.
    """
    check_pixels(size, size)
    with opened(file) as image:
        return square(image, size, channels)


def fit(pixels: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Brings `[height, width]` or `[height, width, c]`, uint8, to a square image.

    Args:
      pixels: of one image, grey or RGB.
      size: height and width of the result.
      channels: 1 (grey) or 3 (RGB).

    Returns:
      `[size, size, channels]`, uint8.
    """
    grey = pixels.ndim == 3 and pixels.shape[-1] == 1
    return square(Image.fromarray(pixels[..., 0] if grey else pixels), size, channels)


def channels_of(config: ConfigDict, own: int) -> int:
    """Returns the channels that a config asks for: 1 (grey) or 3 (RGB).

    Args:
      config: its key `data.channels`.
      own: those of the set, for 'auto'.
    """
    return {"auto": own, "rgb": 3, "grey": 1}[config.data.channels]


def own_channels(file: str | bytes) -> int:
    """Returns the channels of an image file, 1 or 3, without decoding it."""
    with _opened(file) as image:
        return image_channels(image)


@contextlib.contextmanager
def opened(file: str | bytes) -> Iterator[Image.Image]:
    """Opens one image to be decoded; it has no more pixels than an image may have.

    Raises:
      ValueError: the image has too many pixels.
      Exception: it is in none of the `FORMATS`.
    """
    try:
        with _opened(file) as image:
            check_pixels(*image.size)
            yield image
    except _BOMB as error:  # Pillow's own bounds, which are wider
        raise ValueError(TOO_MANY_PIXELS) from error


def _opened(file: str | bytes) -> Image.Image:
    if isinstance(file, bytes):
        return Image.open(io.BytesIO(file), formats=FORMATS)
    if os.path.exists(file) and not os.path.isfile(file):  # a pipe would block
        raise ValueError("it is not a file")
    return Image.open(file, formats=FORMATS)


def image_channels(image: Image.Image) -> int:
    """Returns the channels of an opened image, 1 (grey) or 3 (RGB)."""
    return 1 if image.mode in _GREY else 3


def square(image: Image.Image, size: int, channels: int = 0) -> np.ndarray:
    """Returns an image as `[size, size, channels]`, uint8; 0 for its own channels."""
    channels = channels or image_channels(image)
    fitted = resize_and_crop(flatten(image, channels), size)
    return np.asarray(fitted).reshape(size, size, channels)


def flatten(image: Image.Image, channels: int) -> Image.Image:
    """Converts any mode to grey or RGB with eight bits per channel.

    Transparent images are composited on white: the colour of transparent pixels is
    arbitrary, and soft edges keep the colours that a viewer shows.
    """
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode!r} have no fixed range")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    """Scales the shorter side to `size` and keeps the central square.

    The filter is Lanczos with antialiasing, as in StyleGAN's dataset tool; filters
    without antialiasing shift FID ("On Aliased Resizing", arXiv:2104.11222).
    """
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box)


class Encoded(Sequence):
    """A source that decodes each image when it is read.

    Args:
      info: its description; `info.example` is a space of square images.
      records: random access to pairs of an encoded image and a label.
      decode: maps an encoded image, the size and the channels to the example.
    """

    def __init__(
        self,
        info: Info,
        records: Sequence[tuple[Any, int]],
        decode: Callable[[Any, int, int], np.ndarray] = decode,
    ):
        self.info, self.records, self.decode = info, records, decode

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        encoded, label = self.records[index]
        example = {"example": self.decode(encoded, *self.info.example.shape[1:])}
        if self.info.condition is None:
            return example
        return example | {"condition": label}
