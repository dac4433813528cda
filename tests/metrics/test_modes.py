import jax
import numpy as np
import pytest

from gan_jax.data import toy
from gan_jax.errors import UserError
from gan_jax.metrics.metric import Comparison
from gan_jax.metrics.modes import (
    coverage,
    nearest_modes,
    reverse_kl,
    stacked_coverage,
    stacked_modes,
)
from gan_jax.run.evaluation import build_metrics

CENTRES = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("samples", "modes", "quality"),
    [
        (CENTRES, 3, 1.0),
        (CENTRES[:1].repeat(4, 0), 1, 1.0),
        (CENTRES + np.array([0.29, 0.0]), 3, 1.0),
        (CENTRES + np.array([0.31, 0.0]), 0, 0.0),
        ([[0.5, 0.5], [1.0, 0.0], [1.0, 0.1], [0.0, 0.9]], 2, 0.75),
    ],
)
def test_counts_by_hand(samples, modes, quality):
    got = coverage(np.asarray(samples), CENTRES, 0.1)
    assert got == (modes, quality)


def test_samples_of_the_ring_itself_cover_it():
    """Within three standard deviations in the plane lie 1 - exp(-9/2) = 98.9 %."""
    ring = toy.ring()
    samples = np.asarray(ring.sample(jax.random.key(0), 2500)["example"])
    modes, quality = coverage(samples, ring.centres, ring.scale)
    assert modes == 8
    assert abs(quality - (1 - np.exp(-4.5))) < 0.01


def test_reverse_kl_by_hand():
    assert reverse_kl(np.array([0, 1, 2, 2, 1, 0]), 3) == 0
    np.testing.assert_allclose(reverse_kl(np.zeros(5, int), 8), np.log(8))
    wanted = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.3)
    found = reverse_kl(np.array([0, 0, 0, 1]), np.array([5, 3, 2]))
    np.testing.assert_allclose(found, wanted)
    assert reverse_kl(np.array([0, 1]), np.array([1, 0])) == np.inf


def test_every_sample_belongs_to_its_nearest_mode():
    samples = np.array([[0.4, 0.0], [0.6, 0.0], [0.0, 9.0]])
    assert nearest_modes(samples, CENTRES).tolist() == [0, 1, 2]


def test_stacked_digits():
    digits = np.array([[0, 0, 0], [1, 2, 3], [1, 2, 3], [9, 9, 9]])
    assert stacked_modes(digits).tolist() == [0, 123, 123, 999]
    modes, kl = stacked_coverage(digits)
    assert modes == 3
    np.testing.assert_allclose(kl, 0.5 * np.log(250) + 0.5 * np.log(500))
    every = np.stack(np.unravel_index(np.arange(1000), (10, 10, 10)), 1)
    assert stacked_coverage(every) == pytest.approx((1000, 0))


def test_the_metric_of_stacked_digits():
    """The number that an image shows is that of its greatest logit."""

    def logits(*numbers):
        return np.eye(1000, dtype=np.float32)[list(numbers)]

    sides = {"real_logits": logits(7, 7), "fake_logits": logits(0, 123, 123, 999)}
    both = Comparison(np.zeros((2, 1)), np.zeros((4, 1)), **sides)
    (metric,) = build_metrics("stacked_modes")
    found = metric.measure(both._replace(extractor="mnist_lenet"))
    assert {name: value for name, (value, _) in found.items()} == pytest.approx(
        {
            **{"stacked_modes": 3, "stacked_kl": np.log(500 * 250) / 2},
            **{"stacked_modes_of_data": 1, "stacked_kl_of_data": np.log(1000)},
        }
    )
    with pytest.raises(UserError, match="needs the features of mnist_lenet"):
        metric.measure(both._replace(extractor="efficientnet_lite0"))
    single = {"fake_logits": np.zeros((4, 10)), "extractor": "mnist_lenet"}
    with pytest.raises(UserError, match="needs images of three digits"):
        metric.measure(both._replace(**single))


@pytest.mark.parametrize("found", [[], [3], [-1]])
def test_samples_of_no_mode(found):
    with pytest.raises(UserError, match="needs a mode"):
        reverse_kl(np.array(found, int), 3)
