"""How the players move in a training step: `(gan, state, batch) -> (state, metrics)`.

`alternating` is Algorithm 1. The others follow the vector field of the game in another
way. A config names one: `step='extragradient'`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.gradients import Gradient, d_gradient, g_gradient
from gan_jax.algorithm.objectives import Metrics, constrained
from gan_jax.algorithm.state import TrainState
from gan_jax.algorithm.steps import d_step, g_step, move_d, move_g, moved
from gan_jax.devices import mesh
from gan_jax.errors import UserError
from gan_jax.objective.terms import dynamics


@dynamics
def alternating(gan: GAN, state: TrainState, batch: dict) -> tuple[TrainState, Metrics]:
    """Makes `d_updates` discriminator updates, then one generator update.

    Args:
      gan: the static half.
      state: the array half.
      batch: leaves `[d_updates * batch, ...]`; each update takes its own part.

    Returns:
      The new state, and the metrics of both players, the discriminator's as the mean
      of its updates.
    """
    state, last, d_metrics = _d_steps(gan, state, batch)
    state, g_metrics = g_step(gan, state, last)
    return state, d_metrics | g_metrics


@dynamics(one_d_update=True)
def simultaneous(
    gan: GAN, state: TrainState, batch: dict
) -> tuple[TrainState, Metrics]:
    """Updates both players at once, each against the other's current parameters."""
    d, g = vector_field(gan, state, batch)
    state, d_metrics = move_d(gan, state, d)
    state, g_metrics = move_g(gan, state, batch, g)
    return state, d_metrics | g_metrics


@dynamics(one_d_update=True, evaluations=2)
def extragradient(
    gan: GAN, state: TrainState, batch: dict
) -> tuple[TrainState, Metrics]:
    """Updates both players by their gradients at a point one step ahead.

    Gidel et al. 2019 (arXiv:1802.10551), section 3, with the same batch and noise for
    the extrapolation and the update. An optimizer's moments take part in both;
    statistics and the memory of terms move once. The metrics are those of the point
    ahead.
    """
    d, g = vector_field(gan, state, batch)
    d_ahead = moved(gan.d_tx, state.d, d).replace(stats=state.d.stats)
    g_ahead = moved(gan.g_tx, state.g, g).replace(stats=state.g.stats)
    params = constrained(gan, d_ahead.params, state.step)
    d_ahead = d_ahead.replace(params=params)
    d, g = vector_field(gan, state.replace(d=d_ahead, g=g_ahead), batch)
    state, d_metrics = move_d(gan, state, d, d_ahead)
    state, g_metrics = move_g(gan, state, batch, g, g_ahead)
    return state, d_metrics | g_metrics


@dynamics(differentiates_d=True)
def unrolled(
    gan: GAN, state: TrainState, batch: dict, *, k: int = 5
) -> tuple[TrainState, Metrics]:
    """Makes an alternating step in which G looks `k` updates of D ahead.

    Metz et al. 2017 (arXiv:1611.02163), eq. 10-12: G minimises the surrogate f_K, the
    negative of D's loss on real and generated examples, against the D that would
    follow. The gradient goes through D's updates, which are made by D's optimizer on
    the last part of the batch, each with fresh noise. D itself makes its usual updates.

    The game is zero-sum whatever the loss: its `g` is not used. G's gradient through D
    vanishes where D is at its optimum, and for that the surrogate needs the real
    examples too, although G does not make them.

    Raises:
      UserError: `k` is no whole number from 0 on.
    """
    if type(k) is not int or k < 0:
        raise UserError(f"unrolled(k={k!r}): k must be a whole number from 0 on")
    state, last, d_metrics = _d_steps(gan, state, batch)

    def opponent(params):
        def follow(ahead: TrainState, update: Array):
            return d_step(gan, ahead, last, update)[0], None

        start = state.replace(g=state.g.replace(params=params))
        return lax.scan(follow, start, gan.d_updates + jnp.arange(k))[0]

    surrogate = gan.loss._replace(g=lambda fake, real: -gan.loss.d(real, fake))
    zero_sum = dataclasses.replace(gan, loss=surrogate)
    gradient = g_gradient(zero_sum, state, last, opponent)
    state, g_metrics = move_g(gan, state, last, gradient)
    return state, d_metrics | g_metrics


def vector_field(gan: GAN, state: TrainState, batch: dict) -> tuple[Gradient, Gradient]:
    """Returns the gradients of both players at one point.

    Their negatives are the vector field of the game, which gradient descent follows.
    """
    d = d_gradient(gan, state, batch)
    return d, g_gradient(gan, state.replace(memory=d.memory), batch)


def _d_steps(
    gan: GAN, state: TrainState, batch: dict
) -> tuple[TrainState, dict, Metrics]:
    """Makes `d_updates` discriminator updates, each on a part of the batch.

    Returns:
      The new state, the last part, and the mean of the metrics.
    """
    k = gan.d_updates
    parts = jax.tree.map(lambda x: x.reshape(k, -1, *x.shape[1:]), batch)
    parts = mesh.split_batch(parts, axis=1)
    state, metrics = lax.scan(
        lambda state, part: d_step(gan, state, *part), state, (parts, jnp.arange(k))
    )
    last = jax.tree.map(lambda x: x[-1], parts)
    return state, last, jax.tree.map(lambda m: m.mean(0), metrics)
