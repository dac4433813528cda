"""What a check says: whether it passed, and the numbers that it found."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gan_jax.errors import one_line

ROUNDING = 1e-4


class Verdict(NamedTuple):
    """The result of a check.

    Attributes:
      passed: whether what is checked passed it.
      found: the numbers behind it, as text.
    """

    passed: bool
    found: str


def verdict(check: Callable[[], Verdict]) -> Verdict:
    """Returns what a check finds; one that raises has failed, with its exception."""
    found = tried(check)
    return Verdict(False, one_line(found)) if isinstance(found, Exception) else found


def tried(function: Callable, *args) -> Any:
    """Returns what a function returns or raises."""
    try:
        return function(*args)
    except Exception as error:
        return error


def short(number: float) -> str:
    """Writes a number with four digits."""
    return f"{round(float(number), 6) + 0.0:.4g}"


def pair(eigenvalues: np.ndarray) -> str:
    """Writes two eigenvalues, of which complex ones are each other's conjugates."""
    first, second = eigenvalues
    if abs(first - second.conjugate()) > ROUNDING:
        return f"{short(first.real)}, {short(second.real)}"
    real = short(first.real) if abs(first.real) > ROUNDING else ""
    return f"{real}±{short(abs(first.imag))}i"


def stability(eigenvalues: np.ndarray) -> str:
    """Tells from the eigenvalues of a flow whether it comes to its point of rest.

    Where the greatest real part is 0, the linear part leaves the answer open.
    """
    largest = eigenvalues.real.max()
    if not largest <= ROUNDING:
        return "unstable"
    return "stable" if largest < -ROUNDING else "open"
