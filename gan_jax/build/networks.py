"""From a model, ours or the user's, to the two networks of a GAN."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from gan_jax import models
from gan_jax.algorithm.spaces import OUTPUTS, Classes, Space
from gan_jax.build import names
from gan_jax.errors import UserError, one_line, place_of, unknown

# Fields of a network that are of the data, or of Flax: a config does not set them.
_OURS = (
    *("shape", "num_classes", "condition", "latent_size"),
    *("parent", "name", "rngs"),
)


def build_networks(
    example: Space, condition: Space | None, settings: Mapping[str, Any]
) -> tuple[nn.Module, nn.Module]:
    """Makes the generator and the discriminator.

    Args:
      example: the space of an example.
      condition: the space of a condition; None for an unconditional GAN.
      settings: `model`, `width`, `generator`, `discriminator`, `latent_size` and `pack`
        of a config.

    Raises:
      UserError: an example has no axis, the model lacks one of them, a field does not
        fit, or a network cannot be called as networks are.
    """
    if not example.shape:
        raise UserError(f"{example} has no axis: give its shape one, such as (1,)")
    model = title = settings["model"]
    if isinstance(model, str):
        model = names.module("model", model, models)
    else:
        title = getattr(model, "__name__", str(model))
    num_classes = condition.num_classes if isinstance(condition, Classes) else 0
    common = {"num_classes": num_classes, "condition": condition}
    common |= {key: settings[key] for key in ("width", "latent_size")}
    *axes, channels = example.shape
    g = common | {"shape": example.shape}
    if example.bounds is None:
        g["output"] = "linear"
    d = common | {"shape": (*axes, settings["pack"] * channels)}
    return (
        _network(model, title, "Generator", g, settings["generator"]),
        _network(model, title, "Discriminator", d, settings["discriminator"]),
    )


def _network(model, title: str, name: str, common: dict, text: str) -> nn.Module:
    """Makes a network from the fields that it has, and those that the config gives."""
    network, title = names.member("model", title, model, name), f"{title}.{name}"
    given, condition = names.parse_keywords(text), common["condition"]
    if isinstance(network, nn.Module) or not callable(network):
        raise UserError(f"{title} must be the class of a Flax module, not an object")
    is_class = isinstance(network, type)
    # The signature of an NNX module's class says nothing.
    maker = functools.partial(network.__init__, None) if is_class else network
    try:
        names.accepted(maker, given, title, _OURS)
    except UserError as error:
        key = name.lower()
        raise UserError(
            f"{error}; the config has {key}={text!r}: change it by --config.{key}="
        ) from None
    valid = inspect.signature(maker).parameters
    classes_only = "num_classes" in valid and "condition" not in valid
    if classes_only and condition is not None and not isinstance(condition, Classes):
        raise UserError(
            f"{title} takes class labels as its condition, and that of the data is "
            f"{condition}: use a model of your own"
        )
    fields = {key: value for key, value in common.items() if key in valid} | given
    if missing := names.missing(maker, {"rngs", *fields}):
        raise UserError(
            f"{title} needs {', '.join(missing)}: give it a default, or a value by "
            f"--config.{name.lower()}='{missing[0]}=...'{place_of(network)}"
        )
    made = _made(title, network, fields)
    _check_call(title, name, getattr(made, "nnx_class", type(made)))
    output = str(getattr(made, "output", "tanh"))
    if output not in OUTPUTS:
        raise unknown(f"output of {title}", output, OUTPUTS)
    return made


def _made(title: str, network, fields: dict[str, Any]) -> nn.Module:
    try:
        if isinstance(network, type) and not issubclass(network, nn.Module):
            from flax import nnx  # here, because importing it takes a while

            from gan_jax.build.from_nnx import from_nnx

            if issubclass(network, nnx.Module):
                return from_nnx(network, fields)
        made = network(**fields)
    except Exception as error:
        raise UserError(f"{title} fails: {one_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise UserError(f"{title} is no Flax module: derive it from flax.linen.Module")
    return made


def _check_call(title: str, name: str, network: type) -> None:
    """Checks that a network can be called as `(x, condition, train=...)`."""
    call = inspect.signature(network.__call__)
    try:
        call.bind(None, None, None, train=True)
    except TypeError:
        first = "latents" if name == "Generator" else "examples"
        raise UserError(
            f"{title} has __call__{call}, and must have __call__(self, {first}, "
            f"condition=None, *, train){place_of(network.__call__)}"
        ) from None
