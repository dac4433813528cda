import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.metrics.memorisation import (
    authenticity,
    copying,
    near_to_group,
    nearer_to_training,
    nearest_training,
)

RANDOM = np.random.default_rng(0)
TRAIN = np.array([[0.0, 0.0], [2.0, 0.0], [10.0, 0.0]])


def draw(n, k=3):
    return RANDOM.normal(size=(n, k))


def test_nearest_training_examples_by_hand():
    indices, distances = nearest_training(np.array([[8.0, 0], [1.5, 0]]), TRAIN, 2)
    assert indices.tolist() == [[2, 1], [1, 0]]
    np.testing.assert_allclose(distances, [[2, 6], [0.5, 1.5]])


def test_a_sample_nearer_than_any_other_training_example_is_a_copy():
    # To the nearest example 1.5, 2.5, 7 and 9; from that to the others 2, 2, 8 and 8.
    fake = np.array([[-1.5, 0], [0, 2.5], [10.0, 7.0], [10.0, 9.0]])
    share, error = authenticity(fake, TRAIN)
    assert share == 0.5  # the second and the last
    assert error == 0.25


def test_share_nearer_to_training():
    train, test, fake = draw(300), draw(500), draw(400)
    share, error = nearer_to_training(fake, train, test)
    assert abs(share - 0.5) < 4 * error
    copies = train[:100] + 1e-3 * draw(100)
    assert nearer_to_training(copies, train, test)[0] == 1
    assert nearer_to_training(fake, train, train) == (0.5, 0.025)  # all are ties


def test_copying_is_a_z_score_far_below_zero_for_copies():
    train, test = draw(400), draw(300)
    found = [copying(draw(200), draw(400), draw(300)) for _ in range(40)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(40)
    assert 0.2 < np.std(found) < 1.5
    assert copying(train[:200] + 0.01 * draw(200), train, test) < -5
    assert copying(3 * draw(200), train, test) > 5


def test_copying_in_one_cell_by_hand():
    """Of 20 x 2 comparisons none: U = 0, of mean 20 and variance 40 * 23 / 12."""
    got = copying(np.zeros((20, 1)), np.zeros((2, 1)), np.ones((2, 1)), cells=1)
    np.testing.assert_allclose(got, -20 / np.sqrt(40 * 23 / 12))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nearest_training(TRAIN, TRAIN, 4), "training features are 3 .* 4"),
        (lambda: nearest_training(TRAIN, TRAIN, 0), "count is 0"),
        (lambda: authenticity(TRAIN, TRAIN[:1]), "at least 2"),
        (lambda: authenticity(TRAIN, TRAIN[:, :1]), "have 1 numbers"),
        (lambda: nearer_to_training(TRAIN, TRAIN, TRAIN * np.nan), "test features"),
        (
            lambda: copying(TRAIN, TRAIN, TRAIN, cells=1),
            "and 20 samples",
        ),
        (lambda: copying(TRAIN, TRAIN, TRAIN, cells=4), "at least 4"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_near_to_a_group_is_nearer_than_other_groups_are():
    """On a line: a at 0, 1 and 2, b at 5 and 20, c at 21."""
    x = np.array([[0.0], [1], [2], [5], [20], [21]])
    groups = np.array(["a", "a", "a", "b", "b", "c"])
    y = np.array([[-4.0], [-6], [2.5], [3.9], [19.5], [22.5]])
    index, distance, near = near_to_group(y, x, groups)
    assert index.tolist() == [0, 0, 2, 3, 4, 5]
    np.testing.assert_allclose(distance, [4, 6, 0.5, 1.1, 0.5, 1.5])
    # The others' nearest are at 5 from 0, at 3 from 2 and 5, at 1 from 20 and 21.
    assert near.tolist() == [True, False, True, True, True, False]


def test_a_single_group_is_always_near():
    _, _, near = near_to_group(np.ones((2, 1)), np.zeros((2, 1)), np.array(["a", "a"]))
    assert near.all()
