"""Errors that a user can cause, as one line each, and what ends a run early."""

import difflib
import errno
import inspect
import os
import sysconfig
import traceback
from collections.abc import Callable, Iterable

# Where code is that is not the user's: ours, Python's and that of libraries.
_NOT_THE_USERS = (
    os.path.dirname(__file__) + os.sep,
    *(sysconfig.get_paths()[key] + os.sep for key in ("stdlib", "purelib", "platlib")),
)


class UserError(Exception):
    """Bad input: the commands print its one line on stderr and exit with status 2.

    Args:
      message: what was wrong, where, and what to do.
    """

    def __init__(self, message: str):
        if len(message) > 2000:  # it quotes the input, which may be anything
            message = f"{message[:1000]} ... {message[-1000:]}"
        super().__init__(printable(message))


class Stopped(Exception):
    """A run ended early.

    Args:
      status: the exit status of the command.
      why: the reason, in one line.
    """

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


class RollBack(Exception):
    """The run must go back to an earlier checkpoint, and continue with other noise.

    Args:
      why: the reason, in one line.
      good: tells from what a checkpoint carries whether it is early enough.
    """

    def __init__(self, why: str, good: Callable[[dict], bool] = lambda carried: True):
        super().__init__(why)
        self.good = good


def is_full(error: BaseException) -> bool:
    """Tells whether an error says that a disk, or a user's part of it, is full."""
    full = errno.ENOSPC, errno.EDQUOT
    return isinstance(error, OSError) and error.errno in full


def printable(text: str) -> str:
    """Escapes unprintable characters, so that the text stays one line.

    Names of files come from elsewhere, and could control the terminal.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """Returns the error for a `name` that is none of the `valid` ones."""
    return UserError(f"unknown {kind} {name!r}{choices(name, valid)}")


def choices(name: str, valid: Iterable[str]) -> str:
    """Returns the end of a message: the nearest of the valid names, and all of them."""
    valid = sorted(valid)
    near = [other for other in valid if _short_for(name, other)]
    near += difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(valid[:40]) or "none"
    more = f", and {len(valid) - 40} more" if valid[40:] else ""
    return f"{hint} (valid: {shown}{more})"


def _short_for(name: str, other: str) -> bool:
    """Tells whether a name has the initials of another: `lr` of `learning_rate`."""
    return name == "".join(word[:1] for word in other.split("_"))


def one_line(error: BaseException) -> str:
    """Returns what an exception says, and the line of the user's code it comes from."""
    text, place = summary(error), place_in(error)
    return text if text.endswith(place) else text + place


def place_in(error: BaseException) -> str:
    """Returns the last line of the user's that an exception passed, ` (my.py:3)`."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [
        (frame.filename, frame.lineno)
        for frame in frames
        if _is_the_users(frame.filename)
    ]
    return _place(*lines[-1]) if lines else ""


def summary(error: BaseException) -> str:
    """Returns an exception's type and the first line of its message."""
    text = str(error).strip().split("\n")[0]
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(function: Callable) -> str:
    """Returns where a function or class of the user's is, ` (my.py:3)`, else ''."""
    try:
        function = inspect.unwrap(function)
        file = os.path.abspath(inspect.getsourcefile(function))
        line = inspect.getsourcelines(function)[1]
    except (TypeError, OSError):
        return ""
    return _place(file, line) if _is_the_users(file) else ""


def _is_the_users(file: str) -> bool:
    return os.path.isabs(file) and not file.startswith(_NOT_THE_USERS)


def _place(file: str, line: int) -> str:
    near = os.path.relpath(file)
    return f" ({file if near.startswith(os.pardir) else near}:{line})"
