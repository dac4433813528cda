"""Fully connected networks, as in the original paper (arXiv:1406.2661, section 5)."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError
from gan_jax.layers.labels import LabelledLatents, Logits

MAX_DEPTH = 1000  # every layer is traced
OUTPUTS = {"tanh": jnp.tanh, "sigmoid": nn.sigmoid, "linear": lambda x: x}


def layers(depth: int) -> range:
    """Returns the hidden layers' numbers.

    Raises:
      UserError: they are too many to trace.
    """
    if depth > MAX_DEPTH:
        raise UserError(f"depth is {depth}: it must be at most {MAX_DEPTH}")
    return range(depth)


class Generator(nn.Module):
    """Latents through ReLU layers to an example.

    Attributes:
      shape: of one example, `(height, width, channels)` or `(2,)` for points.
      num_classes: 0 for an unconditional generator.
      width: units of each hidden layer.
      depth: hidden layers.
      output: 'tanh' or 'sigmoid' for images, 'linear' for points.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 128
    depth: int = 2
    output: str = "tanh"

    @nn.compact
    def __call__(self, latents: Array, labels: Array | None = None, *, train: bool):
        """Maps `[batch, size]` (and labels `[batch]`) to `[batch, *shape]`."""
        h = LabelledLatents(self.num_classes)(latents, labels)
        for _ in layers(self.depth):
            h = nn.relu(nn.Dense(self.width)(h))
        x = nn.Dense(math.prod(self.shape))(h)
        return OUTPUTS[self.output](x).reshape(-1, *self.shape)


class Discriminator(nn.Module):
    """An example through LeakyReLU layers to a logit.

    Attributes:
      shape: of one example.
      num_classes: 0 for an unconditional discriminator.
      width: units of each hidden layer.
      depth: hidden layers.
      slope: of the LeakyReLU below zero; 0 makes it a ReLU.
    """

    shape: tuple[int, ...]
    num_classes: int = 0
    width: int = 128
    depth: int = 2
    slope: float = 0.2
    per_example = True

    @nn.compact
    def __call__(self, x: Array, labels: Array | None = None, *, train: bool):
        """Maps `[batch, *shape]` (and labels `[batch]`) to logits `[batch]`."""
        h = x.reshape(len(x), -1)
        for _ in layers(self.depth):
            h = nn.leaky_relu(nn.Dense(self.width)(h), self.slope)
        return Logits(self.num_classes)(h, labels)
