"""Terms of an objective: functions that say by their signature what they need.

What every term of a kind is given comes by position. A keyword-only argument without a
default asks for something more by its name (`memory`, `labels`, ...); one with a
default is a setting, which a config may give: `lecam(decay=0.9)`.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from gan_jax.errors import UserError

MAX = 3e38  # of float32


def asks_for(function: Callable) -> frozenset[str]:
    """Returns the names of what a term is to be given besides."""
    return frozenset(p.name for p in _by_name(function) if p.default is p.empty)


def settings(function: Callable) -> frozenset[str]:
    """Returns the names of a term's settings."""
    return frozenset(p.name for p in _by_name(function) if p.default is not p.empty)


def settings_of(kind: str, name: str, function: Callable) -> frozenset[str]:
    """Returns the names of the settings of what a config names.

    Raises:
      UserError: it has no signature.
    """
    try:
        return settings(function)
    except (ValueError, TypeError):
        raise UserError(f"{kind} {name!r} is no Python function") from None


def marked(**attributes) -> Callable[[Callable], Callable]:
    """Gives a function attributes, which say how it is used."""

    def mark(function: Callable) -> Callable:
        vars(function).update(attributes)
        return function

    return mark


def _by_name(function: Callable) -> list[inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return [p for p in parameters if p.kind is p.KEYWORD_ONLY]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term:
    """A term with its settings.

    Attributes:
      name: as metrics and memory call it.
      function: the term itself.
      settings: `(name, value)` of those that differ from their defaults.
    """

    name: str
    function: Callable
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def start(self) -> dict[str, float] | None:
        """What its memory holds before the first update; None if it has none."""
        return getattr(self.function, "memory", None)

    def __call__(self, *args, **given):
        """Calls the function with `args` and what it asks for of `given`."""
        asked = {name: given[name] for name in asks_for(self.function)}
        return self.function(*args, **asked, **dict(self.settings))


# --- Settings that make no sense ------------------------------------------------------


def check_number(setting: str, value, *, below: float = MAX, zero: bool = True):
    """Refuses a setting that is no number from 0 to `below`, itself excluded."""
    fits = type(value) in (int, float) and 0 <= value < below
    if not fits or (value == 0 and not zero):
        interval = f"{'[' if zero else '('}0, {below:.6g})"
        raise UserError(f"{setting} must be a number in {interval}, not {value!r}")


def check_flag(setting: str, value):
    """Refuses a setting that is neither True nor False."""
    if not isinstance(value, bool):
        raise UserError(f"{setting} must be True or False, not {value!r}")
