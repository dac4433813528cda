r"""Convolutions that are fast on every platform, in every derivative.

A convolution $y = x * w$ is bilinear, so the trilinear form $\langle y, x * w\rangle$
describes it completely. Its three partial derivatives are three bilinear maps:

    conv2d(x, w)                  -> y     the convolution
    conv2d_input_gradient(w, y)   -> x     the transposed convolution
    conv2d_kernel_gradient(x, y)  -> w     the correlation of inputs with outputs

and each derivative of any of them, of any order and in either mode, is again one of
the three. They are therefore primitives here. GPU and TPU lower them to XLA's
convolution, a CPU to the matrix products of `cpu_conv`.

Layouts are NHWC for images and HWIO for kernels.
"""

import functools
import itertools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from gan_jax.layers import cpu_conv

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
    x = jax.ShapeDtypeStruct((y.shape[0], *size, w.shape[2]), y.dtype)
    # XLA finds cuDNN's call by the reversed kernel, and moves the reversal into what
    # makes the kernel (spectral normalisation, pooling) if it can: then it convolves
    # over y with zeros between, which takes four times the operations at stride 2.
    w = lax.optimization_barrier(w)
    conv = functools.partial(_conv, stride=stride, padding=padding)
    return jax.linear_transpose(lambda x: conv(x, w), x)(y)[0]


def _kernel_gradient(x, y, *, kernel, stride, padding):
    w = jax.ShapeDtypeStruct((*kernel, x.shape[-1], y.shape[-1]), y.dtype)
    conv = functools.partial(_conv, stride=stride, padding=padding)
    return jax.linear_transpose(lambda w: conv(x, w), w)(y)[0]


# --- The primitives -----------------------------------------------------------------


def _primitive(name: str, plain: Callable, products: Callable, static: tuple):
    """Makes a primitive of two implementations, chosen when it is lowered."""
    primitive = Primitive(name)

    def at_once(*args, **window):  # not by `bind`, which comes here if jit is disabled
        cpu, default = (functools.partial(f, **window) for f in (products, plain))
        return lax.platform_dependent(*args, cpu=cpu, default=default)

    def shape(*args, **window):
        args = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in args]
        out = jax.eval_shape(functools.partial(plain, **window), *args)
        return ShapedArray(out.shape, out.dtype)

    def batched(args, axes, **window):
        def vmapped(f):
            return jax.vmap(functools.partial(f, **window), in_axes=axes)

        def in_turn(*args):
            args = [
                jnp.moveaxis(a, axis, 0) for a, axis in zip(args, axes, strict=True)
            ]
            return lax.map(lambda args: primitive.bind(*args, **window), args)

        # Products that share no factor are faster one after the other than batched.
        cpu = vmapped(products) if None in axes else in_turn
        return lax.platform_dependent(*args, cpu=cpu, default=vmapped(plain)), 0

    primitive.def_impl(jax.jit(at_once, static_argnames=static))
    primitive.def_abstract_eval(shape)
    batching.primitive_batchers[primitive] = batched
    mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=False))
    mlir.register_lowering(
        primitive, mlir.lower_fun(products, multiple_results=False), platform="cpu"
    )
    return primitive


_WINDOW = ("stride", "padding")
_conv_p = _primitive("conv2d", _conv, cpu_conv.convolution, _WINDOW)
_input_p = _primitive(
    "conv2d_input_gradient",
    _input_gradient,
    cpu_conv.input_gradient,
    ("size", *_WINDOW),
)
_kernel_p = _primitive(
    "conv2d_kernel_gradient",
    _kernel_gradient,
    cpu_conv.kernel_gradient,
    ("kernel", *_WINDOW),
)


def _dx(w, y, x, window):
    return _input_p.bind(w, y, size=x.aval.shape[1:3], **window)


def _dw(x, y, w, window):
    return _kernel_p.bind(x, y, kernel=w.aval.shape[:2], **window)


def _only(stride, padding, **_):
    return {"stride": stride, "padding": padding}


# Each is linear in either argument; its transpose in one is the map of the other one
# and the cotangent.
ad.defbilinear(
    _conv_p,
    lambda y, x, w, **window: _dx(w, y, x, window),
    lambda y, x, w, **window: _dw(x, y, w, window),
)
ad.defbilinear(
    _input_p,
    lambda x, w, y, **window: _dw(x, y, w, _only(**window)),
    lambda x, w, y, **window: _conv_p.bind(x, w, **_only(**window)),
)
ad.defbilinear(
    _kernel_p,
    lambda w, x, y, **window: _dx(w, y, x, _only(**window)),
    lambda w, x, y, **window: _conv_p.bind(x, w, **_only(**window)),
)


def conv2d(x: Array, w: Array, *, stride: int = 1, padding: int = 0) -> Array:
    """Convolves `x [batch, h, w, in]` with `w [kh, kw, in, out]`, zero-padded."""
    return _conv_p.bind(x, w, stride=stride, padding=padding)


def conv2d_transpose(
    y: Array, w: Array, *, stride: int = 1, padding: int = 0, extra: int = 0
) -> Array:
    """Applies the transpose of the convolution by `w` to `y [batch, h, w, out]`.

    With `extra` 0 the output size is the smallest that this convolution maps to `y`'s:
    a kernel of 4 with stride 2 and padding 1 doubles it.

    Args:
      y: `[batch, h, w, out]`.
      w: `[kh, kw, in, out]`, the convolution's kernel: the result has `in` channels.
      stride: of the convolution.
      padding: of the convolution.
      extra: rows and columns to add to that size, below `stride`: a kernel of 3 with
        stride 2, padding 1 and one more doubles it too.

    Returns:
      `[batch, h', w', in]` with `h' = (h - 1) * stride - 2 * padding + kh + extra`.
    """
    size = tuple(
        (n - 1) * stride - 2 * padding + k + extra
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
    """Returns the kernel, larger by one, that sums `w` over 2x2 pixels."""
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

    def _channels(self, inputs: int) -> tuple[int, int]:
        return inputs, self.features

    def _apply(self, x: Array, w: Array) -> Array:
        return conv2d(x, w, stride=self.stride, padding=self.padding)


class ConvTranspose(Conv):
    """The transpose of `Conv`: by default it doubles height and width.

    Its kernel is that of the convolution it transposes, `[kernel, kernel, features,
    in]`.

    Attributes:
      extra: rows and columns of the output, see `conv2d_transpose`.
    """

    extra: int = 0

    def _channels(self, inputs: int) -> tuple[int, int]:
        return self.features, inputs

    def _apply(self, x: Array, w: Array) -> Array:
        window = {"stride": self.stride, "padding": self.padding}
        return conv2d_transpose(x, w, **window, extra=self.extra)


class ReflectConv(Conv):
    """`Conv` with stride 1 and an odd kernel, of an image that is mirrored at borders.

    The output has the size of the input. Without zeros at the border G makes no frame
    there (Johnson et al. 2016, arXiv:1603.08155, supplement).
    """

    def _apply(self, x: Array, w: Array) -> Array:
        border = (self.kernel // 2,) * 2
        x = jnp.pad(x, ((0, 0), border, border, (0, 0)), mode="reflect")
        return conv2d(x, w)


class UpConv(Conv):
    """`upsample`, then `Conv` with stride 1, padding 1 and a 3x3 kernel, as one.

    The pixels of a 2x2 repetition share their value, so the 3x3 kernel sees 2x2
    values, different ones in each of the four phases: this is a transposed 4x4
    convolution with stride 2, with 4/9 of the operations.
    """

    def _apply(self, x: Array, w: Array) -> Array:
        w = _spread(w)[::-1, ::-1].swapaxes(2, 3)
        return conv2d_transpose(x, w, stride=2, padding=1)


class ConvPool(Conv):
    """`Conv` with stride 1, padding 1 and a 3x3 kernel, then `average_pool`, as one.

    The average of four shifted 3x3 windows is one 4x4 window with stride 2, with 4/9
    of the operations.
    """

    def _apply(self, x: Array, w: Array) -> Array:
        return conv2d(x, _spread(w) / 4, stride=2, padding=1)
