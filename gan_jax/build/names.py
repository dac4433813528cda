"""From the names in a config to code: `hinge`, `my.py:tilted`, `pkg.mod.tilted`."""

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import zlib
from collections.abc import Callable, Container, Iterator
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from gan_jax.algorithm import dynamics
from gan_jax.errors import UserError, choices, one_line, unknown
from gan_jax.objective import augment, losses, penalties, targets
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import Augmentation, Dynamics, Family, Penalty, Term

# The keys of a config that may lead to the user's own code, besides `data.source`.
MAY_NAME_CODE = (
    "loss",
    "penalties",
    "augment",
    "step",
    "model",
    "optimizer",
    "d_optimizer",
)

_SETTINGS = r"\(((?:[^()]++|\([^()]*+\))*+)\)"  # with tuples in them
_CALL = re.compile(rf"\s*+([^,()\s]++)\s*+(?:{_SETTINGS}\s*+)?(?:,|$)")


def parse_calls(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Parses `'r1(weight=5, every=16), r2'` into names with keyword arguments.

    Args:
      text: comma-separated `NAME` or `NAME(key=value, ...)`; values are Python
        literals. Empty for none.

    Returns:
      One `(name, keywords)` pair a call, in order.

    Raises:
      UserError: the text is not of that form.
    """
    return [(call[1], parse_keywords(call[2] or "")) for call in _calls(text)]


def one_call(kind: str, text: str, form: str) -> tuple[str, dict[str, Any]]:
    """Parses a text that names one thing.

    Args:
      kind: of the thing, as messages call it.
      text: `NAME` or `NAME(key=value, ...)`.
      form: of the text, as messages call it.

    Raises:
      UserError: it names none, or several.
    """
    calls = parse_calls(text)
    if len(calls) != 1:
        raise UserError(f"{kind} {text!r}: write one {form}")
    return calls[0]


def short(name: str) -> str:
    """Returns the last part of a name: `tilted` of `my.py:tilted`."""
    return re.split("[:.]", name)[-1]


def without_code(text: str) -> str:
    """Returns the text of calls without those that lead to the user's own code."""
    calls = [call[0].rstrip(" ,") for call in _calls(text) if not is_code(call[1])]
    return ",".join(calls)


def _calls(text: str) -> list[re.Match]:
    calls, end = [], 0
    while end < len(text.rstrip()):
        match = _CALL.match(text, end)
        if not match:
            form = "NAME(key=value, ...), NAME, ..."
            raise UserError(f"cannot read {text!r}: write {form}")
        calls.append(match)
        end = match.end()
    return calls


def parse_keywords(text: str) -> dict[str, Any]:
    """Parses `'depth=3, output="sigmoid"'`; values are Python literals.

    Raises:
      UserError: the text is not of that form.
    """
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        plain = isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        if not plain or call.args or any(k.arg is None for k in call.keywords):
            raise ValueError
        given = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
        if len(given) < len(call.keywords):  # one of them twice
            raise ValueError
        return given
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise UserError(f"cannot read {text!r}: write key=value, ...") from None


def attribute(kind: str, name: str, home: ModuleType, is_one: Callable) -> Any:
    """Finds a loss, penalty, ... by name in its `home` module or in the user's code.

    Args:
      kind: what is looked for, as messages call it.
      name: a public name in `home`, `path/to/file.py:name`, or `package.module.name`.
      home: the module that holds ours.
      is_one: tells which attributes of `home` are of that kind.

    Raises:
      UserError: there is no such name, and lists the valid ones and the nearest; or it
        is one of another kind.
    """
    if is_code(name):
        found = user_object(kind, name)
        if isinstance(found, ModuleType):
            raise UserError(
                f"{kind} {name!r} is a whole file: write {name.rstrip(':')}:NAME"
                f"{choices('', _defined(found))}"
            )
    else:
        ours = {
            key: value
            for key, value in vars(home).items()
            if not key.startswith("_") and is_one(value)
        }
        found = ours.get(name, _elsewhere(name))
        if found is None and ":" in name:
            file = name.replace(":", ".py:", 1)
            raise UserError(f"{kind} {name!r}: a file has its ending, as in {file!r}")
        if found is None:
            raise unknown(kind, name, ours)
    other, key = _kind_of(found)
    if other not in kind and not is_one(found):  # a transform is of a loss's key
        raise UserError(
            f"{name!r} is {_a(other)} and no {kind}: it goes into --config.{key}"
        )
    return found


def any_object(kind: str, name: str) -> Any:
    """Finds a loss or a term of any kind, by its name, or in the user's code.

    Raises:
      UserError: there is no such name; lists the valid ones and the nearest.
    """
    if is_code(name):
        return user_object(kind, name)
    if (ours := _elsewhere(name)) is None:
        raise unknown(kind, name, _all_of_ours())
    return ours


def key_of(found: Any) -> str:
    """Returns the key of a config that an object goes into: `penalties` of `r1`.

    It is '' if the object does not show its kind.
    """
    return _kind_of(found)[1]


def _all_of_ours() -> list[str]:
    homes = (losses, targets, penalties, augment, dynamics)
    return [name for home in homes for name in vars(home) if _elsewhere(name)]


def _a(noun: str) -> str:
    """Returns a noun with its article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _defined(owner: Any) -> list[str]:
    """Lists the names in the user's module or class, without imports of ours."""

    def is_theirs(value):
        if inspect.isclass(value) or inspect.isfunction(value):
            return not value.__module__.startswith("gan_jax.")
        return not isinstance(value, ModuleType)

    items = vars(owner).items() if hasattr(owner, "__dict__") else ()
    return [key for key, x in items if not key.startswith("_") and is_theirs(x)]


def _elsewhere(name: str) -> Any:
    """Returns what of ours has that name, of any kind; None if nothing has."""
    for home in (losses, targets, penalties, augment, dynamics):
        found = vars(home).get(name)
        if isinstance(found, Term | Loss):
            return found
    return None


def _kind_of(found: Any) -> tuple[str, str]:
    """Returns what a loss or term is called, and the key of a config that names it.

    Whatever has the functions of a loss is one, and a plain function is a term by its
    arguments. Both are empty for anything else.
    """
    if callable(getattr(found, "d", None)) and callable(getattr(found, "g", None)):
        return Family.kind, Family.key
    if isinstance(found, Term):
        return found.kind, found.key
    if inspect.isfunction(found):
        given = tuple(inspect.signature(found).parameters)
        for term in (Penalty, Augmentation, Dynamics):
            if given[: len(term.positional)] == term.positional:
                return term.kind, term.key
    return "", ""


def module(kind: str, name: str, package: ModuleType, skip: tuple = ()) -> Any:
    """Finds a model or data source: a module of `package`, or the user's own.

    Args:
      kind: what is looked for, as messages call it.
      name: a module of `package`, a `path/to/file.py` (with `:name` for an attribute
        of it), or a dotted path.
      package: the package that holds ours.
      skip: modules of the package that are not of that kind.

    Raises:
      UserError: there is no such module; lists the valid ones and the nearest.
    """
    if is_code(name):
        return user_object(kind, name)
    ours = {m.name for m in pkgutil.iter_modules(package.__path__)} - set(skip)
    if name not in ours:
        raise unknown(kind, name, ours)
    return importlib.import_module(f"{package.__name__}.{name}")


def is_code(name: str) -> bool:
    """Tells whether a name leads to the user's own code, which loading it runs."""
    return "." in name


def user_object(kind: str, name: str) -> Any:
    """Loads `path/to/file.py:name`, `path/to/file.py` or a dotted path."""
    path, _, attr = name.partition(":")
    if path.endswith(".py"):
        found = _load_file(kind, os.path.abspath(path))
    else:
        path, attr, found = _import_longest(kind, name)
    for part in filter(None, attr.split(".")):
        found, path = member(kind, path, found, part), f"{path}:{part}"
    return found


def member(kind: str, title: str, owner: Any, name: str) -> Any:
    """Returns an attribute of the user's module or class.

    Args:
      kind: what is looked for, as messages call it.
      title: of the owner, as messages call it.
      owner: a module, a class or an object.
      name: of the attribute.

    Raises:
      UserError: it has none; names the nearest.
    """
    if not hasattr(owner, name):
        defined = _defined(owner)
        valid = choices(name, defined) if defined else ""
        raise UserError(f"{kind}: {title} does not define {name!r}{valid}")
    return getattr(owner, name)


def user_code(config) -> list[str]:
    """Lists which keys of a config name the user's own code, as `key: name`."""
    return [
        f"{key}: {name}"
        for key in MAY_NAME_CODE
        for name, _ in parse_calls(config[key])
        if is_code(name)
    ]


def _load_file(kind: str, path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise UserError(f"{kind}: there is no file {path}")
    try:
        return _executed(path)
    except Exception as error:
        raise UserError(f"{kind}: {path} fails on import: {one_line(error)}") from error


@functools.cache  # once, whatever is looked for in it
def _executed(path: str) -> ModuleType:
    name = f"_gan_jax_user_{zlib.crc32(path.encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # dataclasses look their module up there
    try:
        with no_bytecode():
            spec.loader.exec_module(loaded)
    except Exception:
        del sys.modules[name]
        raise
    return loaded


@contextlib.contextmanager
def no_bytecode() -> Iterator[None]:
    """Leaves no `__pycache__` beside the user's files that are loaded within."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def with_absolute_files(config: ConfigDict) -> ConfigDict:
    """Returns the config with absolute paths of the user's own files."""
    changed = config.copy_and_resolve_references()
    for key in MAY_NAME_CODE:
        changed[key] = _absolute_files(config[key])
    changed.data.source = _absolute_files(config.data.source)
    for key in ("metrics", "features"):
        changed.eval[key] = _absolute_files(config.eval[key])
    return changed


def _absolute_files(text: str) -> str:
    return re.sub(r"[^\s,()]+\.py\b", lambda found: os.path.abspath(found[0]), text)


def _import_longest(kind: str, name: str) -> tuple[str, str, ModuleType]:
    path, attr = name.replace(":", "."), ""
    if not all(path.split(".")):
        raise UserError(f"{kind} {name!r}: write NAME, file.py:NAME or package.NAME")
    while path:
        try:
            return path, attr, importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name and not f"{path}.".startswith(f"{error.name}."):
                raise UserError(f"{kind} {name!r}: {one_line(error)}") from error
        except Exception as error:
            raise UserError(f"{kind} {name!r}: {one_line(error)}") from error
        path, _, last = path.rpartition(".")
        attr = f"{last}.{attr}" if attr else last
    raise UserError(f"{kind} {name!r}: no module of that name can be imported")


def accepted(
    function: Callable, given: dict[str, Any], what: str, ours: tuple[str, ...] = ()
) -> None:
    """Checks that `function` takes every keyword in `given`, none of them `ours`.

    Raises:
      UserError: it does not; lists the keywords that it takes.
    """
    valid = set(inspect.signature(function).parameters) - set(ours)
    for key in given:
        if key not in valid:
            raise unknown(f"option of {what}", key, valid)


def missing(function: Callable, given: Container[str]) -> list[str]:
    """Lists the arguments without a default that are not `given`."""
    return [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        and p.name not in given
    ]
