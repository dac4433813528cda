import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.algorithm.latents import Latent
from gan_jax.errors import UserError
from gan_jax.metrics.path_length import perceptual_path_length

RANDOM = np.random.default_rng(0)
START, END = np.float32(RANDOM.normal(size=(2, 50, 4)))
MATRIX = RANDOM.normal(size=(4, 6))
LINEAR = Latent(4, prior="uniform").interpolate


def generate(latents):
    return np.asarray(latents, np.float64) @ MATRIX


def test_a_linear_generator_in_closed_form():
    """Along a straight line every step is epsilon times the whole: |(b - a) M|²."""
    wanted = np.square((END - START) @ MATRIX).sum(1)
    got, error = perceptual_path_length(
        generate, START, END, epsilon=0.25, path=LINEAR, keep=(0, 100), batch=16
    )
    np.testing.assert_allclose(got, wanted.mean(), rtol=1e-6)
    np.testing.assert_allclose(error, wanted.std(ddof=1) / np.sqrt(50), rtol=1e-6)


@pytest.mark.parametrize("at", [None, np.linspace(0, 0.8, 50)])
def test_a_great_arc_in_closed_form(at):
    """On the unit sphere a step is a chord, 2 sin(angle epsilon / 2)."""
    start, end = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (START, END))
    angle = np.arccos((start * end).sum(1))
    got, _ = perceptual_path_length(
        lambda latents: latents, start, end, epsilon=0.1, at=at, keep=(0, 100)
    )
    wanted = np.square(2 * np.sin(0.05 * angle) / 0.1).mean()
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_leaves_the_tails_out():
    end = np.copy(END)
    end[7] = 1e6
    wanted = np.sort(np.square((end - START) @ MATRIX).sum(1))
    got, _ = perceptual_path_length(
        generate, START, end, epsilon=0.5, path=LINEAR, keep=(2, 97)
    )
    # Percentiles 2 and 97 of 50 lie at 0.98 and 47.53: the lower and the higher one.
    np.testing.assert_allclose(got, wanted[:49].mean(), rtol=1e-5)


def test_other_distances():
    got, _ = perceptual_path_length(
        generate, START, END, path=LINEAR, distance=lambda x, y: jnp.ones(len(x))
    )
    assert got == pytest.approx(1e8)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (START, END[:3], "shapes"),
        (START[:1], END[:1], "two or more"),
        (START * np.nan, END, "not finite"),
    ],
)
def test_bad_input(start, end, message):
    with pytest.raises(UserError, match=message):
        perceptual_path_length(generate, start, end)
