import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.metrics.classifier_score import Labelled, accuracy, classifier_score

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
