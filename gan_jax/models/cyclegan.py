"""CycleGAN (Zhu et al. 2017, arXiv:1703.10593): translation without pairs.

An example x = (a, b) is a `Pair` of images of two domains, drawn independently, and the
condition is x itself. G(x) = (F(b), H(a)) translates each into the other domain.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from gan_jax.algorithm.spaces import Pair, Space
from gan_jax.errors import UserError
from gan_jax.layers.conv import Conv, ConvTranspose, ReflectConv
from gan_jax.layers.norm import norm_of
from gan_jax.layers.output import finish
from gan_jax.layers.patches import PatchLogits

_init = nn.initializers.normal(0.02)


class Translator(nn.Module):
    """A residual network from an image of one domain to one of the other.

    Ibid., appendix 7.2: c7s1-64, d128, d256, some R256, u128, u64, c7s1-3 at width 64
    (Johnson et al. 2016, arXiv:1603.08155). The last layer has no norm.

    Attributes:
      width: channels of the first layer.
      blocks: residual blocks.
      output: 'tanh', 'sigmoid' or 'linear'.
      norm: 'batch', 'instance' or 'none'.
    """

    width: int
    blocks: int
    output: str
    norm: str

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Maps `[batch, height, width, channels]` to the same shape."""
        norm = norm_of(self.norm, train)
        conv, down, up = (
            functools.partial(
                layer, kernel=3, kernel_init=_init, use_bias=self.norm == "none", **how
            )
            for layer, how in (
                (ReflectConv, {}),
                (Conv, {"stride": 2, "padding": 1}),
                (ConvTranspose, {"stride": 2, "padding": 1, "extra": 1}),
            )
        )
        h = nn.relu(norm(conv(self.width, kernel=7)(x)))
        for i in (1, 2):
            h = nn.relu(norm(down(self.width << i)(h)))
        for _ in range(self.blocks):
            r = nn.relu(norm(conv(h.shape[-1])(h)))
            h += norm(conv(h.shape[-1])(r))
        for i in (1, 0):
            h = nn.relu(norm(up(self.width << i)(h)))
        last = conv(x.shape[-1], kernel=7, use_bias=True)
        return finish(last(h), self.output)


class Generator(nn.Module):
    """Both translations: F from the second domain to the first, and H back.

    Attributes:
      shape: `(2, height, width, channels)`, height and width multiples of 4.
      condition: its space, that of the example.
      width: channels of the first layer of each.
      blocks: residual blocks; ibid., 6 for images of 128 pixels and 9 from 256 on.
      output: 'tanh', 'sigmoid' or 'linear'.
      norm: of all layers but the last, 'batch', 'instance' or 'none'.
    """

    shape: tuple[int, ...]
    condition: Space | None = None
    width: int = 64
    blocks: int = 9
    output: str = "tanh"
    norm: str = "instance"

    @nn.compact
    def __call__(
        self, latents: Array, condition: Array | None = None, *, train: bool
    ) -> Array:
        """Maps pairs `[batch, *shape]` to pairs; latents are `[batch, 0]`."""
        _check(self.shape, self.condition)
        if latents.shape[-1]:
            raise UserError(
                "cyclegan translates without noise: set --config.latent_size=0"
            )
        fields = self.width, self.blocks, self.output, self.norm
        to_a, to_b = (Translator(*fields, name=name) for name in ("F", "H"))
        a, b = condition[:, 0], condition[:, 1]
        return jnp.stack([to_a(b, train=train), to_b(a, train=train)], 1)


class Discriminator(nn.Module):
    """A PatchGAN for each domain; the condition is not seen.

    Attributes:
      shape: `(2, height, width, channels)`.
      condition: its space, that of the example.
      width: channels after the first layer of each.
      receptive_field: side of the patches that are judged, 16, 34, 70, 142, 286 or 574;
        0 for the smallest of them that covers the image.
      norm: of all layers but the first and the last, 'batch', 'instance' or 'none'.
    """

    shape: tuple[int, ...]
    condition: Space | None = None
    width: int = 64
    receptive_field: int = 70
    norm: str = "instance"

    @property
    def per_example(self) -> bool:
        """Whether each logit depends on one example alone."""
        return self.norm != "batch"

    @nn.compact
    def __call__(
        self, x: Array, condition: Array | None = None, *, train: bool
    ) -> tuple[Array, Array]:
        """Maps `[batch, *shape]` to two maps of logits `[batch, h', w', 1]`."""
        _check(self.shape, self.condition)
        fields = self.width, self.receptive_field, self.norm
        of_a, of_b = (PatchLogits(*fields, name=name) for name in ("A", "B"))
        return of_a(x[:, 0], train=train), of_b(x[:, 1], train=train)


def _check(shape: tuple[int, ...], condition: Space | None) -> None:
    """Checks that examples are pairs of images, and that each is its own condition.

    Raises:
      UserError: they are not, or the images cannot be halved twice.
    """
    if condition is None and len(shape) == 4:
        raise UserError(
            "cyclegan translates pairs, which are their own condition: set "
            "--config.conditional=True"
        )
    if not isinstance(condition, Pair) or condition.shape != shape:
        raise UserError(
            "cyclegan translates pairs of images, which are their own condition, as "
            f"data.source=unpaired has them: the example's shape is {shape}, and the "
            f"condition is {condition}"
        )
    if shape[1] % 4 or shape[2] % 4:
        raise UserError(
            f"cyclegan halves images twice, and {shape[1]}x{shape[2]} has odd halves: "
            "take an image_size that is a multiple of 4"
        )
