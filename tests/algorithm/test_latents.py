import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gan_jax.algorithm.latents import Latent, slerp

KEY = jax.random.key(1)


@pytest.mark.parametrize(
    ("prior", "distribution"),
    [("normal", stats.norm), ("uniform", stats.uniform(-1, 2))],
)
def test_samples_follow_the_prior(prior, distribution):
    z = Latent(50, prior).sample(KEY, 400)
    assert z.shape == (400, 50)
    assert stats.kstest(np.ravel(z), distribution.cdf).pvalue > 1e-3


@pytest.mark.parametrize("prior", ["normal", "uniform"])
@pytest.mark.parametrize("mass", [0.3, 0.8])
def test_truncation_keeps_the_central_mass(prior, mass):
    latent = Latent(50, prior)
    z = np.ravel(latent.sample(KEY, 400, truncation=mass))
    bound = mass if prior == "uniform" else stats.norm.ppf(0.5 + mass / 2)
    assert np.abs(z).max() <= bound + 1e-5
    whole = np.ravel(latent.sample(KEY, 400))
    np.testing.assert_allclose((np.abs(whole) < bound).mean(), mass, atol=0.02)
    # Inside the bound the density is the prior's own, scaled by 1 / mass.
    cdf = (
        (lambda x: (x + mass) / (2 * mass))
        if prior == "uniform"
        else (lambda x: (stats.norm.cdf(x) - (1 - mass) / 2) / mass)
    )
    assert stats.kstest(z, cdf).pvalue > 1e-3


def test_slerp_follows_the_great_circle():
    t = jnp.linspace(0, 1, 7)[:, None]
    got = slerp(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]), t)
    angle = np.pi / 2 * t[:, 0]
    np.testing.assert_allclose(
        got, np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-6
    )


def test_slerp_of_one_latent_with_itself_stays_there():
    z = Latent(8).sample(KEY, 1)
    np.testing.assert_allclose(slerp(z, z, 0.3), z, rtol=1e-6)


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_interpolation_keeps_its_ends_and_the_norm_of_the_prior(prior):
    latent = Latent(100, prior)
    start, end = latent.sample(KEY, 2)
    t = jnp.array([0.0, 0.5, 1.0])
    path = latent.interpolate(start[None], end[None], t)
    np.testing.assert_allclose(path[0], start, atol=1e-6)
    np.testing.assert_allclose(path[2], end, atol=1e-6)
    norms = np.linalg.norm(path, axis=1)
    if prior == "normal":  # the middle is as likely as the ends, about 10 long
        assert norms[1] > 0.9 * norms[[0, 2]].min()
    else:
        np.testing.assert_allclose(path[1], (start + end) / 2, atol=1e-6)
