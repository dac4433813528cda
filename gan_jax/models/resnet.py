"""The residual networks of SNGAN (Miyato et al. 2018, arXiv:1802.05957), 32 and 64."""

import functools
from collections.abc import Callable

import flax.linen as nn
from jax import Array

from gan_jax.errors import UserError
from gan_jax.layers.attention import SelfAttention, attended
from gan_jax.layers.conv import Conv, ConvPool, UpConv, average_pool, upsample
from gan_jax.layers.dropout import lasting_dropout
from gan_jax.layers.labels import (
    D_CONDITIONING,
    G_CONDITIONING,
    LabelledExamples,
    LabelledLatents,
    Logits,
    classes_by_conditioning,
)
from gan_jax.layers.minibatch import append_deviation
from gan_jax.layers.norm import batch_norm
from gan_jax.layers.output import finish
from gan_jax.layers.spectral import wrapper

_sqrt2_glorot = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")
_glorot = nn.initializers.glorot_uniform()
_conv, _up_conv, _conv_pool = (
    functools.partial(layer, kernel=3, stride=1, padding=1, kernel_init=_sqrt2_glorot)
    for layer in (Conv, UpConv, ConvPool)
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
      output: 'tanh', 'sigmoid' or 'linear'.
      conditioning: how labels enter, 'concatenation' (the default) or 'batch_norm'.
      dropout: rate in the middle of each block, in sampling too; 0 for none.
      spectral_norm: whether the weights are spectrally normalised; or how many power
        iterations an update makes for that, 1 by default.
      attention: side of the feature map that self-attention follows; 0 for none.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64
    output: str = "tanh"
    conditioning: str = ""
    dropout: float = 0.0
    spectral_norm: bool | int = False
    attention: int = 0

    @nn.compact
    def __call__(
        self, latents: Array, condition: Array | None = None, *, train: bool
    ) -> Array:
        """Maps `[batch, size]` (and labels `[batch]`) to `[batch, *shape]`."""
        side = _side(self.shape)
        classes = classes_by_conditioning(
            self.conditioning, self.num_classes, G_CONDITIONING, condition
        )
        wrap, drop = wrapper(self.spectral_norm), lasting_dropout(self.dropout)
        norm = batch_norm(train, classes["batch_norm"], condition)
        sides = [8 << i for i in range(len(_G[side]))]
        attention = attended(self.attention, sides, f"resnet's G at {side}x{side}")
        channels = self.width * _G_FIRST[side]

        h = LabelledLatents(classes["concatenation"])(latents, condition)
        h = wrap(nn.Dense(4 * 4 * channels, kernel_init=_glorot))(h)
        h = h.reshape(-1, 4, 4, channels)
        for i, widths in enumerate(_G[side]):
            h = _Up(self.width * widths, norm, drop, wrap)(h)
            h = SelfAttention(wrap)(h) if i == attention else h
        last = wrap(_conv(self.shape[-1], kernel_init=_glorot))
        return finish(last(nn.relu(norm(h))), self.output)


class Discriminator(nn.Module):
    """Residual blocks, summed over the image.

    Attributes:
      shape: `(side, side, channels)`, side 32 or 64.
      num_classes: 0 for an unconditional discriminator.
      width: half of all layers' channels at 32, the first block's at 64.
      conditioning: how labels enter, 'projection' (the default), 'concatenation' or
        'auxiliary'.
      spectral_norm: whether the weights are spectrally normalised, as they are by
        default; or how many power iterations an update makes for that, 1 by default.
      minibatch_std: examples to a group whose standard deviation is one more input
        channel of the last convolution, as in ProGAN (arXiv:1710.10196) and StyleGAN; 0
        for none. It is added inside the last block, not before it: there it would also
        widen the block's first layer and make its identity shortcut a convolution.
      attention: side of the feature map that self-attention follows; 0 for none.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64
    conditioning: str = ""
    spectral_norm: bool | int = True
    minibatch_std: int = 0
    attention: int = 0

    @property
    def per_example(self) -> bool:
        """Whether each logit depends on one example alone."""
        return not self.minibatch_std

    @nn.compact
    def __call__(
        self, x: Array, condition: Array | None = None, *, train: bool
    ) -> Array:
        """Maps `[batch, *shape]` (and labels `[batch]`) to logits `[batch]`."""
        side = _side(self.shape)
        classes = classes_by_conditioning(
            self.conditioning, self.num_classes, D_CONDITIONING, condition
        )
        wrap, halvings = wrapper(self.spectral_norm), _HALVINGS[side]
        sides = [side >> min(i + 1, halvings) for i in range(len(_D[side]))]
        attention = attended(self.attention, sides, f"resnet's D at {side}x{side}")

        h = LabelledExamples(classes["concatenation"])(x, condition)
        for i, widths in enumerate(_D[side]):
            group = self.minibatch_std if i == len(_D[side]) - 1 else 0
            h = _Down(self.width * widths, i < halvings, i == 0, wrap, group)(h)
            h = SelfAttention(wrap)(h) if i == attention else h
        h = nn.relu(h).sum((1, 2))
        logits = Logits(classes["projection"], _glorot, wrap, classes["auxiliary"])
        return logits(h, condition)


class _Up(nn.Module):
    features: int
    norm: Callable
    drop: Callable
    wrap: Callable

    @nn.compact
    def __call__(self, x: Array) -> Array:
        up_conv, conv, shortcut = (
            self.wrap(layer(self.features)) for layer in (_up_conv, _conv, _shortcut)
        )
        h = up_conv(nn.relu(self.norm(x)))
        h = conv(nn.relu(self.drop(self.norm(h))))
        return h + upsample(shortcut(x))


class _Down(nn.Module):
    features: int
    halve: bool
    first: bool  # of the network: no ReLU before it, on the image
    wrap: Callable
    group: int  # of the standard deviation that its second layer sees; 0 for none

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = x if self.first else nn.relu(x)
        # As in the authors' code: only the first block widens at its first layer.
        hidden = self.features if self.first else x.shape[-1]
        h = append_deviation(nn.relu(self.wrap(_conv(hidden))(h)), self.group)
        h = self.wrap((_conv_pool if self.halve else _conv)(self.features))(h)
        if not self.halve and x.shape[-1] == self.features:
            return h + x
        # Pooling commutes with a 1x1 convolution, and is cheaper before it.
        x = average_pool(x) if self.halve else x
        return h + self.wrap(_shortcut(self.features))(x)
