r"""Convolutions that are fast on every platform, in every derivative.

A convolution $y = x * w$ is bilinear, so the trilinear form $\langle y, x * w\rangle$
holds all there is to know of it. Its three partial derivatives are three bilinear maps:

    conv2d(x, w)                  -> y     the convolution
    conv2d_input_gradient(w, y)   -> x     the transposed convolution
    conv2d_kernel_gradient(x, y)  -> w     the correlation of inputs with outputs

and each derivative of any of them, of any order and in either mode, is again one of
the three. They are therefore made primitives here. GPU and TPU lower them to XLA's
convolution. On a CPU, XLA's convolution gradients are slow (inside a loop, by orders of
magnitude), but its matrix products run near the machine's peak. So there the form is
written with linear maps X, Y, W into matrices, a row of X and Y for each position:

    <y, x * w> = sum_k <Y_k(y), X_k(x) W_k(w)>

    conv2d(x, w)                 = sum_k Y_k' (X_k(x) W_k(w))
    conv2d_input_gradient(w, y)  = sum_k X_k' (Y_k(y) W_k(w)')
    conv2d_kernel_gradient(x, y) = sum_k W_k' (X_k(x)' Y_k(y))

Many such maps exist; they differ in what they multiply and in what they copy. With a
stride s the kernel is seen as blocks of (s, s) taps and x as blocks of (s, s) pixels,
so that the stride is gone. Along each axis, with b blocks in the kernel, one may

  * unfold x: each position gets the window of b blocks that it sees;
  * unfold y: b shifted copies of y, each position meeting one block of x;
  * use Winograd's algorithm F(2, b), which takes two neighbouring outputs in b + 1
    products for 2b (Lavin and Gray 2016, arXiv:1509.09308). For b = 2,

        y0 (x0 w0 + x1 w1) + y1 (x1 w0 + x2 w1)
            = y0 (x0 - x1) w0 + (y0 + y1) x1 (w0 + w1) + y1 (x2 - x1) w1.

The two axes choose apart, by an estimate of what is multiplied and moved: where
channels are many, multiplications count; where they are few, moving does.

Layouts are NHWC for images and HWIO for kernels.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

# --- The three maps, as XLA's convolution -------------------------------------------


def _conv(x: Array, w: Array, *, stride: int, padding: int) -> Array:
    return lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _input_gradient(w, y, *, size, stride, padding):
    x = jax.ShapeDtypeStruct((len(y), *size, w.shape[2]), y.dtype)
    conv = functools.partial(_conv, stride=stride, padding=padding)
    return jax.linear_transpose(lambda x: conv(x, w), x)(y)[0]


def _kernel_gradient(x, y, *, kernel, stride, padding):
    w = jax.ShapeDtypeStruct((*kernel, x.shape[-1], y.shape[-1]), y.dtype)
    conv = functools.partial(_conv, stride=stride, padding=padding)
    return jax.linear_transpose(lambda w: conv(x, w), w)(y)[0]


# --- The three maps, as matrix products ---------------------------------------------

# Floating-point operations that a CPU makes while it moves one number, and how much
# must be saved to be worth the compilation of Winograd's sums: measured on x86-64.
_OPERATIONS_PER_MOVE = 500
_WINOGRAD_OVERHEAD = 1.2

# F(2, b) for each b: y_i = sum_k A[k][i] (B[k] . x) (G[k] . w), as (A, B, G).
_WINOGRAD = {
    2: (
        [[1, 0], [1, 1], [0, 1]],
        [[1, -1, 0], [0, 1, 0], [0, -1, 1]],
        [[1, 0], [1, 1], [0, 1]],
    ),
    3: (
        [[1, 0], [1, 1], [1, -1], [0, -1]],
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]],
    ),
}


class _Axis(NamedTuple):
    """How a form treats one axis.

    Attributes:
      blocks: of the kernel.
      grid: positions, each of two outputs in Winograd's algorithm.
      windows: blocks of x that a position sees.
      copies: of y.
      products: terms of the sum over k; 1 but in Winograd's algorithm.
    """

    blocks: int
    grid: int
    windows: int = 1
    copies: int = 1
    products: int = 1

    @property
    def width(self) -> int:
        """Blocks of x that are read."""
        if self.products == 1:
            return self.grid + self.windows - 1
        return 2 * self.grid + self.blocks - 1

    def of_x(self, x: Array, axis: int) -> list[Array]:
        """Returns the terms of x, blocks along `axis`."""
        if self.products == 1:
            return [x]
        reach = 2 * self.grid - 1
        parts = [
            lax.slice_in_dim(x, i, i + reach, 2, axis) for i in range(self.blocks + 1)
        ]
        return _combined(_WINOGRAD[self.blocks][1], parts)

    def of_y(self, y: Array, axis: int) -> list[Array]:
        """Returns the terms of y, outputs along `axis`."""
        if self.products == 1:
            return [y]
        y = _padded(y, {axis: (0, 2 * self.grid - y.shape[axis])})
        parts = [lax.slice_in_dim(y, i, None, 2, axis) for i in range(2)]
        return _combined(_WINOGRAD[self.blocks][0], parts)

    def of_w(self, w: Array, axis: int) -> list[Array]:
        """Returns the terms of w, blocks along `axis`."""
        if self.products == 1:
            return [w]
        parts = [lax.slice_in_dim(w, i, i + 1, 1, axis) for i in range(self.blocks)]
        return _combined(_WINOGRAD[self.blocks][2], parts)


class _Form(NamedTuple):
    """The maps X, Y and W, each to a list of matrices, k along it."""

    stride: int
    padding: int
    rows: _Axis
    columns: _Axis

    def cost(self, channels: int, features: int) -> float:
        """Returns about how many operations an example takes."""
        (_, a, m, my, p), (_, b, n, ny, q) = self.rows, self.columns
        inner, outer = m * n * self.stride**2 * channels, my * ny * features
        work = _OPERATIONS_PER_MOVE * (inner + outer) + 2 * inner * outer
        return a * b * p * q * work * (_WINOGRAD_OVERHEAD if p * q > 1 else 1)

    def X(self, x: Array) -> list[Array]:
        """Maps `[batch, h, w, in]` to matrices `[positions, taps * in]`."""
        s, rows, columns = self.stride, self.rows, self.columns
        fill = {
            axis: (self.padding, how.width * s - self.padding - x.shape[axis])
            for axis, how in ((1, rows), (2, columns))
        }
        x = _padded(x, fill).reshape(len(x), rows.width, s, columns.width, -1)
        return [
            # Of one row of pixels a window takes a few contiguous runs.
            jnp.stack(
                [
                    part[:, i : i + rows.grid, k, j : j + columns.grid]
                    for i in range(rows.windows)
                    for k in range(s)
                    for j in range(columns.windows)
                ],
                3,
            ).reshape(len(x) * rows.grid * columns.grid, -1)
            for half in rows.of_x(x, 1)
            for part in columns.of_x(half, 3)
        ]

    def Y(self, y: Array) -> list[Array]:
        """Maps `[batch, h', w', out]` to matrices `[positions, copies * out]`."""
        m, n = self.rows.copies, self.columns.copies
        shifts = list(itertools.product(range(m), range(n)))
        return [
            jnp.concatenate(
                [
                    _padded(part, {1: (i, m - 1 - i), 2: (j, n - 1 - j)})
                    for i, j in shifts
                ],
                3,
            ).reshape(-1, m * n * y.shape[-1])
            for half in self.rows.of_y(y, 1)
            for part in self.columns.of_y(half, 2)
        ]

    def W(self, w: Array) -> list[Array]:
        """Maps `[kh, kw, in, out]` to matrices `[taps * in, copies * out]`."""
        s, (kh, kw, _, out), (rows, columns) = self.stride, w.shape, self[2:]
        m, n, my, ny = rows.blocks, columns.blocks, rows.copies, columns.copies
        w = _padded(w, {0: (0, m * s - kh), 1: (0, n * s - kw)})
        w = w.reshape(m, s, n, -1, out)
        return [
            part.reshape(rows.windows, my, s, columns.windows, ny, -1, out)
            .transpose(0, 2, 3, 5, 1, 4, 6)
            .reshape(-1, my * ny * out)
            for half in rows.of_w(w, 0)
            for part in columns.of_w(half, 2)
        ]


def _choices(size: int, kernel: int, stride: int, padding: int) -> Iterator[_Axis]:
    """Yields the ways to treat an axis of x and w of these sizes."""
    blocks = -(-kernel // stride)
    outputs = (size + 2 * padding - kernel) // stride + 1
    yield _Axis(blocks, outputs, windows=blocks)
    yield _Axis(blocks, outputs + blocks - 1, copies=blocks)
    if blocks in _WINOGRAD:
        yield _Axis(blocks, -(-outputs // 2), products=blocks + 1)


def _form(x_shape, w_shape, stride: int, padding: int) -> _Form:
    """Returns the cheapest form of a convolution."""
    axes = (
        _choices(*n, stride, padding)
        for n in zip(x_shape[1:3], w_shape[:2], strict=True)
    )
    forms = (_Form(stride, padding, *pair) for pair in itertools.product(*axes))
    return min(forms, key=lambda form: form.cost(*w_shape[2:]))


def _combined(matrix, parts: list[Array]) -> list[Array]:
    return [
        sum(c * part for c, part in zip(row, parts, strict=True) if c) for row in matrix
    ]


def _padded(x: Array, fill: dict) -> Array:
    """Adds zeros, or takes pixels away, before and after along some axes."""
    config = [(*fill.get(axis, (0, 0)), 0) for axis in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _transposed(linear: Callable, shape, y: list[Array]) -> Array:
    return jax.linear_transpose(linear, jax.ShapeDtypeStruct(shape, y[0].dtype))(y)[0]


def _conv_products(x, w, *, stride, padding):
    form = _form(x.shape, w.shape, stride, padding)
    y = jax.eval_shape(functools.partial(_conv, stride=stride, padding=padding), x, w)
    products = [a @ b for a, b in zip(form.X(x), form.W(w), strict=True)]
    return _transposed(form.Y, y.shape, products)


def _input_gradient_products(w, y, *, size, stride, padding):
    x = len(y), *size, w.shape[2]
    form = _form(x, w.shape, stride, padding)
    products = [a @ b.T for a, b in zip(form.Y(y), form.W(w), strict=True)]
    return _transposed(form.X, x, products)


def _kernel_gradient_products(x, y, *, kernel, stride, padding):
    w = *kernel, x.shape[-1], y.shape[-1]
    form = _form(x.shape, w, stride, padding)
    products = [_correlation(a, b) for a, b in zip(form.X(x), form.Y(y), strict=True)]
    return _transposed(form.W, w, products)


def _correlation(a: Array, b: Array) -> Array:
    """Returns `a.T @ b`, whose left side is copied first: let that be the smaller."""
    if b.size + a.shape[1] * b.shape[1] < a.size:
        return lax.optimization_barrier(b.T @ a).T
    return a.T @ b


# --- The primitives -----------------------------------------------------------------


def _primitive(name: str, plain: Callable, products: Callable, static: tuple):
    """Makes a primitive of two implementations, chosen when it is lowered."""
    primitive = Primitive(name)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=static))

    def shape(*args, **how):
        args = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in args]
        out = jax.eval_shape(functools.partial(plain, **how), *args)
        return ShapedArray(out.shape, out.dtype)

    def batched(args, axes, **how):
        def vmapped(f):
            return jax.vmap(functools.partial(f, **how), in_axes=axes)

        def in_turn(*args):
            args = [
                jnp.moveaxis(a, axis, 0) for a, axis in zip(args, axes, strict=True)
            ]
            return lax.map(lambda args: primitive.bind(*args, **how), args)

        # Products that share no factor are faster one after the other than batched.
        cpu = vmapped(products) if None in axes else in_turn
        return lax.platform_dependent(*args, cpu=cpu, default=vmapped(plain)), 0

    primitive.def_abstract_eval(shape)
    batching.primitive_batchers[primitive] = batched
    mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=False))
    mlir.register_lowering(
        primitive, mlir.lower_fun(products, multiple_results=False), platform="cpu"
    )
    return primitive


_how = ("stride", "padding")
_conv_p = _primitive("conv2d", _conv, _conv_products, _how)
_input_p = _primitive(
    "conv2d_input_gradient",
    _input_gradient,
    _input_gradient_products,
    ("size", *_how),
)
_kernel_p = _primitive(
    "conv2d_kernel_gradient",
    _kernel_gradient,
    _kernel_gradient_products,
    ("kernel", *_how),
)


def _dx(w, y, x, how):
    return _input_p.bind(w, y, size=x.aval.shape[1:3], **how)


def _dw(x, y, w, how):
    return _kernel_p.bind(x, y, kernel=w.aval.shape[:2], **how)


def _only(stride, padding, **_):
    return {"stride": stride, "padding": padding}


# Each is linear in either argument; its transpose in one is the map that takes the
# other and the cotangent.
ad.defbilinear(
    _conv_p,
    lambda y, x, w, **how: _dx(w, y, x, how),
    lambda y, x, w, **how: _dw(x, y, w, how),
)
ad.defbilinear(
    _input_p,
    lambda x, w, y, **how: _dw(x, y, w, _only(**how)),
    lambda x, w, y, **how: _conv_p.bind(x, w, **_only(**how)),
)
ad.defbilinear(
    _kernel_p,
    lambda w, x, y, **how: _dx(w, y, x, _only(**how)),
    lambda w, x, y, **how: _conv_p.bind(x, w, **_only(**how)),
)


def conv2d(x: Array, w: Array, *, stride: int = 1, padding: int = 0) -> Array:
    """Convolves `x [batch, h, w, in]` with `w [kh, kw, in, out]`, zeros around it."""
    return _conv_p.bind(x, w, stride=stride, padding=padding)


def conv2d_transpose(y: Array, w: Array, *, stride: int = 1, padding: int = 0) -> Array:
    """Applies the transpose of the convolution by `w` to `y [batch, h, w, out]`.

    Its input size is the smallest that this convolution brings to `y`'s, so a kernel
    of 4 with stride 2 and padding 1 doubles it.

    Args:
      y: `[batch, h, w, out]`.
      w: `[kh, kw, in, out]`, the convolution's kernel: what is `in` to it comes out.
      stride: of the convolution.
      padding: of the convolution.

    Returns:
      `[batch, h', w', in]` with `h' = (h - 1) * stride - 2 * padding + kh`.
    """
    size = tuple(
        (n - 1) * stride - 2 * padding + k
        for n, k in zip(y.shape[1:3], w.shape[:2], strict=True)
    )
    return _input_p.bind(w, y, size=size, stride=stride, padding=padding)


# --- Changes of size ----------------------------------------------------------------


def upsample(x: Array) -> Array:
    """Repeats each pixel 2x2: `[batch, h, w, c]` to `[batch, 2h, 2w, c]`."""
    return x.repeat(2, 1).repeat(2, 2)


def average_pool(x: Array) -> Array:
    """Averages 2x2 pixels: `[batch, 2h, 2w, c]` to `[batch, h, w, c]`."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def _spread(w: Array) -> Array:
    """Returns the kernel, one larger, that sums `w` over 2x2 pixels."""
    shifts = itertools.product((0, 1), (0, 1))
    return sum(jnp.pad(w, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i, j in shifts)


# --- The layers ---------------------------------------------------------------------


class Conv(nn.Module):
    """A convolution with a square kernel, zero-padded on all sides.

    Attributes:
      features: output channels.
      kernel: its side.
      stride: of both axes.
      padding: zeros on each side.
      use_bias: whether a bias is added.
      kernel_init: initialiser of the kernel, `[kernel, kernel, in, features]`.
    """

    features: int
    kernel: int = 4
    stride: int = 2
    padding: int = 1
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[batch, h, w, in]` to `[batch, h', w', features]`."""
        shape = (self.kernel, self.kernel, *self._channels(x.shape[-1]))
        y = self._apply(x, self.param("kernel", self.kernel_init, shape))
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,))
        return y

    def _channels(self, given: int) -> tuple[int, int]:
        return given, self.features

    def _apply(self, x: Array, w: Array) -> Array:
        return conv2d(x, w, stride=self.stride, padding=self.padding)


class ConvTranspose(Conv):
    """The transpose of `Conv`: by default it doubles height and width.

    Its kernel is that of the convolution it transposes, `[kernel, kernel, features,
    in]`.
    """

    def _channels(self, given: int) -> tuple[int, int]:
        return self.features, given

    def _apply(self, x: Array, w: Array) -> Array:
        return conv2d_transpose(x, w, stride=self.stride, padding=self.padding)


class UpConv(Conv):
    """`upsample`, then `Conv` with stride 1, padding 1 and a 3x3 kernel, as one.

    The pixels of a 2x2 repetition share their value, so the 3x3 kernel meets 2x2
    values, others in each of the four phases: a transposed 4x4 convolution with stride
    2, of 4/9 the operations.
    """

    def _apply(self, x: Array, w: Array) -> Array:
        w = _spread(w)[::-1, ::-1].swapaxes(2, 3)
        return conv2d_transpose(x, w, stride=2, padding=1)


class ConvPool(Conv):
    """`Conv` with stride 1, padding 1 and a 3x3 kernel, then `average_pool`, as one.

    The average of four shifted 3x3 windows is one 4x4 window with stride 2, of 4/9 the
    operations.
    """

    def _apply(self, x: Array, w: Array) -> Array:
        return conv2d(x, _spread(w) / 4, stride=2, padding=1)
