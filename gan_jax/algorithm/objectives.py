"""The game in one update: what each player minimises.

Each objective is the player's loss plus its penalties. The other player, the statistics
and what the terms remember are given; what came of them is returned beside the value.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from gan_jax.algorithm.gan import GAN, Penalty
from gan_jax.algorithm.keys import Keys
from gan_jax.algorithm.players import discriminate, discriminate_both, generate, observe
from gan_jax.algorithm.state import Player, TrainState
from gan_jax.layers.spectral import COLLECTION as SPECTRAL
from gan_jax.objective import replay


def d_objective(gan: GAN, state: TrainState, keys: Keys, params, carried, part, i):
    """Returns the discriminator's loss with its penalties, and what came of it.

    Args:
      gan: the static half.
      state: before the update.
      keys: of the update.
      params: the discriminator's.
      carried: its statistics, and the memory of the terms.
      part: of the batch, 'image' in the generator's range, 'label', and 'latents'.
      i: which part, None where it is the whole.

    Returns:
      The objective, and `((statistics, memory), metrics)`.
    """
    (stats, memory), keys = carried, keys if i is None else keys.part(i)
    labels, latents = part.get("label"), part["latents"]
    d, g, key = {"params": params, **stats}, variables(state.g), keys("d_dropout")
    fake, _ = generate(gan, g, latents, labels, key=key)
    if gan.replay:
        fake, buffer = replay.mixed(memory["replay"], fake, keys("replay"))
        memory = memory | {"replay": buffer}
    real, fake = both_augmented(gan, part["image"], fake, state, memory, keys)
    real_logits, fake_logits, stats = discriminate_both(
        gan, params, stats, real, fake, labels
    )
    loss = gan.loss.draw(keys("labels")).d(real_logits, fake_logits).mean()
    given = views(gan, d, g, labels, key) | {
        "params": params,
        **{"real": real, "fake": fake, "labels": labels, "latents": latents},
        **{"real_logits": real_logits, "fake_logits": fake_logits},
    }
    cost, memory, metrics = penalise(gan, "d", state.step, keys, memory, given)
    memory, adaptive = adapted(gan, memory, real_logits)
    metrics |= {"d_loss": loss, **adaptive, **equilibrium(real_logits, fake_logits)}
    return loss + cost, ((stats, memory), metrics)


def g_objective(gan: GAN, state: TrainState, keys: Keys, params, carried, part, i):
    """Returns the generator's loss with its penalties, as `d_objective` does."""
    (stats, memory), keys = carried, keys if i is None else keys.part(i)
    labels, latents = part.get("label"), part["latents"]
    key, g = keys("g_dropout"), {"params": params, **stats}
    fake, stats = generate(gan, g, latents, labels, key=key)
    real, fake = both_augmented(gan, part["image"], fake, state, memory, keys)
    given = views(gan, variables(state.d), g, labels, key, fixed=(SPECTRAL,))
    fake_logits, real_logits = given["critic"](fake), given["critic"](real)
    loss = gan.loss.g(fake_logits, real_logits).mean()
    given |= {
        "params": params,
        **{"real": real, "fake": fake, "labels": labels, "latents": latents},
        **{"real_logits": real_logits, "fake_logits": fake_logits},
    }
    cost, memory, metrics = penalise(gan, "g", state.step, keys, memory, given)
    return loss + cost, ((stats, memory), metrics | {"g_loss": loss})


def views(gan: GAN, d, g, labels, key: Array, fixed: tuple = ()) -> dict:
    """Returns the players as functions that penalties may ask for.

    Args:
      gan: the static half.
      d: the discriminator's variables.
      g: the generator's.
      labels: `[batch]` for a conditional GAN, to which the functions are bound.
      key: of the generator's dropout.
      fixed: collections that the discriminator leaves as they are.
    """
    stats = {name: value for name, value in d.items() if name != "params"}

    def critic(x):
        return discriminate(gan, d["params"], stats, x, labels, fixed=fixed)[0]

    def see(what):
        return lambda x: observe(gan, d["params"], stats, x, labels, what, fixed)

    return {
        "critic": critic,
        "features": see("features"),
        "classify": see("class_logits"),
        "generator": lambda z: generate(gan, g, z, labels, key=key)[0],
    }


def equilibrium(real_logits: Array, fake_logits: Array) -> dict[str, Array]:
    """Returns what tells how far the game is from D = 1/2 and V = -log 4."""
    real, fake = jax.nn.log_sigmoid(real_logits), jax.nn.log_sigmoid(-fake_logits)
    right = (real_logits > 0).mean() + (fake_logits <= 0).mean()
    return {
        "value": real.mean() + fake.mean(),
        "d_real": jax.nn.sigmoid(real_logits).mean(),
        "d_fake": jax.nn.sigmoid(fake_logits).mean(),
        "d_accuracy": right / 2,
    }


def variables(player: Player):
    """Returns what a player's network is applied with."""
    return {"params": player.params, **player.stats}


# --- The terms ----------------------------------------------------------------------


def memory(gan: GAN) -> dict:
    """Returns what terms remember before the first step, float32, by their names."""
    remembered = {
        term.name: jax.tree.map(jnp.float32, term.start)
        for term in (*gan.penalties, *gan.augment)
        if term.start is not None
    }
    if gan.replay:
        remembered["replay"] = replay.start(gan.replay, gan.shape)
    return remembered


def penalise(
    gan: GAN, player: str, step: Array, keys: Keys, memory: dict, given: dict
) -> tuple[Array, dict, dict[str, Array]]:
    """Adds up the penalties of a player.

    Args:
      gan: the static half.
      player: 'd' or 'g'.
      step: of the run.
      keys: of the update.
      memory: what terms remember.
      given: what they may ask for, by name.

    Returns:
      The weighted sum of their means, the new memory, and the mean of each.
    """
    cost, metrics = 0.0, {}
    prefix = "penalty_" if player == "d" else "g_penalty_"
    for penalty in gan.penalties:
        if player in penalty.players:
            name, key = penalty.name, keys(f"penalty/{penalty.name}")
            mean, own = _due(penalty, step, key, memory.get(name), given)
            memory = memory if own is None else memory | {name: own}
            cost += penalty.weight * mean
            metrics[prefix + name] = mean
    return cost, memory, metrics


def _due(penalty: Penalty, step: Array, key: Array, own, given: dict):
    """Returns the mean of a penalty, 0 where it is not due, and its new memory."""

    def mean(key, own):
        values, own = values_of(penalty, key, own, given)
        return penalty.every * values.mean(), own

    if penalty.every == 1:
        return mean(key, own)
    due = step % penalty.every == 0
    return lax.cond(due, mean, lambda key, own: (0.0, own), key, own)


def values_of(penalty: Penalty, key: Array, own, given: dict):
    """Returns the values of a penalty, `[batch]`, and its new memory."""
    first = (given[name] for name in ("critic", "real", "fake"))
    values = penalty(*first, key, **given, memory=own)
    return (values, None) if own is None else values


def constrained(gan: GAN, params, step: Array):
    """Brings the discriminator's parameters back to where they must lie."""
    for constraint in gan.constraints:
        keep = functools.partial(jnp.where, step % constraint.every == 0)
        params = jax.tree.map(keep, constraint(params), params)
    return params


def both_augmented(gan: GAN, real, fake, state: TrainState, memory: dict, keys: Keys):
    """Returns real and generated examples as the discriminator sees them.

    They are augmented, each kind with draws of its own, and packed.

    Args:
      gan: the static half.
      real: `[batch, *shape]`.
      fake: `[batch, *shape]`.
      state: before the update.
      memory: what augmentations remember.
      keys: of the update.
    """
    if not gan.augment:
        return gan.packed(real), gan.packed(fake)
    low, high = gan.range or (-1.0, 1.0)
    middle, half = (low + high) / 2, (high - low) / 2

    def seen(examples: Array, kind: str) -> Array:
        examples = (examples - middle) / half
        for term in gan.augment:
            if kind == "real" or not getattr(term.function, "real_only", False):
                key, own = keys(f"augment/{term.name}/{kind}"), memory.get(term.name)
                examples = term(key, examples, step=state.step, memory=own)
        return gan.packed(middle + half * examples)

    return seen(real, "real"), seen(fake, "fake")


def adapted(gan: GAN, memory: dict, real_logits: Array) -> tuple[dict, dict]:
    """Lets augmentations adapt to how D judges real examples.

    Returns:
      The new memory, and as metrics `NAME_p`, how often each of them is applied.
    """
    metrics = {}
    for term in gan.augment:
        if adapt := getattr(term.function, "adapt", None):
            judged = real_logits.repeat(gan.pack)  # a logit for each image
            own = adapt(memory[term.name], judged, **dict(term.settings))
            memory = memory | {term.name: own}
            metrics[f"{term.name}_p"] = own["p"]
    return memory, metrics
