"""From the text of a config to losses, penalties and augmentations."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from gan_jax.objective import augment as augmentations
from gan_jax.build import names as resolve
from gan_jax.objective import losses, terms
from gan_jax.objective import penalties as penalty_functions
from gan_jax.errors import UserError, unknown, one_line
from gan_jax.algorithm.gan import Penalty
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import Term

MAX_WEIGHT = float(jnp.finfo(jnp.float32).max)
_WEIGHT = 10.0  # of a penalty that has no default of its own
_HOW = ("weight", "every")
_FIRST = {"penalty": "critic", "augmentation": "key"}  # argument of each kind

# --- The loss -----------------------------------------------------------------------


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
        return checked(_called("loss", name, found, (), settings))
    if settings:
        raise UserError(f"the loss {name!r} has no settings: give its name alone")
    return checked(found)


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
    return checked(_called("transform", name, found, (loss,), settings))


def _called(kind: str, name: str, function: Callable, given: tuple, settings) -> Any:
    what = f"{kind} {name!r}"
    try:
        resolve.accepted(function, settings, what, ("loss",))
        return function(*given, **settings)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what} fails: {one_line(error)}") from error


def checked(found: Any) -> Loss:
    """Returns an object that has the functions of a loss as a `Loss`.

    Raises:
      UserError: it lacks one.
    """
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


# --- Its terms ----------------------------------------------------------------------


def build_penalties(text: str) -> tuple[tuple[Penalty, ...], tuple[Penalty, ...]]:
    """Builds penalties and constraints from `'r1(weight=5, every=16), drift'`.

    Args:
      text: names in gan_jax.objective.penalties or the user's own, each with its weight, how
        often it is applied, and its own settings.

    Raises:
      UserError: there is no such name or setting, or a value is out of its range.
    """
    found = []
    for name, given in resolve.parse_calls(text):
        function, given = _function("penalty", name, given, penalty_functions)
        weight = given.pop("weight", getattr(function, "weight", _WEIGHT))
        every = given.pop("every", 1)
        if type(every) is not int or not 1 <= every < 2**31:
            raise UserError(f"penalty {name!r}: every must be a whole number from 1 on")
        if type(weight) not in (int, float) or not 0 <= weight <= MAX_WEIGHT:
            raise UserError(f"penalty {name!r}: weight must be a number from 0 on")
        penalty = Penalty(
            name=_short(name),
            function=function,
            settings=_frozen(given),
            weight=weight,
            every=every,
        )
        found.append(penalty)
    _check_names("penalty", found)
    kinds = [getattr(p.function, "constraint", False) for p in found]
    return (
        tuple(p for p, constraint in zip(found, kinds, strict=True) if not constraint),
        tuple(p for p, constraint in zip(found, kinds, strict=True) if constraint),
    )


def build_augment(text: str) -> tuple[Term, ...]:
    """Builds augmentations from `'color, translation(ratio=0.2)'`, in their order.

    Raises:
      UserError: there is no such name or setting.
    """
    found = []
    for name, given in resolve.parse_calls(text):
        function, given = _function("augmentation", name, given, augmentations)
        term = Term(name=_short(name), function=function, settings=_frozen(given))
        found.append(term)
    _check_names("augmentation", found)
    return tuple(found)


def _function(kind: str, name: str, given: dict, home) -> tuple[Callable, dict]:
    def is_one(value):
        if not inspect.isfunction(value):
            return False
        first = next(iter(inspect.signature(value).parameters), "")
        return first == _FIRST[kind] or hasattr(value, "constraint")

    function = resolve.attribute(kind, name, home, is_one)
    if not callable(function):
        raise UserError(f"{kind} {name!r} is no function")
    how = _HOW if kind == "penalty" else ()
    if getattr(function, "constraint", False):
        how = ("every",)
    valid = terms.settings_of(kind, name, function) | set(how)
    for key in given:
        if key not in valid:
            raise unknown(f"setting of {kind} {name!r}", key, valid)
    return function, dict(given)


def _short(name: str) -> str:
    return re.split("[:.]", name)[-1]


def _frozen(settings: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (key, tuple(value) if isinstance(value, list) else value)
        for key, value in settings.items()
    )


def _check_names(kind: str, found: list[Term]) -> None:
    names = [term.name for term in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{kind} {name!r} is given twice")
