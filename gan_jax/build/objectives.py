"""From the text of a config to losses, penalties, augmentations and steps.

A name means the term of that type in gan_jax.objective, or gan_jax.algorithm.dynamics.
In the user's own file a plain function means a term with the defaults of its kind.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from gan_jax.algorithm import dynamics
from gan_jax.build import names
from gan_jax.errors import UserError, one_line, place_of
from gan_jax.objective import augment, losses, penalties, targets
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import (
    Augmentation,
    Constraint,
    Dynamics,
    Family,
    Penalty,
    Term,
    Transform,
)

# --- The loss -----------------------------------------------------------------------


def build_loss(text: str) -> Loss:
    """Builds a loss from its name, its settings, and the transforms after it.

    Args:
      text: `'hinge'`, `'least_squares(c=0.5)'`, `'my.py:tilted'`, or
        `'non_saturating, label_smoothing(real=0.9), label_flipping(p=0.05)'`: each
        transform changes what is left of it.

    Raises:
      UserError: a name is unknown or in the wrong place, its settings do not fit, or
        the object of that name is no loss.
    """
    calls = names.parse_calls(text)
    if not calls:
        raise UserError("there is no loss: name one, such as 'non_saturating'")
    (first, settings), *transforms = calls
    loss = _named(first, settings)
    for name, settings in transforms:
        loss = _transformed(loss, name, settings)
    return loss


def checked(found: Any) -> Loss:
    """Returns an object that has the functions of a loss as a `Loss`.

    Raises:
      UserError: it lacks one, or one takes other arguments.
    """
    for player, wanted in (("d", ("real", "fake")), ("g", ("fake", "real"))):
        function = getattr(found, player, None)
        if not callable(function):
            raise UserError(
                f"the loss, of type {type(found).__name__}, has no function "
                f"{player!r}: make it a gan_jax.Loss(d=..., g=...)"
            )
        if player == "d" or function is not found.d:
            _check_arguments(player, function, wanted)
    if isinstance(found, Loss):
        return found
    return Loss(*(getattr(found, field, None) for field in Loss._fields))


def _check_arguments(player: str, function: Callable, wanted: tuple[str, str]) -> None:
    """Checks that a player's loss takes two logits, in this order if they have names.

    Raises:
      UserError: it does not.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # it is no Python function
        return
    given = list(signature.parameters)
    try:
        signature.bind(None, None)
    except TypeError:
        fits = False
    else:
        fits = not all(
            name in at.lower() for name, at in zip(wanted[::-1], given, strict=False)
        )
    if not fits:
        raise UserError(
            f"the loss's {player} takes ({', '.join(given)}), and is called as "
            f"{player}({', '.join(wanted)}){place_of(function)}"
        )


def _named(name: str, settings: dict[str, Any]) -> Loss:
    def is_one(value):
        return isinstance(value, Loss | Family | Transform)

    found = None
    if name not in _public(targets, Transform):
        found = names.attribute("loss", name, losses, is_one)
    if found is None or isinstance(found, Transform):
        raise _no_loss_before(name)
    if callable(found) and not _has_players(found):
        _check_settings_alone(name, found, settings)
        return checked(_called("loss", name, found, (), settings))
    if settings:
        raise UserError(f"the loss {name!r} has no settings: give its name alone")
    return checked(found)


def _no_loss_before(transform: str) -> UserError:
    return UserError(
        f"{transform!r} changes a loss: name one before it, "
        f"'non_saturating, {transform}'"
    )


def _check_settings_alone(name: str, found: Callable, settings: dict[str, Any]) -> None:
    """Checks that a function needs nothing but settings, as a family of losses does.

    Raises:
      UserError: it does.
    """
    missing = names.missing(found, settings)
    if missing == ["loss"]:
        raise _no_loss_before(name)
    if missing:
        raise UserError(
            f"loss {name!r} is a function of {', '.join(missing)}: give them as "
            f"settings, or make it a gan_jax.Loss(d=..., g=...){place_of(found)}"
        )


def _transformed(loss: Loss, name: str, settings: dict[str, Any]) -> Loss:
    if name in _public(losses, (Loss, Family)):
        valid = ", ".join(_public(targets, Transform))
        raise UserError(
            f"{name!r} is a loss and comes first: after it come transforms ({valid})"
        )

    def is_one(value):
        return isinstance(value, Transform)

    found = names.attribute("transform of the loss", name, targets, is_one)
    plain = not isinstance(found, Term) and callable(found)
    if not is_one(found) and (not plain or _has_players(found)):
        raise UserError(f"{name!r} changes no loss: it is no function of one")
    return checked(_called("transform", name, found, (loss,), settings))


def _called(
    kind: str, name: str, function: Callable, args: tuple, settings: dict[str, Any]
) -> Any:
    """Calls a family or a transform with its settings."""
    title = f"{kind} {name!r}"
    try:
        names.accepted(function, settings, title, ("loss",))
        return function(*args, **settings)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{title} fails: {one_line(error)}") from error


def _has_players(found: Any) -> bool:
    return hasattr(found, "d") and hasattr(found, "g")


def _public(module: ModuleType, kinds: type | tuple[type, ...]) -> list[str]:
    """Returns the public names of a module that are of some kinds."""
    items = vars(module).items()
    return sorted(n for n, x in items if isinstance(x, kinds) and not n.startswith("_"))


# --- Its terms ----------------------------------------------------------------------


def build_penalties(text: str) -> tuple[tuple[Penalty, ...], tuple[Constraint, ...]]:
    """Builds penalties and constraints from `'r1(weight=5, every=16), drift'`.

    Args:
      text: names in gan_jax.objective.penalties or the user's own, each with its
        weight, how often it is applied, and its settings.

    Raises:
      UserError: there is no such name or setting, a value is out of its range, or a
        term asks for an unknown name.
    """
    found = list(terms_of(text, (Penalty, Constraint), penalties))
    return (
        tuple(term for term in found if isinstance(term, Penalty)),
        tuple(term for term in found if isinstance(term, Constraint)),
    )


def build_augment(text: str) -> tuple[Augmentation, ...]:
    """Builds augmentations from `'color, translation(ratio=0.2)'`, in their order.

    Raises:
      UserError: there is no such name or setting, or a term asks for an unknown name.
    """
    return tuple(terms_of(text, (Augmentation,), augment))


def build_step(text: str) -> Dynamics:
    """Builds how the players move: `'alternating'`, or `'unrolled(k=5)'`.

    Raises:
      UserError: there is no such name or setting, or the text names several.
    """
    name, settings = names.one_call("step", text, "NAME or NAME(setting=...)")
    found = _term(name, (Dynamics,), dynamics).with_settings(**settings)
    return dataclasses.replace(found, name=names.short(name))


def terms_of(
    text: str, kinds: tuple[type[Term], ...], home: ModuleType
) -> Iterator[Term]:
    """Yields the terms of a text; a plain function is one of the first kind.

    Args:
      text: names with settings, such as 'r1(weight=5), lecam'.
      kinds: which types of term they may be.
      home: the module that holds ours.

    Raises:
      UserError: a name is unknown or given twice, or its settings do not fit.
    """
    seen = set()
    for name, settings in names.parse_calls(text):
        term = _term(name, kinds, home).with_settings(**settings)
        term = dataclasses.replace(term, name=names.short(name))
        if term.name in seen:
            raise UserError(f"{term.kind} {term.name!r} is given twice")
        seen.add(term.name)
        yield term


def _term(name: str, kinds: tuple[type[Term], ...], home: ModuleType) -> Term:
    """Finds a term, which has the whole text as its name for messages."""
    kind = kinds[0].kind

    def is_one(value):
        return isinstance(value, kinds)

    found = names.attribute(kind, name, home, is_one)
    if is_one(found):
        return dataclasses.replace(found, name=name)
    if not callable(found):
        raise UserError(f"{kind} {name!r} is no function")
    return kinds[0](function=found, name=name)
