"""What a feature extractor is, how one is found, and how it is applied to a set."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gan_jax.build import names
from gan_jax.errors import UserError, one_line
from gan_jax.metrics import features

KIND = "feature extractor"


class Outputs(NamedTuple):
    """What an extractor makes of n examples.

    Attributes:
      features: `[n, k]`.
      logits: `[n, m]`, unnormalised log-probabilities of m classes; None if the
        extractor has no classifier.
    """

    features: Array
    logits: Array | None


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """A map from stored examples to features, and what results say about it.

    Attributes:
      name: as a user writes it.
      version: changes whenever its numbers would.
      checksum: SHA-256 of its weights; empty without.
      distance: what the Fréchet distance of its features may be called. The name FID
        belongs to Inception with its public weights.
      variables: a pytree of arrays.
      apply: `(variables, stored [n, *shape]) -> Outputs`, pure. Images are stored as
        uint8 `[n, h, w, c]`. Each example has the same outputs in any batch.
    """

    name: str
    version: str
    checksum: str
    distance: str
    variables: Any
    apply: Callable[[Any, Array], Outputs]


def load_extractor(name: str, weights: str | None = None) -> Extractor:
    """Finds an extractor and loads its weights.

    Args:
      name: a module of `gan_jax.metrics.features`, or the user's own `FILE.py:NAME`
        with `NAME() -> Extractor`; with settings as in `inception(resize='clean')`.
      weights: a file, for an extractor that takes one.

    Raises:
      UserError: there is no such extractor, or it has no such setting; its weights
        cannot be had, or are not what they should be.
    """
    name, settings = names.one_call(KIND, name, "NAME or NAME(key=value, ...)")
    if weights is not None:
        settings["weights"] = weights
    found = names.module(KIND, name, features, skip=("extractor",))
    load = getattr(found, "load", found)
    if not callable(load):
        raise UserError(f"{KIND} {name!r} is no function that returns an Extractor")
    names.accepted(load, settings, f"the {KIND} {name!r}")
    try:
        extractor = load(**settings)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{KIND} {name!r} fails: {one_line(error)}") from error
    if not isinstance(extractor, Extractor):
        kind = type(extractor).__name__
        raise UserError(f"{KIND} {name!r} returns a {kind}, not an Extractor")
    return extractor


def extract(
    extractor: Extractor,
    batches: Iterable[np.ndarray],
    progress: Callable[[int], None] | None = None,
) -> Outputs:
    """Applies an extractor to a set, in one compiled program on all local devices.

    Args:
      extractor: any.
      batches: stored examples `[n, *shape]`. The program takes as many as the first
        batch holds; the sizes of the others do not matter.
      progress: is called with the number of examples done, after each batch.

    Returns:
      The outputs of all examples in their order: NumPy, float32.

    Raises:
      UserError: there are no examples, or not all have one shape and type; or the
        outputs do not have the right shapes.
    """
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
    split = NamedSharding(mesh, PartitionSpec("data"))
    variables = jax.device_put(
        extractor.variables, NamedSharding(mesh, PartitionSpec())
    )
    jitted = jax.jit(extractor.apply)

    def apply(batch: np.ndarray) -> Outputs:
        with jax.set_mesh(mesh):  # that of a run has the devices of all hosts
            return jitted(variables, jax.device_put(batch, split))

    dispatched = (
        (apply(batch), num) for batch, num in _padded(extractor, batches, len(devices))
    )
    parts, done = [], 0
    for outputs, num in _one_ahead(dispatched):
        parts.append([np.asarray(x, np.float32)[:num] for x in _present(outputs)])
        done += num
        if progress:
            progress(done)
    if not parts:
        raise UserError("there are no examples to extract features of")
    found = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return Outputs(found[0], found[1] if len(found) > 1 else None)


def _present(outputs: Outputs) -> list[Array]:
    return [x for x in outputs if x is not None]


def _one_ahead(items: Iterator) -> Iterator:
    """Yields the items, each after the next one has been made."""
    before = None
    for item in items:
        if before is not None:
            yield before
        before = item
    if before is not None:
        yield before


def _padded(
    extractor: Extractor, batches: Iterable[np.ndarray], multiple: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields batches of one size, and how many of each are not padding."""
    first = None
    for batch in filter(len, map(np.asarray, batches)):
        if first is None:
            size = -(-len(batch) // multiple) * multiple
            first = jax.ShapeDtypeStruct((size, *batch.shape[1:]), batch.dtype)
            _check_outputs(extractor, first)
        if (batch.shape[1:], batch.dtype) != (first.shape[1:], first.dtype):
            raise UserError(
                f"examples of {_kind(first)} and of {_kind(batch)} in one set: "
                "convert them to one shape and type"
            )
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            fill = [(0, size - len(part))] + [(0, 0)] * (part.ndim - 1)
            yield np.pad(part, fill, mode="edge"), len(part)


def _check_outputs(extractor: Extractor, batch: jax.ShapeDtypeStruct) -> None:
    """Rejects outputs that do not have a row for each example."""
    outputs = jax.eval_shape(extractor.apply, extractor.variables, batch)
    shapes = [x.shape for x in _present(outputs)]
    if any(len(shape) != 2 or shape[0] != batch.shape[0] for shape in shapes):
        raise UserError(
            f"{KIND} {extractor.name!r} maps {batch.shape[0]} examples to outputs of "
            f"shape {', '.join(map(str, shapes))}: they must be [n, k]"
        )


def _kind(batch: Any) -> str:
    return f"{'x'.join(map(str, batch.shape[1:])) or 'one number'} {batch.dtype}"
