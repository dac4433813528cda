r"""The algorithm: alternating gradient steps on the two players' losses.

Goodfellow et al. 2014 (arXiv:1406.2661), Algorithm 1: for k steps, sample noise and
data and update the discriminator; then sample noise and update the generator. All
functions are pure, `(gan, state, batch) -> (state, metrics)`, and work unjitted, under
`jit` (the `GAN` is a static argument), under `vmap` and on a mesh.
"""

import functools
import zlib

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from gan_jax import optim, sharding
from gan_jax.gan import GAN
from gan_jax.layers.spectral import COLLECTION as SPECTRAL
from gan_jax.state import Player, TrainState

Metrics = dict[str, Array]


def init_state(gan: GAN, key: Array) -> TrainState:
    """Draws the state before the first step; call it under `jit`."""
    labels = jnp.zeros(1, jnp.int32)
    latents = jnp.zeros((1, gan.latent.size))
    g_key, d_key = purpose_key(key, 0, "g_init"), purpose_key(key, 0, "d_init")
    g_stats, g_params = _split(gan.generator.init(g_key, latents, labels, train=True))
    d_stats, d_params = _split(
        gan.discriminator.init(d_key, jnp.zeros((1, *gan.shape)), labels, train=True)
    )
    return TrainState(
        step=jnp.int32(0),
        key=key,
        g=Player(params=g_params, stats=g_stats, opt=gan.g_tx.init(g_params)),
        d=Player(params=d_params, stats=d_stats, opt=gan.d_tx.init(d_params)),
        ema={"params": g_params, **g_stats},
        memory={},
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
    real, labels = gan.to_float(batch["image"]), batch.get("label")
    latents = _noise(gan, _update_key(gan, state, "d_noise", update), len(real))
    fake, _ = generate(gan, _variables(state.g), latents, labels)

    def objective(params):
        real_logits, fake_logits, stats = _discriminate_both(
            gan, params, state.d.stats, real, fake, labels
        )
        loss = gan.loss.d(real_logits, fake_logits).mean()

        def critic(x):
            return discriminate(gan, params, state.d.stats, x, labels)[0]

        cost, terms = _penalise(gan, state, critic, real, fake, update)
        metrics = {"d_loss": loss, **terms, **_equilibrium(real_logits, fake_logits)}
        return loss + cost, (stats, metrics)

    grads, (stats, metrics) = jax.grad(objective, has_aux=True)(state.d.params)
    d = _updated(gan.d_tx, state.d, grads, stats)
    metrics["d_grad_norm"] = optax.tree.norm(grads)
    metrics["d_param_norm"] = optax.tree.norm(d.params)
    return state.replace(d=d), metrics


def g_step(gan: GAN, state: TrainState, batch: dict) -> tuple[TrainState, Metrics]:
    """Updates the generator and its average; the discriminator stays as it is.

    Args:
      gan: the static half.
      state: the array half.
      batch: as for `d_step`; its images matter to relativistic losses alone.

    Returns:
      The new state, one step on, and the metrics `g_loss`, `g_grad_norm` and
      `g_param_norm`.
    """
    real, labels = gan.to_float(batch["image"]), batch.get("label")
    latents = _noise(gan, _step_key(gan, state, "g_noise"), len(real))

    def objective(params):
        variables = {"params": params, **state.g.stats}
        fake, stats = generate(gan, variables, latents, labels)
        d = functools.partial(
            discriminate, gan, state.d.params, state.d.stats, fixed=(SPECTRAL,)
        )
        (fake_logits, _), (real_logits, _) = d(fake, labels), d(real, labels)
        return gan.loss.g(fake_logits, real_logits).mean(), stats

    (loss, stats), grads = jax.value_and_grad(objective, has_aux=True)(state.g.params)
    g = _updated(gan.g_tx, state.g, grads, stats)
    ema = optim.ema(state.ema, _variables(g), gan.ema_decay, state.step)
    metrics = {
        "g_loss": loss,
        "g_grad_norm": optax.tree.norm(grads),
        "g_param_norm": optax.tree.norm(g.params),
    }
    return state.replace(g=g, ema=ema, step=state.step + 1), metrics


def train_step(gan: GAN, state: TrainState, batch: dict) -> tuple[TrainState, Metrics]:
    """Makes `d_updates` discriminator updates, then one generator update.

    Args:
      gan: the static half.
      state: the array half.
      batch: leaves `[d_updates * batch, ...]`; each update takes its own part.

    Returns:
      The new state, and the metrics of both players, the discriminator's as the mean
      of its updates.
    """
    k = gan.d_updates
    parts = jax.tree.map(lambda x: x.reshape(k, -1, *x.shape[1:]), batch)
    parts = sharding.split_batch(parts, axis=1)
    state, d_metrics = lax.scan(
        lambda state, part: d_step(gan, state, *part), state, (parts, jnp.arange(k))
    )
    state, g_metrics = g_step(gan, state, jax.tree.map(lambda x: x[-1], parts))
    return state, jax.tree.map(lambda m: m.mean(0), d_metrics) | g_metrics


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


def generate(gan: GAN, variables, latents: Array, labels=None, *, train: bool = True):
    """Runs the generator.

    Args:
      gan: the static half.
      variables: `{'params': ..., **stats}`, e.g. `state.ema`.
      latents: `[batch, latent size]`.
      labels: `[batch]` for a conditional GAN.
      train: whether batch statistics are the batch's own.

    Returns:
      Examples `[batch, *shape]`, and the new statistics.
    """
    return _apply(gan, gan.generator, variables, latents, labels, train)


def discriminate(
    gan: GAN, params, stats, examples: Array, labels=None, *, fixed: tuple = ()
):
    """Runs the discriminator in training.

    Args:
      gan: the static half.
      params: the discriminator's.
      stats: the discriminator's.
      examples: `[batch, *shape]`.
      labels: `[batch]` for a conditional GAN.
      fixed: collections of `stats` that this pass leaves as they are.

    Returns:
      Logits `[batch]`, and the new statistics.
    """
    variables = {"params": params, **stats}
    return _apply(gan, gan.discriminator, variables, examples, labels, True, fixed)


def draw(
    gan: GAN,
    state: TrainState,
    key: Array,
    num: int,
    labels: Array | None = None,
    truncation: float = 1.0,
) -> Array:
    """Draws examples from the averaged generator.

    Args:
      gan: the static half.
      state: the array half.
      key: a PRNG key; the same gives the same latents at every step of a run.
      num: how many; static under `jit`.
      labels: `[num]` for a conditional GAN, by default each class in turn.
      truncation: of the prior, see `Latent.sample`; static under `jit`.

    Returns:
      `[num, *shape]`, uint8 for images.
    """
    if labels is None and gan.num_classes:
        labels = jnp.arange(num) % gan.num_classes
    return render(gan, state, gan.latent.sample(key, num, truncation), labels)


def sheet(gan: GAN, state: TrainState, num: int) -> Array:
    """Draws `num` examples as a run shows them: of the same latents at every step."""
    return draw(gan, state, purpose_key(state.key, 0, "samples"), num)


def render(gan: GAN, state: TrainState, latents: Array, labels=None) -> Array:
    """Runs the averaged generator on `[num, size]` latents, as `draw` does."""
    examples, _ = generate(gan, state.ema, latents, labels, train=False)
    return gan.to_uint8(examples) if gan.range else examples


def purpose_key(key: Array, step: Array | int, purpose: str) -> Array:
    """Returns the key of one use of randomness: a function of (seed, step, purpose)."""
    purpose_id = jnp.uint32(zlib.crc32(purpose.encode()))
    return jax.random.fold_in(jax.random.fold_in(key, step), purpose_id)


def _noise(gan: GAN, key: Array, num: int) -> Array:
    return sharding.split_batch(gan.latent.sample(key, num), axis=0)


def _step_key(gan: GAN, state: TrainState, purpose: str) -> Array:
    stream = f"/{gan.noise_stream}" if gan.noise_stream else ""
    return purpose_key(state.key, state.step, purpose + stream)


def _update_key(gan: GAN, state: TrainState, purpose: str, update: Array | int):
    return jax.random.fold_in(_step_key(gan, state, purpose), update)


def _apply(gan, module, variables, x, labels, train, fixed=()):
    labels, variables = labels if gan.num_classes else None, sharding.whole(variables)
    stats = {name: value for name, value in variables.items() if name != "params"}
    mutable = [name for name in stats if train and name not in fixed]
    output, moved = module.apply(variables, x, labels, train=train, mutable=mutable)
    return output, stats | moved


def _discriminate_both(gan: GAN, params, stats, real: Array, fake: Array, labels):
    """Returns the logits of real and of generated examples, and the new statistics.

    Batch statistics are of either's own batch. Singular vectors take one step.
    """
    d = functools.partial(discriminate, gan, params)
    if not getattr(gan.discriminator, "per_example", False):
        real_logits, stats = d(stats, real, labels)
        fake_logits, stats = d(stats, fake, labels, fixed=(SPECTRAL,))
        return real_logits, fake_logits, stats
    # One batch, in pairs, so that on a mesh each device keeps its own examples.
    pairs = jnp.stack([real, fake], 1).reshape(-1, *gan.shape)
    labels = None if labels is None else labels.repeat(2)
    logits, stats = d(stats, pairs, labels)
    return *logits.reshape(-1, 2).T, stats


def _penalise(gan: GAN, state: TrainState, critic, real, fake, update):
    """Returns the weighted sum of the penalties, and the mean of each."""
    cost, terms = 0.0, {}
    for penalty in gan.penalties:
        key = _update_key(gan, state, f"penalty/{penalty.name}", update)

        def mean(key, penalty=penalty):
            return penalty.every * penalty.function(critic, real, fake, key).mean()

        if penalty.every == 1:
            term = mean(key)
        else:
            due = state.step % penalty.every == 0
            term = lax.cond(due, mean, lambda key: 0.0, key)
        cost += penalty.weight * term
        terms[f"penalty_{penalty.name}"] = term
    return cost, terms


def _equilibrium(real_logits: Array, fake_logits: Array) -> Metrics:
    """Returns what tells how far the game is from D = 1/2 and V = -log 4."""
    real, fake = jax.nn.log_sigmoid(real_logits), jax.nn.log_sigmoid(-fake_logits)
    right = (real_logits > 0).mean() + (fake_logits <= 0).mean()
    return {
        "value": real.mean() + fake.mean(),
        "d_real": jax.nn.sigmoid(real_logits).mean(),
        "d_fake": jax.nn.sigmoid(fake_logits).mean(),
        "d_accuracy": right / 2,
    }


def _updated(tx: optax.GradientTransformation, player: Player, grads, stats) -> Player:
    updates, opt = tx.update(grads, player.opt, player.params)
    params = optax.apply_updates(player.params, updates)
    return Player(params=params, stats=stats, opt=opt)


def _variables(player: Player):
    return {"params": player.params, **player.stats}


def _split(variables):
    stats = dict(variables)
    params = stats.pop("params")
    return stats, params
