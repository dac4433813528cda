"""The two players at work: what G makes of latents, and what D says of examples."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.keys import purpose_key
from gan_jax.algorithm.state import TrainState
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError
from gan_jax.layers.spectral import COLLECTION as SPECTRAL

_SEEN = "intermediates"  # where a network leaves what is not its output


def generate(
    gan: GAN,
    variables,
    latents: Array,
    labels=None,
    *,
    train: bool = True,
    key: Array | None = None,
):
    """Runs the generator.

    Args:
      gan: the static half.
      variables: `{'params': ..., **stats}`, e.g. `state.ema`.
      latents: `[batch, latent size]`.
      labels: `[batch]` for a conditional GAN.
      train: whether batch statistics are the batch's own.
      key: a PRNG key, for a generator with dropout.

    Returns:
      Examples `[batch, *shape]`, and the new statistics.
    """
    return _apply(gan, gan.generator, variables, latents, labels, train, key=key)


def discriminate(
    gan: GAN, params, stats, examples: Array, labels=None, *, fixed: tuple = ()
):
    """Runs the discriminator in training.

    Args:
      gan: the static half.
      params: the discriminator's.
      stats: the discriminator's.
      examples: `[batch, *shape]`, packs of several where the GAN says so.
      labels: `[batch]` for a conditional GAN.
      fixed: collections of `stats` that this pass leaves as they are.

    Returns:
      Logits `[batch]`, and the new statistics.
    """
    variables = {"params": params, **stats}
    return _apply(gan, gan.discriminator, variables, examples, labels, True, fixed)


def discriminate_both(gan: GAN, params, stats, real: Array, fake: Array, labels):
    """Returns the logits of real and of generated examples, and the new statistics.

    Batch statistics are of either's own batch. Singular vectors take one step.
    """
    d = functools.partial(discriminate, gan, params)
    if not getattr(gan.discriminator, "per_example", False):
        real_logits, stats = d(stats, real, labels)
        fake_logits, stats = d(stats, fake, labels, fixed=(SPECTRAL,))
        return real_logits, fake_logits, stats
    # One batch, in pairs, so that on a mesh each device keeps its own examples.
    pairs = jnp.stack([real, fake], 1).reshape(-1, *real.shape[1:])
    labels = None if labels is None else labels.repeat(2)
    logits, stats = d(stats, pairs, labels)
    return *logits.reshape(-1, 2).T, stats


def observe(
    gan: GAN, params, stats, examples: Array, labels, what: str, fixed: tuple = ()
) -> Array:
    """Returns what the discriminator leaves beside its logits, see gan_jax.models.

    Args:
      gan: the static half.
      params: the discriminator's.
      stats: the discriminator's.
      examples: `[batch, *shape]`.
      labels: `[batch]` for a conditional GAN.
      what: the name that it is sown by, such as `features`.
      fixed: collections of `stats` that this pass leaves as they are.

    Raises:
      UserError: it leaves nothing of that name.
    """
    variables = {"params": params, **stats, _SEEN: {}}
    _, moved = _apply(gan, gan.discriminator, variables, examples, labels, True, fixed)
    for path, leaf in jax.tree_util.tree_leaves_with_path(moved[_SEEN]):
        if any(getattr(part, "key", None) == what for part in path):
            return leaf.astype(jnp.float32)
    hint = (
        "conditioning='auxiliary'" if what == "class_logits" else "see gan_jax.models"
    )
    raise UserError(f"the discriminator does not sow {what!r}: {hint}")


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
    return render(gan, state, gan.latent.sample(key, num, truncation), labels, key)


def sheet(gan: GAN, state: TrainState, num: int) -> Array:
    """Draws `num` examples as a run shows them: of the same latents at every step."""
    return draw(gan, state, purpose_key(state.key, 0, "samples"), num)


def render(
    gan: GAN, state: TrainState, latents: Array, labels=None, key: Array | None = None
) -> Array:
    """Runs the averaged generator on `[num, size]` latents, as `draw` does.

    Args:
      gan: the static half.
      state: the array half.
      latents: `[num, size]`.
      labels: `[num]` for a conditional GAN.
      key: a PRNG key; a generator with dropout, which acts in samples too, needs it.
    """
    dropout = None if key is None else purpose_key(key, 0, "dropout")
    examples, _ = generate(gan, state.ema, latents, labels, train=False, key=dropout)
    return gan.to_uint8(examples) if gan.range else examples


def _apply(gan, module, variables, x, labels, train, fixed=(), key=None):
    labels, variables = labels if gan.num_classes else None, sharding.whole(variables)
    stats = {name: value for name, value in variables.items() if name != "params"}
    mutable = [name for name in stats if train and name not in fixed]
    # Parameters, statistics and what is made of the output stay float32.
    low = jax.tree.map(lambda a: a.astype(gan.dtype), (variables["params"], x))
    output, moved = module.apply(
        variables | {"params": low[0]},
        low[1],
        labels,
        train=train,
        mutable=mutable,
        rngs=None if key is None else {"dropout": key},
    )
    return output.astype(jnp.float32), stats | moved
