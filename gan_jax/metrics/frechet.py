r"""The Fréchet distance of two sets of features, taken for Gaussians.

$d^2 = |\mu_a - \mu_b|^2 + \mathrm{tr}\,A + \mathrm{tr}\,B - 2\,\mathrm{tr}\,(A^{1/2} B
A^{1/2})^{1/2}$ (Dowson and Landau 1982), on Inception's features the FID of Heusel et
al. 2017 (arXiv:1706.08500).
"""

import dataclasses
import functools

import numpy as np
from scipy import linalg
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpstrf

from gan_jax.errors import UserError
from gan_jax.metrics import arrays

_ROWS = 1024  # that are made float64 at once


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Sums over a set of features, from which come its mean and its covariance.

    Sets that come in batches are merged: order and batch size change no more than the
    last digits of a float64.

    Attributes:
      n: how many examples.
      mean: `[k]`, float64.
      scatter: the sum over examples of the outer squares of what differs from the mean,
        `[k, k]`, float64: n - 1 covariances.
    """

    n: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance, `[k, k]`, as `numpy.cov` gives it.

        Raises:
          UserError: there is only one example.
        """
        if self.n < 2:
            raise UserError(f"a covariance needs at least 2 examples, not {self.n}")
        return self.scatter / (self.n - 1)

    @property
    def below_dimension(self) -> bool:
        """Whether n is too small for a covariance of full rank, n <= k.

        The distance is then defined and computed as well, but its bias is large and no
        longer proportional to 1/n: compare only values of the same n.
        """
        return self.n <= len(self.mean)

    def add(self, features: np.ndarray) -> "Moments":
        """Returns the moments of these examples and more, `[m, k]`."""
        return self.merge(moments(features))

    def merge(self, other: "Moments") -> "Moments":
        """Returns the moments of two sets together (Chan et al. 1979)."""
        arrays.same_width(len(self.mean), len(other.mean), ("some", "others"))
        n = self.n + other.n
        apart = other.mean - self.mean
        scatter = np.outer(apart, apart * (self.n * other.n / n))
        scatter += self.scatter
        scatter += other.scatter
        return Moments(n, self.mean + apart * (other.n / n), scatter)

    @functools.cached_property
    def factor(self) -> np.ndarray:
        """F of the covariance FFᵀ, `[k, rank]`."""
        # With pivots, Cholesky's factorisation finds the rank of a singular one.
        lower, order, rank, _ = dpstrf(self.covariance, lower=1)
        found = np.empty((len(lower), rank))
        found[order - 1] = np.tril(lower)[:, :rank]
        return found


def moments(features: np.ndarray) -> Moments:
    """Returns the moments of features, in two passes and in float64.

    Args:
      features: `[n, k]`.

    Raises:
      UserError: they are no features, or hold a NaN or inf.
    """
    x = arrays.features(features, "features", least=1)
    mean = x.mean(0, dtype=np.float64)
    scatter = np.zeros((x.shape[1],) * 2, order="F")
    for start in range(0, len(x), _ROWS):
        rows = x[start : start + _ROWS] - mean
        scatter = dsyrk(1.0, rows.T, beta=1.0, c=scatter, overwrite_c=1, lower=1)
    return Moments(len(x), mean, scatter + np.tril(scatter, -1).T)


def frechet_distance(a: Moments, b: Moments) -> float:
    r"""Returns the squared Fréchet distance of two Gaussians, what is called FD or FID.

    With covariances FFᵀ and GGᵀ, the trace of the square root is the sum of the
    singular values of FᵀG. So nothing is ever complex, singular covariances need no
    offset, and a set is at distance 0 from itself, to 1e-9 of the trace.

    Args:
      a: moments of one set.
      b: of the other. Their order does not matter.

    Raises:
      UserError: their features differ in size, or one has less than two examples.
    """
    arrays.same_width(len(a.mean), len(b.mean))
    apart = a.mean - b.mean
    spreads = np.trace(a.covariance) + np.trace(b.covariance)
    root = _sum_of_singular_values(a.factor.T @ b.factor)
    return max(0.0, float(apart @ apart + spreads - 2 * root))


def _sum_of_singular_values(m: np.ndarray) -> float:
    if not m.size:
        return 0.0
    if len(m) < m.shape[1]:
        m = m.T
    # The eigenvalues of their squares are found several times faster, but to an error
    # that is relative to the largest: small singular values may lose all their digits.
    squares = np.linalg.eigvalsh(m.T @ m)
    roots = np.sqrt(np.maximum(squares, np.finfo(float).tiny))
    lost = np.finfo(float).eps * squares[-1] * (1 / roots).sum()
    if lost > 1e-10 * roots.sum():
        roots = linalg.svdvals(m)
    return roots.sum()


def frechet_infinity(
    real: Moments,
    fake: np.ndarray,
    points: int = 15,
    least: int | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the Fréchet distance for infinitely many samples, and its ±.

    The bias of the distance is proportional to 1/n where n is well above k: a line is
    fitted to the distances of random subsets of the samples against 1/n, and read at 0
    (Chong and Forsyth 2020, arXiv:1911.07023). As there, the real set stays as it is.

    Args:
      real: moments of the reference.
      fake: features of the samples, `[n, k]`.
      points: how many subsets, their sizes evenly spaced from `least` to n.
      least: the smallest subset; the larger of n/10, as there, and 2k.
      seed: of the subsets.

    Returns:
      The value, which may be a little below 0, and the standard error of the line's
      intercept. As subsets share samples, the true error is larger.

    Raises:
      UserError: there are too few samples.
    """
    x = arrays.features(fake, "generated features")
    least = max(len(x) // 10, 2 * x.shape[1]) if least is None else least
    if points < 3 or not 2 <= least <= len(x) // 2:
        raise UserError(
            f"{len(x)} generated features of {x.shape[1]} numbers are too few for "
            f"{points} subsets of {least} or more: it needs twice as many as the "
            "smallest subset has, and 3 subsets"
        )
    random = np.random.default_rng(seed)
    sizes = np.linspace(least, len(x), points).astype(int)
    subsets = (x[random.choice(len(x), n, replace=False)] for n in sizes)
    found = [frechet_distance(real, moments(subset)) for subset in subsets]
    (_, value), errors = np.polyfit(1 / sizes, found, 1, cov=True)
    return float(value), float(np.sqrt(errors[1, 1]))


def frechet_per_class(
    real: np.ndarray,
    real_labels: np.ndarray,
    fake: np.ndarray,
    fake_labels: np.ndarray,
    least: int = 2,
) -> dict[int, float]:
    """Returns the Fréchet distance within each class; their mean is the intra-FID.

    As Miyato and Koyama 2018 (arXiv:1802.05637).

    Args:
      real: features `[n, k]`.
      real_labels: `[n]`, integers from 0. Their classes are those that are measured.
      fake: features `[m, k]`.
      fake_labels: `[m]`.
      least: examples that each class needs on both sides.

    Raises:
      UserError: a class has fewer.
    """
    x, y = arrays.pair(real, fake)
    of_real = arrays.class_labels(real_labels, len(x), "real labels")
    of_fake = arrays.class_labels(fake_labels, len(y), "generated labels")
    for name, labels in (("real", of_real), ("generated", of_fake)):
        for label in np.unique(of_real):
            if (count := (labels == label).sum()) < max(2, least):
                raise UserError(
                    f"class {label} has {count} {name} examples: the Fréchet distance "
                    f"of each class needs at least {max(2, least)}"
                )
    return {
        int(label): frechet_distance(
            moments(x[of_real == label]), moments(y[of_fake == label])
        )
        for label in np.unique(of_real)
    }
