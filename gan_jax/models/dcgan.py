"""DCGAN (Radford et al. 2016, arXiv:1511.06434) at any power-of-two size."""

import functools

import flax.linen as nn
from jax import Array

from gan_jax.errors import UserError, unknown
from gan_jax.layers.conv import Conv, ConvTranspose
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

NORMS = ("batch", "none")
_init = nn.initializers.normal(0.02)


def stages(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the side of the smallest feature map and how often it is doubled.

    Raises:
      UserError: the example is not a square image of 4 or 7 times a power of two.
    """
    if len(shape) != 3:
        raise UserError(
            f"dcgan makes images and the data has shape {shape}; for other data use "
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
      output: 'tanh', 'sigmoid' or 'linear'.
      conditioning: how labels enter, 'concatenation' (the default) or 'batch_norm'.
      dropout: rate after each normalisation, in sampling too; 0 for none.
      spectral_norm: whether the weights are spectrally normalised; or how many power
        iterations an update makes for that, 1 by default.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64
    output: str = "tanh"
    conditioning: str = ""
    dropout: float = 0.0
    spectral_norm: bool | int = False

    @nn.compact
    def __call__(
        self, latents: Array, condition: Array | None = None, *, train: bool
    ) -> Array:
        """Maps `[batch, size]` (and labels `[batch]`) to `[batch, *shape]`."""
        base, doublings = stages(self.shape)
        classes = classes_by_conditioning(
            self.conditioning, self.num_classes, G_CONDITIONING, condition
        )
        dense, up = (
            functools.partial(layer, kernel_init=_init)
            for layer in (nn.Dense, ConvTranspose)
        )
        wrap, drop = wrapper(self.spectral_norm), lasting_dropout(self.dropout)
        norm = batch_norm(train, classes["batch_norm"], condition)
        channels = self.width << (doublings - 1)

        h = LabelledLatents(classes["concatenation"])(latents, condition)
        h = wrap(dense(base * base * channels, use_bias=False))(h)
        h = nn.relu(drop(norm(h.reshape(-1, base, base, channels))))
        for _ in range(doublings - 1):
            channels //= 2
            h = nn.relu(drop(norm(wrap(up(channels, use_bias=False))(h))))
        return finish(wrap(up(self.shape[-1]))(h), self.output)


class Discriminator(nn.Module):
    """Strided convolutions, each halving the image, and a dense layer.

    Attributes:
      shape: `(side, side, channels)`, side 4 or 7 times a power of two.
      num_classes: 0 for an unconditional discriminator.
      width: channels after the first layer; doubled in each further one.
      conditioning: how labels enter, 'projection' (the default), 'concatenation' or
        'auxiliary'.
      norm: of all layers but the first, 'batch' or 'none'.
      spectral_norm: whether the weights are spectrally normalised; or how many power
        iterations an update makes for that, 1 by default.
      minibatch_std: examples to a group whose standard deviation is one more input
        channel of the last convolution, as in ProGAN (arXiv:1710.10196) and StyleGAN; 0
        for none. At 8x8 and 14x14 that convolution is the first, on the image.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64
    conditioning: str = ""
    norm: str = "batch"
    spectral_norm: bool | int = False
    minibatch_std: int = 0

    @property
    def per_example(self) -> bool:
        """Whether each logit depends on one example alone."""
        return self.norm == "none" and not self.minibatch_std

    @nn.compact
    def __call__(
        self, x: Array, condition: Array | None = None, *, train: bool
    ) -> Array:
        """Maps `[batch, *shape]` (and labels `[batch]`) to logits `[batch]`."""
        _, halvings = stages(self.shape)
        if self.norm not in NORMS:
            raise unknown("norm", str(self.norm), NORMS)
        classes = classes_by_conditioning(
            self.conditioning, self.num_classes, D_CONDITIONING, condition
        )
        down = functools.partial(Conv, kernel_init=_init)
        wrap, normed = wrapper(self.spectral_norm), self.norm == "batch"
        norm = batch_norm(train)

        h = LabelledExamples(classes["concatenation"])(x, condition)
        for i in range(halvings):
            if i == halvings - 1:
                h = append_deviation(h, self.minibatch_std)
            plain = i == 0 or not normed
            h = wrap(down(self.width << i, use_bias=plain))(h)
            h = nn.leaky_relu(h if plain else norm(h), 0.2)
        logits = Logits(classes["projection"], _init, wrap, classes["auxiliary"])
        return logits(h.reshape(h.shape[0], -1), condition)
