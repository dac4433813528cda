import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import penalties

KEY = jax.random.key(0)
SLOPE = jnp.array([[3.0, 0.0], [0.0, 4.0]])  # of norm 5
REAL, FAKE = jax.random.normal(KEY, (2, 6, 2, 2))


def linear(x):
    return (SLOPE * x).sum((1, 2)) + 7


def quadratic(x):
    return 0.5 * jnp.square(x).sum((1, 2))


@pytest.mark.parametrize(
    ("name", "critic", "expected"),
    [
        # The gradient of a linear critic is its slope, everywhere.
        ("r1", linear, np.full(6, 25 / 2)),
        ("r2", linear, np.full(6, 25 / 2)),
        ("gradient_penalty", linear, np.full(6, 16.0)),
        # That of |x|^2 / 2 is x itself: R1 looks at real examples, R2 at fake ones.
        ("r1", quadratic, 0.5 * np.square(REAL).sum((1, 2))),
        ("r2", quadratic, 0.5 * np.square(FAKE).sum((1, 2))),
    ],
)
def test_closed_forms(name, critic, expected):
    got = getattr(penalties, name)(critic, REAL, FAKE, KEY)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_gradient_penalty_looks_between_the_pairs():
    # With fake = 3 real, the norms of quadratic's gradients lie in [1, 3] |real|.
    got = penalties.gradient_penalty(quadratic, REAL, 3 * REAL, KEY)
    norms = 1 + np.sqrt(np.array(got))  # where the norm exceeds 1
    lengths = np.sqrt(np.square(REAL).sum((1, 2)))
    t = (norms / lengths - 1) / 2
    inside = lengths > 1
    assert inside.sum() > 2
    assert ((t > 0) & (t < 1))[inside].all()
    assert np.ptp(t[inside]) > 0.05  # a draw for each pair


def test_gradient_penalty_is_differentiable_where_the_gradient_vanishes():
    def at(scale):
        return penalties.gradient_penalty(
            lambda x: scale * x.sum((1, 2)), REAL, FAKE, KEY
        ).sum()

    assert jnp.isfinite(jax.grad(at)(0.0))
