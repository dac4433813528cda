"""The pixels of an image are its features."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError
from gan_jax.metrics.features.extractor import Extractor, Outputs


def load(side: int = 0) -> Extractor:
    """Returns the extractor of all pixels, scaled to [0, 1].

    Args:
      side: images, or the frames of clips, are first brought to this height and width,
        by linear interpolation with antialiasing; 0 leaves them as they are.

    Raises:
      UserError: the side is no such number.
    """
    if type(side) is not int or side < 0:
        raise UserError(f"pixels: side is {side!r}: it is a number of pixels, or 0")
    name = f"pixels(side={side})" if side else "pixels"
    apply = functools.partial(_apply, side=side)
    return Extractor(name, "1", "", "FD-pixels", {}, apply)


def _apply(variables: dict, stored: Array, side: int) -> Outputs:
    if stored.dtype != jnp.uint8:
        raise UserError(
            f"the features 'pixels' are of uint8 images, and these are {stored.dtype}: "
            "use 'identity'"
        )
    pixels = stored / jnp.float32(255)
    if side:
        *lead, _, _, channels = stored.shape
        pixels = jax.image.resize(pixels, (*lead, side, side, channels), "linear")
    return Outputs(pixels.reshape(len(stored), -1), None)
