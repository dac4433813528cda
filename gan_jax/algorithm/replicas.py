"""Several runs in one program, each with its own seed.

The functions are those of `steps`, `chunks` and `players`, over a `TrainState` and
metrics whose leaves have a leading axis `[replicas]`, one run each, split over the
devices along it as far as possible. All make the same step at a time. A replica whose
step is rejected is frozen: its own `step` then lags behind that of the others.

One run has the axis too. `_over_replicas` then drops it inside the program: nothing is
mapped, and one run costs what the plain functions cost.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import PartitionSpec

from gan_jax.algorithm import chunks, players, steps
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.objectives import Metrics
from gan_jax.algorithm.state import TrainState
from gan_jax.devices import mesh


def root_keys(seed: Array | int, replicas: int) -> Array:
    """Returns the root keys `[replicas]` of seed, seed + 1, ..."""
    seeds = jnp.uint32(seed) + jnp.arange(replicas, dtype=jnp.uint32)
    return jax.vmap(jax.random.key)(seeds)


def init_state(gan: GAN, keys: Array) -> TrainState:
    """Draws the states before the first step, one for each of `[replicas]` keys."""
    init = functools.partial(steps.init_state, gan)
    return _over_replicas(init, (0,), len(keys))(keys)


def train_chunk(
    gan: GAN, state: TrainState, feed, n: int, step: Array | None = None
) -> tuple[TrainState, Metrics]:
    """Makes `n` training steps of every replica in one compiled call.

    Args:
      gan: the static half.
      state: the array half, leaves `[replicas, ...]`.
      feed: draws the batches; its `axes` are the replicas' axis of each of its leaves,
        None for those that all replicas share.
      n: how many; static under `jit`.
      step: the number of steps so far, by default that of the foremost replica.

    Returns:
      The new state, and the metrics of each step, `[n, replicas]`: NaN for those that
      were frozen before it.
    """
    # The step is outside the replicas' axis: a penalty that is not due costs nothing.
    first, num = state.step.max() if step is None else step, len(state.step)
    if num == 1:

        def chunk(feed, state):
            return chunks.train_chunk(gan, state, feed, n, first)

        return _over_replicas(chunk, (feed.axes, 0), 1, (0, 1))(feed, state)
    window = _over_replicas(lambda feed: feed.window(first, n), (feed.axes,), num, 1)

    def body(state, drawn_at):
        step, drawn = drawn_at

        def one(feed, state, drawn):
            return chunks.guarded_step(gan, state, feed.batch(drawn), step)

        return _over_replicas(one, (feed.axes, 0, 0), num)(feed, state, drawn)

    return lax.scan(body, state, (first + jnp.arange(n), window(feed)))


def frozen(state: TrainState, step: int) -> set[int]:
    """Returns the replicas that were frozen before `step`."""
    return set(np.flatnonzero(mesh.fetch(state.step) < step).tolist())


def batches(feed, step: int, replicas: int) -> dict[str, Array]:
    """Returns what every replica draws in the step after `step`, `[replicas, ...]`."""

    def batch(feed):
        return feed.batch(jax.tree.map(lambda x: x[0], feed.window(step, 1)))

    return _over_replicas(batch, (feed.axes,), replicas)(feed)


def sample_grid(
    gan: GAN, state: TrainState, num: int, condition: Array | None = None
) -> Array:
    """Draws `[replicas, num, *shape]`, of each replica what its run alone shows.

    Args:
      gan: the static half.
      state: the array half, leaves `[replicas, ...]`.
      num: examples of each replica.
      condition: `[num, ...]` stored values that all replicas share, see `players.draw`.
    """

    def one(state):
        return players.sample_grid(gan, state, num, condition)

    return _over_replicas(one, (0,), len(state.step))(state)


def render(
    gan: GAN,
    state: TrainState,
    latents: Array,
    condition: Array | None,
    seed: Array | int,
) -> Array:
    """Runs each replica's averaged generator, as `players.render` does.

    Args:
      gan: the static half.
      state: the array half, leaves `[replicas, ...]`.
      latents: `[num, size]`, which all replicas share, as what follows.
      condition: `[num, ...]` stored values; None without a condition.
      seed: of the random streams of the network.

    Returns:
      `[replicas, num, *shape]`, stored values.
    """

    def one(state):
        key = jax.random.key(seed)
        return players.render(gan, state, latents, condition, key)

    return _over_replicas(one, (0,), len(state.step))(state)


def replica(tree: Any, i: int) -> Any:
    """Returns one replica's part of a tree whose leaves are `[replicas, ...]`."""
    return jax.tree.map(lambda x: x[i], tree)


def _over_replicas(
    function: Callable, axes: tuple, num: int, out_axes: int | tuple = 0
) -> Callable:
    """Returns a function over `num` replicas: of each device those that it has.

    A device maps the function over its own replicas, or applies it plainly to its only
    one. Left to the compiler, the convolutions of replicas would be one of many groups,
    which it cannot split over devices.

    Args:
      function: of one replica.
      axes: of the replicas in each argument, as for `jax.vmap`; None where it has none.
      num: how many replicas there are.
      out_axes: of the replicas in what the function returns, as for `jax.vmap`.
    """
    rows = jax.sharding.get_abstract_mesh().shape.get(mesh.REPLICA, 1)
    own = num // rows
    if own == 1:

        def on_device(*args):
            plain = [_without_axis(*both) for both in zip(axes, args, strict=True)]
            return jax.tree.map(_with_axis, out_axes, function(*plain))

    else:
        on_device = jax.vmap(function, axes, out_axes, axis_size=own)
    if rows == 1:
        return on_device
    return jax.shard_map(
        on_device,
        in_specs=_split(axes),
        out_specs=_split(out_axes),
        axis_names={mesh.REPLICA},
        check_vma=False,
    )


def _split(axes):
    """Returns how arrays with these axes of replicas are split over the devices."""

    def spec(axis):
        if axis is None:
            return PartitionSpec()
        return PartitionSpec(*[None] * axis, mesh.REPLICA)

    return jax.tree.map(spec, axes, is_leaf=lambda axis: axis is None)


def _without_axis(axes, tree):
    """Drops the axis of one replica; `axes` is a prefix of the tree, as in vmap."""

    def drop(axis, part):
        if axis is None:
            return part
        return jax.tree.map(lambda x: lax.index_in_dim(x, 0, axis, False), part)

    return jax.tree.map(drop, axes, tree, is_leaf=lambda axis: axis is None)


def _with_axis(axis: int, part: Any) -> Any:
    return jax.tree.map(lambda x: jnp.expand_dims(x, axis), part)
