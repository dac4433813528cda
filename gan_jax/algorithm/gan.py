"""The static half of a GAN: spaces, networks, objective, optimizers and the prior."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from gan_jax.algorithm.average import Average
from gan_jax.algorithm.latents import Latent
from gan_jax.algorithm.spaces import Space
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import Augmentation, Constraint, Dynamics, Penalty


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, kw_only=True)
class GAN:
    """Everything about a GAN that is no array; hashable, so a static argument of jit.

    Attributes:
      example: the space of an example; its bounds are those of the generator's output.
      condition: the space of what both players are told of an example; None for an
        unconditional GAN.
      generator: a module `(latents, condition, train=...) -> examples`.
      discriminator: a module `(examples, condition, train=...) -> logits`.
      g_tx: the generator's optimizer.
      d_tx: the discriminator's optimizer.
      loss: what each player minimises.
      log_odds: whether that makes D's logits log-odds; else D is a critic, see
        `gan_jax.objective.losses.estimates_log_odds`.
      penalties: the terms added to it.
      constraints: projections of the discriminator's parameters, applied after each of
        its updates.
      augment: changes of the examples before the discriminator sees them.
      latent: the prior over the generator's input.
      dynamics: how the players move in a training step.
      d_updates: discriminator updates to each generator update, k of Algorithm 1.
      pack: examples that the discriminator sees as one (PacGAN, arXiv:1712.04086). The
        batch counts examples, so it holds batch / pack packs; theirs counts packs.
      replay: size of the buffer of earlier samples; 0 for none.
      accumulate: parts of a batch whose gradients are computed one after the other.
      dtype: that the networks compute in; parameters and losses are float32.
      ema: how the generator is averaged.
      noise_stream: number of the noise stream; a run that is rolled back takes the
        next.
    """

    example: Space
    condition: Space | None
    generator: nn.Module
    discriminator: nn.Module
    g_tx: optax.GradientTransformation
    d_tx: optax.GradientTransformation
    loss: Loss
    log_odds: bool
    penalties: tuple[Penalty, ...]
    constraints: tuple[Constraint, ...]
    augment: tuple[Augmentation, ...]
    latent: Latent
    dynamics: Dynamics
    d_updates: int
    pack: int
    replay: int
    accumulate: int
    dtype: str
    ema: Average
    noise_stream: int = 0

    @property
    def packed_shape(self) -> tuple[int, ...]:
        """The shape of what the discriminator sees as one example."""
        *axes, channels = self.example.shape
        return (*axes, self.pack * channels)

    def packed(self, examples: Array) -> Array:
        """Joins the channels of each `pack` examples: `[batch / pack, *packed shape]`.

        Lin et al. 2018 (arXiv:1712.04086), section 2.
        """
        if self.pack == 1:
            return examples
        packs = examples.reshape(-1, self.pack, *self.example.shape)
        return jnp.moveaxis(packs, 1, -2).reshape(len(packs), *self.packed_shape)
