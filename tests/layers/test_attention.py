import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.layers.attention import SelfAttention, attended
from gan_jax.layers.spectral import COLLECTION, SpectralNorm

KEYS = jax.random.split(jax.random.key(0), 2)
X = jax.random.normal(KEYS[0], (2, 4, 6, 16))


def numpy_attention(x, params):
    """Position by position, as section 3 of arXiv:1805.08318 has it."""
    q, k, v, o = (np.asarray(params[f"Conv_{i}"]["kernel"])[0, 0] for i in range(4))
    out = np.zeros_like(x)
    for n, image in enumerate(np.asarray(x)):
        windows = [
            image[i : i + 2, j : j + 2].reshape(4, -1)
            for i in range(0, 4, 2)
            for j in range(0, 6, 2)
        ]
        keys = [(w @ k).max(0) for w in windows]
        values = [(w @ v).max(0) for w in windows]
        for i, j in np.ndindex(4, 6):
            energy = np.exp([image[i, j] @ q @ key for key in keys])
            seen = sum(e * value for e, value in zip(energy, values, strict=True))
            out[n, i, j] = image[i, j] + params["gamma"] * (seen / energy.sum() @ o)
    return out


def test_equals_numpy():
    params = jax.eval_shape(SelfAttention().init, KEYS[1], X)["params"]
    shapes = [params[f"Conv_{i}"]["kernel"].shape[2:] for i in range(4)]
    assert shapes == [(16, 2), (16, 2), (16, 8), (8, 16)]
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda p: np.float32(random.normal(size=p.shape) / len(p.shape or "1")), params
    )
    got = jax.jit(SelfAttention().apply)({"params": params}, X)
    assert not np.allclose(got, X, atol=0.1)
    np.testing.assert_allclose(got, numpy_attention(X, params), atol=2e-4)


def test_starts_as_the_identity_and_learns():
    @jax.jit
    def start(x):
        got, variables = SelfAttention().init_with_output(KEYS[1], x)
        loss = jax.grad(lambda v: jnp.square(SelfAttention().apply(v, x)).sum())
        return got, loss(variables)["params"]["gamma"]

    got, gradient = start(X)
    np.testing.assert_array_equal(got, X)
    assert abs(gradient) > 1e-3


def test_all_its_layers_are_wrapped():
    variables = jax.eval_shape(SelfAttention(SpectralNorm).init, KEYS[1], X)
    assert len(variables[COLLECTION]) == 4


@pytest.mark.parametrize(("side", "index"), [(0, None), (16, 0), (8, 1)])
def test_it_follows_the_first_block_of_that_side(side, index):
    assert attended(side, [16, 8, 8], "D") == index


@pytest.mark.parametrize("side", [4, 32, -8, True, "8"])
def test_other_sides_are_refused(side):
    with pytest.raises(
        UserError, match=rf"^attention is {side}: .* D have side 8, 16 "
    ):
        attended(side, [16, 8, 8], "D")
