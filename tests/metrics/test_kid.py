import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.metrics.kid import kid, squared_mmd

RANDOM = np.random.default_rng(0)


def brute_force(x, y):
    k = len(x[0])

    def mean(a, b, apart):
        pairs = [
            (i, j) for i in range(len(a)) for j in range(len(b)) if apart or i != j
        ]
        return np.mean([(sum(a[i] * b[j]) / k + 1) ** 3 for i, j in pairs])

    return mean(x, x, False) + mean(y, y, False) - 2 * mean(x, y, True)


def test_equals_a_loop_over_pairs():
    x, y = RANDOM.normal(size=(7, 3)), RANDOM.normal(size=(5, 3)) + 1
    np.testing.assert_allclose(squared_mmd(x, y), brute_force(x, y), rtol=1e-12)


def test_blocks_do_not_matter(monkeypatch):
    x, y = RANDOM.normal(size=(2, 30, 4))
    whole = squared_mmd(x, y)
    monkeypatch.setattr("gan_jax.metrics.kid._ROWS", 7)
    np.testing.assert_allclose(squared_mmd(x, y), whole, rtol=1e-10)


def test_has_no_bias():
    found = [squared_mmd(*RANDOM.normal(size=(2, 10, 3))) for _ in range(2000)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    biased = 6 / 10  # what the diagonals would add, about: far more than the error
    assert error < 0.05 * biased


def test_all_examples_in_one_subset():
    x, y = np.float32(RANDOM.normal(size=(2, 50, 4)))
    value, spread = kid(x, y, subsets=3)
    np.testing.assert_allclose(value, squared_mmd(x, y), rtol=1e-12)
    assert spread < 1e-12


def test_mean_and_deviation_over_subsets():
    x, y = RANDOM.normal(size=(2, 40, 4))
    value, spread = kid(x, y, subsets=400, size=10, seed=1)
    assert abs(value - squared_mmd(x, y)) < 4 * spread / np.sqrt(400)
    assert spread > 0
    assert kid(x, y, subsets=400, size=10, seed=1) == (value, spread)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: kid(x, x[:1]), "generated features are 1 examples"),
        (lambda x: kid(x, x[:, :2]), "have 4 .* 2"),
        (lambda x: kid(x, x, size=11), "at most all"),
        (lambda x: kid(x, x, subsets=0), "0 subsets"),
        (lambda x: kid(x * np.inf, x), "NaN or inf"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UserError, match=message):
        call(np.arange(40.0).reshape(10, 4) + 1)
