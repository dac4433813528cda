"""Terms of an objective: functions that say by their signature what they need.

What every term of a kind is given comes by position. A keyword-only argument without a
default asks for something more by its name (`memory`, `labels`, ...); one with a
default is a setting, which a config may give: `lecam(decay=0.9)`.
"""

import inspect
from collections.abc import Callable


def asks_for(function: Callable) -> frozenset[str]:
    """Returns the names of what a term is to be given besides."""
    return frozenset(p.name for p in _by_name(function) if p.default is p.empty)


def settings(function: Callable) -> frozenset[str]:
    """Returns the names of a term's settings."""
    return frozenset(p.name for p in _by_name(function) if p.default is not p.empty)


def marked(**attributes) -> Callable[[Callable], Callable]:
    """Gives a function attributes, which say how it is used."""

    def mark(function: Callable) -> Callable:
        vars(function).update(attributes)
        return function

    return mark


def _by_name(function: Callable) -> list[inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return [p for p in parameters if p.kind is p.KEYWORD_ONLY]
