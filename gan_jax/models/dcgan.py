"""DCGAN (Radford et al. 2016, arXiv:1511.06434) at any power-of-two size."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError
from gan_jax.layers.conv import Conv, ConvTranspose
from gan_jax.layers.labels import LabelledLatents, Logits

_init = nn.initializers.normal(0.02)


def _norm(train: bool):
    return functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)


def stages(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the side of the smallest feature map and how often it is doubled.

    Raises:
      UserError: the example is no square image of 4 or 7 times a power of two.
    """
    if len(shape) != 3:
        raise UserError(
            f"dcgan makes images and the data has shape {shape}; for points use "
            "--config.model=mlp"
        )
    side = shape[0]
    base = 7 if side % 7 == 0 else 4
    doublings = (side // base).bit_length() - 1
    if shape[0] != shape[1] or doublings < 1 or side != base << doublings:
        raise UserError(
            f"dcgan cannot make {shape[0]}x{shape[1]} images: image_size must be 4 or "
            "7 times a power of two (8, 14, 16, 28, 32, 56, 64, ...)"
        )
    return base, doublings


class Generator(nn.Module):
    """A dense layer and transposed convolutions, each doubling the image.

    Attributes:
      shape: `(side, side, channels)`, side 4 or 7 times a power of two.
      num_classes: 0 for an unconditional generator.
      width: channels before the last layer; doubled for each layer further from it.
      output: 'tanh' or 'sigmoid'.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64
    output: str = "tanh"

    @nn.compact
    def __call__(self, latents: Array, labels: Array | None = None, *, train: bool):
        """Maps `[batch, size]` (and labels `[batch]`) to `[batch, *shape]`."""
        base, doublings = stages(self.shape)
        up = functools.partial(ConvTranspose, kernel_init=_init)
        norm = _norm(train)
        channels = self.width << (doublings - 1)

        h = LabelledLatents(self.num_classes)(latents, labels)
        h = nn.Dense(base * base * channels, use_bias=False, kernel_init=_init)(h)
        h = nn.relu(norm()(h.reshape(-1, base, base, channels)))
        for _ in range(doublings - 1):
            channels //= 2
            h = nn.relu(norm()(up(channels, use_bias=False)(h)))
        x = up(self.shape[-1])(h)
        return nn.sigmoid(x) if self.output == "sigmoid" else jnp.tanh(x)


class Discriminator(nn.Module):
    """Strided convolutions, each halving the image, and a dense layer.

    Attributes:
      shape: `(side, side, channels)`, side 4 or 7 times a power of two.
      num_classes: 0 for an unconditional discriminator.
      width: channels after the first layer; doubled in each further one.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64

    @nn.compact
    def __call__(self, x: Array, labels: Array | None = None, *, train: bool):
        """Maps `[batch, *shape]` (and labels `[batch]`) to logits `[batch]`."""
        _, halvings = stages(self.shape)
        down = functools.partial(Conv, kernel_init=_init)
        norm = _norm(train)

        h = nn.leaky_relu(down(self.width)(x), 0.2)
        for i in range(1, halvings):
            h = nn.leaky_relu(norm()(down(self.width << i, use_bias=False)(h)), 0.2)
        return Logits(self.num_classes, _init)(h.reshape(len(h), -1), labels)
