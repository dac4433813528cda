import jax
import numpy as np
import pytest

from gan_jax.data import toy
from gan_jax.metrics.modes import coverage

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
