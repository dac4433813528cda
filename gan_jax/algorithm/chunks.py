"""Many training steps in one compiled call, each rejected if it gives NaN or inf."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.objectives import Metrics
from gan_jax.algorithm.state import TrainState
from gan_jax.algorithm.steps import train_step


def guarded_step(
    gan: GAN, state: TrainState, batch: dict, step: Array
) -> tuple[TrainState, Metrics]:
    """Makes training step `step`, and rejects it if a metric of it is NaN or inf.

    After a rejected step the run is frozen: the state stays as it was before that step,
    and its own `step`, which lags behind from then on, shows it.

    Args:
      gan: the static half.
      state: the array half.
      batch: as for `train_step`.
      step: the number of steps so far, with rejected ones.

    Returns:
      The new state, and the metrics, also those of the rejected step; after it they are
      NaN.
    """
    going = state.step == step
    new, metrics = train_step(gan, state, batch, step)
    finite = jnp.isfinite(jnp.stack(jax.tree.leaves(metrics))).all()
    keep = functools.partial(jnp.where, going & finite)
    metrics = jax.tree.map(lambda m: jnp.where(going, m, jnp.nan), metrics)
    return jax.tree.map(keep, new, state), metrics


def train_chunk(
    gan: GAN, state: TrainState, feed, n: int, step: Array | None = None
) -> tuple[TrainState, Metrics]:
    """Makes `n` training steps in one compiled call, until one is rejected.

    Args:
      gan: the static half.
      state: the array half.
      feed: draws the batches, see gan_jax.data.feed.
      n: how many; static under `jit`.
      step: the number of steps so far, by default the state's.

    Returns:
      The new state, and the metrics of each step, `[n]`.
    """
    first = state.step if step is None else step

    def body(state, drawn_at):
        step, drawn = drawn_at
        return guarded_step(gan, state, feed.batch(drawn), step)

    return lax.scan(body, state, (first + jnp.arange(n), feed.window(first, n)))
