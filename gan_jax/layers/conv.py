r"""Convolutions that are fast on every platform, in every derivative.

A convolution $y = x * w$ is bilinear, so the trilinear form $\langle y, x * w\rangle$
holds all there is to know of it. Its three partial derivatives are three bilinear maps:

    conv2d(x, w)                  -> y     the convolution
    conv2d_input_gradient(w, y)   -> x     the transposed convolution
    conv2d_kernel_gradient(x, y)  -> w     the correlation of inputs with outputs

and each derivative of any of them, of any order and in either mode, is again one of
the three. They are therefore made primitives here. GPU and TPU lower them to XLA's
convolution. On a CPU, XLA's kernel gradients are slow (inside a loop, by orders of
magnitude), but its matrix products run at the machine's peak; with $P(x)$ the matrix
of patches, one row for each output pixel,

    conv2d(x, w)                 = P(x) w
    conv2d_kernel_gradient(x, y) = P(x)' y
    conv2d_input_gradient(w, y)  = P'(y w')

where $P'$ adds patches back into an image. A stride $s$ dividing the kernel $k$ makes
that cheap: the patches are seen as $(k/s)^2$ blocks of $s \times s$ pixels, and only
$(k/s)^2$ shifted images are added.

Layouts are NHWC for images and HWIO for kernels.
"""

import functools
from collections.abc import Callable, Sequence

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


def _patches(x: Array, kernel: Sequence[int], stride: int, padding: int) -> Array:
    """Returns each output's window, `[batch, rows, columns, kh * kw * channels]`."""
    batch, height, width, _ = x.shape
    rows, columns = (
        (n + 2 * padding - k) // stride + 1
        for n, k in zip((height, width), kernel, strict=True)
    )
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows_of, columns_of = (
        [slice(i, i + stride * (n - 1) + 1, stride) for i in range(k)]
        for n, k in zip((rows, columns), kernel, strict=True)
    )
    taps = [x[:, i, j] for i in rows_of for j in columns_of]
    return jnp.stack(taps, 3).reshape(batch, rows, columns, -1)


def _conv_products(x, w, *, stride, padding):
    return _patches(x, w.shape[:2], stride, padding) @ w.reshape(-1, w.shape[-1])


def _kernel_gradient_products(x, y, *, kernel, stride, padding):
    patches = _patches(x, kernel, stride, padding)
    w = patches.reshape(-1, patches.shape[-1]).T @ y.reshape(-1, y.shape[-1])
    return w.reshape(*kernel, x.shape[-1], y.shape[-1])


def _input_gradient_products(w, y, *, size, stride, padding):
    # The kernel as (m, n) blocks of (stride, stride) taps, zeros filling it up.
    m, n = (-(-k // stride) for k in w.shape[:2])
    fill = [(0, b * stride - k) for b, k in zip((m, n), w.shape[:2], strict=True)]
    w = jnp.pad(w, (*fill, (0, 0), (0, 0)))
    w = w.reshape(m, stride, n, stride, -1, w.shape[-1]).transpose(0, 2, 1, 3, 4, 5)
    batch, rows, columns, features = y.shape
    blocks = (y.reshape(-1, features) @ w.reshape(-1, features).T).reshape(
        batch, rows, columns, m, n, -1
    )
    x = sum(
        jnp.pad(
            blocks[:, :, :, i, j],
            ((0, 0), (i, m - 1 - i), (j, n - 1 - j), (0, 0)),
        )
        for i in range(m)
        for j in range(n)
    )
    rows, columns = rows + m - 1, columns + n - 1
    x = x.reshape(batch, rows, columns, stride, stride, -1).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, rows * stride, columns * stride, -1)
    # Pixels past the last window took no part: their gradient is zero.
    missing = [
        (0, max(0, padding + n - have))
        for n, have in zip(size, x.shape[1:3], strict=True)
    ]
    x = jnp.pad(x, ((0, 0), *missing, (0, 0)))
    return x[:, padding : padding + size[0], padding : padding + size[1]]


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
        cpu, default = (
            jax.vmap(functools.partial(f, **how), in_axes=axes)
            for f in (products, plain)
        )
        return lax.platform_dependent(*args, cpu=cpu, default=default), 0

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
    transposed = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[batch, h, w, in]` to `[batch, h', w', features]`."""
        channels = (x.shape[-1], self.features)
        if self.transposed:
            channels = channels[::-1]
        shape = (self.kernel, self.kernel, *channels)
        w = self.param("kernel", self.kernel_init, shape)
        apply = conv2d_transpose if self.transposed else conv2d
        y = apply(x, w, stride=self.stride, padding=self.padding)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,))
        return y


class ConvTranspose(Conv):
    """The transpose of `Conv`: by default it doubles height and width.

    Its kernel is that of the convolution it transposes, `[kernel, kernel, features,
    in]`.
    """

    transposed = True
