"""The gradients of both players: what each of them minimises, and by what it moves.

Goodfellow et al. 2014 (arXiv:1406.2661), Algorithm 1, the two gradients; each objective
is the player's loss plus its penalties.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.keys import Keys
from gan_jax.algorithm.objectives import (
    Metrics,
    adapted,
    asked_by,
    asks_for_slopes,
    both_augmented,
    context_of,
    equilibrium,
    penalised,
    replayed,
    sown_for,
    with_slopes,
)
from gan_jax.algorithm.players import Judged, generate, judge, judge_both
from gan_jax.algorithm.state import Player, TrainState
from gan_jax.devices import mesh
from gan_jax.layers.spectral import COLLECTION as SPECTRAL


class Gradient(NamedTuple):
    """The gradient of a player's objective, and what its evaluation changes.

    Attributes:
      grads: a pytree like the player's parameters.
      stats: the player's new statistics.
      memory: the new memory of the terms.
      metrics: scalars by their names.
    """

    grads: Any
    stats: Any
    memory: dict
    metrics: Metrics


def d_gradient(
    gan: GAN, state: TrainState, batch: dict, update: Array | int = 0
) -> Gradient:
    """Returns the gradient of the discriminator's objective.

    Args:
      gan: the static half.
      state: the array half.
      batch: 'example' `[batch, *shape]`, stored or as networks see it, and, for a
        conditional GAN, 'condition' `[batch, ...]`, which the samples get too.
      update: which of this step's `d_updates` it is.
    """
    keys = Keys(state.key, state.step, gan.noise_stream, update)
    g = state.g.variables

    def objective(params, carried, part, keys):
        (stats, memory), x, c, z = carried, *_of(part)
        d, key = {"params": params, **stats}, keys("d_networks")
        samples, _ = generate(gan, g, z, c, key=key)
        fake, fake_c, memory = replayed(gan, samples, c, memory, keys)
        asked = asked_by(gan, "d")

        def judged(real: Array, fake: Array) -> tuple[Judged, Judged]:
            seen = both_augmented(gan, real, fake, state.step, memory, keys)
            how = {"names": sown_for(asked), "apart": asks_for_slopes(asked)}
            return judge_both(gan, d, *seen, (c, fake_c), key, **how)

        (of_real, of_fake), slopes = with_slopes(gan, asked, judged, x, fake)
        logits = of_real.logits, of_fake.logits
        loss = gan.loss.draw(keys("labels")).d(*logits).mean()
        arrays = {"example": x, "condition": c, "fake": fake, "fake_condition": fake_c}
        arrays |= {"sample": samples, "latents": z, "params": params}
        arrays |= {"step": state.step, **slopes}
        context = context_of(gan, "d", d, g, key, (of_real, of_fake), **arrays)
        cost, memory, metrics = penalised(gan, context, keys, memory)
        metrics |= {"d_loss": loss, **equilibrium(gan, *logits)}
        return loss + cost, ((of_fake.stats, memory), metrics, logits[0])

    batch = _with_latents(gan, batch, keys("d_noise"))
    gradient, real_logits = _by_parts(
        gan, objective, state.d, state.memory, batch, keys
    )
    memory, adaptive = adapted(gan, gradient.memory, real_logits, len(batch["latents"]))
    return gradient._replace(memory=memory, metrics=gradient.metrics | adaptive)


def g_gradient(
    gan: GAN,
    state: TrainState,
    batch: dict,
    opponent: Callable[[Any], TrainState] | None = None,
) -> Gradient:
    """Returns the gradient of the generator's objective.

    Args:
      gan: the static half.
      state: the array half.
      batch: as for `d_gradient`; its examples matter to relativistic losses and to some
        penalties alone.
      opponent: from the generator's parameters to the state whose discriminator it
        plays against, by default `state`; the gradient goes through it.
    """
    keys = Keys(state.key, state.step, gan.noise_stream)

    def objective(params, carried, part, keys):
        (stats, memory), x, c, z = carried, *_of(part)
        g, key = {"params": params, **stats}, keys("g_networks")
        d = (opponent(params) if opponent else state).d.variables
        samples, stats = generate(gan, g, z, c, key=key)
        asked, fixed = asked_by(gan, "g"), (SPECTRAL,)

        def judged(real: Array, fake: Array) -> tuple[Judged, Judged]:
            seen = both_augmented(gan, real, fake, state.step, memory, keys)
            how = {"names": sown_for(asked), "fixed": fixed, "key": key}
            return tuple(judge(gan, d, examples, c, **how) for examples in seen)

        (of_real, of_fake), slopes = with_slopes(gan, asked, judged, x, samples)
        loss = gan.loss.g(of_fake.logits, of_real.logits).mean()
        arrays = {"example": x, "condition": c, "fake": samples, "fake_condition": c}
        arrays |= {"sample": samples, "latents": z, "params": params}
        arrays |= {"step": state.step, **slopes}
        context = context_of(gan, "g", d, g, key, (of_real, of_fake), fixed, **arrays)
        cost, memory, metrics = penalised(gan, context, keys, memory)
        return loss + cost, ((stats, memory), metrics | {"g_loss": loss}, None)

    batch = _with_latents(gan, batch, keys("g_noise"))
    return _by_parts(gan, objective, state.g, state.memory, batch, keys)[0]


def _of(part: dict) -> tuple[Array, Array | None, Array]:
    return part["example"], part.get("condition"), part["latents"]


def _with_latents(gan: GAN, batch: dict, key: Array) -> dict:
    """Encodes a batch for the networks, and draws its latents."""
    encoded = {"example": gan.example.encode(batch["example"])}
    if gan.condition is not None:
        encoded["condition"] = gan.condition.encode(batch["condition"])
    latents = gan.latent.sample(key, len(encoded["example"]))
    return encoded | {"latents": mesh.split_batch(latents, axis=0)}


def _by_parts(
    gan: GAN, objective: Callable, player: Player, memory: dict, batch: dict, keys: Keys
) -> tuple[Gradient, Any]:
    """Differentiates the mean of an objective over a batch, one part at a time.

    It is the gradient of the whole batch where networks treat examples independently
    and the objective is a mean over them. Whatever depends on a batch (its statistics,
    means in a loss, groups) depends on each part instead. The memory of terms moves
    once: each part starts from the same, and their new ones are averaged, so that a
    moving average takes in the mean over the whole batch.

    Args:
      gan: the static half; `accumulate` is the number of parts, and divides the batch.
      objective: `(params, (stats, memory), part, keys) -> (value, ((stats, memory),
        metrics, kept))`.
      player: whose parameters and statistics they are.
      memory: of the terms.
      batch: leaves `[batch, ...]`.
      keys: of the update.

    Returns:
      The gradient, and what the objective keeps, `[batch, ...]`.
    """
    grad, num = jax.grad(objective, has_aux=True), gan.accumulate
    if num == 1:
        grads, (carried, metrics, kept) = grad(
            player.params, (player.stats, memory), batch, keys
        )
        return Gradient(grads, *carried, metrics), kept
    parts = jax.tree.map(lambda x: x.reshape(num, -1, *x.shape[1:]), batch)
    parts = mesh.split_batch(parts, axis=1)
    terms = {name: of_term for name, of_term in memory.items() if name != "replay"}

    def add(before, part):
        (total, stats, now), (part, i) = before, part
        start = (
            stats,
            now | terms,
        )  # the buffer of replay alone passes from part to part
        grads, left = grad(player.params, start, part, keys.part(i))
        (stats, moved), metrics, kept = left
        total = optax.tree.add(total, grads)
        return (total, stats, moved), ({n: moved[n] for n in terms}, metrics, kept)

    start = optax.tree.zeros_like(player.params), player.stats, memory
    (total, stats, memory), left = lax.scan(add, start, (parts, jnp.arange(num)))
    terms, metrics = jax.tree.map(lambda x: x.mean(0), left[:2])
    kept = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), left[2])
    grads = optax.tree.scale(1 / num, total)
    return Gradient(grads, stats, memory | terms, metrics), kept
