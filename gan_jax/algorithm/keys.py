"""Randomness as a function of (seed, step, purpose).

No key is split and handed on: any step can be replayed alone, and of all randomness
only the root key and the step need be saved.
"""

import zlib

import jax
import jax.numpy as jnp
from jax import Array


def purpose_key(key: Array, step: Array | int, purpose: str) -> Array:
    """Returns the key of one use of randomness in a step."""
    purpose_id = jnp.uint32(zlib.crc32(purpose.encode()))
    return jax.random.fold_in(jax.random.fold_in(key, step), purpose_id)


class Keys:
    """The keys of one update of a player, or of one part of its batch.

    Args:
      key: the run's root key.
      step: of the run.
      stream: number of the noise stream.
      *folds: numbers that tell this update from others of the step.
    """

    def __init__(self, key: Array, step: Array, stream: int, *folds: Array | int):
        self._key, self._step, self._stream, self._folds = key, step, stream, folds

    def __call__(self, purpose: str) -> Array:
        """Returns the key of one purpose."""
        suffix = f"/{self._stream}" if self._stream else ""
        key = purpose_key(self._key, self._step, purpose + suffix)
        for fold in self._folds:
            key = jax.random.fold_in(key, fold)
        return key

    def part(self, i: Array | int | None) -> "Keys":
        """Returns the keys of the `i`-th part of the batch; None is the whole batch."""
        if i is None:
            return self
        return Keys(self._key, self._step, self._stream, *self._folds, i)
