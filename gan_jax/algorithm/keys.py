"""Randomness as a function of (seed, step, purpose).

No key is threaded: any step can be made again alone, and nothing random need be saved
but the root key and the step.
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
      stream: which of the streams of noise that a seed has.
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

    def part(self, i: Array | int) -> "Keys":
        """Returns the keys of the `i`-th part of the batch."""
        return Keys(self._key, self._step, self._stream, *self._folds, i)
