"""Collections of image files: each is decoded once, when the collection is opened.

So it is known before training which of them cannot be read, and which are grey.
"""

import dataclasses
import functools
import math
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data.image import Encoded, channels_of, decode, own_channels
from gan_jax.data.source import Info, InMemory, fingerprint
from gan_jax.errors import UserError, one_line, printable

_FEW = 3  # files that cannot be read, in a collection of any size


@dataclasses.dataclass(frozen=True)
class Collection:
    """Image files with labels.

    Attributes:
      name: of the source in logs, e.g. `folder:faces`.
      place: where the files are, as messages call it.
      records: random access to pairs of a file, its path or its content, and a label.
      title: what messages call the file of an index.
      classes: what the labels stand for; None if there are none.
      note: what the user should know about them, else ''.
    """

    name: str
    place: str
    records: Sequence[tuple[str | bytes, int]]
    title: Callable[[int], str]
    classes: Classes | None
    note: str = ""


class _Read(NamedTuple):
    """What is known of one file after it was decoded.

    Attributes:
      index: of its record.
      label: of its class.
      own: its channels, 1 or 3, before it is converted.
      crc: checksum of the image.
      image: `[size, size, c]`; None where all do not fit into memory.
    """

    index: int
    label: int
    own: int
    crc: int
    image: np.ndarray | None


class _Part(Sequence):
    """Some records of a collection."""

    def __init__(self, records: Sequence, indices: list[int]):
        self._records, self._indices = records, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[str | bytes, int]:
        return self._records[self._indices[index]]


def load(files: Collection, config: ConfigDict) -> InMemory | Encoded:
    """Decodes every file once, and leaves out the few that cannot be read.

    Those may be at most three, or at most 1 %, and fewer than half of the files.

    Raises:
      UserError: there are no files, or more of them cannot be read.
    """
    if not len(files.records):
        raise UserError(f"{files.place} holds no images")
    read, failed = _read_all(files, config)
    number = len(files.records)
    notes = [files.note, note_unreadable(files.place, "images", number, failed)]
    channels = channels_of(config, own=max(r.own for r in read))
    shape = (config.image_size, config.image_size, channels)
    labels = np.array([r.label for r in read], np.int32)
    info = Info(
        name=files.name,
        example=Images(shape),
        condition=files.classes,
        num_examples=len(read),
        fingerprint=fingerprint(np.array([r.crc for r in read], np.uint32), labels),
        note="; ".join(filter(None, [*notes, _converted(read, channels)])),
    )
    if _fits(number, shape, config):
        images = np.stack([np.broadcast_to(r.image, shape) for r in read])
        return InMemory(info, images, labels if files.classes else None)
    indices = [r.index for r in read]
    return Encoded(info, _Part(files.records, indices) if failed else files.records)


def _fits(number: int, shape: tuple[int, ...], config: ConfigDict) -> bool:
    return number * math.prod(shape) <= config.data.resident_mb << 20


def _read_all(files: Collection, config: ConfigDict) -> tuple[list[_Read], list[str]]:
    """Decodes every file; of those that fail it returns their names and why."""
    read, failed = [], []
    for index, found in enumerate(_in_order(files, config)):
        if isinstance(found, Exception):
            title = printable(files.title(index))
            failed.append(f"{title}: {printable(one_line(found))}")
            continue
        image, label, own = found
        kept = image if _fits(len(files.records), image.shape, config) else None
        read.append(_Read(index, label, own, zlib.crc32(image), kept))
    return read, failed


def _in_order(files: Collection, config: ConfigDict) -> Iterator[tuple | Exception]:
    size, channels = config.image_size, channels_of(config, own=0)
    read = functools.partial(_try_read, files.records, size=size, channels=channels)
    return in_order(read, len(files.records), 3 * size * size)


def in_order(read: Callable[[int], Any], number: int, num_bytes: int) -> Iterator[Any]:
    """Yields what `read` returns of each index, in order; several threads call it.

    Args:
      read: decodes an image file, or several.
      number: of indices.
      num_bytes: of what it returns, about.
    """
    # At most a quarter of a gigabyte of decoded images waits to be used.
    slab = min(1024, max(1, 2**28 // num_bytes))
    with ThreadPoolExecutor() as pool, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # of Pillow, about files that it can read
        for start in range(0, number, slab):
            yield from pool.map(read, range(start, min(start + slab, number)))


def _try_read(
    records: Sequence, index: int, size: int, channels: int
) -> tuple[np.ndarray, int, int] | Exception:
    """Returns an image, its label and its own channels; or what was wrong."""
    try:
        file, label = records[index]
        image = decode(file, size, channels)
        return image, label, own_channels(file) if channels else image.shape[-1]
    except Exception as error:  # damaged files raise anything
        return error


def note_unreadable(place: str, kind: str, number: int, failed: list[str]) -> str:
    """Returns a note on what cannot be read, '' if everything can.

    Args:
      place: where it is, as messages call it.
      kind: what it is, in the plural.
      number: of all.
      failed: the names of those that cannot be read, and why.

    Raises:
      UserError: they are too many to be left out.
    """
    if not failed:
        return ""
    which = "; ".join(failed[:3]) + ("; ..." if failed[3:] else "")
    if len(failed) > max(_FEW, number // 100) or 2 * len(failed) >= number:
        raise UserError(
            f"{len(failed)} of the {number:,} {kind} in {place} cannot be read "
            f"({which})"
        )
    return f"left out {len(failed)} of {number:,} {kind} that cannot be read ({which})"


def _converted(read: list[_Read], channels: int) -> str:
    """Returns a note on the images that are converted."""
    number = sum(r.own != channels for r in read)
    if not number:
        return ""
    kind, other = ("grey", "colour") if channels == 3 else ("colour", "grey")
    are = "is" if number == 1 else "are"
    return f"{number:,} of {len(read):,} images {are} {kind} and converted to {other}"
