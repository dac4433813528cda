"""How many modes of a mixture samples cover."""

from typing import NamedTuple

import numpy as np


class Coverage(NamedTuple):
    """What became of a mixture's modes.

    Attributes:
      modes: how many have a sample of high quality.
      quality: the share of samples of high quality, within three standard deviations
        of a mode's centre.
    """

    modes: int
    quality: float


def coverage(samples: np.ndarray, centres: np.ndarray, scale: float) -> Coverage:
    """Counts the modes that samples cover, and the good samples.

    As Lin et al. 2018 (arXiv:1712.04086), section 4.1, who take 2,500 samples.

    Args:
      samples: `[num, 2]`.
      centres: of the modes, `[modes, 2]`.
      scale: standard deviation of each mode in each coordinate.
    """
    distances = np.linalg.norm(samples[:, None] - np.asarray(centres)[None], axis=-1)
    good = distances.min(1) <= 3 * scale
    return Coverage(len(np.unique(distances.argmin(1)[good])), float(good.mean()))
