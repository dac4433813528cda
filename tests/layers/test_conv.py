import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.layers import conv
from gan_jax.layers.conv import conv2d, conv2d_transpose

KEYS = jax.random.split(jax.random.key(0), 4)
CASES = [  # kernel, stride, padding, height and width
    (4, 2, 1, (8, 6)),
    (4, 2, 1, (7, 9)),  # the last window stops short of the edge
    (3, 1, 1, (5, 6)),
    (5, 2, 2, (9, 8)),  # the stride does not divide the kernel
    (1, 2, 0, (5, 7)),
    (1, 1, 0, (4, 4)),
]


def lax_conv(x, w, stride, padding):
    """XLA's own, which the CPU does not use here."""
    return jax.lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def lax_conv_transpose(y, w, stride, padding):
    (kernel, _, channels, _) = w.shape
    size = [(n - 1) * stride - 2 * padding + kernel for n in y.shape[1:3]]
    x = jax.ShapeDtypeStruct((len(y), *size, channels), y.dtype)
    return jax.linear_transpose(lambda x: lax_conv(x, w, stride, padding), x)(y)[0]


def operands(kernel, size, transposed):
    w = jax.random.normal(KEYS[0], (kernel, kernel, 3, 5))
    x = jax.random.normal(KEYS[1], (2, *size, 5 if transposed else 3))
    return x, w


PAIRS = {False: (conv2d, lax_conv), True: (conv2d_transpose, lax_conv_transpose)}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), CASES)
def test_equals_lax_in_every_derivative(kernel, stride, padding, size, transposed):
    x, w = operands(kernel, size, transposed)
    dx, dw = jax.random.normal(KEYS[2], x.shape), jax.random.normal(KEYS[3], w.shape)

    def everything(apply):
        def f(x, w):
            return apply(x, w, stride=stride, padding=padding)

        def loss(x, w):  # not linear, so that no derivative vanishes
            return jnp.square(f(x, w)).sum()

        def penalised(x, w):  # as R1: the gradient of a gradient's norm
            return jnp.square(jax.grad(loss)(x, w)).sum()

        return {
            "value": f(x, w),
            "gradient": jax.grad(loss, (0, 1))(x, w),
            "second": jax.grad(penalised, (0, 1))(x, w),
            "forward": jax.jvp(f, (x, w), (dx, dw))[1],
            "forward over reverse": jax.jvp(jax.grad(loss, (0, 1)), (x, w), (dx, dw))[
                1
            ],
        }

    ours, theirs = (jax.jit(everything, static_argnums=0)(f) for f in PAIRS[transposed])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=2e-4, atol=2e-4 * abs(b).max()
        ),
        ours,
        theirs,
    )


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), CASES[:4])
def test_bfloat16_is_near_float32(kernel, stride, padding, size, transposed):
    x, w = operands(kernel, size, transposed)

    @jax.jit
    def everything(x, w):
        apply, _ = PAIRS[transposed]
        y, back = jax.vjp(
            lambda x, w: apply(x, w, stride=stride, padding=padding), x, w
        )
        return y, back(y)

    got = everything(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))
    for low, high in zip(
        jax.tree.leaves(got), jax.tree.leaves(everything(x, w)), strict=True
    ):
        assert low.dtype == jnp.bfloat16
        np.testing.assert_allclose(
            low.astype(jnp.float32), high, atol=0.03 * abs(high).max()
        )


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_equals_a_loop(transposed, axes):
    apply, _ = PAIRS[transposed]
    x, w = operands(4, (6, 6), transposed)
    many = [
        jnp.stack([a, 2 * a, a - 1]) if axis == 0 else a
        for a, axis in zip((x, w), axes, strict=True)
    ]

    def gradients(x, w):
        return jax.grad(
            lambda x, w: jnp.square(apply(x, w, stride=2, padding=1)).sum(), (0, 1)
        )(x, w)

    got = jax.jit(jax.vmap(gradients, in_axes=axes))(*many)
    for i in range(3):
        one = gradients(
            *(a[i] if axis == 0 else a for a, axis in zip(many, axes, strict=True))
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-3),  # noqa: B023
            got,
            one,
        )


def test_gpus_and_tpus_get_the_plain_convolution():
    x, w = operands(4, (8, 8), False)

    def step(x, w):
        return jax.grad(lambda w: jnp.square(conv2d(x, w, stride=2, padding=1)).sum())(
            w
        )

    for platform, plain in (("cpu", False), ("cuda", True), ("tpu", True)):
        lowered = jax.jit(step).trace(x, w).lower(lowering_platforms=(platform,))
        assert ("stablehlo.convolution" in lowered.as_text()) == plain


@pytest.mark.parametrize("use_bias", [True, False])
def test_layers_equal_flax(use_bias):
    x = jax.random.normal(KEYS[0], (2, 8, 8, 3))
    ours = conv.Conv(5, use_bias=use_bias)
    theirs = nn.Conv(5, (4, 4), 2, padding=1, use_bias=use_bias)
    params = theirs.init(KEYS[1], x)
    np.testing.assert_allclose(
        ours.apply(params, x), theirs.apply(params, x), atol=1e-5
    )


def test_the_transpose_doubles_and_has_the_convolutions_kernel():
    x = jax.random.normal(KEYS[0], (2, 4, 4, 3))
    up = conv.ConvTranspose(5)
    out, params = up.init_with_output(KEYS[1], x)
    assert out.shape == (2, 8, 8, 5)
    assert params["params"]["kernel"].shape == (4, 4, 5, 3)
    down = conv.Conv(3, use_bias=False)
    y = jax.random.normal(KEYS[2], out.shape)
    kernel = {"params": {"kernel": params["params"]["kernel"]}}
    # <up(x), y> = <x, down(y)>: that is what transposed means (the bias starts at 0).
    np.testing.assert_allclose(
        (out * y).sum(), (x * down.apply(kernel, y)).sum(), rtol=1e-4
    )


def test_every_form_is_the_same_trilinear_form():
    """The cheapest form differs from size to size; all must be right at any."""
    for kernel, stride, padding, size in CASES:
        x, w = operands(kernel, size, False)
        y = lax_conv(x, w, stride, padding)
        y = jax.random.normal(KEYS[2], y.shape)
        wanted = (lax_conv(x, w, stride, padding) * y).sum()
        axes = [list(conv._choices(n, kernel, stride, padding)) for n in size]
        assert {len(choices) for choices in axes} == {
            2 + (-(-kernel // stride) in (2, 3))
        }
        for pair in itertools.product(*axes):
            form = conv._Form(stride, padding, *pair)
            products = zip(form.X(x), form.W(w), form.Y(y), strict=True)
            got = sum(((a @ b) * c).sum() for a, b, c in products)
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3, err_msg=pair)


@pytest.mark.parametrize(
    ("x", "w", "chosen"),
    [
        # Few channels in: windows of x. Few out: copies of y. Many: Winograd.
        ((8, 28, 28, 1), (4, 4, 1, 64), "windows"),
        ((8, 32, 32, 256), (3, 3, 256, 3), "copies"),
        ((8, 16, 16, 512), (4, 4, 512, 512), "products"),
        ((8, 16, 16, 256), (3, 3, 256, 256), "products"),
    ],
)
def test_the_form_suits_the_channels(x, w, chosen):
    form = conv._form(x, w, 2 if w[0] == 4 else 1, 1)
    assert all(getattr(axis, chosen) > 1 for axis in (form.rows, form.columns))


def test_up_sampling_and_pooling_are_part_of_the_convolution():
    x = jax.random.normal(KEYS[0], (2, 6, 8, 3))
    how = {"kernel": 3, "stride": 1, "padding": 1}
    plain, up, pool = (
        layer(5, **how) for layer in (conv.Conv, conv.UpConv, conv.ConvPool)
    )
    params = plain.init(KEYS[1], x)
    np.testing.assert_allclose(
        up.apply(params, x), plain.apply(params, conv.upsample(x)), atol=1e-5
    )
    pooled = conv.average_pool(plain.apply(params, x))
    np.testing.assert_allclose(pool.apply(params, x), pooled, atol=1e-5)
    np.testing.assert_allclose(conv.average_pool(conv.upsample(x)), x, rtol=1e-6)
