"""How clips move: features frame by frame, and the paths of bright things."""

import numpy as np
from scipy.stats import wasserstein_distance

from gan_jax.errors import UserError
from gan_jax.metrics.features.extractor import Extractor, extract
from gan_jax.metrics.frechet import frechet_distance, moments

_BATCH = 256  # clips whose frames are extracted at once


def frame_features(extractor: Extractor, clips: np.ndarray) -> np.ndarray:
    """Returns the features of every frame, `[num, time, k]`.

    Args:
      extractor: of images.
      clips: `[num, time, height, width, channels]`, as stored.

    Raises:
      UserError: they are no clips of two frames or more.
    """
    x = _clips(clips)
    parts = (x[i : i + _BATCH] for i in range(0, len(x), _BATCH))
    frames = (part.reshape(-1, *x.shape[2:]) for part in parts)
    return extract(extractor, frames).features.reshape(*x.shape[:2], -1)


def frechet_of_frames(real: np.ndarray, fake: np.ndarray) -> float:
    """Returns the Fréchet distance of single frames, whatever their order is.

    Args:
      real: features `[n, time, k]`.
      fake: `[m, time, k]`.
    """
    a, b = (moments(x.reshape(-1, x.shape[-1])) for x in (real, fake))
    return frechet_distance(a, b)


def frechet_of_motion(real: np.ndarray, fake: np.ndarray) -> float:
    """Returns the Fréchet distance of the differences of neighbouring frames."""
    return frechet_of_frames(np.diff(real, axis=1), np.diff(fake, axis=1))


def centres_of_mass(clips: np.ndarray) -> np.ndarray:
    """Returns where the brightness of each frame is centred, in pixels.

    Args:
      clips: `[num, time, height, width, channels]`, 0 for nothing.

    Returns:
      `[num, time, 2]`, row and column; of an empty frame, its middle.
    """
    mass = _clips(clips).sum(-1, dtype=np.float64) + 1e-6
    whole = mass.sum((2, 3))
    rows = (mass.sum(3) * np.arange(mass.shape[2])).sum(2)
    columns = (mass.sum(2) * np.arange(mass.shape[3])).sum(2)
    return np.stack([rows, columns], -1) / whole[..., None]


def speeds(clips: np.ndarray) -> np.ndarray:
    """Returns how far the centre of mass moves from frame to frame, in pixels.

    Args:
      clips: as for `centres_of_mass`.

    Returns:
      `[num, time - 1]`.
    """
    return np.linalg.norm(np.diff(centres_of_mass(clips), axis=1), axis=-1)


def accelerations(clips: np.ndarray) -> np.ndarray:
    """Returns by how much its velocity changes from frame to frame, in pixels.

    It is 0 for what moves evenly, but where it bounces or is hidden.

    Returns:
      `[num, time - 2]`.
    """
    return np.linalg.norm(np.diff(centres_of_mass(clips), 2, axis=1), axis=-1)


def distance(real: np.ndarray, fake: np.ndarray) -> float:
    """Returns the Wasserstein-1 distance of two sets of numbers of any shape."""
    return float(wasserstein_distance(np.ravel(real), np.ravel(fake)))


def _clips(clips: np.ndarray) -> np.ndarray:
    x = np.asarray(clips)
    if x.ndim != 5 or x.shape[1] < 3:
        raise UserError(
            f"examples have shape {x.shape[1:]}: motion is measured of clips (time, "
            "height, width, channels) of at least 3 frames"
        )
    return x
