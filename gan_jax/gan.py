"""The static half of a GAN: networks, objective, optimizers, and the prior."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from types import ModuleType

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array
from ml_collections import ConfigDict

from gan_jax import losses, models, optim, resolve
from gan_jax import penalties as penalty_functions
from gan_jax.errors import UserError, unknown
from gan_jax.latents import PRIORS, Latent
from gan_jax.losses import Loss

MAX_WEIGHT = float(jnp.finfo(jnp.float32).max)
RANGES = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "linear": None}


@dataclasses.dataclass(frozen=True)
class Penalty:
    """A penalty on the discriminator and how it is applied.

    Attributes:
      name: of its metric.
      function: `(critic, real, fake, key) -> [batch]`.
      weight: of its mean in the discriminator's loss. The default is the value of the
        papers for R1, R2 and the gradient penalty alike.
      every: it is applied in every so many-th step, multiplied by as much (lazy
        regularisation, Karras et al. 2020, arXiv:1912.04958, appendix B).
    """

    name: str
    function: Callable
    weight: float = 10.0
    every: int = 1


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, kw_only=True)
class GAN:
    """Everything about a GAN that is no array; hashable, so a static argument of jit.

    Attributes:
      shape: of one example.
      num_classes: of the labels both players see; 0 for an unconditional GAN.
      generator: a module `(latents, labels, train=...) -> examples`.
      discriminator: a module `(examples, labels, train=...) -> logits`.
      g_tx: the generator's optimizer.
      d_tx: the discriminator's optimizer.
      loss: what each player minimises.
      penalties: what the discriminator minimises besides.
      latent: the prior over the generator's input.
      d_updates: discriminator updates to each generator update, k of Algorithm 1.
      ema_decay: of the averaged generator.
      noise_stream: which of the streams of noise that a seed has; a run that goes back
        to an earlier state takes the next.
    """

    shape: tuple[int, ...]
    num_classes: int
    generator: nn.Module
    discriminator: nn.Module
    g_tx: optax.GradientTransformation
    d_tx: optax.GradientTransformation
    loss: Loss
    penalties: tuple[Penalty, ...]
    latent: Latent
    d_updates: int
    ema_decay: float
    noise_stream: int = 0

    @property
    def range(self) -> tuple[float, float] | None:
        """The least and greatest value of a pixel on the device; None for points."""
        if len(self.shape) != 3:
            return None
        return RANGES[getattr(self.generator, "output", "tanh")]

    def to_float(self, images: Array) -> Array:
        """Brings uint8 pixels to the generator's range; floats pass as they are."""
        if images.dtype != jnp.uint8:
            return images
        low, high = self.range
        return low + (high - low) / 255 * images.astype(jnp.float32)

    def to_uint8(self, images: Array) -> Array:
        """Brings the generator's range to uint8 pixels, the inverse of `to_float`."""
        low, high = self.range
        levels = jnp.round(255 * (images - low) / (high - low))
        return jnp.clip(levels, 0, 255).astype(jnp.uint8)


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
    optimizer: str = "adam(learning_rate=2e-4, b1=0.5, b2=0.999)",
    d_optimizer: str = "",
    schedule: str = "constant",
    num_steps: int = 1,
    d_updates: int = 1,
    ema_decay: float = 0.999,
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
      loss: a name in gan_jax.losses, your own `file.py:name`, or a `Loss`.
      penalties: `'r1'`, or `'r1(weight=5, every=16), gradient_penalty'`.
      optimizer: of optax, with its arguments.
      d_optimizer: the discriminator's, '' for the same.
      schedule: of the learning rate, 'constant', or 'linear' or 'cosine' to zero.
      num_steps: generator updates until a schedule ends.
      d_updates: discriminator updates to each generator update.
      ema_decay: of the averaged generator.

    Raises:
      UserError: a name is unknown, or its arguments do not fit.
    """
    if latent not in PRIORS:
        raise unknown("latent", latent, PRIORS)
    if isinstance(model, str):
        model = resolve.module("model", model, models)
    if isinstance(loss, str):
        loss = resolve.attribute("loss", loss, losses, lambda v: isinstance(v, Loss))
    for player in ("d", "g"):
        if not callable(getattr(loss, player, None)):
            raise UserError(f"the loss has no function {player!r}: it needs d and g")
    common = {"shape": tuple(shape), "num_classes": num_classes, "width": width}
    points = {"output": "linear"} if len(shape) == 1 else {}
    return GAN(
        shape=tuple(shape),
        num_classes=num_classes,
        generator=_network(model, "Generator", {**common, **points}, generator),
        discriminator=_network(model, "Discriminator", common, discriminator),
        g_tx=optim.build(optimizer, schedule, num_steps),
        d_tx=optim.build(d_optimizer or optimizer, schedule, num_steps * d_updates),
        loss=Loss(d=loss.d, g=loss.g),
        penalties=_penalties(penalties),
        latent=Latent(latent_size, latent),
        d_updates=d_updates,
        ema_decay=ema_decay,
    )


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


def _penalties(text: str) -> tuple[Penalty, ...]:
    found = []
    for name, how in resolve.parse_calls(text):
        function = resolve.attribute(
            "penalty",
            name,
            penalty_functions,
            inspect.isfunction,
        )
        for key in how:
            if key not in ("weight", "every"):
                raise unknown(f"setting of penalty {name!r}", key, ("weight", "every"))
        if not callable(function):
            raise UserError(f"penalty {name!r} is no function")
        short = re.split("[:.]", name)[-1]
        penalty = Penalty(name=short, function=function, **how)
        if not isinstance(penalty.every, int) or not 1 <= penalty.every < 2**31:
            raise UserError(f"penalty {name!r}: every must be a whole number from 1 on")
        number = isinstance(penalty.weight, int | float)
        if not number or not 0 <= penalty.weight <= MAX_WEIGHT:
            raise UserError(f"penalty {name!r}: weight must be a number from 0 on")
        if penalty.name in (other.name for other in found):
            raise UserError(f"penalty {penalty.name!r} is given twice")
        found.append(penalty)
    return tuple(found)
