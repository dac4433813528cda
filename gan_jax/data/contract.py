"""Checks that a source is what its description says; each refusal is one line."""

import collections
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from gan_jax.algorithm.spaces import Classes, Space
from gan_jax.data.source import Info, InMemory
from gan_jax.errors import UserError, one_line


def check(source: Any, name: str) -> None:
    """Checks a source before anything is compiled.

    A source that is drawn in the compiled step is checked by abstract evaluation, one
    in memory whole, and any other by its first example.

    Args:
      source: what `load(config)` of a data source returned.
      name: of the data source in the config.

    Raises:
      UserError: it has no valid `info`, its examples or conditions do not fit their
        spaces, or it has no examples.
    """
    info = getattr(source, "info", None)
    if not isinstance(info, Info):
        raise UserError(
            f"data source {name!r}: its info is of type {type(info).__name__}; it must "
            "be a gan_jax.data.source.Info"
        )
    _check_spaces(info)
    if hasattr(source, "sample"):
        _check_drawn(source)
        return
    _check_length(source)
    if isinstance(source, InMemory):
        _check_arrays(source)
    else:
        read(source, 0)
    if getattr(source, "augment", None) is not None:
        _check_augment(source)


def read(source: Any, index: int, conditional: bool = True) -> dict[str, np.ndarray]:
    """Reads an example and checks it.

    Args:
      source: random access.
      index: of the example.
      conditional: whether to read its condition too, if the source has conditions.

    Returns:
      "example", and "condition" if it was asked for; one object if they are one.

    Raises:
      UserError: the example cannot be read, or does not fit; names its index.
    """
    info, what = source.info, f"{source.info.name}: example {index}"
    try:
        entry = source[index]
    except UserError:
        raise
    except Exception as error:  # it may be the user's own code
        raise UserError(f"{what} cannot be read ({one_line(error)})") from error
    example = _value(entry, "example", info.example, what)
    arrays = {"example": _array(info.example, example, what)}
    if conditional and info.condition is not None:
        condition = _value(entry, "condition", info.condition, what)
        arrays["condition"] = (
            arrays["example"]
            if condition is example
            else _array(info.condition, condition, f"{what}: its condition")
        )
    return arrays


def _check_spaces(info: Info) -> None:
    for key, may_be_none in (("example", False), ("condition", True)):
        space = getattr(info, key)
        if not isinstance(space, Space) and not (space is None and may_be_none):
            raise UserError(
                f"{info.name}: info.{key} is of type {type(space).__name__}; it must "
                "be a Space"
            )
        if isinstance(space, Classes):
            _check_names(space, f"{info.name}: info.{key}")


def _check_names(space: Classes, what: str) -> None:
    """Checks that there are classes, and that each has a name or none has."""
    if space.num_classes < 1:
        raise UserError(f"{what} has no classes")
    if not all(isinstance(name, str) for name in space.names):
        raise UserError(f"{what}: the names of classes must be strings")
    if space.names and len(space.names) != space.num_classes:
        raise UserError(
            f"{what} has {space.num_classes} classes and {len(space.names)} names"
        )
    for name, count in collections.Counter(space.names).items():
        if count > 1:
            raise UserError(f"{what} has {count} classes of the name {name!r}")


def _check_length(source: Any) -> None:
    info = source.info
    try:
        number = len(source)
    except TypeError:
        raise UserError(
            f"{info.name} has no len(source) and no sample(key, n): a source needs one "
            "of them"
        ) from None
    if number == 0:
        raise UserError(f"{info.name} has no examples")
    if number != info.num_examples:
        raise UserError(
            f"{info.name}: info.num_examples is {info.num_examples} and len(source) is "
            f"{number}"
        )


def _check_drawn(source: Any) -> None:
    info = source.info
    try:
        hash(source)
    except TypeError:
        raise UserError(
            f"{info.name} must be hashable, being part of the compiled step: make it "
            "a frozen dataclass"
        ) from None
    try:
        drawn = jax.eval_shape(lambda: source.sample(jax.random.key(0), 2))
    except Exception as error:
        raise UserError(f"{info.name}: sample fails: {one_line(error)}") from error
    for key, space in (("example", info.example), ("condition", info.condition)):
        if space is not None:
            what = f"{info.name}: sample(key, 2)"
            value = _value(drawn, key, space, what)
            _check_type(space, value, f"{what}[{key!r}]", 2)


def _check_augment(source: Any) -> None:
    """Checks that a batch keeps its shapes and types, with conditions and without."""
    info = source.info
    spaces = {"example": info.example, "condition": info.condition}
    batch = {
        name: jax.ShapeDtypeStruct((2, *space.shape), space.stored_dtype)
        for name, space in spaces.items()
        if space is not None
    }
    for names in {("example",), tuple(batch)}:
        before = {name: batch[name] for name in names}
        try:
            after = jax.eval_shape(source.augment, jax.random.key(0), before)
        except Exception as error:
            what = f"{info.name}: augment fails: {one_line(error)}"
            raise UserError(what) from error
        if jax.tree.map(lambda x: (x.shape, x.dtype), after) != jax.tree.map(
            lambda x: (x.shape, x.dtype), before
        ):
            raise UserError(
                f"{info.name}: augment makes {_types(after)} of {_types(before)}: it "
                "must keep names, shapes and types"
            )


def _types(batch: Any) -> str:
    """Returns the arrays of a batch as text: `{'example': uint8[2, 8, 8, 1]}`."""
    return str(jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", batch))


def _check_arrays(source: InMemory) -> None:
    info, number = source.info, len(source)
    _check_type(info.example, source.examples, f"{info.name}: examples", number)
    if info.condition is None:
        return
    if source.conditions is None:
        raise UserError(
            f"{info.name}: info.condition is {info.condition} and conditions is None"
        )
    what = f"{info.name}: conditions"
    _check_type(info.condition, source.conditions, what, number)
    _check_classes(info.condition, source.conditions, what)


def _value(entry: Any, key: str, space: Space, what: str) -> Any:
    if not isinstance(entry, Mapping):
        raise UserError(
            f"{what} is of type {type(entry).__name__}; it must be a dict with the key "
            "'example', and 'condition' if info.condition is not None"
        )
    if entry.get(key) is None:
        raise UserError(f"{what} has no {key!r}, and info.{key} is {space}")
    return entry[key]


def _array(space: Space, value: Any, what: str) -> np.ndarray:
    """Returns one stored value as an array."""
    try:
        array = np.asarray(value)
    except Exception as error:
        raise UserError(f"{what} is no array ({one_line(error)})") from error
    _check_type(space, array, what)
    _check_classes(space, array, what)
    return array.astype(space.stored_dtype, copy=False)


def _check_type(space: Space, value: Any, what: str, *lead: int) -> None:
    """Checks the shape and type of an array, or of what `jax.eval_shape` gives."""
    shape, dtype = (*lead, *space.shape), space.stored_dtype
    fits = value.dtype == dtype
    if isinstance(space, Classes) and isinstance(value, np.ndarray):
        fits = np.issubdtype(value.dtype, np.integer)  # cast when it is read
    if not fits or value.shape != shape:
        raise UserError(
            f"{what} has shape {value.shape} and type {value.dtype}; {space} is stored "
            f"with shape {shape} and type {dtype}"
        )


def _check_classes(space: Space, array: np.ndarray, what: str) -> None:
    if isinstance(space, Classes):
        wrong = (array < 0) | (array >= space.num_classes)
        if wrong.any():
            raise UserError(
                f"{what} holds the class {array[wrong].flat[0]}: they go from 0 to "
                f"{space.num_classes - 1}"
            )
