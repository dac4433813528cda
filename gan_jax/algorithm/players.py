"""The two players at work: generating examples, judging them, drawing from a run."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.keys import purpose_key
from gan_jax.algorithm.spaces import Classes
from gan_jax.algorithm.state import TrainState
from gan_jax.devices import mesh
from gan_jax.errors import UserError
from gan_jax.layers.spectral import COLLECTION as SPECTRAL

Variables = Mapping[str, Any]

_SOWN = "intermediates"  # where a network leaves what is not its output


def generate(
    gan: GAN,
    variables: Variables,
    latents: Array,
    condition: Array | None = None,
    *,
    train: bool = True,
    key: Array | None = None,
) -> tuple[Array, dict]:
    """Runs the generator.

    Args:
      gan: the static half.
      variables: `{'params': ..., **stats}`, such as `state.ema`.
      latents: `[batch, latent size]`.
      condition: `[batch, ...]` for a conditional GAN.
      train: whether batch statistics are those of this batch.
      key: a PRNG key for the network's random streams, if it has any.

    Returns:
      Examples `[batch, *shape]`, and the new statistics.
    """
    return _apply(gan, gan.generator, variables, latents, condition, train, (), key)


def discriminate(
    gan: GAN,
    variables: Variables,
    examples: Array,
    condition: Array | None = None,
    *,
    train: bool = True,
    fixed: tuple[str, ...] = (),
    key: Array | None = None,
) -> tuple[Array, dict]:
    """Runs the discriminator.

    Args:
      gan: the static half.
      variables: the discriminator's, `{'params': ..., **stats}`.
      examples: `[batch, *packed shape]`, stored or as networks see them.
      condition: `[batch, ...]` for a conditional GAN, likewise.
      train: whether batch statistics are those of this batch; if not, they are the
        running ones, and no statistic changes.
      fixed: collections of statistics that this pass leaves unchanged.
      key: as for `generate`.

    Returns:
      Logits `[judgements]`, those of the first example first, and the new statistics.
    """
    judged = judge(
        gan, variables, examples, condition, train=train, fixed=fixed, key=key
    )
    return judged.logits, judged.stats


class Judged(NamedTuple):
    """What a pass of the discriminator gives.

    Attributes:
      logits: `[judgements]`, those of the first example first.
      sown: `[batch, ...]` of each name that was asked for.
      stats: the new statistics.
      examples: `[batch, *packed shape]`, what was judged.
    """

    logits: Array
    sown: dict[str, Array]
    stats: dict
    examples: Array


def judge(
    gan: GAN,
    variables: Variables,
    examples: Array,
    condition: Array | None,
    names: Sequence[str] = (),
    *,
    train: bool = True,
    fixed: tuple[str, ...] = (),
    key: Array | None = None,
) -> Judged:
    """Runs the discriminator, and keeps what it sows beside its logits.

    Args:
      gan: the static half.
      variables: as for `discriminate`, as are the others.
      examples: `[batch, *packed shape]`.
      condition: `[batch, ...]` for a conditional GAN.
      names: what it must sow, such as `features`, see gan_jax.models.
      train: see there.
      fixed: see there.
      key: see there.

    Raises:
      UserError: it sows nothing of such a name.
    """
    network, x = gan.discriminator, gan.example.encode(examples)
    if gan.condition is not None:
        condition = gan.condition.encode(condition)
    if names:
        variables = {**variables, _SOWN: {}}
    logits, stats = _apply(gan, network, variables, x, condition, train, fixed, key)
    sown = stats.pop(_SOWN, {})
    # The one place that knows of patches and frames: a network may return logits
    # `[batch, ...]` of any shape, or several such arrays.
    rows = [leaf.reshape(x.shape[0], -1) for leaf in jax.tree.leaves(logits)]
    logits = jnp.concatenate(rows, 1).reshape(-1)
    sown = {name: _found(sown, name) for name in names}
    return Judged(logits, sown, stats, examples)


def judge_both(
    gan: GAN,
    variables: Variables,
    real: Array,
    fake: Array,
    conditions: tuple[Array | None, Array | None],
    key: Array,
    names: Sequence[str] = (),
    apart: bool = False,
) -> tuple[Judged, Judged]:
    """Runs the discriminator on real and on generated examples.

    Each kind has its own batch statistics. Singular vectors make one step. A network
    that treats examples independently gets both in one batch, unless they are to be
    kept apart, so that each can be differentiated by its own examples.

    Args:
      gan: the static half.
      variables: the discriminator's.
      real: `[batch, *packed shape]`.
      fake: `[batch, *packed shape]`.
      conditions: those of `real` and those of `fake`.
      key: as for `generate`.
      names: as for `judge`.
      apart: whether each kind has a batch of its own whatever the network is.

    Returns:
      Both; the new statistics are those of the second.
    """
    of_real, of_fake = conditions
    if apart or not getattr(gan.discriminator, "per_example", False):
        keys = jax.random.split(key)
        first = judge(gan, variables, real, of_real, names, key=keys[0])
        variables = {"params": variables["params"], **first.stats}
        fixed = (SPECTRAL,)
        return first, judge(
            gan, variables, fake, of_fake, names, fixed=fixed, key=keys[1]
        )

    def pairs(x, y):  # one batch, in pairs: on a mesh each device keeps its examples
        return jnp.stack([x, y], 1).reshape(-1, *x.shape[1:])

    condition = None if of_real is None else pairs(of_real, of_fake)
    both = judge(gan, variables, pairs(real, fake), condition, names, key=key)
    # A row holds what belongs to a real example, then what belongs to a fake one.
    logits = both.logits.reshape(len(real), 2, -1)
    return tuple(
        Judged(
            logits[:, i].reshape(-1),
            {name: leaf[i::2] for name, leaf in both.sown.items()},
            both.stats,
            examples,
        )
        for i, examples in enumerate((real, fake))
    )


def _found(sown: Mapping, name: str) -> Array:
    for path, leaf in jax.tree_util.tree_leaves_with_path(sown):
        if any(getattr(part, "key", None) == name for part in path):
            return leaf.astype(jnp.float32)
    hint = (
        "conditioning='auxiliary'" if name == "class_logits" else "see gan_jax.models"
    )
    raise UserError(f"the discriminator does not sow {name!r}: {hint}")


def stream_keys(key: Array) -> dict[str, Array]:
    """Returns the keys of a network's random streams, whatever their names are.

    Flax draws a stream that has no key of its own from `params` (Linen) or `default`
    (NNX). `dropout` has its own, which lifted transforms can split.
    """
    others = ("dropout", "default")
    return {"params": key} | {name: purpose_key(key, 0, name) for name in others}


# --- Samples ------------------------------------------------------------------------


def draw(
    gan: GAN,
    state: TrainState,
    key: Array,
    num: int,
    condition: Array | None = None,
    truncation: float = 1.0,
) -> Array:
    """Draws examples from the averaged generator.

    Args:
      gan: the static half.
      state: the array half.
      key: a PRNG key; the same gives the same latents at every step of a run.
      num: how many; static under `jit`.
      condition: `[num, ...]` for a conditional GAN, as it is stored; by default each
        class in turn.
      truncation: of the prior, see `Latent.sample`; static under `jit`.

    Returns:
      `[num, *shape]` as they are stored: uint8 for images.

    Raises:
      UserError: the condition is no class, and none is given.
    """
    if condition is None and gan.condition is not None:
        condition = _each_class(gan.condition, num)
    return render(gan, state, gan.latent.sample(key, num, truncation), condition, key)


def sample_grid(
    gan: GAN, state: TrainState, num: int, condition: Array | None = None
) -> Array:
    """Draws `num` examples as a run shows them: of the same latents at every step."""
    return draw(gan, state, purpose_key(state.key, 0, "samples"), num, condition)


def render(
    gan: GAN,
    state: TrainState,
    latents: Array,
    condition: Array | None = None,
    key: Array | None = None,
) -> Array:
    """Runs the averaged generator on latents `[num, size]`, as `draw` does.

    Args:
      gan: the static half.
      state: the array half.
      latents: `[num, size]`.
      condition: `[num, ...]` for a conditional GAN, as it is stored.
      key: a PRNG key for the generator's random streams, if it has any.
    """
    if gan.condition is not None:
        condition = gan.condition.encode(condition)
    examples, _ = generate(gan, state.ema, latents, condition, train=False, key=key)
    return gan.example.decode(examples)


def _each_class(space, num: int) -> Array:
    if not isinstance(space, Classes):
        raise UserError(
            f"samples need a condition: {num} stored values of {space}, one for each"
        )
    return jnp.arange(num) % space.num_classes


def _apply(gan: GAN, network, variables, x, condition, train, fixed, key):
    """Applies a network in the GAN's precision; everything else stays float32."""
    condition = condition if gan.condition is not None else None
    variables = mesh.whole(dict(variables))
    stats = {name: value for name, value in variables.items() if name != "params"}

    def lowered(a):
        return a.astype(gan.dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

    params, x, condition = jax.tree.map(lowered, (variables["params"], x, condition))
    output, moved = network.apply(
        {**stats, "params": params},
        x,
        condition,
        train=train,
        mutable=[name for name in stats if train and name not in fixed],
        rngs=None if key is None else stream_keys(key),
    )
    output = jax.tree.map(lambda y: y.astype(jnp.float32), output)
    return output, stats | moved
