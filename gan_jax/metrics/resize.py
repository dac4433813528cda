r"""Resizing images as the references of the FID do, as linear maps.

Each is $Y = R X C^\top$ for every channel, with a matrix for each axis that depends on
the two sizes alone. So both run inside the compiled program, on any device.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from PIL import Image

from gan_jax.errors import UserError


def tensorflow1(x: Array, size: int) -> Array:
    """Resizes bilinearly as TensorFlow 1 does, neither antialiased nor centred.

    It is `tf.image.resize_bilinear(align_corners=False)` of the graph of the FID
    (arXiv:1706.08500): output i is read at input i * (old / new).

    Args:
      x: `[n, h, w, c]`, any numbers.
      size: height and width of the result.

    Returns:
      `[n, size, size, c]`, float32.
    """
    return _resized(x, size, _bilinear)


def clean(x: Array, size: int) -> Array:
    """Resizes bicubically with antialiasing and without rounding, as clean-fid does.

    arXiv:2104.11222. The weights are Pillow's, for images of float32.

    Args:
      x: `[n, h, w, c]`, in [0, 255].
      size: height and width of the result.

    Returns:
      `[n, size, size, c]`, float32, clipped to [0, 255].
    """
    return jnp.clip(_resized(x, size, _bicubic), 0, 255)


def rgb(
    stored: Array, size: int, resize: Callable[[Array, int], Array], features: str
) -> Array:
    """Resizes images for a network that sees three channels; grey ones are repeated.

    Args:
      stored: `[n, h, w, 1 or 3]`, in [0, 255].
      size: height and width of the result.
      resize: one of the above.
      features: the extractor's name, for the error.

    Returns:
      `[n, size, size, 3]`, float32.

    Raises:
      UserError: these are no images.
    """
    if stored.ndim != 4 or stored.shape[3] not in (1, 3):
        raise UserError(
            f"the features {features!r} are of images [n, h, w, 1 or 3], and these "
            f"examples are {list(stored.shape)}"
        )
    return jnp.broadcast_to(resize(stored, size), (len(stored), size, size, 3))


def _resized(x: Array, size: int, weights) -> Array:
    rows, columns = (weights(n, size) for n in x.shape[1:3])
    x = x.astype(jnp.float32)
    # TPUs and GPUs would round the factors to fewer digits.
    exact = {"precision": lax.Precision.HIGHEST}
    return jnp.einsum("nhwc,jw,ih->nijc", x, columns, rows, **exact)


def _bilinear(old: int, new: int) -> np.ndarray:
    """Returns `[new, old]`."""
    at = np.arange(new, dtype=np.float32) * np.float32(old / new)
    low = at.astype(int)
    part, each = at - low, np.arange(new)
    matrix = np.zeros((new, old), np.float32)
    matrix[each, low] = 1 - part
    matrix[each, np.minimum(low + 1, old - 1)] += part
    return matrix


def _bicubic(old: int, new: int) -> np.ndarray:
    """Returns `[new, old]`: what Pillow makes of the unit vectors."""
    units = Image.fromarray(np.eye(old, dtype=np.float32))
    return np.asarray(units.resize((old, new), Image.Resampling.BICUBIC))
