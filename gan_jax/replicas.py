"""Several runs in one program, each with a seed of its own.

The functions are those of gan_jax.steps, over a `TrainState` and metrics whose leaves
have a leading axis `[replicas]`, a run each. All make the same step at a time. One that
would leave a metric that is not finite is not made, and from then on that replica is
frozen: what tells it is its own `step`, which lags behind the others'.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gan_jax import steps
from gan_jax.gan import GAN
from gan_jax.state import TrainState
from gan_jax.steps import Metrics


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
    gan: GAN, state: TrainState, feed, n: int
) -> tuple[TrainState, Metrics]:
    """Makes `n` training steps of every replica in one compiled call.

    Args:
      gan: the static half.
      state: the array half, leaves `[replicas, ...]`.
      feed: draws the batches; its `axes` say which of its leaves a replica has alone.
      n: how many; static under `jit`.

    Returns:
      The new state, and the metrics of each step, `[n, replicas]`: NaN for those that
      were frozen before it.
    """
    # Outside the replicas' axis, so that a penalty that is not due is not computed.
    first = state.step.max()
    drawn = jax.vmap(
        lambda feed: feed.window(first, n), (feed.axes,), 1, axis_size=len(state.step)
    )(feed)

    def body(state, now):
        step, drawn = now

        def one(feed, state, drawn):
            return _train_step(gan, state, feed.batch(drawn), step)

        return jax.vmap(one, (feed.axes, 0, 0))(feed, state, drawn)

    return lax.scan(body, state, (first + jnp.arange(n), drawn))


def frozen(state: TrainState, step: int) -> set[int]:
    """Returns which replicas were frozen before `step`, which the others have made."""
    return set(np.flatnonzero(jax.device_get(state.step) < step).tolist())


def sheet(gan: GAN, state: TrainState, num: int) -> Array:
    """Draws `[replicas, num, *shape]`, of each replica what its run alone shows."""
    return jax.vmap(functools.partial(steps.sheet, gan, num=num))(state)


def _train_step(gan: GAN, state: TrainState, batch: dict, step: Array):
    """Makes a step of one replica, unless it is frozen or the step freezes it."""
    going = state.step == step
    new, metrics = steps.train_step(gan, state.replace(step=step), batch)
    finite = jnp.isfinite(jnp.stack(jax.tree.leaves(metrics))).all()
    keep = functools.partial(jnp.where, going & finite)
    metrics = jax.tree.map(lambda m: jnp.where(going, m, jnp.nan), metrics)
    return jax.tree.map(keep, new, state), metrics
