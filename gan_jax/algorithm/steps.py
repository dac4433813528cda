r"""The algorithm: alternating gradient steps on the two players' losses.

Goodfellow et al. 2014 (arXiv:1406.2661), Algorithm 1: for k steps, sample noise and
data and update the discriminator; then sample noise and update the generator. All
functions are pure, `(gan, state, batch) -> (state, metrics)`, and work unjitted, under
`jit` (the `GAN` is a static argument), under `vmap` and on a mesh.
"""

import jax.numpy as jnp
import optax
from jax import Array

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.gradients import Gradient, d_gradient, g_gradient
from gan_jax.algorithm.keys import purpose_key
from gan_jax.algorithm.objectives import Metrics, constrained, initial_memory
from gan_jax.algorithm.players import stream_keys
from gan_jax.algorithm.state import Player, TrainState


def train_step(
    gan: GAN, state: TrainState, batch: dict, step: Array | int | None = None
) -> tuple[TrainState, Metrics]:
    """Makes a training step by the GAN's dynamics, `alternating` for Algorithm 1.

    Args:
      gan: the static half.
      state: the array half.
      batch: leaves `[d_updates * batch, ...]`, see `d_step`.
      step: training steps so far, by default the state's. Under `vmap` over seeds give
        one for all: with one for each, a lazy penalty is computed in every step.

    Returns:
      The new state, one step on, and the metrics of both players.
    """
    if step is not None:
        state = state.replace(step=jnp.asarray(step, jnp.int32))
    return gan.dynamics(gan, state, batch)


def d_step(
    gan: GAN, state: TrainState, batch: dict, update: Array | int = 0
) -> tuple[TrainState, Metrics]:
    """Updates the discriminator; every array of the generator stays unchanged.

    Args:
      gan: the static half.
      state: the array half.
      batch: 'example' `[batch, *shape]`, stored or as networks see it, and, for a
        conditional GAN, 'condition' `[batch, ...]`, which the samples get too. Stored
        images are uint8; floats must lie within the space's bounds, -1 to 1 by default,
        and are not rescaled.
      update: which of this step's `d_updates` it is.

    Returns:
      The new state, and the metrics `d_loss` (without penalties), `value`, V(D, G) =
      E log D(x) + E log(1 - D(G(z))), `d_real`, the mean D(x), `d_fake`, the mean
      D(G(z)), `d_accuracy`, each penalty's mean, `penalty_NAME`, and the norms of the
      gradient, `d_grad_norm`, and of the new parameters, `d_param_norm`. With a loss
      whose logits are not log-odds, `critic_real` and `critic_fake`, the mean logits,
      take the place of `value`, `d_real` and `d_fake`, and `d_accuracy` is the share
      of pairs of a real and a generated example in which the real one has the greater
      logit.
    """
    return move_d(gan, state, d_gradient(gan, state, batch, update))


def g_step(gan: GAN, state: TrainState, batch: dict) -> tuple[TrainState, Metrics]:
    """Updates the generator and its average; the discriminator stays unchanged.

    Args:
      gan: the static half.
      state: the array half.
      batch: as for `d_step`; its examples matter to relativistic losses and to some
        penalties alone. In `train_step` they are those of the last update of D.

    Returns:
      The new state, one step on, and the metrics `g_loss` (without penalties), each
      penalty's mean, `g_penalty_NAME`, `g_grad_norm` and `g_param_norm`.
    """
    return move_g(gan, state, batch, g_gradient(gan, state, batch))


def init_state(gan: GAN, key: Array) -> TrainState:
    """Draws the state before the first step; call it under `jit`."""
    condition = None if gan.condition is None else gan.condition.zeros(1)
    latents, examples = jnp.zeros((1, gan.latent.size)), gan.example.zeros(gan.pack)

    def init(network, purpose, x):
        rngs = stream_keys(purpose_key(key, 0, purpose))
        stats = dict(network.init(rngs, x, condition, train=True))
        return stats.pop("params"), stats

    g_params, g_stats = init(gan.generator, "g_init", latents)
    d_params, d_stats = init(gan.discriminator, "d_init", gan.packed(examples))
    return TrainState(
        step=jnp.int32(0),
        key=key,
        g=Player(params=g_params, stats=g_stats, opt=gan.g_tx.init(g_params)),
        d=Player(params=d_params, stats=d_stats, opt=gan.d_tx.init(d_params)),
        ema={"params": g_params, **g_stats},
        memory=initial_memory(gan),
    )


def move_d(
    gan: GAN, state: TrainState, gradient: Gradient, ahead: Player | None = None
) -> tuple[TrainState, Metrics]:
    """Updates the discriminator by a gradient.

    Args:
      gan: the static half.
      state: the array half.
      gradient: of the discriminator's objective.
      ahead: the player at which the optimizer computes the update, if that is another
        than the one that moves (extragradient).
    """
    d = moved(gan.d_tx, state.d, gradient, ahead)
    d = d.replace(params=constrained(gan, d.params, state.step))
    norms = {
        "d_grad_norm": optax.tree.norm(gradient.grads),
        "d_param_norm": optax.tree.norm(d.params),
    }
    return state.replace(d=d, memory=gradient.memory), gradient.metrics | norms


def move_g(
    gan: GAN,
    state: TrainState,
    batch: dict,
    gradient: Gradient,
    ahead: Player | None = None,
) -> tuple[TrainState, Metrics]:
    """Updates the generator and its average by a gradient, and counts the step.

    Args:
      gan: the static half.
      state: the array half.
      batch: of the gradient, one of the `d_updates` that the step has.
      gradient: of the generator's objective.
      ahead: as for `move_d`.
    """
    g = moved(gan.g_tx, state.g, gradient, ahead)
    images = len(batch["example"]) * gan.d_updates
    ema = gan.ema.update(state.ema, g.variables, state.step, images)
    norms = {
        "g_grad_norm": optax.tree.norm(gradient.grads),
        "g_param_norm": optax.tree.norm(g.params),
    }
    state = state.replace(g=g, ema=ema, step=state.step + 1, memory=gradient.memory)
    return state, gradient.metrics | norms


def moved(
    tx: optax.GradientTransformation,
    player: Player,
    gradient: Gradient,
    ahead: Player | None = None,
) -> Player:
    """Returns the player after the optimizer's update."""
    at = ahead or player
    updates, opt = tx.update(gradient.grads, at.opt, at.params)
    params = optax.apply_updates(player.params, updates)
    return Player(params=params, stats=gradient.stats, opt=opt)
