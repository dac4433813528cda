"""Fully connected networks, as in the original paper (arXiv:1406.2661, section 5)."""

import math

import flax.linen as nn
from jax import Array

from gan_jax.errors import UserError
from gan_jax.layers.dropout import lasting_dropout
from gan_jax.layers.labels import (
    D_CONDITIONING,
    LabelledExamples,
    LabelledLatents,
    Logits,
    classes_by_conditioning,
)
from gan_jax.layers.minibatch import append_deviation
from gan_jax.layers.output import finish
from gan_jax.layers.spectral import wrapper

MAX_DEPTH = 1000  # every layer is traced


def layers(depth: int) -> range:
    """Returns the numbers of the hidden layers.

    Raises:
      UserError: they are too many to trace.
    """
    if depth > MAX_DEPTH:
        raise UserError(f"depth is {depth}: it must be at most {MAX_DEPTH}")
    return range(depth)


class Generator(nn.Module):
    """Latents through ReLU layers to an example.

    Attributes:
      shape: of one example, any.
      num_classes: 0 for an unconditional generator.
      width: units of each hidden layer.
      depth: hidden layers.
      output: 'tanh' or 'sigmoid' for bounded examples, 'linear' for others.
      conditioning: how labels enter, 'concatenation' (the default).
      dropout: rate in each hidden layer, in sampling too; 0 for none.
      spectral_norm: whether the weights are spectrally normalised; or how many power
        iterations an update makes for that, 1 by default.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 128
    depth: int = 2
    output: str = "tanh"
    conditioning: str = ""
    dropout: float = 0.0
    spectral_norm: bool | int = False

    @nn.compact
    def __call__(
        self, latents: Array, condition: Array | None = None, *, train: bool
    ) -> Array:
        """Maps `[batch, size]` (and labels `[batch]`) to `[batch, *shape]`."""
        if self.conditioning == "batch_norm":
            raise UserError(
                "conditioning='batch_norm' is of dcgan and resnet: mlp has no batch "
                "normalisation (valid: concatenation)"
            )
        classes = classes_by_conditioning(
            self.conditioning, self.num_classes, ("concatenation",), condition
        )
        wrap, drop = wrapper(self.spectral_norm), lasting_dropout(self.dropout)

        h = LabelledLatents(classes["concatenation"])(latents, condition)
        for _ in layers(self.depth):
            h = nn.relu(drop(wrap(nn.Dense(self.width))(h)))
        x = wrap(nn.Dense(math.prod(self.shape)))(h)
        return finish(x, self.output).reshape(latents.shape[0], *self.shape)


class Discriminator(nn.Module):
    """An example through LeakyReLU layers to a logit.

    Attributes:
      shape: of one example, any.
      num_classes: 0 for an unconditional discriminator.
      width: units of each hidden layer.
      depth: hidden layers.
      slope: of the LeakyReLU below zero; 0 makes it a ReLU.
      conditioning: how labels enter, 'projection' (the default), 'concatenation' or
        'auxiliary'.
      spectral_norm: whether the weights are spectrally normalised; or how many power
        iterations an update makes for that, 1 by default.
      minibatch_std: examples to a group whose standard deviation is one more feature
        before the last layer; 0 for none.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 128
    depth: int = 2
    slope: float = 0.2
    conditioning: str = ""
    spectral_norm: bool | int = False
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
        classes = classes_by_conditioning(
            self.conditioning, self.num_classes, D_CONDITIONING, condition
        )
        wrap = wrapper(self.spectral_norm)

        h = x.reshape(x.shape[0], -1)
        h = LabelledExamples(classes["concatenation"])(h, condition)
        for _ in layers(self.depth):
            h = nn.leaky_relu(wrap(nn.Dense(self.width))(h), self.slope)
        h = append_deviation(h, self.minibatch_std)
        logits = Logits(
            classes["projection"], wrap=wrap, auxiliary=classes["auxiliary"]
        )
        return logits(h, condition)
