r"""The algorithm: alternating gradient steps on the two players' losses.

Goodfellow et al. 2014 (arXiv:1406.2661), Algorithm 1: for k steps, sample noise and
data and update the discriminator; then sample noise and update the generator. All
functions are pure, `(gan, state, batch) -> (state, metrics)`, and work unjitted, under
`jit` (the `GAN` is a static argument), under `vmap` and on a mesh.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from gan_jax.algorithm import objectives as game
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.gradients import gradient
from gan_jax.algorithm.keys import Keys, purpose_key
from gan_jax.algorithm.state import Player, TrainState
from gan_jax.devices import mesh as sharding

Metrics = dict[str, Array]


def init_state(gan: GAN, key: Array) -> TrainState:
    """Draws the state before the first step; call it under `jit`."""
    labels = jnp.zeros(1, jnp.int32)
    latents = jnp.zeros((1, gan.latent.size))
    g_key, d_key = purpose_key(key, 0, "g_init"), purpose_key(key, 0, "d_init")
    g_stats, g_params = _split(
        gan.generator.init(
            {"params": g_key, "dropout": g_key}, latents, labels, train=True
        )
    )
    examples = jnp.zeros((1, *gan.packed_shape))
    d_stats, d_params = _split(
        gan.discriminator.init(d_key, examples, labels, train=True)
    )
    return TrainState(
        step=jnp.int32(0),
        key=key,
        g=Player(params=g_params, stats=g_stats, opt=gan.g_tx.init(g_params)),
        d=Player(params=d_params, stats=d_stats, opt=gan.d_tx.init(d_params)),
        ema={"params": g_params, **g_stats},
        memory=game.memory(gan),
    )


def d_step(
    gan: GAN, state: TrainState, batch: dict, update: Array | int = 0
) -> tuple[TrainState, Metrics]:
    """Updates the discriminator; every array of the generator stays as it is.

    Args:
      gan: the static half.
      state: the array half.
      batch: 'image' `[batch, *shape]`, uint8 or in the generator's range, and, for a
        conditional GAN, 'label' `[batch]`, which the samples are given too.
      update: which of this step's `d_updates` it is.

    Returns:
      The new state, and the metrics `d_loss` (without penalties), `value`, V(D, G) =
      E log D(x) + E log(1 - D(G(z))), `d_real`, the mean D(x), `d_fake`, the mean
      D(G(z)), `d_accuracy`, each penalty's mean, `penalty_NAME`, and the norms of the
      gradient, `d_grad_norm`, and of the new parameters, `d_param_norm`.
    """
    keys = Keys(state.key, state.step, gan.noise_stream, update)
    grads, (stats, memory), metrics = gradient(
        functools.partial(game.d_objective, gan, state, keys),
        state.d.params,
        (state.d.stats, state.memory),
        _with_noise(gan, batch, keys("d_noise")),
        gan.accumulate,
    )
    d = _updated(gan.d_tx, state.d, grads, stats)
    d = d.replace(params=game.constrained(gan, d.params, state.step))
    metrics["d_grad_norm"] = optax.tree.norm(grads)
    metrics["d_param_norm"] = optax.tree.norm(d.params)
    return state.replace(d=d, memory=memory), metrics


def g_step(gan: GAN, state: TrainState, batch: dict) -> tuple[TrainState, Metrics]:
    """Updates the generator and its average; the discriminator stays as it is.

    Args:
      gan: the static half.
      state: the array half.
      batch: as for `d_step`; its images matter to relativistic losses and to some
        penalties alone.

    Returns:
      The new state, one step on, and the metrics `g_loss` (without penalties), each
      penalty's mean, `g_penalty_NAME`, `g_grad_norm` and `g_param_norm`.
    """
    return g_step_against(gan, state, batch, lambda g: state)


def g_step_against(gan: GAN, state: TrainState, batch: dict, opponent):
    """Makes a `g_step` whose loss is that against another discriminator.

    Args:
      gan: the static half.
      state: the array half.
      batch: as for `g_step`.
      opponent: from the generator's parameters to the state whose discriminator it
        plays against; the gradient goes through it.
    """
    keys = Keys(state.key, state.step, gan.noise_stream)

    def against(params, *rest):
        return game.g_objective(gan, opponent(params), keys, params, *rest)

    grads, (stats, memory), metrics = gradient(
        against,
        state.g.params,
        (state.g.stats, state.memory),
        _with_noise(gan, batch, keys("g_noise")),
        gan.accumulate,
    )
    g = _updated(gan.g_tx, state.g, grads, stats)
    ema = averaged(gan, state, g, batch)
    metrics["g_grad_norm"] = optax.tree.norm(grads)
    metrics["g_param_norm"] = optax.tree.norm(g.params)
    return state.replace(g=g, ema=ema, step=state.step + 1, memory=memory), metrics


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
    state, last, d_metrics = d_steps(gan, state, batch)
    state, g_metrics = g_step(gan, state, last)
    return state, d_metrics | g_metrics


def d_steps(gan: GAN, state: TrainState, batch: dict):
    """Makes `d_updates` discriminator updates, each on a part of the batch.

    Returns:
      The new state, the last part, and the mean of the metrics.
    """
    k = gan.d_updates
    parts = jax.tree.map(lambda x: x.reshape(k, -1, *x.shape[1:]), batch)
    parts = sharding.split_batch(parts, axis=1)
    state, metrics = lax.scan(
        lambda state, part: d_step(gan, state, *part), state, (parts, jnp.arange(k))
    )
    last = jax.tree.map(lambda x: x[-1], parts)
    return state, last, jax.tree.map(lambda m: m.mean(0), metrics)


def train_step(gan: GAN, state: TrainState, batch: dict) -> tuple[TrainState, Metrics]:
    """Makes a training step: `alternating`, or what else the GAN says.

    Args:
      gan: the static half.
      state: the array half.
      batch: leaves `[d_updates * batch, ...]`.

    Returns:
      The new state, one step on, and the metrics of both players.
    """
    return gan.step(gan, state, batch)


def averaged(gan: GAN, state: TrainState, g: Player, batch: dict):
    """Returns the average after the update to `g`, which had one part of the images."""
    images = len(batch["image"]) * gan.d_updates
    return gan.ema.update(state.ema, game.variables(g), state.step, images)


def _with_noise(gan: GAN, batch: dict, key: Array) -> dict:
    """Adds 'latents' to a batch, and brings its images to the generator's range."""
    real = gan.to_float(batch["image"])
    latents = sharding.split_batch(gan.latent.sample(key, len(real)), axis=0)
    return batch | {"image": real, "latents": latents}


def _updated(tx: optax.GradientTransformation, player: Player, grads, stats) -> Player:
    updates, opt = tx.update(grads, player.opt, player.params)
    params = optax.apply_updates(player.params, updates)
    return Player(params=params, stats=stats, opt=opt)


def _split(variables):
    stats = dict(variables)
    params = stats.pop("params")
    return stats, params
