"""Builds a GAN from names, as configs do."""

import functools
import inspect
from types import ModuleType

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gan_jax import models
from gan_jax.algorithm import dynamics
from gan_jax.build import objectives as objective, optimizers as optim, names as resolve
from gan_jax.objective import terms
from gan_jax.errors import UserError, unknown
from gan_jax.algorithm.average import Average
from gan_jax.algorithm.gan import GAN, RANGES, Penalty
from gan_jax.algorithm.latents import PRIORS, Latent
from gan_jax.objective.losses import Loss

PRECISIONS = ("float32", "bfloat16")


def build(
    *,
    shape: tuple[int, ...],
    num_classes: int = 0,
    model: str | ModuleType = "dcgan",
    width: int = 64,
    generator: str = "",
    discriminator: str = "",
    latent_size: int = 100,
    latent: str = "normal",
    loss: str | Loss = "non_saturating",
    penalties: str = "",
    augment: str = "",
    optimizer: str = "adam(learning_rate=2e-4, b1=0.5, b2=0.999)",
    d_optimizer: str = "",
    schedule: str = "constant",
    step: str = "alternating",
    num_steps: int = 1,
    d_updates: int = 1,
    pack: int = 1,
    replay: int = 0,
    accumulate: int = 1,
    precision: str = "float32",
    ema_decay: float = 0.999,
    ema_halflife: float = 0.0,
    ema_rampup: float = 0.05,
) -> GAN:
    """Builds a GAN from names, as configs do, or from your own objects.

    Args:
      shape: of one example: `(height, width, channels)`, or `(2,)` for points.
      num_classes: 0 for an unconditional GAN.
      model: a module of gan_jax.models, your own file, or any object with a
        `Generator` and a `Discriminator`.
      width: of both networks, where they have that field.
      generator: further fields of the generator, `'depth=3, output="sigmoid"'`.
      discriminator: further fields of the discriminator.
      latent_size: coordinates of a latent.
      latent: the prior, 'normal' or 'uniform'.
      loss: a name in gan_jax.objective.losses, your own `file.py:name`, each with its transforms
        after it, or a `Loss`.
      penalties: `'r1'`, or `'r1(weight=5, every=16), gradient_penalty'`.
      augment: of what the discriminator sees, `'color, translation, cutout'`.
      optimizer: of optax, with its arguments.
      d_optimizer: the discriminator's, '' for the same.
      schedule: of the learning rate, 'constant', or 'linear' or 'cosine' to zero, each
        with `(warmup=STEPS)` if need be.
      step: how the players move, a name in gan_jax.algorithm.dynamics or your own.
      num_steps: generator updates until a schedule ends.
      d_updates: discriminator updates to each generator update.
      pack: examples that the discriminator sees as one.
      replay: how many earlier samples are kept to be shown again, 0 for none.
      accumulate: parts of a batch whose gradients are taken one after the other.
      precision: that the networks compute in, 'float32' or 'bfloat16'.
      ema_decay: of the averaged generator.
      ema_halflife: in images as a run counts them, those of all of D's updates; in
        place of `ema_decay` where it is above 0.
      ema_rampup: the half-life is at most this share of the images seen so far.

    Raises:
      UserError: a name is unknown, or its arguments do not fit.
    """
    if latent not in PRIORS:
        raise unknown("latent", latent, PRIORS)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if isinstance(model, str):
        model = resolve.module("model", model, models)
    common = {"shape": tuple(shape), "num_classes": num_classes, "width": width}
    points = {"output": "linear"} if len(shape) == 1 else {}
    packed = {"shape": (*shape[:-1], pack * shape[-1])}
    moves = _step(step)
    evaluations = getattr(moves, "evaluations", 1)  # of the optimizers in an update
    regular, constraints = objective.build_penalties(penalties)
    gan = GAN(
        shape=tuple(shape),
        num_classes=num_classes,
        generator=_network(model, "Generator", {**common, **points}, generator),
        discriminator=_network(
            model, "Discriminator", {**common, **packed}, discriminator
        ),
        g_tx=optim.build(optimizer, schedule, num_steps, evaluations),
        d_tx=optim.build(
            d_optimizer or optimizer, schedule, num_steps, d_updates * evaluations
        ),
        loss=objective.build_loss(loss)
        if isinstance(loss, str)
        else objective.checked(loss),
        penalties=regular,
        constraints=constraints,
        augment=objective.build_augment(augment),
        latent=Latent(latent_size, latent),
        step=moves,
        d_updates=d_updates,
        pack=pack,
        replay=replay,
        accumulate=accumulate,
        dtype=precision,
        ema=Average(ema_decay, ema_halflife, ema_rampup),
    )
    _check_sense(gan)
    return gan


def from_config(config: ConfigDict, shape: tuple[int, ...], num_classes: int) -> GAN:
    """Builds the GAN that a config describes for examples of `shape`.

    Args:
      config: an experiment.
      shape: of one example of its data.
      num_classes: of its data; used where the config asks for a conditional GAN.

    Raises:
      UserError: as `build`; or a conditional GAN is asked for and there are no labels.
    """
    if config.conditional and not num_classes:
        raise UserError("conditional is True and the data has no class labels")
    given = {
        key: config[key] for key in inspect.signature(build).parameters if key in config
    }
    return build(
        **given,
        shape=shape,
        num_classes=num_classes if config.conditional else 0,
    )


def _network(model, name: str, common: dict, text: str) -> nn.Module:
    called = getattr(model, "__name__", str(model)).rpartition(".")[2]
    network = getattr(model, name, None)
    if network is None:
        raise UserError(f"the model {called} does not define {name}")
    what, given = f"{called}.{name}", resolve.parse_keywords(text)
    resolve.accepted(network, given, what, ("parent", "name", "shape", "num_classes"))
    fields = inspect.signature(network).parameters
    made = network(**{k: v for k, v in common.items() if k in fields} | given)
    output = str(getattr(made, "output", "tanh"))
    if output not in RANGES:
        raise unknown(f"output of {what}", output, RANGES)
    return made


def _step(text: str):
    """Returns how the players move: `'alternating'`, or `'unrolled(k=5)'`."""
    name, how = optim.one_call("step", text, "NAME or NAME(setting=...)")
    ours = {getattr(dynamics, name) for name in dynamics.__all__}

    def is_one(value):
        return inspect.isfunction(value) and value in ours

    function = resolve.attribute("step", name, dynamics, is_one)
    if not callable(function):
        raise UserError(f"step {name!r} is no function")
    valid = terms.settings_of("step", name, function)
    for key in how:
        if key not in valid:
            raise unknown(f"setting of step {name!r}", key, valid)
    if not how:
        return function
    return functools.update_wrapper(functools.partial(function, **how), function)


# --- What makes no sense ------------------------------------------------------------


def _check_sense(gan: GAN) -> None:
    """Refuses what fits by its shapes, and means nothing or not what it says.

    Raises:
      UserError: says what does not go with what.
    """
    _check_step(gan)
    names = [t.name for t in (*gan.penalties, *gan.augment) if t.start is not None]
    for name in names:
        if name == "replay" or names.count(name) > 1:
            raise UserError(f"two terms would remember something as {name!r}")
    for term in gan.augment:
        if getattr(term.function, "images_only", False) and len(gan.shape) != 3:
            raise UserError(
                f"augmentation {term.name!r} is for images, and these are points"
            )
    if gan.num_classes and gan.pack > 1:
        raise UserError(
            "pack needs an unconditional GAN: the examples of a pack have many labels"
        )
    if gan.num_classes and gan.replay:
        raise UserError(
            "replay needs an unconditional GAN: no labels are kept with the samples"
        )
    for penalty in gan.penalties:
        _check_penalty(gan, penalty)


def _check_penalty(gan: GAN, penalty: Penalty) -> None:
    asked = terms.asks_for(penalty.function)
    if asked & {"labels", "classify"} and not gan.num_classes:
        raise UserError(
            f"penalty {penalty.name!r} needs class labels: set "
            "--config.conditional=True"
        )
    if "generator" in asked and gan.pack > 1:
        raise UserError(
            f"penalty {penalty.name!r} is of single samples: pack must be 1"
        )


def _check_step(gan: GAN) -> None:
    if gan.d_updates > getattr(gan.step, "d_updates", gan.d_updates):
        raise UserError(
            f"step={gan.step.__name__!r} moves both players at once: d_updates must "
            f"be 1, and is {gan.d_updates}"
        )
    if getattr(gan.step, "unrolls", False) and not _is_differentiable(gan.d_tx):
        raise UserError(
            f"step={gan.step.__name__!r} differentiates the discriminator's optimizer, "
            "which has no derivative where a gradient is 0: for adam, add eps_root=1e-8"
        )


def _is_differentiable(tx: optax.GradientTransformation) -> bool:
    """Tells whether an optimizer's update has a derivative at zero gradients."""
    params = jnp.zeros(1)

    def move(gradient):
        update, _ = tx.update(gradient, tx.init(params), params)
        return update.sum()

    try:
        return bool(jnp.isfinite(jax.grad(move)(params)).all())
    except Exception:  # it is no optimizer for this: the preflight says so
        return True
