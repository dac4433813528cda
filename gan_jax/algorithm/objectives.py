"""The parts of both objectives: what D sees, penalties, memory, the equilibrium.

gan_jax.algorithm.gradients puts them together.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.keys import Keys
from gan_jax.algorithm.players import Judged, Variables, generate, judge
from gan_jax.devices import mesh
from gan_jax.objective import replay
from gan_jax.objective.terms import Context, Penalty

Metrics = dict[str, Array]


def initial_memory(gan: GAN) -> dict:
    """Returns the memory of all terms before the first step, float32, by their names.

    The buffer of earlier samples is there as `replay`.
    """
    memory = {
        term.name: jax.tree.map(jnp.float32, term.initial)
        for term in (*gan.penalties, *gan.augment)
        if term.initial is not None
    }
    if gan.replay:
        condition = None if gan.condition is None else gan.condition.zeros(1)
        memory["replay"] = replay.start(gan.replay, gan.example.zeros(1), condition)
    return memory


# --- What the discriminator sees ----------------------------------------------------


def replayed(
    gan: GAN, samples: Array, condition: Array | None, memory: dict, keys: Keys
) -> tuple[Array, Array | None, dict]:
    """Exchanges some samples for earlier ones, if the GAN has a buffer of them.

    Returns:
      The samples `[batch, *shape]`, their condition, and the new memory.
    """
    if not gan.replay:
        return samples, condition, memory
    samples, condition, buffer = replay.mixed(
        memory["replay"], samples, condition, keys("replay")
    )
    return samples, condition, memory | {"replay": buffer}


def both_augmented(
    gan: GAN, real: Array, fake: Array, step: Array, memory: dict, keys: Keys
) -> tuple[Array, Array]:
    """Returns real and generated examples as the discriminator sees them.

    Each kind is augmented with its own draws, and packed.

    Args:
      gan: the static half.
      real: `[batch, *shape]`.
      fake: `[batch, *shape]`.
      step: training steps so far.
      memory: of all terms.
      keys: of the update.
    """
    if not gan.augment:
        return gan.packed(real), gan.packed(fake)
    low, high = gan.example.bounds or (-1.0, 1.0)
    middle, half = (low + high) / 2, (high - low) / 2

    def seen(examples: Array, kind: str) -> Array:
        examples = (examples - middle) / half
        for term in gan.augment:
            if kind == "real" or not term.real_only:
                key = keys(f"augment/{term.name}/{kind}")
                examples = term.apply(key, examples, step, memory.get(term.name))
        return gan.packed(middle + half * examples)

    return seen(real, "real"), seen(fake, "fake")


def adapted(
    gan: GAN, memory: dict, real_logits: Array, num: int
) -> tuple[dict, Metrics]:
    """Lets augmentations adapt to how D judges `num` real examples.

    Returns:
      The new memory, and as metrics `NAME_p`, the probability of each of them.
    """
    metrics = {}
    for term in gan.augment:
        if term.adapt:
            settings = dict(term.settings)
            moved = term.adapt(memory[term.name], real_logits, num, **settings)
            memory = memory | {term.name: moved}
            metrics[f"{term.name}_p"] = moved["p"]
    return memory, metrics


# --- Penalties ----------------------------------------------------------------------


# What the discriminator sows for each function that a penalty may ask for.
_SOWN = {"features": "features", "classify": "class_logits"}


def asked_by(gan: GAN, player: str) -> set[str]:
    """Returns the names of all that the penalties of a player ask for."""
    return {a for term in gan.penalties if player in term.players for a in term.asks}


def sown_for(asked: set[str]) -> list[str]:
    """Returns what the discriminator must sow for what penalties ask for."""
    return [_SOWN[name] for name in sorted(asked & _SOWN.keys())]


def asks_for_slopes(asked: set[str]) -> bool:
    """Tells if penalties ask for the gradient of the loss's logits by examples."""
    return bool(asked & {"real_slope", "fake_slope"})


def with_slopes(
    gan: GAN, asked: set[str], judged: Callable, real: Array, fake: Array
) -> tuple[tuple[Judged, Judged], dict[str, Callable]]:
    """Runs the discriminator, differentiably by the examples if penalties ask for it.

    Logits and their gradient by the examples then come from one pass.

    Args:
      gan: the static half.
      asked: the names of what penalties ask for.
      judged: the pass, `(real, fake) -> (Judged, Judged)`.
      real: `[batch, *shape]`, before augmentation.
      fake: `[batch, *shape]`, likewise.

    Returns:
      What `judged` returns, and the slopes of `Context` by their names.
    """
    if not asks_for_slopes(asked):
        return judged(real, fake), {}

    def of_logits(real, fake):
        both = judged(real, fake)
        return tuple(of_kind.logits for of_kind in both), both

    logits, pull_back, both = jax.vjp(of_logits, real, fake, has_aux=True)
    of_real, of_fake = ((jnp.ones_like(x), jnp.zeros_like(x)) for x in logits)

    def real_slope():
        return gan.packed(pull_back((of_real[0], of_fake[1]))[0])

    def fake_slope():
        return gan.packed(pull_back((of_real[1], of_fake[0]))[1])

    return both, {"real_slope": real_slope, "fake_slope": fake_slope}


def context_of(
    gan: GAN,
    player: str,
    d: Variables,
    g: Variables,
    key: Array,
    passes: tuple[Judged, Judged],
    fixed: tuple[str, ...] = (),
    **fields,
) -> Context:
    """Returns what penalties may ask for, except their own key and memory.

    Args:
      gan: the static half.
      player: whose objective it is, 'd' or 'g'.
      d: the discriminator's variables.
      g: the generator's.
      key: for the random streams of both networks.
      passes: what D gave for real and for fake examples in the pass of the loss. A
        penalty that asks for what it saw there gets that, and no other pass.
      fixed: collections of statistics that the discriminator leaves unchanged.
      **fields: further fields of `Context`; its `fake` is `[batch, *shape]`.
    """
    condition, of_real, of_fake = fields["condition"], *passes
    seen = (of_real, condition), (of_fake, fields["fake_condition"])

    def judged(x, condition, names=()):
        for found, told in seen:
            if x is found.examples and condition is told:
                return found
        return judge(gan, d, x, condition, names, fixed=fixed, key=key)

    def critic(x, condition=condition):
        return judged(x, condition).logits

    def sown(name):
        return lambda x, condition=condition: judged(x, condition, [name]).sown[name]

    def generator(z, condition=condition):
        return generate(gan, g, z, condition, key=key)[0]

    real, fake = gan.packed(fields["example"]), gan.packed(fields.pop("fake"))
    fields |= {"real_logits": of_real.logits, "fake_logits": of_fake.logits}
    fields |= {"real_seen": of_real.examples, "fake_seen": of_fake.examples}
    fields |= {"generator": generator, "memory": None}
    fields |= {name: sown(of_d) for name, of_d in _SOWN.items()}
    fields |= {"space": gan.example, "player": player}
    return Context(critic, real, fake, key, **fields)


def penalised(
    gan: GAN, context: Context, keys: Keys, memory: dict
) -> tuple[Array | float, dict, Metrics]:
    """Adds up the penalties of a player.

    Returns:
      The weighted sum of their means, the new memory, and the mean of each.
    """
    cost, metrics = 0.0, {}
    prefix = "penalty_" if context.player == "d" else "g_penalty_"
    for penalty in gan.penalties:
        if context.player in penalty.players:
            name = penalty.name
            asked = context._replace(key=keys(f"penalty/{name}"))
            mean, moved = _if_due(penalty, asked, memory.get(name))
            memory = memory if moved is None else memory | {name: moved}
            cost += penalty.weight * mean
            metrics[prefix + name] = mean
    return cost, memory, metrics


def _if_due(penalty: Penalty, context: Context, memory):
    """Returns the mean of a penalty, 0 in a step where it is not due, and its memory.

    It is due in every `every`-th step, and then counts `every` times.
    """

    def mean(key, memory):
        values, memory = penalty.values(context._replace(key=key, memory=memory))
        # Else Shardy gathers what the gradient keeps of the batch, on GPUs.
        values = mesh.split_batch(values, axis=0)
        return penalty.every * values.mean(), memory

    if penalty.every == 1:
        return mean(context.key, memory)
    due = context.step % penalty.every == 0
    return lax.cond(due, mean, lambda key, memory: (0.0, memory), context.key, memory)


def constrained(gan: GAN, params, step: Array):
    """Projects the discriminator's parameters onto the constraints that are due."""
    for constraint in gan.constraints:
        keep = functools.partial(jnp.where, step % constraint.every == 0)
        params = jax.tree.map(keep, constraint(params), params)
    return params


# --- The equilibrium ----------------------------------------------------------------


def equilibrium(gan: GAN, real_logits: Array, fake_logits: Array) -> Metrics:
    """Returns what shows the distance from the equilibrium D = 1/2, V = -log 4.

    A critic, whose logits are not log-odds, has neither D(x) nor V: its mean values
    meet at the equilibrium, where it ranks half of the pairs rightly.
    """
    if not gan.log_odds:
        higher, lower = real_logits > fake_logits, real_logits < fake_logits
        return {
            "critic_real": real_logits.mean(),
            "critic_fake": fake_logits.mean(),
            "d_accuracy": (1 + higher.mean() - lower.mean()) / 2,
        }
    real, fake = jax.nn.log_sigmoid(real_logits), jax.nn.log_sigmoid(-fake_logits)
    right = (real_logits > 0).mean() + (fake_logits <= 0).mean()
    return {
        "value": real.mean() + fake.mean(),
        "d_real": jax.nn.sigmoid(real_logits).mean(),
        "d_fake": jax.nn.sigmoid(fake_logits).mean(),
        "d_accuracy": right / 2,
    }
