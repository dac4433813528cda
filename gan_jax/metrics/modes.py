"""How many modes of a mixture samples cover, and how evenly."""

from typing import NamedTuple

import numpy as np
from scipy.special import rel_entr

from gan_jax.errors import UserError


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


class Stacked(NamedTuple):
    """What became of the thousand modes of Stacked-MNIST.

    Attributes:
      modes: how many of them have a sample.
      reverse_kl: of the samples over modes, from the data.
    """

    modes: int
    reverse_kl: float


def nearest_modes(samples: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Returns which mode's centre is nearest to each sample, `[num]`.

    Args:
      samples: `[num, 2]`.
      centres: of the modes, `[modes, 2]`.
    """
    offsets = samples[:, None] - np.asarray(centres)[None]
    return np.linalg.norm(offsets, axis=-1).argmin(1)


def reverse_kl(found: np.ndarray, wanted: int | np.ndarray) -> float:
    r"""Returns $KL(q \,\|\, p)$ of samples over modes, q, from the data's, p, in nats.

    As Metz et al. 2017 (arXiv:1611.02163) and Lin et al. 2018
    (arXiv:1712.04086): each sample belongs to its nearest mode, good or not.

    Args:
      found: the mode of each sample, `[num]`, integers from 0.
      wanted: how many modes of equal probability there are, or the probability of each.

    Returns:
      0 if samples have the data's shares, at most log(modes) from equal ones; infinity
      if samples have a mode that the data has not.

    Raises:
      UserError: there are no samples, or one of an unknown mode.
    """
    p = np.full(wanted, 1 / wanted) if np.ndim(wanted) == 0 else np.asarray(wanted)
    found = np.asarray(found)
    if not len(found) or found.min() < 0 or found.max() >= len(p):
        raise UserError(
            f"{len(found)} samples: each needs a mode from 0 to {len(p) - 1}"
        )
    q = np.bincount(found, minlength=len(p)) / len(found)
    return float(rel_entr(q, p / p.sum()).sum())


def stacked_modes(classes: np.ndarray, num_classes: int = 10) -> np.ndarray:
    """Returns the mode of each Stacked-MNIST sample, the number its digits write.

    Args:
      classes: of the digit in each of three channels, `[num, 3]`.
      num_classes: of one digit.
    """
    return np.asarray(classes) @ num_classes ** np.arange(3)[::-1]


def stacked_coverage(
    classes: np.ndarray, num_classes: int = 10, wanted: np.ndarray | None = None
) -> Stacked:
    """Counts the modes of Stacked-MNIST, and compares their shares with the data's.

    As Lin et al. 2018 (arXiv:1712.04086), who take 26,000 samples.

    Args:
      classes: of the digit in each of three channels, `[num, 3]`, as a classifier sees
        them.
      num_classes: of one digit.
      wanted: the probability of each mode in the data; equal ones by default.
    """
    found = stacked_modes(classes, num_classes)
    p = num_classes**3 if wanted is None else wanted
    return Stacked(len(np.unique(found)), reverse_kl(found, p))
