"""What every data source is: random access to examples, and what they look like."""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_PIXELS = 2**26  # of one image: a file of kilobytes may stand for gigabytes
TOO_MANY_PIXELS = f"more than the {MAX_PIXELS >> 20} megapixels an image may have"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
    """What is known of a data set before any of it is used.

    Attributes:
      name: what the run calls it, e.g. `tfds:mnist/3.0.1[train]`.
      shape: of one example: `(height, width, channels)`, or `(2,)` for points.
      num_classes: labels are 0 … num_classes - 1; 0 where there are none.
      num_examples: how many there are; 0 where they are drawn without end.
      fingerprint: changes when the data do; a resumed run must find the same.
      note: what the user should be told about the choice of the data, else ''.
    """

    name: str
    shape: tuple[int, ...]
    num_classes: int
    num_examples: int
    fingerprint: str
    note: str = ""


class Images(Sequence):
    """A source that lies in memory whole.

    Args:
      info: its description.
      images: `[num_examples, height, width, channels]`, uint8.
      labels: `[num_examples]`, integers.
    """

    def __init__(self, info: Info, images: np.ndarray, labels: np.ndarray):
        self.info, self.images, self.labels = info, images, labels.astype(np.int32)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": int(self.labels[index])}


def check_pixels(width: int, height: int) -> None:
    """Checks the size of an image before it is decoded, or made.

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
