r"""Convolutions as matrix products: how a CPU computes those of `conv`.

On a CPU, XLA's convolution gradients are slow (inside a loop, by orders of magnitude),
but its matrix products run near the machine's peak. The trilinear form of `conv` is
therefore written with linear maps X, Y, W into matrices, a row of X and Y for each
position:

    <y, x * w> = sum_k <Y_k(y), X_k(x) W_k(w)>

    convolution(x, w)     = sum_k Y_k' (X_k(x) W_k(w))
    input_gradient(w, y)  = sum_k X_k' (Y_k(y) W_k(w)')
    kernel_gradient(x, y) = sum_k W_k' (X_k(x)' Y_k(y))

Many such maps exist; they differ in what they multiply and in what they copy. With a
stride s the kernel is seen as blocks of (s, s) taps and x as blocks of (s, s) pixels,
which leaves a convolution with stride 1. Along each axis, with b blocks in the kernel,
one may

  * unfold x: each position gets the window of b blocks that it sees;
  * unfold y: b shifted copies of y, each position meeting one block of x;
  * use Winograd's algorithm F(2, b), which computes two neighbouring outputs with b + 1
    products instead of 2b (Lavin and Gray 2016, arXiv:1509.09308). For b = 2,

        y0 (x0 w0 + x1 w1) + y1 (x1 w0 + x2 w1)
            = y0 (x0 - x1) w0 + (y0 + y1) x1 (w0 + w1) + y1 (x2 - x1) w1.

Each axis has its own choice, by an estimate of what is multiplied and moved: with many
channels multiplications dominate, with few the copies do.

Layouts are NHWC for images and HWIO for kernels.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

# Floating-point operations that a CPU does in the time it moves one number, and the
# factor that Winograd's algorithm must save to pay for compiling its sums: measured on
# x86-64.
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


class Axis(NamedTuple):
    """The form of one axis.

    Attributes:
      blocks: of the kernel.
      grid: positions, each of two outputs in Winograd's algorithm.
      windows: blocks of x that a position sees.
      copies: of y.
      products: terms of the sum over k; 1 except in Winograd's algorithm.
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


class Form(NamedTuple):
    """The maps X, Y and W, each to a list of matrices, one for each k.

    Attributes:
      stride: of both axes.
      padding: zeros on each side.
      rows: the form of the vertical axis.
      columns: the form of the horizontal axis.
    """

    stride: int
    padding: int
    rows: Axis
    columns: Axis

    def cost(self, channels: int, features: int) -> float:
        """Estimates the operations for one example."""
        (_, a, m, my, p), (_, b, n, ny, q) = self.rows, self.columns
        inner, outer = m * n * self.stride**2 * channels, my * ny * features
        work = _OPERATIONS_PER_MOVE * (inner + outer) + 2 * inner * outer
        return a * b * p * q * work * (_WINOGRAD_OVERHEAD if p * q > 1 else 1)

    def X(self, x: Array) -> list[Array]:
        """Maps `[batch, h, w, in]` to matrices `[positions, taps * in]`."""
        s, rows, columns = self.stride, self.rows, self.columns
        fill = {
            axis: (self.padding, form.width * s - self.padding - x.shape[axis])
            for axis, form in ((1, rows), (2, columns))
        }
        x = _padded(x, fill).reshape(x.shape[0], rows.width, s, columns.width, -1)
        return [
            self._unfolded(part).reshape(x.shape[0] * rows.grid * columns.grid, -1)
            for half in rows.of_x(x, 1)
            for part in columns.of_x(half, 3)
        ]

    def _unfolded(self, x: Array) -> Array:
        """Returns the windows of blocks, `[batch, h', w', rows, s, columns, s * in]`.

        Columns come first, so that few slices are needed, not one for each tap.
        """
        rows, columns = self.rows, self.columns
        runs = [x[:, :, :, j : j + columns.grid] for j in range(columns.windows)]
        x = jnp.stack(runs, 4)
        return jnp.stack(
            [
                x[:, i : i + rows.grid, k]
                for i in range(rows.windows)
                for k in range(self.stride)
            ],
            3,
        )

    def Y(self, y: Array) -> list[Array]:
        """Maps `[batch, h', w', out]` to matrices `[positions, copies * out]`."""
        return [
            _copied(_copied(part, self.columns.copies, 2), self.rows.copies, 1).reshape(
                -1, self.rows.copies * self.columns.copies * y.shape[-1]
            )
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


def choices(size: int, kernel: int, stride: int, padding: int) -> Iterator[Axis]:
    """Yields the forms of an axis on which x and w have these sizes."""
    blocks = -(-kernel // stride)
    outputs = _outputs(size, kernel, stride, padding)
    yield Axis(blocks, outputs, windows=blocks)
    yield Axis(blocks, outputs + blocks - 1, copies=blocks)
    if blocks in _WINOGRAD:
        yield Axis(blocks, -(-outputs // 2), products=blocks + 1)


def _outputs(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


def cheapest_form(x_shape, w_shape, stride: int, padding: int) -> Form:
    """Returns the cheapest form of a convolution."""
    axes = (
        choices(*n, stride, padding)
        for n in zip(x_shape[1:3], w_shape[:2], strict=True)
    )
    forms = (Form(stride, padding, *pair) for pair in itertools.product(*axes))
    return min(forms, key=lambda form: form.cost(*w_shape[2:]))


def _combined(matrix, parts: list[Array]) -> list[Array]:
    return [
        sum(c * part for c, part in zip(row, parts, strict=True) if c) for row in matrix
    ]


def _padded(x: Array, fill: dict) -> Array:
    """Adds zeros, or crops where negative, before and after along some axes."""
    config = [(*fill.get(axis, (0, 0)), 0) for axis in range(x.ndim)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


def _copied(y: Array, copies: int, axis: int) -> Array:
    """Returns copies of y, each shifted further along an axis, side by side."""
    shifted = [_padded(y, {axis: (i, copies - 1 - i)}) for i in range(copies)]
    return jnp.concatenate(shifted, 3)


def _transposed(linear: Callable, shape, y: list[Array]) -> Array:
    return jax.linear_transpose(linear, jax.ShapeDtypeStruct(shape, y[0].dtype))(y)[0]


def convolution(x: Array, w: Array, *, stride: int, padding: int) -> Array:
    """Convolves `x [batch, h, w, in]` with `w [kh, kw, in, out]`."""
    form = cheapest_form(x.shape, w.shape, stride, padding)
    sizes = zip(x.shape[1:3], w.shape[:2], strict=True)
    y = x.shape[0], *(_outputs(*n, stride, padding) for n in sizes), w.shape[3]
    products = [a @ b for a, b in zip(form.X(x), form.W(w), strict=True)]
    return _transposed(form.Y, y, products)


def input_gradient(
    w: Array, y: Array, *, size: tuple[int, int], stride: int, padding: int
) -> Array:
    """Maps `[kh, kw, in, out]` and `[batch, h', w', out]` to `[batch, *size, in]`."""
    x = y.shape[0], *size, w.shape[2]
    form = cheapest_form(x, w.shape, stride, padding)
    products = [a @ b.T for a, b in zip(form.Y(y), form.W(w), strict=True)]
    return _transposed(form.X, x, products)


def kernel_gradient(
    x: Array, y: Array, *, kernel: tuple[int, int], stride: int, padding: int
) -> Array:
    """Maps `[batch, h, w, in]` and `[batch, h', w', out]` to `[*kernel, in, out]`."""
    w = *kernel, x.shape[-1], y.shape[-1]
    form = cheapest_form(x.shape, w, stride, padding)
    products = [_correlation(a, b) for a, b in zip(form.X(x), form.Y(y), strict=True)]
    return _transposed(form.W, w, products)


def _correlation(a: Array, b: Array) -> Array:
    """Returns `a.T @ b`. XLA copies the left factor: let that be the smaller one."""
    if b.size + a.shape[1] * b.shape[1] < a.size:
        return lax.optimization_barrier(b.T @ a).T
    return a.T @ b
