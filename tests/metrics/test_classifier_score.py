import jax
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.metrics.classifier_score import (
    Labelled,
    accuracy,
    classifier_score,
    moved,
)

RANDOM = np.random.default_rng(0)
POINTS = Labelled(np.eye(3), np.arange(3))


def points(n, apart):
    labels = RANDOM.integers(3, size=n)
    return Labelled(RANDOM.normal(size=(n, 2)) + apart * np.eye(3)[labels, :2], labels)


def test_samples_without_classes_teach_nothing():
    fake, real, test = points(300, 0), points(300, 9), points(200, 9)
    scores = classifier_score(fake, real, test, steps=100)
    assert scores.real > 0.98
    assert scores.fake < 0.7
    assert scores.fake < scores.both


@pytest.mark.slow
def test_images():
    def bars(n):
        labels = RANDOM.integers(2, size=n)
        images = RANDOM.integers(0, 100, (n, 16, 16, 1), np.uint8)
        place = RANDOM.integers(16, size=n)
        for image, label, i in zip(images, labels, place, strict=True):
            image[(i, slice(None)) if label else (slice(None), i)] = 255
        return Labelled(images, labels)

    assert accuracy(bars(400), bars(100), steps=150, batch=32) > 0.95


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (POINTS, Labelled(np.eye(2), np.arange(2)), "have shape"),
        (POINTS, Labelled(np.eye(3), np.zeros(3, int)), "label 2 is none of the 1"),
        (POINTS, Labelled(np.eye(3), np.arange(2)), "test labels"),
        (Labelled(np.full((3, 3), np.inf), np.arange(3)), POINTS, "NaN or inf"),
        (Labelled(np.eye(3)[:0], np.arange(0)), POINTS, "0 examples"),
    ],
)
def test_bad_input(train, test, message):
    with pytest.raises(UserError, match=message):
        accuracy(train, test, steps=1)


def test_moved_images_are_rotated_scaled_and_shifted():
    """Two blurred points: their distance is the scale, their middle the shift."""
    y, x = np.indices((28, 28))
    points = np.array([[13.5, 7.5], [13.5, 19.5]])  # apart by 12 along x
    blurs = [np.exp(-((y - r) ** 2 + (x - c) ** 2) / 4) for r, c in points]
    images = np.stack([np.stack(blurs, -1)] * 200).astype(np.float32)
    moved_ones = np.asarray(jax.jit(moved)(jax.random.key(0), images))
    weights = moved_ones / moved_ones.sum((1, 2), keepdims=True)
    rows, columns = (np.einsum("nhwc,hw->nc", weights, at) for at in (y, x))
    across = columns[:, 1] - columns[:, 0], rows[:, 1] - rows[:, 0]
    for values, reach in (
        (np.hypot(*across) / 12 - 1, 0.1),
        (np.arctan2(across[1], across[0]), np.pi / 12),
        (rows.mean(1) - 13.5, 2),
        (columns.mean(1) - 13.5, 2),
    ):
        assert np.abs(values).max() < 1.25 * reach  # a shift is scaled and turned too
        assert values.min() < -0.8 * reach
        assert values.max() > 0.8 * reach
        assert abs(values.mean()) < 0.2 * reach


def test_training_examples_are_augmented_and_test_examples_are_not():
    train, test = points(300, 9), points(200, 9)

    def hidden(key, x):
        return jax.random.normal(key, x.shape)

    assert accuracy(train, test, steps=100) > 0.98
    assert accuracy(train, test, steps=100, augment=lambda key, x: x) > 0.98
    assert accuracy(train, test, steps=100, augment=hidden) < 0.7
