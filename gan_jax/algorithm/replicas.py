"""Several runs in one program, each with a seed of its own.

The functions are those of `steps` and `chunks`, over a `TrainState` and metrics whose
leaves have a leading axis `[replicas]`, a run each, and are split over
the devices along it as far as that goes. All make the same step at a time. One that is
not sound freezes its replica: what tells it is its own `step`, which lags behind the
others'.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gan_jax.algorithm import chunks, players, steps
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.state import TrainState
from gan_jax.algorithm.steps import Metrics
from gan_jax.devices import mesh as sharding


def root_key(seed: Array | int, replicas: int) -> Array:
    """Returns the root key of a run, or `[replicas]` of them: seed, seed + 1, ..."""
    if replicas == 1:
        return jax.random.key(seed)
    seeds = jnp.uint32(seed) + jnp.arange(replicas, dtype=jnp.uint32)
    return jax.vmap(jax.random.key)(seeds)


def init_state(gan: GAN, keys: Array) -> TrainState:
    """Draws the states before the first step, one for each of `[replicas]` keys."""
    return jax.vmap(steps.init_state, (None, 0))(gan, keys)


def train_chunk(
    gan: GAN, state: TrainState, feed, n: int, step: Array | None = None
) -> tuple[TrainState, Metrics]:
    """Makes `n` training steps of every replica in one compiled call.

    Args:
      gan: the static half.
      state: the array half, leaves `[replicas, ...]`.
      feed: draws the batches; its `axes` say which of its leaves a replica has alone.
      n: how many; static under `jit`.
      step: how many there have been, by default those that the foremost has made.

    Returns:
      The new state, and the metrics of each step, `[n, replicas]`: NaN for those that
      were frozen before it.
    """
    # Outside the replicas' axis, so that a penalty that is not due is not computed.
    first = state.step.max() if step is None else step
    drawn = jax.vmap(
        lambda feed: feed.window(first, n), (feed.axes,), 1, axis_size=len(state.step)
    )(feed)

    def body(state, now):
        step, drawn = now

        def one(feed, state, drawn):
            return chunks.sound_step(gan, state, feed.batch(drawn), step)

        over = jax.vmap(one, (feed.axes, 0, 0), spmd_axis_name=sharding.REPLICA)
        return over(feed, state, drawn)

    return lax.scan(body, state, (first + jnp.arange(n), drawn))


def frozen(state: TrainState, step: int) -> set[int]:
    """Returns which replicas were frozen before `step`, which the others have made."""
    return set(np.flatnonzero(sharding.fetch(state.step) < step).tolist())


def batches(feed, step: int, replicas: int) -> dict[str, Array]:
    """Returns what every replica draws in the step after `step`, `[replicas, ...]`."""

    def batch(feed):
        return feed.batch(jax.tree.map(lambda x: x[0], feed.window(step, 1)))

    if replicas == 1:
        return jax.tree.map(lambda x: x[None], batch(feed))
    return jax.vmap(batch, (feed.axes,), axis_size=replicas)(feed)


def sheet(gan: GAN, state: TrainState, num: int) -> Array:
    """Draws `[replicas, num, *shape]`, of each replica what its run alone shows."""
    return jax.vmap(functools.partial(players.sheet, gan, num=num))(state)
