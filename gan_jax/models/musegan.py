"""Piano rolls by bars and voices, in the manner of MuseGAN (arXiv:1709.06298).

As in its hybrid model, a bar of a voice is made of four parts of the latents: what all
bars and voices share, what is of a bar, of a voice, and of a bar of a voice. As in its
later version (arXiv:1804.09399), voices have layers of their own, the output is binary
by a straight-through estimator, and D has streams for chroma and for onsets.

Unlike there, convolutions are over time alone, and pitches are channels: all music is
in one key, so that every pitch has a meaning of its own. Each voice sounds one pitch at
a time or rests, a choice by softmax.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from gan_jax.errors import UserError
from gan_jax.layers.conv import conv2d
from gan_jax.layers.labels import LabelledLatents, Logits, classes_by_conditioning
from gan_jax.layers.minibatch import append_deviation
from gan_jax.layers.norm import batch_norm

_PARTS = 4  # of the latents
_MARK = 0.25  # how much lower than sound the mark of a repeated note is


def bars_of(shape: tuple[int, ...], bar: int) -> tuple[int, int]:
    """Returns the number of bars, and how often a bar can be halved.

    Raises:
      UserError: the example is no piano roll, or has no whole bars.
    """
    if len(shape) != 3:
        raise UserError(
            f"musegan makes piano rolls and the data has shape {shape}; for other data "
            "use --config.model=mlp"
        )
    if bar < 1 or shape[0] % bar:
        raise UserError(
            f"musegan: {shape[0]} steps are no whole bars of {bar} steps; set the "
            "field bar of both networks, such as --config.generator='bar=16'"
        )
    return shape[0] // bar, (bar & -bar).bit_length() - 1  # the factor 2 of bar


class TimeConv(nn.Module):
    """A convolution over time, zero-padded.

    Attributes:
      features: output channels.
      kernel: its length; even for stride 2, odd for stride 1.
      stride: of time.
    """

    features: int
    kernel: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[batch, time, in]` to `[batch, time / stride, features]`."""
        shape = (self.kernel, 1, x.shape[-1], self.features)
        w = self.param("kernel", nn.initializers.lecun_normal(), shape)
        pad = (self.kernel - self.stride + 1) // 2
        x = jnp.pad(x, ((0, 0), (pad, pad), (0, 0)))
        y = conv2d(x[:, :, None], w, stride=self.stride)[:, :, 0]
        return y + self.param("bias", nn.initializers.zeros, (self.features,))


class Generator(nn.Module):
    """Latents of bars and voices to a roll whose voices sound one pitch at a time.

    Attributes:
      shape: `(time, pitch, voice)`.
      num_classes: 0 for an unconditional generator.
      width: a quarter of the channels of all voices together.
      bar: steps of a bar.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64
    bar: int = 8

    @nn.compact
    def __call__(
        self, latents: Array, condition: Array | None = None, *, train: bool
    ) -> Array:
        """Maps `[batch, size]` (and labels `[batch]`) to `[batch, *shape]`."""
        _, doublings = bars_of(self.shape, self.bar)
        time, pitches, voices = self.shape
        norm, wide = batch_norm(train), 4 * self.width
        h = self._bars(latents, condition, norm)
        h = TimeConv((self.bar >> doublings) * wide)(h).reshape(len(h), -1, wide)
        for _ in range(doublings):
            h = TimeConv(2 * wide)(nn.relu(norm(h))).reshape(len(h), -1, wide)
        h = nn.Dense(voices * (pitches + 2))(nn.relu(norm(h)))
        return _played(h.reshape(len(h), time, voices, pitches + 2))

    def _bars(self, latents: Array, condition: Array | None, norm) -> Array:
        """Returns `[batch, bars, n]`, what all voices make of a bar."""
        (bars, _), voices = bars_of(self.shape, self.bar), self.shape[2]
        if latents.shape[-1] % (_PARTS * voices):
            raise UserError(
                f"musegan: latent_size is {latents.shape[-1]}: it must be a multiple "
                f"of {_PARTS * voices}, four parts of {voices} voices"
            )
        z, of_bars, of_voices, of_both = jnp.split(latents, _PARTS, -1)
        classes = classes_by_conditioning(
            "", self.num_classes, ("concatenation",), condition
        )
        z = LabelledLatents(classes["concatenation"])(z, condition)

        def layer(x: Array, features: int) -> Array:
            return nn.relu(norm(nn.Dense(features, use_bias=False)(x)))

        def in_each(x: Array) -> Array:
            return jnp.broadcast_to(x[:, None], (len(x), bars, x.shape[-1]))

        def in_time(x: Array) -> Array:  # MuseGAN's temporal generator
            return layer(x, bars * self.width).reshape(len(x), bars, self.width)

        h = jnp.concatenate([in_each(z), in_time(of_bars)], -1)
        shared = layer(h, 4 * self.width)
        private = [
            layer(
                jnp.concatenate([shared, in_each(own), in_time(both)], -1), self.width
            )
            for own, both in zip(
                jnp.split(of_voices, voices, -1),
                jnp.split(of_both, voices, -1),
                strict=True,
            )
        ]
        return jnp.concatenate([shared, *private], -1)


def _played(logits: Array) -> Array:
    """Returns rolls of what each voice sounds, with the gradient of its softmax.

    Args:
      logits: `[batch, time, voice, pitch + 2]`: the last two are of a rest, and of
        striking again a pitch that sounds already.
    """
    dtype, choices = logits.dtype, logits.shape[-1]
    logits = logits.astype(jnp.float32)
    sounds, again = logits[..., :-1], logits[..., -1]
    chosen = jax.nn.one_hot(sounds.argmax(-1), choices - 1)
    sounds = _straight_through(chosen, nn.softmax(sounds))[..., :-1]
    again = _straight_through(again > 0, nn.sigmoid(again))
    held = _held(sounds)
    values = sounds * (1 - _MARK * again * held)[..., None]
    return (2 * values - 1).swapaxes(2, 3).astype(dtype)


def _straight_through(value: Array, soft: Array) -> Array:
    """Returns a value, with the gradient of another one (arXiv:1308.3432)."""
    return soft + lax.stop_gradient(value - soft)


def _held(sounds: Array) -> Array:
    """Returns where a voice sounds what it did a step before, `[batch, time, voice]`.

    Args:
      sounds: `[batch, time, voice, pitch]`, 1 where a pitch sounds and 0 elsewhere.
    """
    held = (sounds[:, 1:] * sounds[:, :-1]).sum(-1)
    return jnp.pad(held, ((0, 0), (1, 0), (0, 0)))


class Discriminator(nn.Module):
    """Streams of voices, chroma and onsets, joined and shortened to bars.

    Attributes:
      shape: `(time, pitch, voice)`.
      num_classes: 0 for an unconditional discriminator.
      width: channels of a stream; all together have four times as many.
      bar: steps of a bar.
      minibatch_std: examples to a group whose standard deviation is one more feature
        of each bar; 0 for none.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 64
    bar: int = 8
    minibatch_std: int = 0

    @property
    def per_example(self) -> bool:
        """Whether each logit depends on one example alone."""
        return not self.minibatch_std

    @nn.compact
    def __call__(
        self, x: Array, condition: Array | None = None, *, train: bool
    ) -> Array:
        """Maps `[batch, *shape]` (and labels `[batch]`) to logits `[batch]`."""
        _, halvings = bars_of(self.shape, self.bar)
        classes = classes_by_conditioning(
            "", self.num_classes, ("projection",), condition
        )
        lines = (1 + x.swapaxes(2, 3)) / 2
        streams = [lines[:, :, voice] for voice in range(self.shape[2])]
        streams += [_chroma(lines), _held(lines)]
        h = [nn.leaky_relu(TimeConv(self.width)(stream), 0.2) for stream in streams]
        h = jnp.concatenate(h, -1)
        for _ in range(halvings):
            h = nn.leaky_relu(TimeConv(4 * self.width, 4, 2)(h), 0.2)
        h = append_deviation(h, self.minibatch_std).reshape(len(h), -1)
        h = nn.leaky_relu(nn.Dense(4 * self.width)(h), 0.2)
        return Logits(classes["projection"])(h, condition)


def _chroma(lines: Array) -> Array:
    """Returns how much each pitch class sounds, in all voices and in the lowest.

    Args:
      lines: `[batch, time, voice, pitch]`, from 0 to 1.

    Returns:
      `[batch, time, 24]`.
    """
    *lead, pitches = lines.shape
    octaves = jnp.pad(lines, ((0, 0),) * 3 + ((0, -pitches % 12),))
    classes = octaves.reshape(*lead, -1, 12).sum(-2)
    return jnp.concatenate([classes.sum(2), classes[:, :, -1]], -1)
