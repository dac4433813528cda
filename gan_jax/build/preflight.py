"""Checks a GAN by abstract evaluation: nothing is computed and nothing compiled."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gan_jax.algorithm import objectives as game, steps
from gan_jax.errors import UserError
from gan_jax.algorithm.gan import GAN
from gan_jax.errors import one_line
from gan_jax.devices.mesh import DATA
from gan_jax.algorithm.steps import alternating
from gan_jax.objective.terms import asks_for


def check(gan: GAN, batch_size: int, mesh: jax.sharding.Mesh) -> None:
    """Checks that the networks, the loss, the terms and the step fit each other.

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
    _check_discriminator(gan, part)
    _check_loss(gan, part)
    check_optimizers(gan)
    _check_terms(gan, part)
    if gan.step is not alternating:
        _check_step(gan, batch_size)


def check_generator(gan: GAN, num: int) -> None:
    """Checks that the generator makes `num` examples of the GAN's shape.

    Raises:
      UserError: it does not.
    """
    if len(gan.shape) == 3 and gan.range is None:
        raise UserError(
            "generator.output is 'linear', which is for points: images need 'tanh' "
            "or 'sigmoid'"
        )
    arguments = (_key(), _float(num, gan.latent.size), _labels(num))
    wanted = _float(num, *gan.shape)
    _expect("the model's Generator", _applied(gan.generator), arguments, wanted)


def _check_discriminator(gan: GAN, num: int) -> None:
    module, wanted = gan.discriminator, _logits(gan, num)
    arguments = (_key(), _packs(gan, num), _labels(num))
    _expect("the model's Discriminator", _applied(module), arguments, wanted)
    asked = [asks_for(penalty.function) for penalty in gan.penalties]
    auxiliary = getattr(module, "conditioning", "") == "auxiliary"
    if auxiliary and not any("classify" in names for names in asked):
        raise UserError(
            "discriminator conditioning='auxiliary' has a classifier that nothing "
            "trains: add --config.penalties=auxiliary_classifier"
        )


def _check_loss(gan: GAN, batch_size: int) -> None:
    logits = _logits(gan, batch_size)
    for player in ("d", "g"):
        function = getattr(gan.loss, player)
        _expect(f"the loss's {player}", function, (logits, logits), logits)


def _check_terms(gan: GAN, batch_size: int) -> None:
    logits, packs = _logits(gan, batch_size), _packs(gan, batch_size)
    batch, step = _float(batch_size, *gan.shape), jax.ShapeDtypeStruct((), jnp.int32)
    state = _traced("the first state", steps.init_state, gan, _key())
    for term in gan.augment:
        memory = state.memory.get(term.name)

        def augment(examples, step, key, memory, term=term):
            return term(key, examples, step=step, memory=memory)

        arguments = (batch, step, _key(), memory)
        _expect(f"the augmentation {term.name!r}", augment, arguments, batch)
    for constraint in gan.constraints:
        what = f"the constraint {constraint.name!r}"
        if _shapes(_traced(what, constraint, state.d.params)) != _shapes(
            state.d.params
        ):
            raise UserError(f"{what} returns another kind of tree than it is given")
    given = {"real": packs, "fake": packs, "real_logits": logits, "fake_logits": logits}
    given["labels"] = _labels(batch_size)
    given["latents"] = _float(batch_size, gan.latent.size)
    for penalty in gan.penalties:

        def penalise(state, given, key, penalty=penalty):
            asked = game.views(
                gan, *map(game.variables, (state.d, state.g)), given["labels"], key
            )
            asked |= given | {"params": state.d.params}
            own = state.memory.get(penalty.name)
            return game.values_of(penalty, key, own, asked)

        arguments, what = (state, given, _key()), f"the penalty {penalty.name!r}"
        _expect(what, lambda *args: penalise(*args)[0], arguments, logits)
        after = _traced(what, penalise, *arguments)[1]
        if _shapes(after) != _shapes(state.memory.get(penalty.name)):
            raise UserError(f"{what} returns another kind of memory than it is given")


def _check_step(gan: GAN, batch_size: int) -> None:
    """Checks that a step leaves a state like the one before."""
    state = jax.eval_shape(steps.init_state, gan, _key())
    size = batch_size * gan.d_updates
    batch = {"image": _float(size, *gan.shape), "label": _labels(size)}
    made = _traced("the step", gan.step, gan, state, batch)
    if not isinstance(made, tuple) or len(made) != 2:
        raise UserError("the step must return the new state and the metrics")
    after, metrics = made
    if _shapes(after) != _shapes(state):
        raise UserError("the step returns another kind of state than it is given")
    if any(x.shape for x in jax.tree.leaves(metrics)):
        raise UserError("the step returns metrics that are no scalars")


def _shapes(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


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


def _applied(module) -> Callable:
    """Returns the module as a function of (key, input, labels), fresh each time."""

    def apply(key, x, labels):
        rngs = {"params": key, "dropout": key}
        return module.init_with_output(rngs, x, labels, train=True)[0]

    return apply


def _packs(gan: GAN, batch_size: int) -> jax.ShapeDtypeStruct:
    return _float(batch_size // gan.pack, *gan.packed_shape)


def _logits(gan: GAN, batch_size: int) -> jax.ShapeDtypeStruct:
    return _float(batch_size // gan.pack)


def _key():
    return jax.eval_shape(jax.random.key, 0)


def _labels(batch_size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((batch_size,), jnp.int32)


def _float(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _traced(what: str, function: Callable, *given):
    """Returns the shapes of what a function gives.

    Raises:
      UserError: it raises; says what does, and the first line of why.
    """
    try:
        return jax.eval_shape(function, *given)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} fails: {one_line(error)}") from error


def _expect(what: str, function: Callable, given: tuple, wanted) -> None:
    got = _traced(what, function, *given)
    if getattr(got, "shape", None) != wanted.shape:
        got = getattr(got, "shape", got)
        raise UserError(
            f"{what} returns shape {got} for a batch of {wanted.shape[0]}; it must "
            f"return {wanted.shape}"
        )
