"""What a function of the user's takes, against what it is called with."""

import inspect
from collections.abc import Iterable, Sequence


def misfit(
    parameters: Iterable[inspect.Parameter],
    wanted: Sequence[str],
    offered: Sequence[str],
) -> str:
    """Tells in what a term's function cannot be called with the `wanted` arguments.

    They may have other names in the function, but not the name of another one.

    Args:
      parameters: of the function.
      wanted: the names of its positional arguments.
      offered: what it may ask for by keyword-only parameters.

    Returns:
      What is wrong, for a message; empty if it fits.
    """
    taken = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    first, more = taken[: len(wanted)], taken[len(wanted) :]
    more = [p.name for p in more if p.default is p.empty]
    known = {*wanted, *offered}
    in_order = all(
        p.name == name or p.name not in known
        for p, name in zip(first, wanted, strict=False)
    )
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) or (
        len(first) == len(wanted) and in_order and not more
    ):
        return ""
    asked = [p.name for p in taken if p.name in known.difference(wanted)]
    asked += [f"{name}=..." for name in more if name not in known]
    right = ", ".join([*wanted, *(["*", *asked] if asked else [])])
    names = ", ".join(p.name for p in taken)
    return f"takes ({names}), and must take ({right})"
