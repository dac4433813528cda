"""The residual networks of SNGAN (Miyato et al. 2018, arXiv:1802.05957), 32 and 64."""

import functools
from collections.abc import Callable

import flax.linen as nn
from jax import Array

from gan_jax.errors import UserError
from gan_jax.layers.conv import Conv, ConvPool, UpConv, average_pool, upsample
from gan_jax.layers.labels import LabelledLatents, Logits
from gan_jax.layers.spectral import SpectralNorm

_sqrt2_glorot = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")
_glorot = nn.initializers.glorot_uniform()
_how = {"kernel": 3, "stride": 1, "padding": 1, "kernel_init": _sqrt2_glorot}
_conv, _up_conv, _conv_pool = (
    functools.partial(layer, **_how) for layer in (Conv, UpConv, ConvPool)
)
_shortcut = functools.partial(Conv, kernel=1, stride=1, padding=0, kernel_init=_glorot)

# Features of each block, in widths: of the generator, and of the discriminator, whose
# blocks halve the image until it is 8x8 (ibid., table 4) or, at 64, 2x2.
_G = {32: (4, 4, 4), 64: (8, 4, 2, 1)}
_G_FIRST = {32: 4, 64: 16}
_D = {32: (2, 2, 2, 2), 64: (1, 2, 4, 8, 16)}
_HALVINGS = {32: 2, 64: 5}


def _side(shape: tuple[int, ...]) -> int:
    """Returns the side of the images.

    Raises:
      UserError: they are not 32x32 or 64x64.
    """
    if len(shape) != 3 or shape[0] != shape[1] or shape[0] not in _G:
        raise UserError(
            f"resnet makes images of 32x32 or 64x64, not of shape {shape}: set "
            "--config.image_size, or take --config.model=dcgan"
        )
    return shape[0]


class Generator(nn.Module):
    """A dense layer and residual blocks, each doubling the image.

    Attributes:
      shape: `(side, side, channels)`, side 32 or 64.
      num_classes: 0 for an unconditional generator.
      width: a quarter of all layers' channels at 32, the last block's at 64.
      output: 'tanh' or 'sigmoid'.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64
    output: str = "tanh"

    @nn.compact
    def __call__(self, latents: Array, labels: Array | None = None, *, train: bool):
        """Maps `[batch, size]` (and labels `[batch]`) to `[batch, *shape]`."""
        side = _side(self.shape)
        norm = functools.partial(
            nn.BatchNorm, use_running_average=not train, momentum=0.9
        )
        channels = self.width * _G_FIRST[side]

        h = LabelledLatents(self.num_classes)(latents, labels)
        h = nn.Dense(4 * 4 * channels, kernel_init=_glorot)(h)
        h = h.reshape(-1, 4, 4, channels)
        for widths in _G[side]:
            h = _Up(self.width * widths, norm)(h)
        x = _conv(self.shape[-1], kernel_init=_glorot)(nn.relu(norm()(h)))
        return nn.sigmoid(x) if self.output == "sigmoid" else nn.tanh(x)


class Discriminator(nn.Module):
    """Residual blocks under spectral normalisation, summed over the image.

    Attributes:
      shape: `(side, side, channels)`, side 32 or 64.
      num_classes: 0 for an unconditional discriminator.
      width: half of all layers' channels at 32, the first block's at 64.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64
    per_example = True

    @nn.compact
    def __call__(self, x: Array, labels: Array | None = None, *, train: bool):
        """Maps `[batch, *shape]` (and labels `[batch]`) to logits `[batch]`."""
        side = _side(self.shape)
        h = x
        for i, widths in enumerate(_D[side]):
            h = _Down(self.width * widths, i < _HALVINGS[side], first=i == 0)(h)
        features = nn.relu(h).sum((1, 2))
        return Logits(self.num_classes, _glorot, SpectralNorm)(features, labels)


class _Up(nn.Module):
    features: int
    norm: Callable

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = _up_conv(self.features)(nn.relu(self.norm()(x)))
        h = _conv(self.features)(nn.relu(self.norm()(h)))
        return h + upsample(_shortcut(self.features)(x))


class _Down(nn.Module):
    features: int
    halve: bool
    first: bool  # of the network: the image itself goes through no ReLU

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = x if self.first else nn.relu(x)
        h = nn.relu(SpectralNorm(_conv(self.features))(h))
        h = SpectralNorm((_conv_pool if self.halve else _conv)(self.features))(h)
        if not self.halve and x.shape[-1] == self.features:
            return h + x
        # Pooling commutes with a 1x1 convolution, which then has less to do.
        x = average_pool(x) if self.halve else x
        return h + SpectralNorm(_shortcut(self.features))(x)
