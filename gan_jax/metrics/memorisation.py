"""Whether samples are copies of training examples."""

import numpy as np
from scipy.cluster.vq import kmeans, vq
from scipy.stats import rankdata

from gan_jax.errors import UserError
from gan_jax.metrics import arrays

_NAMES = ("training features", "generated features")
_TEST = ("training features", "test features")
_LEAST = 20  # samples that a cell needs to be compared


def nearest_training(
    fake: np.ndarray, train: np.ndarray, count: int = 1
) -> arrays.Neighbours:
    """Finds the training examples nearest to each sample, for a picture of pairs.

    Args:
      fake: features of samples, `[n, k]`.
      train: features of the training set, `[m, k]`.
      count: how many of them for each sample.

    Raises:
      UserError: the training set has fewer.
    """
    if count < 1:
        raise UserError(f"count is {count}: it must be at least 1")
    x, y = arrays.pair(train, fake, least=1, names=_NAMES)
    x = arrays.features(x, _NAMES[0], least=count)
    return arrays.neighbours(y, x, count)


def near_to_group(
    fake: np.ndarray, train: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds the nearest training examples, and whether another group's are as near.

    A group is what must not be given away, such as a patient with all their slices,
    which are nearly equal: AuthPct takes a copy of one for new, as the next is as near.

    Args:
      fake: features of samples, `[n, k]`.
      train: features of the training set, `[m, k]`.
      groups: whose those are, `[m]`.

    Returns:
      For each sample the index of the nearest training example, its distance, and
      whether that is less than the distance from that example to the nearest one of any
      other group.
    """
    found = nearest_training(fake, train)
    others = np.full(len(train), np.inf)
    for one in np.unique(groups):
        mine = groups == one
        if not mine.all():
            distances = arrays.neighbours(train[mine], train[~mine]).distances
            others[mine] = distances[:, 0]
    index, distance = found.indices[:, 0], found.distances[:, 0]
    return index, distance, distance < others[index]


def nearer_to_training(
    fake: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """Returns the share of samples nearer to the training than to the test set.

    A half is expected of a generator that knows the distribution only; more of one that
    memorises. The larger of both sets is cut to the size of the smaller one, for more
    examples are nearer to everything. Equal distances count half.

    Args:
      fake: features of samples, `[n, k]`.
      train: features of the training set, `[m, k]`.
      test: features of examples that were not trained on, `[l, k]`.
      seed: of the cut.

    Returns:
      The share, and its standard error as of n independent samples.
    """
    x, y = arrays.pair(train, fake, least=1, names=_NAMES)
    _, held = arrays.pair(x, test, least=1, names=_TEST)
    num, random = min(len(x), len(held)), np.random.default_rng(seed)
    to_train, to_test = (
        _nearest(y, z[random.permutation(len(z))[:num]] if len(z) > num else z)
        for z in (x, held)
    )
    share = np.mean((to_train < to_test) + 0.5 * (to_train == to_test))
    return float(share), float(np.sqrt(share * (1 - share) / len(y)))


def authenticity(fake: np.ndarray, train: np.ndarray) -> tuple[float, float]:
    """Returns the share of samples that are no copies, AuthPct.

    A sample is a copy if it is nearer to its nearest training example than any other
    training example is (Alaa et al. 2022, arXiv:2102.08921).

    Args:
      fake: features of samples, `[n, k]`.
      train: features of the training set, `[m, k]`.

    Returns:
      The share, and its standard error as of n independent samples.
    """
    x, y = arrays.pair(train, fake, least=1, names=_NAMES)
    arrays.features(x, _NAMES[0], least=2)
    found = arrays.neighbours(y, x)
    between = arrays.neighbours(x, x, itself=True).distances[:, 0]
    share = np.mean(found.distances > between[found.indices])
    return float(share), float(np.sqrt(share * (1 - share) / len(y)))


def copying(
    fake: np.ndarray, train: np.ndarray, test: np.ndarray, cells: int = 3, seed: int = 0
) -> float:
    """Returns C_T, a z-score that is far below 0 where samples are copies.

    Within each cell of the training set it tests whether samples are nearer to the
    training examples than the test set is (Mann-Whitney's U), and it averages the cells
    by their shares of the test set (Meehan et al. 2020, arXiv:2004.05675).
    Far above 0 the samples are far from the data. For equal distributions it is normal
    with variance at most 1.

    Args:
      fake: features of samples, `[n, k]`.
      train: features of the training set, `[m, k]`.
      test: features of examples that were not trained on, `[l, k]`.
      cells: parts of the space, found by k-means on the training set.
      seed: of k-means.

    Raises:
      UserError: no cell has training and test examples and at least 20 samples.
    """
    x, y = arrays.pair(train, fake, least=max(2, cells), names=_NAMES)
    _, held = arrays.pair(x, test, names=_TEST)
    sets = [z.astype(np.float64) for z in (x, y, held)]
    chosen = np.random.default_rng(seed).choice(len(x), cells, replace=False)
    centres = sets[0][chosen]
    if cells > 1:  # SciPy takes a single centre for a number
        centres, _ = kmeans(sets[0], centres)
    labels = [vq(z, centres)[0] for z in sets]
    scores, weights = [], []
    for cell in range(len(centres)):
        inside = [z[of == cell] for z, of in zip(sets, labels, strict=True)]
        if len(inside[0]) and len(inside[1]) >= _LEAST and len(inside[2]):
            scores.append(_z_score(*inside))
            weights.append(len(inside[2]))
    if not scores:
        raise UserError(
            f"none of {cells} cells has training and test examples and {_LEAST} "
            "samples: use more samples or fewer cells"
        )
    return float(np.average(scores, weights=weights))


def _z_score(train: np.ndarray, fake: np.ndarray, test: np.ndarray) -> float:
    n, m = len(fake), len(test)
    distances = np.concatenate([_nearest(fake, train), _nearest(test, train)])
    u = rankdata(distances)[:n].sum() - n * (n + 1) / 2
    return (u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)


def _nearest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return arrays.neighbours(x, y).distances[:, 0]
