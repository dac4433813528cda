"""How much samples differ from one another."""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import correlate1d

from gan_jax.errors import UserError
from gan_jax.metrics import arrays

# Wang et al. 2003, the finest scale first.
_SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
_WINDOW = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
_WINDOW /= _WINDOW.sum()
SSIM_BORDER = 5  # pixels where the window reaches beyond the image
_PAIRS = 32  # of images that are compared at once


def mean_distance(features: np.ndarray) -> float:
    """Returns the mean Euclidean distance between two examples, over all pairs.

    Args:
      features: `[n, k]`.
    """
    x = arrays.features(features, "features")
    total = 0.0
    for rows, squares in arrays.squared_distances(x, x, itself=True):
        i = np.arange(len(squares))
        squares[i, rows.start + i] = 0
        total += np.sqrt(squares).sum()
    return float(total / (len(x) * (len(x) - 1)))


def num_scales(height: int, width: int) -> int:
    """Returns how many of MS-SSIM's five scales images have room for.

    The coarsest must be as large as the window of 11 pixels: five need 176 pixels, four
    88, three 44, two 22.

    Raises:
      UserError: they have less than 11 pixels.
    """
    check_ssim_size(height, width)
    sizes = [min(height, width) // 2**halvings for halvings in range(5)]
    return sum(size >= len(_WINDOW) for size in sizes)


def check_ssim_size(height: int, width: int) -> None:
    """Checks that images are as large as the window.

    Raises:
      UserError: they are not.
    """
    if min(height, width) < len(_WINDOW):
        raise UserError(
            f"images of {height}x{width} pixels are too small for SSIM: its window has "
            "11 x 11"
        )


def ms_ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the multi-scale structural similarity of each pair of images.

    Wang et al. 2003, with a Gaussian window of 11 pixels (standard deviation 1.5),
    reflection at the border, and negative terms taken for 0, as torchmetrics has it.
    Images below 176 pixels have fewer scales, `num_scales`, whose weights are divided
    by their sum. That is not standard: compare such values only at equal image size.

    Args:
      x: uint8 `[n, height, width, channels]`.
      y: of the same shape.

    Returns:
      `[n]`, 1 for equal images.

    Raises:
      UserError: they are no such images, or below 11 pixels.
    """
    x, y = _images(x), _images(y)
    if x.shape != y.shape:
        raise UserError(f"images of shapes {x.shape} and {y.shape} cannot be compared")
    parts = (slice(i, i + _PAIRS) for i in range(0, len(x), _PAIRS))
    return np.concatenate([_similarity(x[part], y[part]) for part in parts])


def ms_ssim_diversity(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    pairs: int = 100,
    seed: int = 0,
) -> dict[int, float]:
    """Returns the mean MS-SSIM of random pairs of images of each class.

    More of it is less diversity (Odena et al. 2017, arXiv:1610.09585): a
    class above its value on real images has lost variety.

    Args:
      images: uint8 `[n, height, width, channels]`.
      labels: `[n]`, integers from 0; without them all images are of class 0.
      pairs: how many of each class, of different images.
      seed: of the pairs.

    Raises:
      UserError: they are no such images, or a class has less than two.
    """
    x = _images(images)
    labels = np.zeros(len(x), int) if labels is None else labels
    labels = arrays.class_labels(labels, len(x), "labels")
    random = np.random.default_rng(seed)
    return {
        label: float(ms_ssim(x[first], x[second]).mean())
        for label, first, second in _pairs(labels, pairs, random)
    }


def _pairs(
    labels: np.ndarray, num: int, random: np.random.Generator
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Draws pairs of different examples of each class."""
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        if len(members) < 2:
            raise UserError(f"class {label} has one image: MS-SSIM compares two")
        first = random.integers(len(members), size=num)
        step = random.integers(1, len(members), size=num)
        yield int(label), members[first], members[(first + step) % len(members)]


def _images(images: np.ndarray) -> np.ndarray:
    x = np.asarray(images)
    if x.ndim != 4 or x.dtype != np.uint8 or not len(x):
        raise UserError(
            f"images are {x.dtype} of shape {x.shape}: give them as uint8 [n, height, "
            "width, channels]"
        )
    return x


def _similarity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    scales = num_scales(*x.shape[1:3])
    weights = _SCALE_WEIGHTS[:scales] / _SCALE_WEIGHTS[:scales].sum()
    x, y, found = x.astype(np.float64), y.astype(np.float64), 1.0
    for scale, weight in enumerate(weights):
        luminance, contrast = ssim_factors(x, y)
        if scale == scales - 1:
            terms = luminance * contrast
        else:  # away from the border
            terms = contrast[:, SSIM_BORDER:-SSIM_BORDER, SSIM_BORDER:-SSIM_BORDER]
            x, y = _halved(x), _halved(y)
        found = found * np.maximum(terms.mean((1, 2, 3)), 0) ** weight
    return found


def ssim_factors(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both factors of SSIM at each pixel (Wang et al. 2004), range 255."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = _smooth(x), _smooth(y)
    squares = mean_x**2 + mean_y**2
    variances = np.maximum(_smooth(x * x) - mean_x**2, 0)
    variances += np.maximum(_smooth(y * y) - mean_y**2, 0)
    covariance = _smooth(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (squares + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _smooth(x: np.ndarray) -> np.ndarray:
    down = correlate1d(x, _WINDOW, axis=1, mode="mirror")
    return correlate1d(down, _WINDOW, axis=2, mode="mirror")


def _halved(x: np.ndarray) -> np.ndarray:
    n, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))
