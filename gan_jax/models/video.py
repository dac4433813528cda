"""Clips by (2+1)D convolutions, judged by their frames and as a whole.

The layers are those of R(2+1)D (Tran et al. 2018, arXiv:1711.11248), with as many
channels between the two convolutions as after them; the two judges are DVD-GAN's (Clark
et al. 2019, arXiv:1907.06571, section 3.2), with DCGAN's layers in place of BigGAN's.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError
from gan_jax.layers.clips import TemporalConv, double_time, halve_time, on_frames
from gan_jax.layers.conv import Conv, ConvTranspose, average_pool
from gan_jax.layers.labels import (
    LabelledLatents,
    Logits,
    classes_by_conditioning,
)
from gan_jax.layers.norm import LatentBatchNorm
from gan_jax.layers.output import finish
from gan_jax.layers.spectral import wrapper
from gan_jax.models import dcgan

_init = nn.initializers.normal(0.02)
_time = functools.partial(TemporalConv, kernel_init=nn.initializers.he_normal())
_MOST = 2  # doublings of time


def stages(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns the smallest side of a feature map, and the doublings of space and time.

    Time is doubled once or twice, as far as the number of frames allows it.

    Raises:
      UserError: the example is no clip of square frames whose side is 4 or 7 times a
        power of two, and at least 16.
    """
    if len(shape) != 4:
        raise UserError(
            f"video makes clips (time, height, width, channels) and the data has shape "
            f"{shape}: use --config.model=dcgan for images, or mlp"
        )
    base, doublings = dcgan.stages(shape[1:])
    if doublings < 2:
        raise UserError(
            f"video cannot make frames of {shape[1]}x{shape[2]}: image_size must be at "
            "least 16"
        )
    evenly = (shape[0] & -shape[0]).bit_length() - 1
    return base, doublings, min(evenly, doublings - 1, _MOST)


class Generator(nn.Module):
    """A dense layer, (2+1)D layers that double the frames, and a last layer of each.

    The first of them double time too. The latents, which are of the whole clip, also
    set the gains and biases of each normalisation.

    Attributes:
      shape: `(time, side, side, channels)`, side 4 or 7 times a power of two.
      num_classes: 0 for an unconditional generator; labels are appended to the latents.
      width: channels before the last layer; doubled for each layer further from it.
      output: 'tanh', 'sigmoid' or 'linear'.
      spectral_norm: whether the weights are spectrally normalised; or how many power
        iterations an update makes for that, 1 by default.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64
    output: str = "tanh"
    spectral_norm: bool | int = False

    @nn.compact
    def __call__(
        self, latents: Array, condition: Array | None = None, *, train: bool
    ) -> Array:
        """Maps `[batch, size]` (and labels `[batch]`) to `[batch, *shape]`."""
        base, doublings, times = stages(self.shape)
        way = "concatenation"
        classes = classes_by_conditioning("", self.num_classes, (way,), condition)
        up = functools.partial(ConvTranspose, kernel_init=_init)
        wrap, channels = wrapper(self.spectral_norm), self.width << (doublings - 1)
        first = (self.shape[0] >> times, base, base, channels)
        z = LabelledLatents(classes[way])(latents, condition)

        def norm(h):
            return LatentBatchNorm()(h, z, train=train)

        h = wrap(nn.Dense(math.prod(first), use_bias=False, kernel_init=_init))(z)
        h = nn.relu(norm(h.reshape(-1, *first)))
        for i in range(doublings - 1):
            channels //= 2
            h = double_time(h) if i < times else h
            h = nn.relu(norm(on_frames(wrap(up(channels, use_bias=False)), h)))
            h = nn.relu(norm(wrap(_time(channels, use_bias=False))(h)))
        return finish(on_frames(wrap(up(self.shape[-1])), h), self.output)


class Discriminator(nn.Module):
    """Judges some frames, and the clip at half the height and width.

    The logit of the frames is the sum of theirs. In training they are drawn at random
    for each clip, from the stream `frames`; otherwise they are evenly spaced.

    Attributes:
      shape: `(time, side, side, channels)`, side 4 or 7 times a power of two.
      num_classes: 0 for an unconditional discriminator; labels are projected.
      width: channels after the first layer; doubled in each further one.
      frames: how many are judged, at most all.
      spectral_norm: whether the weights are spectrally normalised; or how many power
        iterations an update makes for that, 1 by default.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64
    frames: int = 8
    spectral_norm: bool | int = False

    per_example = True

    @nn.compact
    def __call__(
        self, x: Array, condition: Array | None = None, *, train: bool
    ) -> tuple[Array, Array]:
        """Maps `[batch, *shape]` (and labels `[batch]`) to two logits `[batch]`."""
        stages(self.shape)
        classes_by_conditioning("", self.num_classes, ("projection",), condition)
        if self.frames < 1:
            raise UserError(f"frames is {self.frames}: D judges at least one")
        return self._of_frames(x, condition, train), self._of_clip(x, condition)

    def _of_frames(self, x: Array, labels: Array | None, train: bool) -> Array:
        num = min(self.frames, self.shape[0])
        # Clip by clip, so that devices which share a batch exchange none of it.
        at = self._chosen(len(x), num, train)
        chosen = jax.vmap(lambda clip, frames: clip[frames])(x, at)
        judge = dcgan.Discriminator(
            **{"shape": self.shape[1:], "num_classes": self.num_classes},
            **{"width": self.width, "spectral_norm": self.spectral_norm},
            **{"norm": "none", "name": "frames"},
        )
        labels = None if labels is None else labels.repeat(num)
        return on_frames(lambda x: judge(x, labels, train=train), chosen).sum(1)

    def _chosen(self, batch: int, num: int, train: bool) -> Array:
        """Returns which frames of each clip are judged, `[batch, num]`."""
        length = self.shape[0]
        if not train:
            evenly = (2 * jnp.arange(num) + 1) * length // (2 * num)
            return jnp.broadcast_to(evenly, (batch, num))
        noise = jax.random.uniform(self.make_rng("frames"), (batch, length))
        return jnp.argsort(noise, descending=True)[:, :num]  # `top_k` gathers

    def _of_clip(self, x: Array, labels: Array | None) -> Array:
        _, doublings, times = stages(self.shape)
        down = functools.partial(Conv, kernel_init=_init)
        wrap, h = wrapper(self.spectral_norm), on_frames(average_pool, x)
        same = Conv(self.width, kernel=3, stride=1, padding=1, kernel_init=_init)
        h = nn.leaky_relu(on_frames(wrap(same), h), 0.2)
        h = nn.leaky_relu(wrap(_time(self.width))(h), 0.2)
        for i in range(doublings - 1):
            h = nn.leaky_relu(on_frames(wrap(down(self.width << i)), h), 0.2)
            h = nn.leaky_relu(wrap(_time(self.width << i))(h), 0.2)
            h = halve_time(h) if i < times else h
        logits = Logits(self.num_classes, _init, wrap, name="clip")
        return logits(h.reshape(len(h), -1), labels)
