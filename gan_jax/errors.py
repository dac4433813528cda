"""Errors that a user can cause, as one line each, and what ends a run early."""

import difflib
from collections.abc import Callable, Iterable


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


def printable(text: str) -> str:
    """Escapes unprintable characters, so that the text stays one line.

    Names of files come from elsewhere, and could control the terminal.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """Returns the error for a `name` that is none of the `valid` ones."""
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(valid[:40]) or "none"
    more = f", and {len(valid) - 40} more" if valid[40:] else ""
    return UserError(f"unknown {kind} {name!r}{hint} (valid: {shown}{more})")


def one_line(error: BaseException) -> str:
    """Returns an exception's type and the first line of its message."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
