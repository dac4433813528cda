"""The static half of a GAN: networks, objective, optimizers, and the prior."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from gan_jax.algorithm.average import Average
from gan_jax.algorithm.latents import Latent
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import Term

RANGES = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "linear": None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalty(Term):
    """A penalty and how it is applied.

    Attributes:
      weight: of its mean in the objective.
      every: it is applied in every so many-th step, multiplied by as much (lazy
        regularisation, Karras et al. 2020, arXiv:1912.04958, appendix B).
    """

    weight: float
    every: int = 1

    @property
    def players(self) -> tuple[str, ...]:
        """To whose objective it is added: of 'd' and 'g'."""
        return getattr(self.function, "players", ("d",))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, kw_only=True)
class GAN:
    """Everything about a GAN that is no array; hashable, so a static argument of jit.

    Attributes:
      shape: of one example.
      num_classes: of the labels both players see; 0 for an unconditional GAN.
      generator: a module `(latents, labels, train=...) -> examples`.
      discriminator: a module `(examples, labels, train=...) -> logits`.
      g_tx: the generator's optimizer.
      d_tx: the discriminator's optimizer.
      loss: what each player minimises.
      penalties: what the players minimise besides.
      constraints: what the discriminator's parameters are brought back to after each
        of its updates.
      augment: what is done to examples before the discriminator sees them.
      latent: the prior over the generator's input.
      step: makes a training step, `(gan, state, batch) -> (state, metrics)`.
      d_updates: discriminator updates to each generator update, k of Algorithm 1.
      pack: examples that the discriminator sees as one (PacGAN, arXiv:1712.04086).
      replay: how many earlier samples are kept to be shown again; 0 for none.
      accumulate: parts of a batch whose gradients are taken one after the other.
      dtype: that the networks compute in; parameters and losses are float32.
      ema: how the generator is averaged.
      noise_stream: which of the streams of noise that a seed has; a run that goes back
        to an earlier state takes the next.
    """

    shape: tuple[int, ...]
    num_classes: int
    generator: nn.Module
    discriminator: nn.Module
    g_tx: optax.GradientTransformation
    d_tx: optax.GradientTransformation
    loss: Loss
    penalties: tuple[Penalty, ...]
    constraints: tuple[Penalty, ...]
    augment: tuple[Term, ...]
    latent: Latent
    step: Callable
    d_updates: int
    pack: int
    replay: int
    accumulate: int
    dtype: str
    ema: Average
    noise_stream: int = 0

    @property
    def range(self) -> tuple[float, float] | None:
        """The least and greatest value of a pixel on the device; None for points."""
        if len(self.shape) != 3:
            return None
        return RANGES[getattr(self.generator, "output", "tanh")]

    def to_float(self, images: Array) -> Array:
        """Brings uint8 pixels to the generator's range; floats pass as they are."""
        if images.dtype != jnp.uint8:
            return images
        low, high = self.range
        return low + (high - low) / 255 * images.astype(jnp.float32)

    def to_uint8(self, images: Array) -> Array:
        """Brings the generator's range to uint8 pixels, the inverse of `to_float`."""
        low, high = self.range
        levels = jnp.round(255 * (images - low) / (high - low))
        return jnp.clip(levels, 0, 255).astype(jnp.uint8)

    def packed(self, examples: Array) -> Array:
        """Joins the channels of each `pack` examples: `[batch / pack, *packed shape]`.

        Lin et al. 2018 (arXiv:1712.04086), section 2.
        """
        if self.pack == 1:
            return examples
        packs = examples.reshape(-1, self.pack, *self.shape)
        return jnp.moveaxis(packs, 1, -2).reshape(len(packs), *self.packed_shape)

    @property
    def packed_shape(self) -> tuple[int, ...]:
        """The shape of what the discriminator sees."""
        return (*self.shape[:-1], self.pack * self.shape[-1])
