"""From an encoded image to the square uint8 array that an experiment asks for."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from gan_jax.data import png
from gan_jax.data.source import TOO_MANY_PIXELS, Info, check_pixels

# What Pillow may open: it knows forty formats more, and runs programs for some.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
warnings.simplefilter("error", Image.DecompressionBombWarning)  # as Pillow advises

_GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N")


def decode(file: str | bytes, size: int, channels: int = 0) -> np.ndarray:
    """Reads one image (of an animation, the first frame).

    Args:
      file: a path, or what the file holds.
      size: height and width of the result.
      channels: 1 (grey) or 3 (RGB); 0 keeps what the file holds.

    Returns:
      `[size, size, channels]`, uint8.

    Raises:
      ValueError: the image has too many pixels; no memory was taken for them.
      Exception: it is damaged, or of none of the `FORMATS`.
    """
    check_pixels(size, size)
    if isinstance(file, bytes):
        plain = png.decode(file) if channels == 1 else None
        if plain is not None and plain.shape == (size, size):
            return plain[..., None]
        file = io.BytesIO(file)
    try:
        with Image.open(file, formats=FORMATS) as image:
            check_pixels(*image.size)
            channels = channels or (1 if image.mode in _GREY else 3)
            square = resize_and_crop(flatten(image, channels), size)
            return np.asarray(square).reshape(size, size, channels)
    except _BOMB as error:  # Pillow's own bounds, which are wider
        raise ValueError(TOO_MANY_PIXELS) from error


def flatten(image: Image.Image, channels: int) -> Image.Image:
    """Converts any mode to grey or RGB with eight bits a channel.

    Transparent images are laid on white: what lies under transparent pixels is
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
    """A source that decodes each image when it is asked for.

    Args:
      info: its description; images are brought to `info.shape`.
      records: random access to pairs of a file, as `decode` takes it, and a label.
    """

    def __init__(self, info: Info, records: Sequence[tuple[str | bytes, int]]):
        self.info, self.records = info, records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        file, label = self.records[index]
        return {"image": decode(file, *self.info.shape[1:]), "label": int(label)}
