"""The convolutions against a dense trilinear form in float64, which NumPy contracts."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.layers import conv, cpu_conv
from gan_jax.layers.conv import conv2d, conv2d_transpose

KEY = jax.random.key(0)
CASES = [  # kernel, stride, padding, height and width
    (4, 2, 1, (8, 6)),
    (4, 2, 1, (7, 9)),  # the last window stops short of the edge
    (3, 1, 1, (5, 6)),
    (5, 2, 2, (9, 8)),  # the stride does not divide the kernel
    (1, 2, 0, (5, 7)),
    (1, 1, 0, (4, 4)),
]
# Derivatives depend on the size in no other way: two cases in general position, and the
# rest among the slow tests.
SLOW = pytest.mark.slow
HARD = [
    case if i in (1, 3) else pytest.param(*case, marks=SLOW)
    for i, case in enumerate(CASES)
]
IN, OUT, BATCH = 2, 3, 2
every_case = pytest.mark.parametrize(("kernel", "stride", "padding", "size"), CASES)
both_ways = pytest.mark.parametrize("transposed", [False, True])


class Trilinear:
    """T, for which the convolution is y_k = sum_ij T_ijk x_i w_j for each example."""

    def __init__(self, kernel, stride, padding, size):
        outputs = [(n + 2 * padding - kernel) // stride + 1 for n in size]
        self.x, self.y = (*size, IN), (*outputs, OUT)
        self.w = (kernel, kernel, IN, OUT)
        dense = np.zeros((*self.x, *self.w, *self.y))
        for r, c, i, j in np.ndindex(*outputs, kernel, kernel):
            a, b = r * stride + i - padding, c * stride + j - padding
            if 0 <= a < size[0] and 0 <= b < size[1]:
                for m, n in np.ndindex(IN, OUT):
                    dense[a, b, m, i, j, m, n, r, c, n] = 1
        sizes = [np.prod(shape) for shape in (self.x, self.w, self.y)]
        self.dense = dense.reshape(sizes)

    def convolution(self, x, w):
        """Maps x and w to y."""
        y = np.einsum("ijk,bi,j->bk", self.dense, *flat(x, w), optimize=True)
        return y.reshape(len(x), *self.y)

    def input_gradient(self, w, y):
        """Maps w and y to x."""
        w, y = np.ravel(w), y.reshape(len(y), -1)
        x = np.einsum("ijk,j,bk->bi", self.dense, w, y, optimize=True)
        return x.reshape(len(x), *self.x)

    def kernel_gradient(self, x, y):
        """Maps x and y to w."""
        x, y = (a.reshape(len(a), -1) for a in (x, y))
        return np.einsum("ijk,bi,bk->j", self.dense, x, y, optimize=True).reshape(
            self.w
        )

    def seen(self, transposed):
        """Returns f(a, w), the convolution or its transpose, and f's two transposes.

        They map (out, w) to a, and (a, out) to w.
        """
        if transposed:
            return (
                lambda a, w: self.input_gradient(w, a),
                self.convolution,
                lambda a, out: self.kernel_gradient(out, a),
            )
        return (
            self.convolution,
            lambda out, w: self.input_gradient(w, out),
            self.kernel_gradient,
        )


def flat(x, w):
    return np.reshape(x, (len(x), -1)), np.ravel(w)


@functools.cache
def trilinear(*case):
    return Trilinear(*case)


def operands(case, *batch):
    """Returns x, w and y of a case in float64, of values that float32 holds."""
    random, form = np.random.default_rng(0), trilinear(*case)
    shapes = (BATCH, *form.x), form.w, (BATCH, *form.y)
    return [
        random.normal(size=(*batch, *shape)).astype(np.float32).astype(np.float64)
        for shape in shapes
    ]


def low(arrays, dtype=jnp.float32):
    return [jnp.asarray(a, dtype) for a in arrays]


def assert_near(got, wanted, error=2e-5):
    """Compares trees, to an error relative to the largest value of each leaf."""

    def near(a, b):
        atol = error * np.abs(b).max()
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=0, atol=atol)

    jax.tree.map(near, got, wanted)


@every_case
def test_the_three_maps_on_every_platform(kernel, stride, padding, size):
    """What a CPU runs and what GPUs and TPUs get, in float32 and bfloat16."""
    case = kernel, stride, padding, size
    form, wide = trilinear(*case), operands(case)
    window = {"stride": stride, "padding": padding}

    @jax.jit
    def maps(x, w, y):
        of_x, of_w = {"size": size, **window}, {"kernel": (kernel, kernel), **window}
        return [
            (
                f(x, w, **window),
                g(w, y, **of_x),
                h(x, y, **of_w),
            )
            for f, g, h in (
                (conv._conv_p.bind, conv._input_p.bind, conv._kernel_p.bind),
                (conv._conv, conv._input_gradient, conv._kernel_gradient),
            )
        ]

    x, w, y = wide
    wanted = (
        form.convolution(x, w),
        form.input_gradient(w, y),
        form.kernel_gradient(x, y),
    )
    for got in maps(*low(wide)):
        assert_near(got, wanted)
    if kernel > 1:
        rounded = maps(*low(wide, jnp.bfloat16))
        assert {a.dtype for a in jax.tree.leaves(rounded)} == {jnp.dtype(jnp.bfloat16)}
        for got in rounded:
            assert_near(got, wanted, 0.03)


def smallest(kernel, stride, padding, size):
    """Returns the case of the smallest size with as many outputs."""
    steps = [(n - kernel + 2 * padding) // stride for n in size]
    size = tuple(n * stride - 2 * padding + kernel for n in steps)
    return kernel, stride, padding, size


@both_ways
@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), HARD)
def test_every_derivative(kernel, stride, padding, size, transposed):
    case = kernel, stride, padding, size
    case = smallest(*case) if transposed else case
    form, (x, w, y) = trilinear(*case), operands(case)
    a = y if transposed else x  # what is convolved with w, and the directions
    da, dw = (np.cos(np.arange(v.size)).reshape(v.shape) for v in (a, w))
    apply = conv2d_transpose if transposed else conv2d

    @jax.jit
    def derivatives(a, w, da, dw):
        def f(a, w):
            return apply(a, w, stride=stride, padding=padding)

        def loss(a, w):  # not linear, so that no derivative vanishes
            return jnp.square(f(a, w)).sum() / 2

        def penalised(a, w):  # as R1: the gradient of a gradient's norm
            return jnp.square(jax.grad(loss)(a, w)).sum() / 2

        gradient = jax.grad(loss, (0, 1))
        return {
            "value": f(a, w),
            "gradient": gradient(a, w),
            "second": jax.grad(penalised, (0, 1))(a, w),
            "forward": jax.jvp(f, (a, w), (da, dw))[1],
            "forward over reverse": jax.jvp(gradient, (a, w), (da, dw))[1],
        }

    f, to_a, to_w = form.seen(transposed)
    out, forward = f(a, w), f(da, w) + f(a, dw)
    ga = to_a(out, w)
    wanted = {
        "value": out,
        "gradient": (ga, to_w(a, out)),
        "second": (to_a(f(ga, w), w), to_w(ga, out) + to_w(a, f(ga, w))),
        "forward": forward,
        "forward over reverse": (
            to_a(forward, w) + to_a(out, dw),
            to_w(da, out) + to_w(a, forward),
        ),
    }
    assert_near(derivatives(*low((a, w, da, dw))), wanted, 1e-4)


@both_ways
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_maps_each_of_the_three(axes, transposed):
    case = 4, 2, 1, (6, 6)
    form, (x, w, y) = trilinear(*case), operands(case, 3)
    a = y if transposed else x
    a, w = (v if axis == 0 else v[0] for v, axis in zip((a, w), axes, strict=True))
    apply = conv2d_transpose if transposed else conv2d

    @jax.jit
    @functools.partial(jax.vmap, in_axes=axes)
    def maps(a, w):
        out, back = jax.vjp(functools.partial(apply, stride=2, padding=1), a, w)
        return out, *back(out)

    got = maps(*low((a, w)))
    f, to_a, to_w = form.seen(transposed)
    for i in range(3):
        b, v = (v[i] if axis == 0 else v for v, axis in zip((a, w), axes, strict=True))
        out = f(b, v)
        wanted = [out, to_a(out, v), to_w(b, out)]
        assert_near([leaf[i] for leaf in got], wanted)


def test_gpus_and_tpus_get_the_plain_convolution():
    case = 4, 2, 1, (8, 6)
    x, w, _ = low(operands(case))

    def step(x, w):
        return jax.grad(lambda w: jnp.square(conv2d(x, w, stride=2, padding=1)).sum())(
            w
        )

    for platform, plain in (("cpu", False), ("cuda", True), ("tpu", True)):
        lowered = jax.jit(step).trace(x, w).lower(lowering_platforms=(platform,))
        assert ("stablehlo.convolution" in lowered.as_text()) == plain


@pytest.mark.parametrize("turn", [1, *(pytest.param(i, marks=SLOW) for i in (0, 2))])
@every_case
def test_every_form_is_the_same_trilinear_form(kernel, stride, padding, size, turn):
    """The cheapest form differs from size to size; all must be right at any.

    An axis has two or three forms; the columns have the one `turn` after the rows'.
    """
    case = kernel, stride, padding, size
    x, w, y = operands(case)
    rows, columns = (list(cpu_conv.choices(n, kernel, stride, padding)) for n in size)
    assert len(rows) == len(columns) == 2 + (-(-kernel // stride) in (2, 3))
    forms = [
        cpu_conv.Form(stride, padding, row, columns[(i + turn) % len(columns)])
        for i, row in enumerate(rows)
    ]

    @jax.jit
    def values(x, w, y):
        products = (zip(f.X(x), f.W(w), f.Y(y), strict=True) for f in forms)
        return [sum(((a @ b) * c).sum() for a, b, c in terms) for terms in products]

    wanted = (trilinear(*case).convolution(x, w) * y).sum()
    for form, got in zip(forms, values(*low((x, w, y))), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3, err_msg=form)


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
    form = cpu_conv.cheapest_form(x, w, 2 if w[0] == 4 else 1, 1)
    assert all(getattr(axis, chosen) > 1 for axis in (form.rows, form.columns))


@pytest.mark.parametrize("use_bias", [True, False])
def test_layers_equal_flax(use_bias):
    """Their parameters by name, shape and initial value, and what they return."""
    x = jax.random.normal(KEY, (2, 8, 6, IN))

    @jax.jit
    def both(x):
        layers = (
            conv.Conv(OUT, use_bias=use_bias),
            nn.Conv(OUT, (4, 4), 2, padding=1, use_bias=use_bias),
        )
        return [layer.init_with_output(KEY, x) for layer in layers]

    (ours, params), (theirs, wanted) = both(x)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, params, wanted)


def test_the_transpose_doubles_and_has_the_convolutions_kernel():
    case = 4, 2, 1, (8, 6)
    form, (_, w, y) = trilinear(*case), operands(case)
    up = conv.ConvTranspose(IN)
    params = jax.eval_shape(up.init, KEY, y)["params"]
    assert params["kernel"].shape == w.shape
    bias = np.arange(1.0, 1 + IN)
    got = jax.jit(up.apply)({"params": {"kernel": w, "bias": bias}}, *low([y]))
    assert got.shape == (BATCH, 8, 6, IN)
    assert_near(got, form.input_gradient(w, y) + bias)


def test_the_transpose_of_three_by_three_doubles_with_one_row_more():
    case = 3, 2, 1, (8, 6)
    form, (_, w, y) = trilinear(*case), operands(case)
    assert conv2d_transpose(*low((y, w)), stride=2, padding=1).shape[1:3] == (7, 5)
    up = conv.ConvTranspose(IN, kernel=3, extra=1, use_bias=False)
    got = jax.jit(up.apply)({"params": {"kernel": w}}, *low([y]))
    assert_near(got, form.input_gradient(w, y))


@pytest.mark.parametrize("kernel", [3, 5])
def test_reflected_borders(kernel):
    case = kernel, 1, 0, (6 + kernel - 1, 5 + kernel - 1)
    x = operands(case)[0][:, :6, :5]
    w, around = operands(case)[1], (kernel // 2,) * 2
    layer = conv.ReflectConv(OUT, kernel=kernel, use_bias=False)
    got = jax.jit(layer.apply)({"params": {"kernel": w}}, *low([x]))
    padded = np.pad(x, ((0, 0), around, around, (0, 0)), mode="reflect")
    assert_near(got, trilinear(*case).convolution(padded, w))


def test_up_sampling_and_pooling_are_part_of_the_convolution():
    """The two layers, against repetition and means around the plain one in NumPy."""
    case, larger = (3, 1, 1, (6, 4)), (3, 1, 1, (12, 8))
    x, w, _ = operands(case)
    settings = {"kernel": 3, "stride": 1, "padding": 1, "use_bias": False}
    up, pool = (layer(OUT, **settings) for layer in (conv.UpConv, conv.ConvPool))
    assert jax.eval_shape(up.init, KEY, x)["params"]["kernel"].shape == w.shape

    @jax.jit
    def both(x, w):
        params = {"params": {"kernel": w}}
        sizes = conv.upsample(x), conv.average_pool(x)
        return up.apply(params, x), pool.apply(params, x), *sizes

    repeated = x.repeat(2, 1).repeat(2, 2)
    assert_near(
        both(*low((x, w))),
        (
            trilinear(*larger).convolution(repeated, w),
            pooled(trilinear(*case).convolution(x, w)),
            repeated,
            pooled(x),
        ),
    )


def pooled(x):
    return sum(x[:, i::2, j::2] for i, j in np.ndindex(2, 2)) / 4


def test_works_where_jit_is_disabled():
    """As the replay of a step does, to find the line that makes a NaN."""
    x, w, y = low(operands(CASES[0]))

    def all_three(x, w, y):
        out, pull = jax.vjp(functools.partial(conv2d, stride=2, padding=1), x, w)
        return out, pull(y)

    wanted = jax.jit(all_three)(x, w, y)
    with jax.disable_jit():
        assert_near(all_three(x, w, y), wanted)
