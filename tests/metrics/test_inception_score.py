import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.metrics.inception_score import inception_score

SURE = np.float32(1000 * np.eye(4))  # of a class each


@pytest.mark.parametrize(
    ("logits", "splits", "wanted"),
    [
        (SURE, 1, (4, 0)),  # sure and even: as many as there are classes
        (SURE[[0, 0, 1, 1]], 1, (2, 0)),
        (SURE[[0, 0, 0, 0]], 2, (1, 0)),  # collapsed
        (np.zeros((4, 3)), 2, (1, 0)),  # not sure
        (SURE[[0, 0, 1, 2]], 2, (1.5, 0.5)),  # 1 and 2
        # p = (3/4, 1/4) and (1/4, 3/4), whose mean is (1/2, 1/2)
        (np.log([[3, 1], [1, 3]]), 1, (2 * (3 / 4) ** (3 / 4) * (1 / 4) ** (1 / 4), 0)),
    ],
)
def test_by_hand(logits, splits, wanted):
    got = inception_score(logits, splits, shuffle=False)
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_a_shuffle_spreads_sorted_samples_over_splits():
    logits = SURE.repeat(100, 0)
    assert inception_score(logits, shuffle=False)[0] < 2
    assert inception_score(logits)[0] > 3.5


def test_a_constant_added_to_logits_does_not_matter():
    logits = np.random.default_rng(0).normal(size=(30, 5))
    got, wanted = inception_score(logits + 1e3), inception_score(logits)
    np.testing.assert_allclose(got, wanted)


@pytest.mark.parametrize(
    ("logits", "splits", "message"),
    [
        (SURE, 5, "at least 5"),
        (SURE, 0, "splits is 0"),
        (SURE * np.nan, 1, "NaN"),
        (SURE[0], 1, "shape"),
    ],
)
def test_bad_input(logits, splits, message):
    with pytest.raises(UserError, match=message):
        inception_score(logits, splits)
