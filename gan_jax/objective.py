"""From the text of a config to what the players minimise."""

import inspect
from collections.abc import Callable
from typing import Any

from gan_jax import losses, resolve
from gan_jax.errors import UserError
from gan_jax.losses import Loss


def build_loss(text: str) -> Loss:
    """Builds a loss from its name, settings, and what changes it.

    Args:
      text: `'hinge'`, `'least_squares(c=0.5)'`, `'my.py:tilted'`, or
        `'non_saturating, label_smoothing(real=0.9), label_flipping(p=0.05)'`, where
        what follows the loss changes it, from left to right.

    Raises:
      UserError: a name is unknown or in the wrong place, its settings do not fit, or
        what it names is no loss.
    """
    calls = resolve.parse_calls(text)
    if not calls:
        raise UserError("there is no loss: name one, such as 'non_saturating'")
    (first, settings), *changes = calls
    loss = _named(first, settings)
    for name, settings in changes:
        loss = _changed(loss, name, settings)
    return loss


def _named(name: str, settings: dict[str, Any]) -> Loss:
    if name in _ours(_is_transform):
        raise UserError(
            f"{name!r} changes a loss: name one before it, 'non_saturating, {name}'"
        )
    found = resolve.attribute("loss", name, losses, _is_loss)
    if callable(found) and not _has_players(found):
        return _checked(_called("loss", name, found, (), settings))
    if settings:
        raise UserError(f"the loss {name!r} has no settings: give its name alone")
    return _checked(found)


def _changed(loss: Loss, name: str, settings: dict[str, Any]) -> Loss:
    valid = _ours(_is_transform)
    if name in _ours(_is_loss):
        raise UserError(
            f"{name!r} is a loss and comes first: after it comes what changes it "
            f"({', '.join(sorted(valid))})"
        )
    found = resolve.attribute("transform of the loss", name, losses, _is_transform)
    if not callable(found) or _has_players(found):
        raise UserError(f"{name!r} changes no loss: it is no function of one")
    return _checked(_called("transform", name, found, (loss,), settings))


def _called(kind: str, name: str, function: Callable, given: tuple, settings) -> Any:
    what = f"{kind} {name!r}"
    try:
        resolve.accepted(function, settings, what, ("loss",))
        return function(*given, **settings)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} fails: {resolve.one_line(error)}") from error


def _checked(found: Any) -> Loss:
    for player in ("d", "g"):
        if not callable(getattr(found, player, None)):
            raise UserError(f"the loss has no function {player!r}: it needs d and g")
    if isinstance(found, Loss):
        return found
    return Loss(*(getattr(found, field, None) for field in Loss._fields))


def _has_players(found: Any) -> bool:
    return hasattr(found, "d") and hasattr(found, "g")


def _ours(is_one: Callable[[Any], bool]) -> set[str]:
    public = vars(losses).items()
    return {name for name, x in public if not name.startswith("_") and is_one(x)}


def _is_loss(value: Any) -> bool:
    return isinstance(value, Loss) or (_makes_loss(value) and not _is_transform(value))


def _is_transform(value: Any) -> bool:
    return _makes_loss(value) and "loss" in inspect.signature(value).parameters


def _makes_loss(value: Any) -> bool:
    return (
        inspect.isfunction(value) and inspect.signature(value).return_annotation is Loss
    )
