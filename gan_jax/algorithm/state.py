"""The array half of a GAN: everything that training changes, and nothing else."""

from typing import Any

import flax.struct
import jax
import optax


@flax.struct.dataclass
class Player:
    """The generator or the discriminator.

    Attributes:
      params: what the optimizer moves.
      stats: what a forward pass moves, e.g. batch statistics.
      opt: the optimizer's state.
    """

    params: Any
    stats: Any
    opt: optax.OptState


@flax.struct.dataclass
class TrainState:
    """A run between two steps; of several replicas, each leaf has a leading axis.

    Attributes:
      step: int32 scalar, generator updates done.
      key: the run's root PRNG key; never threaded, only folded with (step, purpose).
      g: the generator.
      d: the discriminator.
      ema: the averaged generator's variables, `{'params': ..., **stats}`, which are
        what is sampled and evaluated.
      memory: what an objective carries from step to step, {} if nothing.
    """

    step: jax.Array
    key: jax.Array
    g: Player
    d: Player
    ema: Any
    memory: Any
