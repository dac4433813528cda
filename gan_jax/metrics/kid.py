"""The kernel Inception distance: a maximum mean discrepancy without bias."""

import numpy as np

from gan_jax.errors import UserError
from gan_jax.metrics import arrays

_ROWS = 1024  # of a block of kernel values


def kid(
    real: np.ndarray,
    fake: np.ndarray,
    subsets: int = 100,
    size: int | None = None,
    seed: int = 2020,
) -> tuple[float, float]:
    r"""Returns the mean of the squared MMD over random subsets, and its spread.

    The kernel is $(x^\top y / k + 1)^3$ (Bińkowski et al. 2018, arXiv:1801.01401). The
    mean has no bias, and so is below 0 about half of the time where the distributions
    are equal. The subsets are those that torch-fidelity draws for the same seed,
    generated ones first.

    Args:
      real: features `[n, k]`.
      fake: features `[m, k]`.
      subsets: how many.
      size: examples of each kind in a subset, drawn without repeats; 1000, or all if
        there are fewer.
      seed: of the subsets.

    Returns:
      The mean, and the standard deviation over subsets (not the standard error of the
      mean), which is what is usually printed behind ±.

    Raises:
      UserError: there are fewer examples than a subset has.
    """
    x, y = arrays.pair(real, fake)
    size = min(1000, len(x), len(y)) if size is None else size
    if subsets < 1 or not 2 <= size <= min(len(x), len(y)):
        raise UserError(
            f"{subsets} subsets of {size}, from {len(x)} real and {len(y)} generated "
            "examples: a subset has at least 2, and at most all"
        )
    random = np.random.RandomState(seed)  # the generator of the reference
    found = []
    for _ in range(subsets):
        b = y[random.choice(len(y), size, replace=False)]
        a = x[random.choice(len(x), size, replace=False)]
        found.append(squared_mmd(a, b))
    return float(np.mean(found)), float(np.std(found))


def squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the unbiased estimate of the squared MMD with KID's kernel.

    Lemma 6 of Gretton et al. 2012: examples are not compared with themselves.

    Args:
      x: `[n, k]`, n at least 2.
      y: `[m, k]`, m at least 2.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    within = sum(_within(z) / (len(z) * (len(z) - 1)) for z in (x, y))
    return float(within - 2 * _between(x, y) / (len(x) * len(y)))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    values = x @ y.T
    values /= x.shape[1]
    values += 1
    return values * values * values


def _between(x: np.ndarray, y: np.ndarray) -> float:
    parts = (x[i : i + _ROWS] for i in range(0, len(x), _ROWS))
    return sum(_kernel(part, y).sum() for part in parts)


def _within(x: np.ndarray) -> float:
    """Sums the kernel over all pairs of different rows; each pair counts twice."""
    alone = (np.einsum("ij,ij->i", x, x) / x.shape[1] + 1) ** 3
    return _between(x, x) - alone.sum()
