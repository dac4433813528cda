"""The array half of a GAN: everything that training changes, and nothing else."""

from typing import Any

import flax.struct
import jax
import optax


@flax.struct.dataclass
class Player:
    """The generator or the discriminator.

    Attributes:
      params: what the optimizer changes.
      stats: what a forward pass changes, such as batch statistics.
      opt: the optimizer's state.
    """

    params: Any
    stats: Any
    opt: optax.OptState

    @property
    def variables(self) -> dict[str, Any]:
        """What the player's network is applied with."""
        return {"params": self.params, **self.stats}


@flax.struct.dataclass
class TrainState:
    """A run between two steps; of several replicas, each leaf has a leading axis.

    Attributes:
      step: int32 scalar, generator updates so far.
      key: the run's root PRNG key; never split, only folded with (step, purpose).
      g: the generator.
      d: the discriminator.
      ema: the averaged generator's variables, `{'params': ..., **stats}`, which are
        sampled and evaluated.
      memory: what terms carry from step to step, {} if nothing.
    """

    step: jax.Array
    key: jax.Array
    g: Player
    d: Player
    ema: Any
    memory: Any
