import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

from gan_jax import losses

LOG2 = np.log(2.0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# (loss, real logit, fake logit, d's loss, g's loss), by hand.
KNOWN = [
    # D = 1/2 everywhere: V = -log 4, and -log D(G(z)) = log 2.
    ("non_saturating", 0.0, 0.0, 2 * LOG2, LOG2),
    ("minimax", 0.0, 0.0, 2 * LOG2, -LOG2),
    (
        "non_saturating",
        1.5,
        -0.5,
        -np.log(sigmoid(1.5)) - np.log(1 - sigmoid(-0.5)),
        -np.log(sigmoid(-0.5)),
    ),
    (
        "minimax",
        1.5,
        -0.5,
        -np.log(sigmoid(1.5)) - np.log(1 - sigmoid(-0.5)),
        np.log(1 - sigmoid(-0.5)),
    ),
    ("hinge", 0.25, -0.5, 0.75 + 0.5, 0.5),
    ("hinge", 3.0, -2.0, 0.0, 2.0),
    ("least_squares", 0.5, 2.0, 0.125 + 2.0, 0.5),
    ("wasserstein", 3.0, 1.0, -2.0, -1.0),
]


@pytest.mark.parametrize(("name", "real", "fake", "d", "g"), KNOWN)
def test_known_logits(name, real, fake, d, g):
    loss = getattr(losses, name)
    real, fake = jnp.full(3, real), jnp.full(3, fake)
    np.testing.assert_allclose(loss.d(real, fake), np.full(3, d), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(loss.g(fake, real), np.full(3, g), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["non_saturating", "minimax"])
def test_confident_discriminator_keeps_losses_finite(name):
    loss = getattr(losses, name)
    real, fake = jnp.array([1e4]), jnp.array([-1e4])
    assert jnp.isfinite(loss.d(-real, -fake)).all()
    assert jnp.isfinite(loss.g(fake, real)).all()


def test_only_the_non_saturating_generator_learns_from_rejected_samples():
    def gradient(loss):
        return jax.grad(lambda fake: loss.g(fake, fake).sum())(jnp.array([-10.0]))[0]

    # d/dl of -log sigmoid(l) is sigmoid(l) - 1; of log(1 - sigmoid(l)), -sigmoid(l).
    np.testing.assert_allclose(gradient(losses.non_saturating), -sigmoid(10), rtol=1e-6)
    np.testing.assert_allclose(gradient(losses.minimax), -sigmoid(-10), rtol=1e-5)


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_optimal_discriminator_of_two_gaussians_gives_the_jensen_shannon_value(shift):
    """At D* = p / (p + q), -d_loss = V = -log 4 + 2 JSD (arXiv:1406.2661, thm. 1)."""
    p, q = norm(0, 1), norm(shift, 1)
    x = jnp.linspace(-12, 15, 20001)
    logits = jnp.asarray(p.logpdf(x) - q.logpdf(x))  # of D*
    under_p = -losses.minimax.d(logits, jnp.full_like(logits, -jnp.inf))
    under_q = -losses.minimax.d(jnp.full_like(logits, jnp.inf), logits)
    value = integrate.trapezoid(p.pdf(x) * under_p + q.pdf(x) * under_q, x)

    def kl_to_middle(a, b):
        def integrand(t):
            return a.pdf(t) * (a.logpdf(t) - np.log((a.pdf(t) + b.pdf(t)) / 2))

        return integrate.quad(integrand, -12, 15, points=[0, shift])[0]

    jsd = (kl_to_middle(p, q) + kl_to_middle(q, p)) / 2
    np.testing.assert_allclose(value, -2 * LOG2 + 2 * jsd, atol=1e-5)
    assert (jsd > 1e-3) == (shift > 0)
