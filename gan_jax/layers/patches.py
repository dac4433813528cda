"""PatchGAN: a discriminator that judges overlapping patches of an image."""

from collections.abc import Callable

import flax.linen as nn
from jax import Array

from gan_jax.errors import UserError
from gan_jax.layers.conv import Conv
from gan_jax.layers.norm import norm_of

# How often a patch is halved, by its side in pixels: the receptive field of a logit.
FIELDS = {16: 1, 34: 2, 70: 3, 142: 4, 286: 5, 574: 6}
WHOLE = 0  # the smallest of them that covers the image
_init = nn.initializers.normal(0.02)


class PatchLogits(nn.Module):
    """Judges each patch of an image (Isola et al. 2017, arXiv:1611.07004).

    Section 3.2.2, with the layers of the authors' code: 4x4 convolutions, some with
    stride 2, then two with stride 1, all zero-padded by one; no norm in the first and
    the last. The field of a logit near the border reaches beyond the image.

    Attributes:
      width: channels after the first layer; doubled in each further one, at most
        eightfold.
      receptive_field: side of the patches, a key of `FIELDS`; 0 for the whole image,
        which is the smallest of them that covers it.
      norm: 'batch', 'instance' or 'none'.
      wrap: what wraps each convolution, such as `SpectralNorm`.
    """

    width: int = 64
    receptive_field: int = 70
    norm: str = "batch"
    wrap: Callable = lambda layer: layer

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[batch, h, w, channels]` to logits `[batch, h', w', 1]`."""
        halvings = strided_layers(self.receptive_field, x.shape[1:3])
        norm = norm_of(self.norm, train)

        h = nn.leaky_relu(self._conv(self.width)(x), 0.2)
        for i in range(1, halvings + 1):
            stride = 2 if i < halvings else 1
            features = self.width * min(1 << i, 8)
            conv = self._conv(features, stride=stride, use_bias=self.norm == "none")
            h = nn.leaky_relu(norm(conv(h)), 0.2)
        return self._conv(1, stride=1)(h)

    def _conv(self, features: int, **fields) -> nn.Module:
        return self.wrap(Conv(features, kernel_init=_init, **fields))


def strided_layers(receptive_field: int, size: tuple[int, int]) -> int:
    """Returns how many layers have stride 2.

    Args:
      receptive_field: a key of `FIELDS`, or 0 for the whole image.
      size: height and width of the image.

    Raises:
      UserError: the field is no such number, or the image is too small for it.
    """
    covering = [n for side, n in FIELDS.items() if side >= max(size)]
    if receptive_field == WHOLE and covering:
        halvings = covering[0]
    elif receptive_field in FIELDS:
        halvings = FIELDS[receptive_field]
    else:
        valid = ", ".join(map(str, FIELDS))
        raise UserError(
            f"receptive_field is {receptive_field}: it must be {valid}, or 0 for the "
            f"whole image (up to {max(FIELDS)} pixels)"
        )
    if min(size) >> halvings < 3:  # each layer with stride 1 takes one pixel away
        raise UserError(
            f"receptive_field is {receptive_field}: images of {size[0]}x{size[1]} are "
            f"too small for {halvings} layers of stride 2; take a smaller one"
        )
    return halvings
