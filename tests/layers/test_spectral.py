import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.layers.conv import Conv, ConvTranspose
from gan_jax.layers.spectral import COLLECTION, SpectralNorm, power_iterations, wrapper

KEY = jax.random.key(0)
CASES = [
    (nn.Dense(7), (2, 5), "kernel"),
    (Conv(4, kernel=3, stride=1, padding=1), (2, 6, 6, 3), "kernel"),
    (ConvTranspose(4), (2, 3, 3, 5), "kernel"),
]


def matrix(kernel):
    return np.asarray(kernel).reshape(-1, kernel.shape[-1])


def test_a_hundred_iterations_find_numpys_singular_value():
    for shape in ((9, 4), (4, 9), (16, 16)):
        w = jax.random.normal(KEY, shape)
        u, v = jax.jit(power_iterations, static_argnums=2)(w, jnp.ones(shape[1]), 100)
        top = np.linalg.svd(w, compute_uv=False)[0]
        u, v, w = map(np.asarray, (u, v, w))
        np.testing.assert_allclose(v @ w @ u, top, rtol=1e-3)
        np.testing.assert_allclose([np.linalg.norm(u), np.linalg.norm(v)], 1, rtol=1e-5)


@pytest.mark.parametrize(("layer", "shape", "name"), CASES)
def test_after_a_hundred_steps_the_layer_has_norm_one(layer, shape, name):
    x = jax.random.normal(KEY, shape)
    normed = SpectralNorm(layer)

    @jax.jit
    def outputs(x):
        variables = normed.init(KEY, x)
        params = variables["params"]

        def step(_, stats):
            return normed.apply({"params": params, **stats}, x, mutable=[COLLECTION])[1]

        stats = {COLLECTION: variables[COLLECTION]}
        stats = jax.lax.fori_loop(0, 99, step, stats)
        y, stats = normed.apply({"params": params, **stats}, x, mutable=[COLLECTION])
        frozen = normed.apply({"params": params, **stats}, x)
        return params["layer"], layer.apply({"params": params["layer"]}, x), y, frozen

    params, plain, y, frozen = outputs(x)
    assert params.keys() == {name, "bias"}  # as they are without it
    top = np.linalg.svd(matrix(params[name]), compute_uv=False)[0]
    np.testing.assert_array_equal(params["bias"], 0)
    np.testing.assert_allclose(y, plain / top, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(frozen, y, rtol=1e-4, atol=1e-5)


def test_an_update_makes_as_many_iterations_as_asked():
    x = jax.random.normal(KEY, (2, 5))
    for iterations in (1, 3):
        normed = wrapper(iterations)(nn.Dense(7))
        variables = normed.init(KEY, x)
        start = variables[COLLECTION]["kernel_u"]
        moved = normed.apply(variables, x, mutable=[COLLECTION])[1][COLLECTION]
        w = matrix(variables["params"]["layer"]["kernel"])
        for _ in range(iterations):
            start = w.T @ (w @ start)
            start /= np.linalg.norm(start)
        np.testing.assert_allclose(moved["kernel_u"], start, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("iterations", [-1, 1.5, "yes"])
def test_refuses_what_is_no_number_of_iterations(iterations):
    with pytest.raises(UserError, match=r"^spectral_norm is .*: it is True, False, or"):
        wrapper(iterations)


def test_the_layer_draws_its_weights_as_it_does_alone():
    layer = nn.Dense(4, kernel_init=nn.initializers.constant(3.0))
    params = jax.jit(SpectralNorm(layer).init)(KEY, jnp.ones((2, 5)))["params"]["layer"]
    np.testing.assert_array_equal(params["kernel"], jnp.full((5, 4), 3.0))


def test_the_gradient_is_that_of_the_quotient():
    """d(W / s) for s = v'Wu with u, v constant (arXiv:1802.05957, eq. 12)."""
    layer = nn.Dense(4, use_bias=False)
    x, g = jax.random.normal(KEY, (2, 3)), jax.random.normal(KEY, (2, 4))
    normed = SpectralNorm(layer)

    @jax.jit
    def gradient():
        variables = normed.init(KEY, x)

        def loss(params):
            return (normed.apply({**variables, "params": params}, x) * g).sum()

        return variables, jax.grad(loss)(variables["params"])

    variables, got = gradient()
    got, w = got["layer"]["kernel"], variables["params"]["layer"]["kernel"]
    u, v = (np.asarray(variables[COLLECTION][f"kernel_{n}"]) for n in "uv")
    w, x, g = map(np.asarray, (w, x, g))
    sigma = v @ w @ u
    wanted = (x.T @ g - ((x @ w / sigma) * g).sum() * np.outer(v, u)) / sigma
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_averaged_vectors_count_as_unit_vectors():
    """An exponential average of unit vectors, as of an averaged G's, is shorter."""
    normed, x = SpectralNorm(nn.Dense(4)), jax.random.normal(KEY, (2, 3))
    y, variables = jax.jit(normed.init_with_output)(KEY, x)
    short = jax.tree.map(lambda s: 0.3 * s, variables[COLLECTION])
    got = jax.jit(normed.apply)({**variables, COLLECTION: short}, x)
    np.testing.assert_allclose(got, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("layer", "shape", "name"), CASES)
def test_bfloat16_weights_stay_so_beside_float32_vectors(layer, shape, name):
    normed, x = SpectralNorm(layer), jax.random.normal(KEY, shape)

    @jax.jit
    def both(x):
        y, variables = normed.init_with_output(KEY, x)
        params, low = jax.tree.map(
            lambda p: p.astype(jnp.bfloat16), (variables["params"], x)
        )
        stats = {COLLECTION: variables[COLLECTION]}
        return y, normed.apply({"params": params, **stats}, low, mutable=[COLLECTION])

    y, (got, moved) = both(x)
    assert got.dtype == jnp.bfloat16
    assert {v.dtype for v in jax.tree.leaves(moved)} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(got.astype(jnp.float32), y, atol=0.05)
