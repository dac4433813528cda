"""What a user can get wrong, said in one line, and what ends a run early."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the commands print its one line on stderr and exit with status 2."""


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
