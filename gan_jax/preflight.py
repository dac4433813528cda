"""Checks a GAN by abstract evaluation: nothing is computed and nothing compiled."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gan_jax.errors import UserError
from gan_jax.gan import GAN
from gan_jax.resolve import one_line
from gan_jax.sharding import DATA


def check(gan: GAN, batch_size: int, mesh: jax.sharding.Mesh) -> None:
    """Checks that the networks, the loss and the penalties fit each other.

    Args:
      gan: what to check.
      batch_size: the shapes are those of a batch of this size.
      mesh: the devices that it is trained on.

    Raises:
      UserError: a part raises, or returns another shape than it must; or the devices
        cannot share a batch evenly.
    """
    if len(gan.shape) == 3 and gan.range is None:
        raise UserError(
            "generator.output is 'linear', which is for points: images need 'tanh' "
            "or 'sigmoid'"
        )
    if batch_size % mesh.shape[DATA]:
        raise UserError(
            f"batch_size is {batch_size}: it must be a multiple of the number of "
            f"devices that share it ({mesh.shape[DATA]})"
        )
    _check_networks(gan, batch_size)
    _check_objective(gan, batch_size)
    _check_optimizers(gan)


def _check_networks(gan: GAN, batch_size: int) -> None:
    latents = _float(batch_size, gan.latent.size)
    logits, batch = _float(batch_size), _float(batch_size, *gan.shape)
    for name, module, given, wanted in (
        ("Generator", gan.generator, latents, batch),
        ("Discriminator", gan.discriminator, batch, logits),
    ):
        arguments = (_key(), given, _labels(batch_size))
        _expect(f"the model's {name}", _applied(module), arguments, wanted)


def _check_objective(gan: GAN, batch_size: int) -> None:
    logits, batch = _float(batch_size), _float(batch_size, *gan.shape)
    for player, function in gan.loss._asdict().items():
        _expect(f"the loss's {player}", function, (logits, logits), logits)

    discriminator = _applied(gan.discriminator)
    for penalty in gan.penalties:

        def penalise(real, fake, key, labels, penalty=penalty):
            def critic(x):
                return discriminator(key, x, labels)

            return penalty.function(critic, real, fake, key)

        arguments = (batch, batch, _key(), _labels(batch_size))
        _expect(f"the penalty {penalty.name!r}", penalise, arguments, logits)


def _check_optimizers(gan: GAN) -> None:
    params = _float(1)
    for name, tx in (("optimizer", gan.g_tx), ("d_optimizer", gan.d_tx)):

        def update(params, tx=tx):
            return tx.update(params, tx.init(params), params)[0]

        _expect(f"the {name}", update, (params,), params)


def _applied(module) -> Callable:
    """Returns the module as a function of (key, input, labels), fresh each time."""

    def apply(key, x, labels):
        return module.init_with_output(key, x, labels, train=True)[0]

    return apply


def _key():
    return jax.eval_shape(jax.random.key, 0)


def _labels(batch_size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((batch_size,), jnp.int32)


def _float(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _expect(what: str, function: Callable, given: tuple, wanted) -> None:
    try:
        got = jax.eval_shape(function, *given)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} fails: {one_line(error)}") from error
    if getattr(got, "shape", None) != wanted.shape:
        got = getattr(got, "shape", got)
        raise UserError(
            f"{what} returns shape {got} for a batch of {wanted.shape[0]}; it must "
            f"return {wanted.shape}"
        )
