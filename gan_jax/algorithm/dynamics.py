"""How the players move in a training step: `(gan, state, batch) -> (state, metrics)`.

`alternating` is Algorithm 1. The others follow the vector field of the game in another
way; a config names one, `step='extragradient'`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax

from gan_jax.algorithm import objectives as game
from gan_jax.algorithm import steps
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.state import TrainState
from gan_jax.algorithm.steps import Metrics, alternating, d_step, d_steps, g_step
from gan_jax.errors import UserError
from gan_jax.objective.terms import marked

__all__ = ["alternating", "extragradient", "simultaneous", "unrolled"]


@marked(d_updates=1)
def simultaneous(
    gan: GAN, state: TrainState, batch: dict
) -> tuple[TrainState, Metrics]:
    """Updates both players at once, each against the other as it was."""
    after_d, d_metrics = d_step(gan, state, batch)
    after, g_metrics = g_step(gan, state.replace(memory=after_d.memory), batch)
    return after.replace(d=after_d.d), d_metrics | g_metrics


@marked(d_updates=1, evaluations=2)
def extragradient(
    gan: GAN, state: TrainState, batch: dict
) -> tuple[TrainState, Metrics]:
    """Updates both players by their gradients at a point one step ahead.

    Gidel et al. 2019 (arXiv:1802.10551), section 3, with the batch and the noise of the
    extrapolation used again for the update. An optimizer's moments take part in both;
    statistics and what terms remember move once. The metrics are of the point ahead.
    """
    ahead, _ = simultaneous(gan, state, batch)
    ahead = ahead.replace(
        step=state.step,
        memory=state.memory,
        d=ahead.d.replace(stats=state.d.stats),
        g=ahead.g.replace(stats=state.g.stats),
    )
    free = dataclasses.replace(gan, constraints=())
    after, metrics = simultaneous(free, ahead, batch)

    def moved(before, ahead, after):
        move = jax.tree.map(jnp.subtract, after.params, ahead.params)
        return after.replace(params=jax.tree.map(jnp.add, before.params, move))

    d, g = (
        moved(*(getattr(s, player) for s in (state, ahead, after))) for player in "dg"
    )
    d = d.replace(params=game.constrained(gan, d.params, state.step))
    average = steps.averaged(gan, state, g, batch)
    return after.replace(d=d, g=g, ema=average), metrics


@marked(unrolls=True)
def unrolled(
    gan: GAN, state: TrainState, batch: dict, *, k: int = 5
) -> tuple[TrainState, Metrics]:
    """Makes an alternating step in which G looks `k` updates of D ahead.

    Metz et al. 2017 (arXiv:1611.02163), eq. 10-12: G's loss is that against the D
    which would follow, and its gradient goes through D's updates, by D's own optimizer
    on the last part of the batch, with fresh noise each. D itself makes its usual
    updates.

    Raises:
      UserError: `k` is no whole number from 0 on.
    """
    if type(k) is not int or k < 0:
        raise UserError(f"unrolled(k={k!r}): k must be a whole number from 0 on")
    state, last, d_metrics = d_steps(gan, state, batch)

    def opponent(params):
        def follow(ahead: TrainState, update: Array):
            return d_step(gan, ahead, last, update)[0], None

        start = state.replace(g=state.g.replace(params=params))
        return lax.scan(follow, start, gan.d_updates + jnp.arange(k))[0]

    state, g_metrics = steps.g_step_against(gan, state, last, opponent)
    return state, d_metrics | g_metrics
