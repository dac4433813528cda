"""The factorised layers against XLA's convolution in three dimensions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from gan_jax.layers import clips, conv

BATCH, TIME, HEIGHT, WIDTH, IN, HIDDEN, OUT = 2, 5, 6, 4, 3, 2, 4


def conv3d(x, w, strides, padding):
    """Convolves `[batch, t, h, w, in]` with `[kt, kh, kw, in, out]`, by XLA."""
    layout = ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=layout)


def arrays(*shapes):
    random = np.random.default_rng(0)
    return [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in shapes]


def assert_alike(ours, plain, *args):
    """Compares values, and the gradients by each argument."""
    outputs = [jax.jit(f)(*args) for f in (ours, plain)]
    np.testing.assert_allclose(*outputs, rtol=0, atol=1e-5)
    (weight,) = arrays(outputs[0].shape)
    every = tuple(range(len(args)))
    slopes = [
        jax.jit(jax.grad(lambda *a, f=f: (weight * f(*a)).sum(), every))(*args)
        for f in (ours, plain)
    ]
    for a, b in zip(*slopes, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
def test_a_temporal_convolution_is_one_of_three_dimensions(kernel):
    x, w = arrays((BATCH, TIME, HEIGHT, WIDTH, IN), (kernel, IN, OUT))

    def plain(x, w):
        before = (kernel - 1) // 2
        padding = [(before, kernel - 1 - before), (0, 0), (0, 0)]
        return conv3d(x, w[:, None, None], (1, 1, 1), padding)

    assert_alike(clips.temporal_conv, plain, x, w)


def test_space_then_time_are_two_of_three_dimensions():
    x, w, v = arrays(
        (BATCH, TIME, HEIGHT, WIDTH, IN), (4, 4, IN, HIDDEN), (3, HIDDEN, OUT)
    )

    def ours(x, w, v):
        h = clips.on_frames(lambda x: conv.conv2d(x, w, stride=2, padding=1), x)
        return clips.temporal_conv(jnp.tanh(h), v)

    def plain(x, w, v):
        h = conv3d(x, w[None], (1, 2, 2), [(0, 0), (1, 1), (1, 1)])
        return conv3d(
            jnp.tanh(h), v[:, None, None], (1, 1, 1), [(1, 1), (0, 0), (0, 0)]
        )

    assert_alike(ours, plain, x, w, v)


def test_a_layer_adds_its_bias_to_each_position():
    (x,) = arrays((BATCH, TIME, HEIGHT, WIDTH, IN))
    layer = clips.TemporalConv(OUT, kernel=3)
    params = layer.init(jax.random.key(0), x)["params"]
    assert params["kernel"].shape == (3, IN, OUT)
    raised = {"params": {**params, "bias": jnp.arange(OUT, dtype=jnp.float32)}}
    difference = layer.apply(raised, x) - layer.apply({"params": params}, x)
    assert difference.shape == (BATCH, TIME, HEIGHT, WIDTH, OUT)
    wanted = np.broadcast_to(np.arange(OUT), difference.shape)
    np.testing.assert_allclose(difference, wanted, atol=1e-5)


def test_time_is_doubled_and_halved():
    (x,) = arrays((BATCH, TIME, 2))
    twice = clips.double_time(x)
    np.testing.assert_array_equal(twice[:, ::2], x)
    np.testing.assert_array_equal(twice[:, 1::2], x)
    pairs = clips.halve_time(twice + jnp.array([[-1.0], [1.0]] * TIME))
    np.testing.assert_allclose(pairs, x, atol=1e-6)
