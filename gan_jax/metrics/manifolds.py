"""Precision, recall, density and coverage: fidelity and variety, apart.

A set's manifold is estimated by balls around its examples. The radius of each is the
distance to the k-th nearest other example of the set.
"""

from typing import NamedTuple

import numpy as np

from gan_jax.errors import UserError
from gan_jax.metrics import arrays


class Manifolds(NamedTuple):
    """How two sets overlap.

    Attributes:
      precision: the share of samples within a ball of a real example: fidelity.
      recall: the share of real examples within a ball of a sample: variety.
      density: the number of real balls that a sample is in, over k, on average; 1 for
        equal distributions, and it may be more.
      coverage: the share of real balls with a sample in them.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifolds(
    real: np.ndarray, fake: np.ndarray, k: int = 3, dense_k: int = 5
) -> Manifolds:
    """Measures fidelity and variety of samples.

    Precision and recall are those of Kynkäänniemi et al. 2019 (arXiv:1904.06991), for
    whom a ball includes its surface; density and coverage those of Naeem et al. 2020
    (arXiv:2002.09797), whose balls are open. That matters only where distances are
    equal, as between duplicates.

    Args:
      real: features `[n, features]`.
      fake: features of samples, `[m, features]`.
      k: which neighbour gives the radius for precision and recall.
      dense_k: which gives it for density and coverage.

    Raises:
      UserError: a set has too few examples for its neighbours, or the real ones are all
        equal.
    """
    if min(k, dense_k) < 1:
        raise UserError(f"k is {min(k, dense_k)}: it must be at least 1")
    x, y = arrays.pair(real, fake, least=max(k, dense_k) + 1)
    if (x == x[0]).all():
        raise UserError("real features are all equal: their balls have no radius")
    closed, open_ = _squared_radii(x, k, dense_k)
    (of_fake,) = _squared_radii(y, k)
    precise, density = np.zeros(len(y), bool), np.zeros(len(y))
    recalled, covered = np.empty((2, len(x)), bool)
    for rows, squares in arrays.squared_distances(x, y):
        precise |= (squares <= closed[rows, None]).any(0)
        recalled[rows] = (squares <= of_fake).any(1)
        within = squares < open_[rows, None]
        density += within.sum(0) / dense_k
        covered[rows] = within.any(1)
    shares = precise, recalled, density, covered
    return Manifolds(*(float(np.mean(share)) for share in shares))


def _squared_radii(x: np.ndarray, *ks: int) -> list[np.ndarray]:
    """Returns the squared distances to the k-th nearest other rows, for each k."""
    places = [k - 1 for k in ks]
    found = np.empty((len(ks), len(x)))
    for rows, squares in arrays.squared_distances(x, x, itself=True):
        squares.partition(places, axis=1)
        found[:, rows] = squares[:, places].T
    return list(found)
