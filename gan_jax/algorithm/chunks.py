"""Many training steps in one compiled call, none of which leaves what is not finite."""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.state import TrainState
from gan_jax.algorithm.steps import Metrics, train_step


def sound_step(
    gan: GAN, state: TrainState, batch: dict, step: Array
) -> tuple[TrainState, Metrics]:
    """Makes training step `step`, unless it would leave something that is not finite.

    Such a step is not made: the state stays for good as it was before, which its own
    `step`, lagging behind, tells.

    Args:
      gan: the static half.
      state: the array half.
      batch: as for `train_step`.
      step: how many steps there have been, made or not.

    Returns:
      The new state, and the metrics, those of the step that is not made too; from then
      on they are NaN.
    """
    going = state.step == step
    new, metrics = train_step(gan, state.replace(step=step), batch)
    finite = jnp.isfinite(jnp.stack(jax.tree.leaves(metrics))).all()
    keep = functools.partial(jnp.where, going & finite)
    metrics = jax.tree.map(lambda m: jnp.where(going, m, jnp.nan), metrics)
    return jax.tree.map(keep, new, state), metrics


def train_chunk(
    gan: GAN, state: TrainState, feed, n: int, step: Array | None = None
) -> tuple[TrainState, Metrics]:
    """Makes `n` training steps, as long as they are sound, in one compiled call.

    Args:
      gan: the static half.
      state: the array half.
      feed: draws the batches, see gan_jax.data.feed.
      n: how many; static under `jit`.
      step: how many there have been, by default those that the state has made.

    Returns:
      The new state, and the metrics of each step, `[n]`.
    """
    first = state.step if step is None else step

    def body(state, now):
        step, drawn = now
        return sound_step(gan, state, feed.batch(drawn), step)

    return lax.scan(body, state, (first + jnp.arange(n), feed.window(first, n)))
