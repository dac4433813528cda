import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.metrics import arrays
from gan_jax.metrics.manifolds import manifolds

RANDOM = np.random.default_rng(0)
REAL, FAKE = RANDOM.normal(size=(40, 3)), RANDOM.normal(size=(30, 3)) + 0.7


def brute_force(real, fake, k, dense_k):
    def distance(a, b):
        return float(np.linalg.norm(a - b))

    def radius(points, i, k):
        return sorted(distance(points[i], p) for j, p in enumerate(points) if j != i)[
            k - 1
        ]

    def inside(point, points, k):
        return [distance(point, p) < radius(points, i, k) for i, p in enumerate(points)]

    return (
        np.mean([any(inside(y, real, k)) for y in fake]),
        np.mean([any(inside(x, fake, k)) for x in real]),
        np.mean([sum(inside(y, real, dense_k)) / dense_k for y in fake]),
        np.mean(np.any([inside(y, real, dense_k) for y in fake], axis=0)),
    )


@pytest.mark.parametrize("block", [1, 300, 2**23])
@pytest.mark.parametrize(("k", "dense_k"), [(1, 2), (3, 5), (2, 1)])
def test_equal_loops_over_pairs_in_any_blocks(monkeypatch, block, k, dense_k):
    monkeypatch.setattr(arrays, "_BLOCK", block)
    got = manifolds(REAL, FAKE, k, dense_k)
    np.testing.assert_allclose(got, brute_force(REAL, FAKE, k, dense_k), rtol=1e-12)
    assert min(got) > 0.1  # values that could be wrong
    assert got.precision < 1


def test_order_and_distance_from_the_origin_do_not_matter():
    got = manifolds(RANDOM.permutation(REAL) + 1e6, RANDOM.permutation(FAKE) + 1e6)
    np.testing.assert_allclose(got, manifolds(REAL, FAKE))


def test_precision_is_fidelity_and_recall_is_variety():
    few = REAL[:1] + 1e-3 * RANDOM.normal(size=(30, 3))  # good samples of one mode
    precision, recall, density, coverage = manifolds(REAL, few)
    assert precision == 1
    assert density > 0
    assert recall < 0.1
    assert coverage < 0.3


def test_a_set_against_itself():
    assert manifolds(REAL, REAL) == pytest.approx((1, 1, 1, 1))


def test_collapsed_samples():
    same = np.zeros((30, 3))
    assert manifolds(REAL, same)[1] == 0
    assert manifolds(REAL, same + 100) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: manifolds(REAL[:5], FAKE), "real features are 5 .* at least 6"),
        (lambda: manifolds(REAL, FAKE[:, :2]), "have 3 .* 2"),
        (lambda: manifolds(np.ones((9, 3)), FAKE), "all equal"),
        (lambda: manifolds(REAL, FAKE, k=0), "k is 0"),
        (lambda: manifolds(REAL, FAKE * np.inf), "NaN or inf"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UserError, match=message):
        call()
