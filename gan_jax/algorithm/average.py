"""The exponential moving average of the generator, which is sampled and evaluated."""

import dataclasses

import jax.numpy as jnp
import optax
from jax import Array


@dataclasses.dataclass(frozen=True)
class Average:
    """An exponential moving average.

    Attributes:
      rate: the weight of the average in an update, in [0, 1). It is at most
        `(1 + step) / (10 + step)`, so that the average forgets the initial weights
        quickly and is worth sampling from the first steps on.
      halflife: in images that D has seen; above 0 it replaces `rate`: after so many
        images a generator has half its weight (Karras et al. 2020, arXiv:1912.04958).
      rampup: the half-life is at most this share of the images seen so far (Karras et
        al. 2020, arXiv:2006.06676, appendix C: 0.05); 0 for no such bound.
    """

    rate: float = 0.999
    halflife: float = 0.0
    rampup: float = 0.05

    def decay(self, step: Array, batch_size: int) -> Array:
        """Returns the weight of the average in the update of a step."""
        if not self.halflife:
            return jnp.minimum(self.rate, (1 + step) / (10 + step))
        halflife = self.halflife
        if self.rampup:
            halflife = jnp.minimum(halflife, self.rampup * batch_size * step)
        return 0.5 ** (batch_size / jnp.maximum(halflife, 1e-8))

    def update(self, average, new, step: Array, batch_size: int):
        """Moves the average towards `new`.

        Args:
          average: a pytree, the average so far.
          new: a pytree like it.
          step: updates so far.
          batch_size: images in an update.
        """
        decay = self.decay(step, batch_size)
        return optax.incremental_update(new, average, 1 - decay)
