import numpy as np

from gan_jax.metrics import classes

EXAMPLES = np.array([[0, 0], [10, 0], [0, 10], [1, 0]], np.uint8)
LABELS = np.array([2, 0, 1, 2])


def test_the_nearest_example_gives_its_label():
    samples = np.array([[4, 0], [7, 1], [0, 6], [255, 0]], np.uint8)
    assert classes.nearest_labels(samples, EXAMPLES, LABELS).tolist() == [2, 0, 1, 0]


def test_distances_keep_their_digits_far_from_the_origin():
    random = np.random.default_rng(0)
    examples = 1e4 + random.normal(size=(50, 3, 2))
    found = classes.nearest_labels(examples + 1e-3, examples, np.arange(50))
    np.testing.assert_array_equal(found, np.arange(50))


def test_leaves_each_example_itself_out():
    # Both near the origin find each other; the other two find one of them.
    assert classes.leave_one_out_accuracy(EXAMPLES, LABELS) == 0.5


def test_shares():
    assert classes.shares(np.array([2, 2, 0]), 4).tolist() == [1 / 3, 0, 2 / 3, 0]
