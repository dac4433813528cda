"""Checks a GAN by abstract evaluation: nothing is computed and nothing compiled."""

import functools
from collections.abc import Callable
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp

from gan_jax.algorithm import objectives, players, steps
from gan_jax.algorithm.dynamics import alternating
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.spaces import Classes
from gan_jax.algorithm.state import TrainState
from gan_jax.devices.mesh import DATA
from gan_jax.errors import UserError, one_line, place_in, place_of
from gan_jax.layers.norm import COLLECTION as BATCH
from gan_jax.objective.terms import Penalty


def check(gan: GAN, batch_size: int, mesh: jax.sharding.Mesh) -> None:
    """Checks that the networks, the loss, the terms and the dynamics fit each other.

    Args:
      gan: what to check.
      batch_size: the shapes are those of a batch of this size.
      mesh: the devices that it is trained on.

    Raises:
      UserError: a part raises, or returns another shape than it must; or the devices
        cannot share a batch evenly.
    """
    parts = gan.accumulate * gan.pack
    if batch_size % (mesh.shape[DATA] * parts):
        times = f" times accumulate * pack ({parts})" if parts > 1 else ""
        raise UserError(
            f"batch_size is {batch_size}: it must be a multiple of the number of "
            f"devices that share it ({mesh.shape[DATA]}){times}"
        )
    part = batch_size // gan.accumulate
    check_generator(gan, part)
    judgements = _check_discriminator(gan, part)
    _check_loss(gan, judgements)
    check_optimizers(gan)
    for term in (*gan.penalties, *gan.augment):
        start = functools.partial(jax.tree.map, jnp.float32, term.initial)
        _traced(f"initial= of the {term.kind} {term.name!r}", start)
    state = _traced("the first state", steps.init_state, gan, _key())
    _check_per_example(gan, state)
    _check_sampling(gan, state, part)
    _check_augmentations(gan, state, part)
    _check_constraints(gan, state)
    _check_penalties(gan, state, part, judgements)
    if gan.dynamics != alternating:  # which is known to fit
        _check_dynamics(gan, state, batch_size)


def check_generator(gan: GAN, num: int) -> None:
    """Checks that the generator makes `num` examples of the GAN's space.

    Raises:
      UserError: it does not.
    """
    arguments = (_key(), _float(num, gan.latent.size), _condition(gan, num))
    wanted = _float(num, *gan.example.shape)
    _expect("the model's Generator", _applied(gan.generator), arguments, wanted)


def check_optimizers(gan: GAN) -> None:
    """Checks that both players' optimizers make updates.

    Raises:
      UserError: one does not.
    """
    params = _float(1)
    for name, tx in (("optimizer", gan.g_tx), ("d_optimizer", gan.d_tx)):

        def update(params, tx=tx):
            return tx.update(params, tx.init(params), params)[0]

        _expect(f"the {name}", update, (params,), params)


def _check_discriminator(gan: GAN, num: int) -> int:
    """Returns how many judgements D makes of a batch of `num` examples."""
    title, packs = "the model's Discriminator", num // gan.pack
    # An unconditional GAN alone has packs: the condition is one of each example.
    examples = _float(packs, *gan.packed_shape)
    arguments = (_key(), examples, _condition(gan, num))
    logits = _traced(title, _applied(gan.discriminator), *arguments)
    leaves = jax.tree.leaves(logits)
    for leaf in leaves or [logits]:
        if getattr(leaf, "shape", ())[:1] != (packs,):
            raise UserError(
                f"{title} returns shape {getattr(leaf, 'shape', leaf)} for a batch of "
                f"{packs}; it must return ({packs},), or ({packs}, ...) for several "
                "logits of each example"
            )
    auxiliary = getattr(gan.discriminator, "conditioning", "") == "auxiliary"
    if auxiliary and not any("classify" in term.asks for term in gan.penalties):
        raise UserError(
            "discriminator conditioning='auxiliary' has a classifier that nothing "
            "trains: add --config.penalties=auxiliary_classifier"
        )
    return sum(leaf.size for leaf in leaves)


def _check_per_example(gan: GAN, state: TrainState) -> None:
    if getattr(gan.discriminator, "per_example", False) and BATCH in state.d.stats:
        raise UserError(
            "the model's Discriminator has per_example = True and normalises over the "
            "batch, so its logit of an example depends on the others: remove "
            "per_example"
        )


def _check_sampling(gan: GAN, state: TrainState, num: int) -> None:
    """Traces what draws a sample grid, and the discriminator's evaluation."""
    condition = None
    if gan.condition is not None and not isinstance(gan.condition, Classes):
        shape, dtype = gan.condition.shape, gan.condition.stored_dtype
        condition = jax.ShapeDtypeStruct((num, *shape), dtype)

    def grid(state, condition):
        return players.sample_grid(gan, state, num, condition)

    def judge(state, x, condition, key):
        d = state.d.variables
        return players.discriminate(gan, d, x, condition, train=False, key=key)

    sampled = _traced_in_sampling("Generator", grid, state, condition)
    if sampled.shape != (num, *gan.example.shape):
        raise UserError(
            f"the model's Generator returns shape {sampled.shape} with train=False for "
            f"a batch of {num}; it must return {(num, *gan.example.shape)}"
        )
    packs = _float(num // gan.pack, *gan.packed_shape)
    arguments = (state, packs, _condition(gan, num), _key())
    _traced_in_sampling("Discriminator", judge, *arguments)


def _traced_in_sampling(name: str, function: Callable, *arguments) -> Any:
    """Traces a network with train=False.

    Raises:
      UserError: it works in training alone; says why, and what to change.
    """
    title = f"the model's {name}, called with train=False,"
    try:
        return jax.eval_shape(function, *arguments)
    except flax.errors.ModifyScopeVariableError as error:
        raise UserError(
            f"{title} changes its statistics, as nn.BatchNorm does: pass it "
            f"use_running_average=not train{place_in(error)}"
        ) from error
    except flax.errors.ScopeParamNotFoundError as error:
        raise UserError(
            f"{title} has parameters that it has not with train=True{place_in(error)}"
        ) from error
    except Exception as error:
        raise UserError(f"{title} fails: {one_line(error)}") from error


def _check_loss(gan: GAN, judgements: int) -> None:
    logits = _float(judgements)
    for player in ("d", "g"):
        function = getattr(gan.loss, player)
        found = _traced(f"the loss's {player}", function, logits, logits)
        if getattr(found, "shape", None) != logits.shape:
            raise _wrong_shape(f"the loss's {player}", found, logits.shape, function)


def _check_augmentations(gan: GAN, state: TrainState, num: int) -> None:
    examples = _float(num, *gan.example.shape)
    for term in gan.augment:
        title = f"the augmentation {term.name!r}"
        arguments = (_key(), examples, state.step, state.memory.get(term.name))
        _expect(title, term.apply, arguments, examples)


def _check_constraints(gan: GAN, state: TrainState) -> None:
    params = state.d.params
    for constraint in gan.constraints:
        title = f"the constraint {constraint.name!r}"
        if _shapes(_traced(title, constraint, params)) != _shapes(params):
            raise UserError(f"{title} returns another kind of tree than it gets")


def _check_penalties(gan: GAN, state: TrainState, num: int, judgements: int) -> None:
    arrays = _arrays(gan, state, num)
    shapes = (num // gan.pack,), (judgements,)
    for penalty in gan.penalties:
        for player in penalty.players:
            _check_penalty(gan, state, penalty, player, arrays, shapes)


def _check_penalty(
    gan: GAN,
    state: TrainState,
    penalty: Penalty,
    player: str,
    arrays: dict,
    shapes: tuple[tuple[int, ...], ...],
) -> None:
    title, memory = f"the penalty {penalty.name!r}", state.memory.get(penalty.name)
    asked = set(penalty.asks)

    def values(arrays, memory, key, d, g):
        def judged(*kinds):
            how = {"key": key, "names": objectives.sown_for(asked)}
            seen, told = map(gan.packed, kinds), (arrays["condition"],) * 2
            return players.judge_both(gan, d, *seen, told, **how)

        kinds = arrays["example"], arrays["fake"]
        passes, slopes = objectives.with_slopes(gan, asked, judged, *kinds)
        fields = arrays | slopes
        context = objectives.context_of(gan, player, d, g, key, passes, **fields)
        return penalty.values(context._replace(memory=memory))

    arguments = (arrays, memory, _key(), state.d.variables, state.g.variables)
    found, after = _traced(title, values, *arguments)
    if getattr(found, "shape", found) not in shapes:
        raise _wrong_shape(title, found, shapes[0], penalty.function)
    if _shapes(after) != _shapes(memory):
        raise UserError(
            f"{title} returns another kind of memory than it gets: "
            f"{_readable(after)}, not {_readable(memory)}"
        )


def _arrays(gan: GAN, state: TrainState, num: int) -> dict[str, Any]:
    """Returns the shapes of the arrays that a pass of the loss has."""
    examples, condition = _float(num, *gan.example.shape), _condition(gan, num)
    return {
        **{"condition": condition, "fake_condition": condition},
        **{"example": examples, "sample": examples, "fake": examples},
        "latents": _float(num, gan.latent.size),
        "params": state.d.params,
        "step": state.step,
    }


def _check_dynamics(gan: GAN, state: TrainState, batch_size: int) -> None:
    """Checks that a step leaves a state like the one before."""
    size = batch_size * gan.d_updates
    batch = {"example": _float(size, *gan.example.shape)}
    if gan.condition is not None:
        batch["condition"] = _condition(gan, size)
    made = _traced("the step", gan.dynamics, gan, state, batch)
    if not isinstance(made, tuple) or len(made) != 2:
        raise UserError("the step must return the new state and the metrics")
    after, metrics = made
    if _shapes(after) != _shapes(state):
        raise UserError("the step returns another kind of state than it gets")
    if any(x.shape for x in jax.tree.leaves(metrics)):
        raise UserError("the step returns metrics that are no scalars")


def _shapes(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _readable(tree) -> str:
    """Returns a tree with the shapes and types of its leaves, for a message."""
    return str(jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree))


def _applied(module) -> Callable:
    """Returns the module as a function of (key, input, condition), freshly drawn."""

    def apply(key, x, condition):
        rngs = players.stream_keys(key)
        return module.init_with_output(rngs, x, condition, train=True)[0]

    return apply


def _condition(gan: GAN, num: int) -> jax.ShapeDtypeStruct | None:
    if gan.condition is None:
        return None
    return jax.eval_shape(lambda: gan.condition.zeros(num))


def _key():
    return jax.eval_shape(jax.random.key, 0)


def _float(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _traced(title: str, function: Callable, *arguments) -> Any:
    """Returns the shapes of what a function returns.

    Raises:
      UserError: it raises; names it, and quotes the first line of the reason.
    """
    try:
        return jax.eval_shape(function, *arguments)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{title} fails: {one_line(error)}") from error


def _wrong_shape(title: str, found, wanted: tuple[int], function) -> UserError:
    """Returns the error for values of another shape than one for each judgement."""
    if found is None:
        what = "returns nothing"
    else:
        what = f"returns shape {getattr(found, 'shape', found)}"
    hint = ": drop .mean()" if getattr(found, "shape", None) == () else ""
    return UserError(
        f"{title} {what} for a batch of {wanted[0]}; it must return {wanted}, one "
        f"value per judgement{hint}{place_of(function)}"
    )


def _expect(title: str, function: Callable, arguments: tuple, wanted) -> None:
    found = _traced(title, function, *arguments)
    if getattr(found, "shape", None) != wanted.shape:
        shape = getattr(found, "shape", found)
        raise UserError(
            f"{title} returns shape {shape} for a batch of {wanted.shape[0]}; it must "
            f"return {wanted.shape}"
        )
