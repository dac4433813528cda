"""pix2pix (Isola et al. 2017, arXiv:1611.07004): one image to another of its size."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from gan_jax.algorithm.spaces import Space
from gan_jax.errors import UserError
from gan_jax.layers.conv import Conv, ConvTranspose
from gan_jax.layers.dropout import lasting_dropout
from gan_jax.layers.norm import norm_of
from gan_jax.layers.output import finish
from gan_jax.layers.patches import PatchLogits
from gan_jax.layers.spectral import wrapper

_init = nn.initializers.normal(0.02)
_NOISY = 3  # innermost layers with dropout


class Generator(nn.Module):
    """A U-Net from the condition, an image, to another image of its size.

    Ibid., section 3.2.1: strided 4x4 convolutions halve the image as often as its
    sides are even, a 256x256 image 8 times, and as many transposed ones double it
    again, each of them seeing also the layer of its size on the way down. Dropout in
    the three innermost layers on the way up is the noise. Latents, if there are any,
    stand beside the condition at each pixel.

    Attributes:
      shape: `(height, width, channels)`, height and width even.
      condition: its space, of an image of that height and width.
      width: channels of the first layer; doubled in each further one, at most
        eightfold.
      output: 'tanh', 'sigmoid' or 'linear'.
      norm: of all layers but the outermost and the innermost, 'batch', 'instance' or
        'none'. With a batch of 1 the authors' batch normalisation is 'instance'.
      dropout: its rate, in sampling too; 0 for none.
      spectral_norm: whether the weights are spectrally normalised; or how many power
        iterations an update makes for that, 1 by default.
    """

    shape: tuple[int, ...]
    condition: Space | None = None
    width: int = 64
    output: str = "tanh"
    norm: str = "batch"
    dropout: float = 0.5
    spectral_norm: bool | int = False

    @nn.compact
    def __call__(
        self, latents: Array, condition: Array | None = None, *, train: bool
    ) -> Array:
        """Maps latents `[batch, n >= 0]` and images to `[batch, *shape]`."""
        check_translation(self.shape, self.condition)
        depth = halvings(self.shape)
        wrap, drop = wrapper(self.spectral_norm), lasting_dropout(self.dropout)
        norm = norm_of(self.norm, train)
        levels = range(depth)

        z = latents[:, None, None]
        z = jnp.broadcast_to(z, (*condition.shape[:3], z.shape[-1]))
        h = jnp.concatenate([condition, z], -1)
        skips = [wrap(self._layer(Conv, 0, normed=False))(h)]
        for i in levels[1:]:
            innermost = i == depth - 1
            h = nn.leaky_relu(skips[-1], 0.2)
            h = wrap(self._layer(Conv, i, normed=not innermost))(h)
            skips.append(h if innermost else norm(h))
        h = skips.pop()
        for i in reversed(levels[:-1]):
            h = norm(wrap(self._layer(ConvTranspose, i))(nn.relu(h)))
            h = drop(h) if depth - 1 - i <= _NOISY else h
            h = jnp.concatenate([h, skips[i]], -1)
        last = wrap(ConvTranspose(self.shape[-1], kernel_init=_init))
        return finish(last(nn.relu(h)), self.output)

    def _layer(self, kind: type[Conv], level: int, normed: bool = True) -> nn.Module:
        """Makes a layer whose output is that of a level; 0 is the outermost."""
        features = self.width * min(1 << level, 8)
        bias = not normed or self.norm == "none"
        return kind(features, use_bias=bias, kernel_init=_init)


class Discriminator(nn.Module):
    """PatchGAN on an image beside its condition (ibid., section 3.2.2).

    Attributes:
      shape: `(height, width, channels)`.
      condition: its space, of an image of that height and width.
      width: channels after the first layer; doubled in each further one, at most
        eightfold.
      receptive_field: side of the patches that are judged, 16, 34, 70, 142, 286 or 574;
        0 for the smallest of them that covers the image.
      norm: of all layers but the first and the last, 'batch', 'instance' or 'none'.
      spectral_norm: whether the weights are spectrally normalised; or how many power
        iterations an update makes for that, 1 by default.
    """

    shape: tuple[int, ...]
    condition: Space | None = None
    width: int = 64
    receptive_field: int = 70
    norm: str = "batch"
    spectral_norm: bool | int = False

    @property
    def per_example(self) -> bool:
        """Whether each logit depends on one example alone."""
        return self.norm != "batch"

    @nn.compact
    def __call__(
        self, x: Array, condition: Array | None = None, *, train: bool
    ) -> Array:
        """Maps `[batch, *shape]` and conditions to logits `[batch, h', w', 1]`."""
        check_translation(self.shape, self.condition)
        wrap = wrapper(self.spectral_norm)
        judge = PatchLogits(self.width, self.receptive_field, self.norm, wrap)
        return judge(jnp.concatenate([condition, x], -1), train=train)


def check_translation(shape: tuple[int, ...], condition: Space | None) -> None:
    """Checks that the condition is an image of the example's size.

    Raises:
      UserError: it is not, or there is none.
    """
    if condition is None:
        raise UserError(
            "pix2pix translates an image, its condition: set --config.conditional=True"
        )
    if len(shape) != 3 or len(condition.shape) != 3 or shape[:2] != condition.shape[:2]:
        raise UserError(
            f"pix2pix makes an image from one of its size: the example's shape is "
            f"{shape}, the condition's {condition.shape}"
        )


def halvings(shape: tuple[int, ...]) -> int:
    """Returns how often the height and the width of an image can be halved.

    Raises:
      UserError: they are not even.
    """
    side = math.gcd(*shape[:2])
    if side % 2:
        raise UserError(
            f"pix2pix halves images, and {shape[0]}x{shape[1]} is odd: take an "
            "image_size with many factors of 2, such as 28, 64 or 256"
        )
    return (side & -side).bit_length() - 1
