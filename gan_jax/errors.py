"""What a user can get wrong, said in one line, and what ends a run early."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the commands print its one line on stderr and exit with status 2.

    Args:
      message: what was wrong, where, and what to do.
    """

    def __init__(self, message: str):
        if len(message) > 2000:  # it quotes what was given, which may be anything
            message = f"{message[:1000]} ... {message[-1000:]}"
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Returns the text with what is not to be printed escaped: it stays one line.

    Names of files come from elsewhere, and could steer the terminal.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Stopped(Exception):
    """A run ended early; `status` is what the command exits with."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


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
