import numpy as np
import pytest
from scipy import linalg

from gan_jax.errors import UserError
from gan_jax.metrics.frechet import (
    Moments,
    frechet_distance,
    frechet_infinity,
    frechet_per_class,
    moments,
)

RANDOM = np.random.default_rng(0)


def covariance(k):
    factor = RANDOM.normal(size=(k, k))
    return factor @ factor.T / k + 0.1 * np.eye(k)


def exact(mean, cov, n=101):
    return Moments(n, mean, cov * (n - 1))


def with_moments(n, mean, cov):
    """Draws features whose sample moments are exactly these."""
    x = RANDOM.normal(size=(n, len(mean)))
    x = linalg.solve_triangular(
        linalg.cholesky(np.cov(x, rowvar=False), lower=True),
        (x - x.mean(0)).T,
        lower=True,
    )
    return (linalg.cholesky(cov, lower=True) @ x).T + mean


def features(n, k=6):
    return np.float32(RANDOM.normal(size=(n, k)) @ RANDOM.normal(size=(k, k)) + 3)


def test_equals_the_closed_form_of_covariances_that_do_not_commute():
    a, b = covariance(5), covariance(5)
    assert not np.allclose(a @ b, b @ a, atol=0.1)
    p, q = RANDOM.normal(size=(2, 5))
    wanted = (p - q) @ (p - q) + np.trace(a + b - 2 * linalg.sqrtm(a @ b)).real
    got = frechet_distance(exact(p, a), exact(q, b))
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    samples = moments(with_moments(60, p, a)), moments(with_moments(40, q, b))
    np.testing.assert_allclose(frechet_distance(*samples), wanted, rtol=1e-11)
    np.testing.assert_allclose(frechet_distance(*samples[::-1]), got, rtol=1e-11)


def test_equals_the_closed_form_in_one_dimension():
    got = frechet_distance(
        *(exact(np.array([m]), np.eye(1) * s) for m, s in ((1, 9), (3, 4)))
    )
    np.testing.assert_allclose(got, (1 - 3) ** 2 + (3 - 2) ** 2)


@pytest.mark.parametrize("n", [3, 30, 200])
def test_a_set_is_at_no_distance_of_itself_below_its_dimension_too(n):
    found = moments(features(n, k=40))
    assert found.below_dimension == (n <= 40)
    assert frechet_distance(found, found) <= 1e-9 * np.trace(found.covariance)


def test_singular_covariances():
    """Both sets are lines: 2 - 2 cos of the angle between them."""
    t = np.array([[-1.0], [1.0]])
    a, b = t * [1, 0, 0], t * [np.cos(1), np.sin(1), 0]
    wanted = 2 * (2 - 2 * np.cos(1))  # the variance of both is 2
    np.testing.assert_allclose(frechet_distance(moments(a), moments(b)), wanted)


def test_constant_features_have_a_distance():
    a, b = np.zeros((4, 3)), np.ones((4, 3))
    assert frechet_distance(moments(a), moments(a)) == 0
    assert frechet_distance(moments(a), moments(b)) == 3
    spread = features(9, k=3)
    np.testing.assert_allclose(
        frechet_distance(moments(a), moments(spread)),
        np.square(spread.mean(0, dtype=float)).sum()
        + spread.var(0, ddof=1, dtype=float).sum(),
        rtol=1e-6,
    )


def test_moments_are_those_of_numpy_in_float64():
    x = np.float32(1e3 + 1e-3 * RANDOM.normal(size=(3000, 4)))
    found = moments(x)
    assert found.n == 3000
    np.testing.assert_allclose(found.mean, x.mean(0, dtype=np.float64), rtol=1e-14)
    wanted = np.cov(x.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(found.covariance, wanted, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("sizes", [[1] * 50, [7, 1, 42], [49, 1]])
def test_order_and_batches_do_not_matter(sizes):
    x = features(50)
    whole, (first, *rest) = (
        moments(x),
        np.split(RANDOM.permutation(x), np.cumsum(sizes)),
    )
    found = moments(first)
    for batch in rest[:-1]:
        found = found.add(batch)
    assert found.n == 50
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(found.scatter, whole.scatter, rtol=1e-12)


def test_infinity_removes_the_bias():
    a, b = covariance(6), covariance(6)
    real, mean = exact(np.zeros(6), a), np.full(6, 0.1)
    wanted = frechet_distance(real, exact(mean, b))
    draws = [RANDOM.multivariate_normal(mean, b, 500) for _ in range(30)]
    plain = np.array([frechet_distance(real, moments(x)) for x in draws]) - wanted
    found = [frechet_infinity(real, x, points=5) for x in draws]
    corrected = np.array([value for value, _ in found]) - wanted
    assert abs(corrected.mean()) < 3 * corrected.std() / np.sqrt(30)
    assert plain.mean() > 3 * plain.std() / np.sqrt(30)
    assert all(error > 0 for _, error in found)


def test_each_class_has_its_distance():
    x, y = features(40), features(40)
    labels = np.arange(40) % 2
    found = frechet_per_class(x, labels, y, labels[::-1])
    wanted = frechet_distance(moments(x[labels == 1]), moments(y[labels == 0]))
    assert found.keys() == {0, 1}
    np.testing.assert_allclose(found[1], wanted)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: moments(x[0]), r"shape \(6,\)"),
        (lambda x: moments(x[:0]), "at least 1"),
        (lambda x: moments(np.where(x == x[3], np.nan, x)), "1 of 40 rows.*row 3"),
        (lambda x: moments(x[:1]).covariance, "at least 2"),
        (lambda x: frechet_distance(moments(x), moments(x[:, 1:])), "have 6 .* 5"),
        (lambda x: moments(x).add(x[:, 1:]), "have 6 .* 5"),
        (lambda x: frechet_infinity(moments(x), x[:20]), "too few"),
        (
            lambda x: frechet_per_class(x, np.arange(40) // 39, x, np.arange(40) % 2),
            "class 1 has 1 real examples",
        ),
        (
            lambda x: frechet_per_class(x, np.arange(40) % 2, x, np.zeros(40, int)),
            "class 1 has 0 generated examples",
        ),
        (lambda x: frechet_per_class(x, np.arange(9), x, np.arange(40)), "real labels"),
        (lambda x: frechet_per_class(x, np.ones(40), x, np.ones(40)), "integers"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UserError, match=message):
        call(features(40))


def test_an_ill_conditioned_set_is_at_no_distance_of_itself():
    """Half of its directions would be lost in squares: they are 1e-18 of the rest."""
    x = RANDOM.normal(size=(300, 40)) * np.where(np.arange(40) % 2, 1, 3e-5)
    found = moments(x)
    assert frechet_distance(found, found) <= 1e-13 * np.trace(found.covariance)
