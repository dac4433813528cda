"""Builds a GAN from names, as configs do."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gan_jax.algorithm.average import Average
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.latents import PRIORS, Latent
from gan_jax.algorithm.spaces import OUTPUTS, Classes, Space
from gan_jax.build import objectives, optimizers
from gan_jax.build.networks import build_networks
from gan_jax.config import default
from gan_jax.errors import UserError, unknown
from gan_jax.objective.losses import (
    Loss,
    compares,
    estimates_log_odds,
    ignores_constants,
)
from gan_jax.objective.terms import Dynamics, Penalty

PRECISIONS = ("float32", "bfloat16")
# The keys of a config that describe the GAN.
SETTINGS = (
    *("loss", "penalties", "augment", "step", "d_updates", "pack", "replay"),
    *("model", "width", "generator", "discriminator", "latent_size", "latent"),
    *("optimizer", "d_optimizer", "schedule", "num_steps", "accumulate", "precision"),
    *("ema_decay", "ema_halflife", "ema_rampup"),
)


def build(example: Space, condition: Space | None = None, **settings) -> GAN:
    """Builds a GAN from names, as configs do, or from your own objects.

    Args:
      example: the space of an example, such as `Images((28, 28, 1))`.
      condition: the space of what both players are told of an example, such as
        `Classes(10)`; None for an unconditional GAN.
      **settings: keys of a config that describe the GAN (`SETTINGS`), with their
        defaults and meaning from gan_jax.config. `loss` may be a `Loss`, `step` a
        `Dynamics`, and `model` any object that has a `Generator` and a `Discriminator`.

    Raises:
      UserError: a name, its arguments or the settings together make no sense.
    """
    for name in settings.keys() - set(SETTINGS):
        raise unknown("setting of build", name, SETTINGS)
    defaults = default()
    s = {key: settings.get(key, defaults[key]) for key in SETTINGS}
    _check_choices(s)
    g, d = build_networks(example, condition, s)
    step = s["step"]
    dynamics = objectives.build_step(step) if isinstance(step, str) else step
    gan = GAN(
        example=dataclasses.replace(example, bounds=_bounds(example, g)),
        condition=condition,
        generator=g,
        discriminator=d,
        **_optimizers(s, dynamics),
        **_objective(s),
        latent=Latent(s["latent_size"], s["latent"]),
        dynamics=dynamics,
        dtype=s["precision"],
        ema=Average(s["ema_decay"], s["ema_halflife"], s["ema_rampup"]),
        **{key: s[key] for key in ("d_updates", "pack", "replay", "accumulate")},
    )
    _check_sense(gan)
    return gan


def _check_choices(s: dict[str, Any]) -> None:
    for key, valid in (("latent", PRIORS), ("precision", PRECISIONS)):
        if s[key] not in valid:
            raise unknown(key, s[key], valid)


def from_config(config: ConfigDict, example: Space, condition: Space | None) -> GAN:
    """Builds the GAN that a config describes for data of these spaces.

    Args:
      config: an experiment.
      example: of its data.
      condition: of its data, None if there is none; used if `config.conditional`.

    Raises:
      UserError: as `build`; or a conditional GAN is asked for and the data has no
        condition.
    """
    if config.conditional and condition is None:
        raise UserError("conditional is True and the data has no class labels")
    settings = {key: config[key] for key in SETTINGS}
    return build(example, condition if config.conditional else None, **settings)


def _bounds(example: Space, generator: nn.Module) -> tuple[float, float] | None:
    """Returns the bounds of what the networks see: those of the generator's output."""
    if example.bounds is None or not hasattr(generator, "output"):
        return example.bounds
    bounds = OUTPUTS[generator.output]
    if bounds is None:
        raise UserError(
            "generator.output is 'linear', which is for points: images need 'tanh' "
            "or 'sigmoid'"
        )
    return bounds


def _objective(s: dict[str, Any]) -> dict[str, Any]:
    """Returns the loss and the terms, by their names in `GAN`."""
    loss = _loss(s["loss"])
    penalties, constraints = objectives.build_penalties(s["penalties"])
    return {
        "loss": loss,
        "log_odds": _estimates_log_odds(loss),
        "penalties": penalties,
        "constraints": constraints,
        "augment": objectives.build_augment(s["augment"]),
    }


def _loss(loss: str | Loss) -> Loss:
    text = isinstance(loss, str)
    return objectives.build_loss(loss) if text else objectives.checked(loss)


def _estimates_log_odds(loss: Loss) -> bool:
    try:
        return estimates_log_odds(loss)
    except Exception:  # a loss of the user's own: the preflight reports it
        return False


def _optimizers(s: dict[str, Any], dynamics: Dynamics) -> dict[str, Any]:
    """Returns the optimizers of both players, by their names in `GAN`."""
    updates = dynamics.evaluations  # of G's optimizer in a step
    schedule = s["schedule"]
    # A constant rate does not depend on it: then GANs of runs of any length are equal.
    num_steps = 1 if schedule == "constant" else s["num_steps"]
    d_text, d_updates = s["d_optimizer"] or s["optimizer"], s["d_updates"] * updates
    return {
        "g_tx": optimizers.build(s["optimizer"], schedule, num_steps, updates),
        "d_tx": optimizers.build(d_text, schedule, num_steps, d_updates),
    }


# --- Settings that make no sense together --------------------------------------------


def _check_sense(gan: GAN) -> None:
    """Refuses settings whose shapes fit, but which together mean nothing.

    Raises:
      UserError: says what does not go with what.
    """
    _check_dynamics(gan)
    terms = (*gan.penalties, *gan.augment)
    remembered = [term.name for term in terms if term.initial is not None]
    for name in remembered:
        if name == "replay" or remembered.count(name) > 1:
            raise UserError(f"two terms would remember something as {name!r}")
    for term in gan.augment:
        if term.images_only and not gan.example.is_image:
            kind = type(gan.example).__name__.lower()
            raise UserError(
                f"augmentation {term.name!r} is for images, and these are {kind}"
            )
    if gan.condition is not None and gan.pack > 1:
        raise UserError(
            "pack needs an unconditional GAN: the examples of a pack have several "
            "conditions"
        )
    if not gan.latent.size and gan.condition is None:
        raise UserError(
            "latent_size is 0: without latents and without a condition the generator "
            "makes one and the same example"
        )
    for penalty in gan.penalties:
        _check_penalty(gan, penalty)
    _check_single_logits(gan)


def _check_penalty(gan: GAN, penalty: Penalty) -> None:
    asked, title = set(penalty.asks), f"penalty {penalty.name!r}"
    if asked & {"condition", "classify"} and gan.condition is None:
        raise UserError(f"{title} needs class labels: set --config.conditional=True")
    if "classify" in asked and not isinstance(gan.condition, Classes):
        raise UserError(f"{title} needs class labels, and the data has none")
    if "generator" in asked and gan.pack > 1:
        raise UserError(f"{title} is of single samples: pack must be 1")


def _check_single_logits(gan: GAN) -> None:
    """Refuses terms that read single logits where these mean nothing."""
    names = {term.name for term in (*gan.penalties, *gan.augment)}
    if "ada" in names and ignores_constants(gan.loss):
        raise UserError(
            "ada follows the sign of the logits of real examples, and this loss stays "
            "the same if a constant is added to all logits: use "
            "--config.augment='bgc(p=0.5)' in its place"
        )
    if "lecam" in names and compares(gan.loss):
        raise UserError(
            "lecam reads the logits of real and of generated examples alone, and a "
            "relativistic loss gives a meaning only to their differences: use r1 or "
            "bcr in its place"
        )


def _check_dynamics(gan: GAN) -> None:
    title = f"step={gan.dynamics.name!r}"
    if gan.dynamics.one_d_update and gan.d_updates > 1:
        raise UserError(
            f"{title} moves both players at once: d_updates must be 1, and is "
            f"{gan.d_updates}"
        )
    if gan.dynamics.differentiates_d and not _is_differentiable(gan.d_tx):
        raise UserError(
            f"{title} differentiates the discriminator's optimizer, which has no "
            "derivative where a gradient is 0: for adam, add eps_root=1e-8"
        )


def _is_differentiable(tx: optax.GradientTransformation) -> bool:
    """Tells whether an optimizer's update has a derivative at zero gradients."""
    params = jnp.zeros(1)

    def move(gradient):
        update, _ = tx.update(gradient, tx.init(params), params)
        return update.sum()

    try:
        return bool(jnp.isfinite(jax.grad(move)(params)).all())
    except Exception:  # another kind of optimizer: the preflight reports it
        return True
