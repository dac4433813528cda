"""How near images are to the one image that each of them should be."""

import numpy as np

from gan_jax.errors import UserError
from gan_jax.metrics.diversity import SSIM_BORDER, check_ssim_size, ssim_factors

# The variance of what rounding to whole levels changes: no error is taken for less.
_ROUNDING = 1 / 12
_BATCH = 64  # pairs that are compared at once


def l1(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the mean absolute difference of each pair, `[n]`, in [0, 1].

    Args:
      x: uint8 `[n, ...]`.
      y: of the same shape.

    Raises:
      UserError: they are no such arrays.
    """
    return _of_pairs(x, y, lambda x, y: np.abs(x - y).mean(_all(x)) / 255)


def psnr(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""Returns $10 \log_{10}(255^2 / \overline{(x - y)^2})$ of each pair, `[n]`, in dB.

    At most 58.9: what rounding to 8 bits changes is the least error.

    Args:
      x: uint8 `[n, ...]`.
      y: of the same shape.

    Raises:
      UserError: they are no such arrays.
    """
    errors = _of_pairs(x, y, lambda x, y: np.square(x - y).mean(_all(x)))
    return 10 * np.log10(255**2 / np.maximum(errors, _ROUNDING))


def ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the structural similarity of each pair, `[n]`, 1 for equal images.

    Wang et al. 2004, with a Gaussian window of 11 pixels (standard deviation 1.5); the
    mean over the positions where the window lies within the image, and over channels.

    Args:
      x: uint8 `[n, height, width, channels]`.
      y: of the same shape.

    Raises:
      UserError: they are no such images, or below 11 pixels.
    """
    inner = slice(SSIM_BORDER, -SSIM_BORDER)

    def of_batch(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        check_ssim_size(*x.shape[1:3])
        luminance, contrast = ssim_factors(x, y)
        return (luminance * contrast)[:, inner, inner].mean((1, 2, 3))

    return _of_pairs(x, y, of_batch)


def _all(x: np.ndarray) -> tuple[int, ...]:
    return tuple(range(1, x.ndim))


def _of_pairs(x: np.ndarray, y: np.ndarray, of_batch) -> np.ndarray:
    if not x.shape == y.shape or not x.dtype == y.dtype == np.uint8 or not len(x):
        raise UserError(
            f"examples are {x.dtype} {list(x.shape)} and {y.dtype} {list(y.shape)}: "
            "give both as uint8, of one shape"
        )
    starts = range(0, len(x), _BATCH)
    parts = [(x[i : i + _BATCH], y[i : i + _BATCH]) for i in starts]
    return np.concatenate([of_batch(np.float64(x), np.float64(y)) for x, y in parts])
