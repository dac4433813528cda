"""What every data source offers: a description, and random access to examples."""

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gan_jax.algorithm.spaces import Space

MAX_PIXELS = 2**26  # of one image: a file of kilobytes may expand to gigabytes
TOO_MANY_PIXELS = f"more than the {MAX_PIXELS >> 20} megapixels an image may have"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
    """What is known about a data set before any example is read.

    Attributes:
      name: of the set in logs and records, e.g. `tfds:mnist/3.0.1[train]`.
      example: the space of one example.
      condition: the space of what both players are told about an example; None if the
        set has no conditions.
      num_examples: how many there are; 0 if they are drawn without end.
      fingerprint: changes when the data change; a resumed run must find the same.
      note: what the user should know about the choice of the data, else ''.
    """

    name: str
    example: Space
    condition: Space | None
    num_examples: int
    fingerprint: str
    note: str = ""


class InMemory(Sequence):
    """A source whose examples are in memory; it is placed on the device whole.

    Args:
      info: its description.
      examples: `[num_examples, *info.example.shape]`, uint8 if the space has bounds,
        else float32.
      conditions: `[num_examples, *info.condition.shape]`, integers for classes; None if
        there are none. If each condition is the example itself, pass the same array:
        it is then placed on the device once.
      augment: changes each batch at random in the compiled step, `(key, batch) ->
        batch`: a pure function that keeps shapes and types. A batch has the key
        `example`, and `condition` in a conditional run. Metrics and sample grids see
        the examples as they are.
    """

    def __init__(
        self,
        info: Info,
        examples: np.ndarray,
        conditions: np.ndarray | None = None,
        augment: Callable | None = None,
    ):
        self.info, self.examples = info, np.asarray(examples)
        self.augment = augment
        self.conditions = conditions
        if conditions is not None:
            same = conditions is examples
            self.conditions = self.examples if same else np.asarray(conditions)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self.examples[index]
        if self.conditions is None:
            return {"example": example}
        same = self.conditions is self.examples
        return {
            "example": example,
            "condition": example if same else self.conditions[index],
        }


def only(features: Mapping[str, Any], kind: type, *usual: str) -> str | None:
    """Returns the name of the feature of a kind: a usual one, or the only one."""
    found = [name for name, feature in features.items() if isinstance(feature, kind)]
    named = [name for name in usual if name in found]
    return named[0] if named else found[0] if len(found) == 1 else None


def check_pixels(width: int, height: int) -> None:
    """Checks the size of an image before it is decoded or enlarged.

    Raises:
      ValueError: it has more than `MAX_PIXELS`.
    """
    if max(width, 1) * max(height, 1) > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels, {TOO_MANY_PIXELS}")


def fingerprint(*parts: bytes | np.ndarray) -> str:
    """Returns eight hexadecimal digits that change when any part does."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"
