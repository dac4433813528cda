"""Layers of clips `[batch, time, height, width, channels]`, by space and by time.

A (2+1)D convolution (Tran et al. 2018, arXiv:1711.11248) is one over space in each
frame, a nonlinearity, and one over time at each position. Both are 2-D convolutions, of
folded axes, and so have the gradients of `conv` that are fast on a CPU.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from gan_jax.layers.conv import conv2d


def on_frames(layer: Callable[[Array], Array], x: Array) -> Array:
    """Applies a layer of images to each frame: time is folded into the batch.

    Args:
      layer: `[n, h, w, c]` to `[n, ...]`.
      x: `[batch, time, h, w, c]`.

    Returns:
      `[batch, time, ...]`.
    """
    y = layer(x.reshape(-1, *x.shape[2:]))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def temporal_conv(x: Array, w: Array) -> Array:
    """Convolves over time at each position, zero-padded to the same length.

    Args:
      x: `[batch, time, h, w, in]`.
      w: `[kernel, in, out]`.

    Returns:
      `[batch, time, h, w, out]`.
    """
    batch, _, height, width, channels = x.shape
    before = (len(w) - 1) // 2
    fill = [(0, 0), (before, len(w) - 1 - before), *[(0, 0)] * 3]
    positions = jnp.pad(x, fill).reshape(batch, -1, height * width, channels)
    return conv2d(positions, w[:, None]).reshape(*x.shape[:-1], w.shape[-1])


class TemporalConv(nn.Module):
    """`temporal_conv` with its parameters.

    Attributes:
      features: output channels.
      kernel: frames that it sees.
      use_bias: whether a bias is added.
      kernel_init: initialiser of the kernel, `[kernel, in, features]`.
    """

    features: int
    kernel: int = 3
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[batch, time, h, w, in]` to `[batch, time, h, w, features]`."""
        shape = (self.kernel, x.shape[-1], self.features)
        y = temporal_conv(x, self.param("kernel", self.kernel_init, shape))
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,))
        return y


def double_time(x: Array) -> Array:
    """Repeats each frame: `[batch, t, ...]` to `[batch, 2t, ...]`."""
    return x.repeat(2, 1)


def halve_time(x: Array) -> Array:
    """Averages pairs of frames: `[batch, 2t, ...]` to `[batch, t, ...]`."""
    return x.reshape(x.shape[0], -1, 2, *x.shape[2:]).mean(2)
