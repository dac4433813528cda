"""Pairs of images: what to translate, the condition, and its translation, the example.

They are files with both images side by side, A|B, as pix2pix's authors publish them, or
files of equal names in two folders, A and B.
"""

import functools
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from gan_jax.algorithm.spaces import Images
from gan_jax.build import names
from gan_jax.data import collection, folder, packaged
from gan_jax.data.image import channels_of, opened, square
from gan_jax.data.jitter import Jitter
from gan_jax.data.source import Info, InMemory, check_pixels, fingerprint
from gan_jax.errors import UserError, one_line, printable, unknown

DIRECTIONS = {"AtoB": (0, 1), "BtoA": (1, 0)}  # the sides of condition and example
_SPLITS = ("train", "val", "test")
_HELD_OUT = 10  # one of so many pairs is for the test
_EDGE = 64  # grey levels from a pixel to the next


class Pair(NamedTuple):
    """Where two images are.

    Attributes:
      name: of the pair, its path without the suffix.
      left: the file of A, or of both images.
      right: the file of B; None if it is the right half of `left`.
    """

    name: str
    left: Path
    right: Path | None = None

    def read(self, size: int, channels: tuple[int, int] = (0, 0)) -> list[np.ndarray]:
        """Returns A and B, uint8 `[size, size, c]`; 0 channels are the image's own.

        Raises:
          UserError: they do not fit each other.
          Exception: a file cannot be read.
        """
        check_pixels(size, size)
        with opened(str(self.left)) as left:
            if self.right is None:
                return _squares(self._halves(left), size, channels)
            with opened(str(self.right)) as right:
                self._check_sizes(left.size, right.size)
                return _squares((left, right), size, channels)

    def _halves(self, both: Image.Image) -> list[Image.Image]:
        width, height = both.size
        if width % 2:
            raise UserError(
                f"{printable(str(self.left))}: its width is {width}, and two images "
                "side by side have an even one"
            )
        half = width // 2
        return [both.crop((x, 0, x + half, height)) for x in (0, half)]

    def _check_sizes(self, left: tuple[int, int], right: tuple[int, int]) -> None:
        if left != right:
            one, other = ("{}x{}".format(*size) for size in (left, right))
            raise UserError(
                f"{printable(str(self.left))} has {one} pixels and its partner "
                f"{printable(str(self.right))} {other}: both must have one size"
            )


def _squares(
    images: Sequence[Image.Image], size: int, channels: tuple[int, int]
) -> list[np.ndarray]:
    pairs = zip(images, channels, strict=True)
    return [square(image, size, own) for image, own in pairs]


class Files(Sequence):
    """A source that decodes both images of a pair when they are read.

    Args:
      info: its description.
      pairs: where the images are.
      sides: of a pair, the number of the condition's and the example's.
      augment: changes batches in training.
    """

    def __init__(
        self, info: Info, pairs: list[Pair], sides: tuple[int, int], augment: Callable
    ):
        self.info, self.augment = info, augment
        self._pairs, self._sides = pairs, sides

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        spaces = self.info.condition, self.info.example
        channels = [spaces[self._sides.index(side)].shape[-1] for side in (0, 1)]
        images = self._pairs[index].read(spaces[0].shape[0], channels)
        condition, example = (images[side] for side in self._sides)
        return {"example": example, "condition": condition}


def load(config: ConfigDict) -> InMemory | Files:
    """Opens the pairs of `config.data.data_dir`; without one, edges of MNIST's digits.

    `config.data.name` is the direction, 'AtoB' or 'BtoA', with the settings of the
    random changes in training, `Jitter`: 'AtoB(enlarge=1.1, mirror=False)'. The split
    is the folder of its name, if there are folders train, val or test. Else a tenth of
    the pairs, which their names decide, is 'test', and the rest is 'train'.

    Raises:
      UserError: the direction or the folder is not of this form, or pairs cannot be
        read.
    """
    direction, given = names.one_call("direction", config.data.name, "of AtoB and BtoA")
    if direction not in DIRECTIONS:
        raise unknown("direction of data.name:", direction, DIRECTIONS)
    names.accepted(Jitter, given, direction)
    change = Jitter(**given)
    if not config.data.data_dir:
        return _digits(config, direction, change)
    root = folder.directory("pairs", config.data.data_dir)
    pairs = _in_split(root, config.data.split)
    title = f"pairs:{printable(root.name)}[{config.data.split}] {direction}"
    return _opened(pairs, root, title, DIRECTIONS[direction], change, config)


# --- Finding ------------------------------------------------------------------------


def _in_split(root: Path, split: str) -> list[Pair]:
    """Lists the pairs of a split, in the order of their names.

    Raises:
      UserError: there is no such split, or it has no pairs.
    """
    folders = [name for name in _SPLITS if (root / name).is_dir()]
    if split in folders:
        return find(root / split)
    if folders:
        raise UserError(
            f"{root} has no split {split!r}: its folders are {', '.join(folders)}"
        )
    if split not in ("train", "test"):
        raise unknown(f"split of {root}", split, ("train", "test"))
    pairs = [pair for pair in find(root) if held_out(pair.name) == (split == "test")]
    if not pairs:
        raise UserError(
            f"{root} has too few pairs for a split {split!r}: one of {_HELD_OUT} is in "
            "'test'; or make folders train and test"
        )
    return pairs


def held_out(name: str) -> bool:
    """Tells whether a pair of that name is in the test set where folders do not say."""
    return zlib.crc32(name.encode("utf-8", "surrogateescape")) % _HELD_OUT == 0


def find(place: Path) -> list[Pair]:
    """Lists the pairs of a folder, in the order of their names.

    Raises:
      UserError: it has no images, or images without a partner.
    """
    sides = [place / side for side in ("A", "B")]
    there = [side for side in sides if side.is_dir()]
    if len(there) == 2:
        return _partners(*(_by_name(side) for side in sides), place)
    if there:
        raise UserError(
            f"{place} has a folder {there[0].name} and not the other of A and B"
        )
    return [Pair(name, path) for name, path in sorted(_by_name(place).items())]


def _by_name(place: Path) -> dict[str, Path]:
    """Maps the names of a folder's images, without their suffixes, to their paths."""
    paths = folder.images_below(place)
    if not paths:
        raise UserError(f"{place} has no images ({', '.join(folder.SUFFIXES)})")
    found = {}
    for path in paths:
        name = path.relative_to(place).with_suffix("").as_posix()
        if name in found:
            both = f"{found[name].name} and {path.name}"
            raise UserError(f"{path.parent} has {printable(both)}: names must differ")
        found[name] = path
    return found


def _partners(a: dict[str, Path], b: dict[str, Path], place: Path) -> list[Pair]:
    alone = [
        f"{len(names)} in {side} ({', '.join(map(printable, names[:3]))}"
        f"{', ...' if names[3:] else ''})"
        for side, names in (("A", sorted(a.keys() - b)), ("B", sorted(b.keys() - a)))
        if names
    ]
    if alone:
        raise UserError(
            f"{place} has images without a partner of the same name on the other side: "
            f"{' and '.join(alone)}"
        )
    return [Pair(name, a[name], b[name]) for name in sorted(a)]


# --- Reading ------------------------------------------------------------------------


class _Read(NamedTuple):
    """What is known of a pair after it was decoded.

    Attributes:
      pair: where it is.
      channels: of A and B, 1 or 3.
      crcs: checksums of A and B.
      images: A and B; None where all do not fit into memory.
    """

    pair: Pair
    channels: tuple[int, ...]
    crcs: tuple[int, ...]
    images: list[np.ndarray] | None


def _opened(
    pairs: list[Pair],
    root: Path,
    title: str,
    sides: tuple[int, int],
    change: Jitter,
    config: ConfigDict,
) -> InMemory | Files:
    """Decodes every pair once, and leaves out the few that cannot be read."""
    read, failed = _read_all(pairs, config)
    note = collection.note_unreadable(str(root), "pairs", len(pairs), failed)
    channels = np.max([r.channels for r in read], axis=0)
    shapes = [(config.image_size, config.image_size, c) for c in channels]
    condition, example = (Images(shapes[side]) for side in sides)
    info = Info(
        name=title,
        example=example,
        condition=condition,
        num_examples=len(read),
        fingerprint=fingerprint(np.array([r.crcs for r in read], np.uint32)),
        note=note,
    )
    if not _fits(len(pairs), shapes, config):
        return Files(info, [r.pair for r in read], sides, change)
    conditions, examples = (
        np.stack([np.broadcast_to(r.images[side], shapes[side]) for r in read])
        for side in sides
    )
    return InMemory(info, examples, conditions, augment=change)


def _fits(number: int, shapes: Iterable[tuple[int, ...]], config: ConfigDict) -> bool:
    return number * sum(map(math.prod, shapes)) <= config.data.resident_mb << 20


def _read_all(pairs: list[Pair], config: ConfigDict) -> tuple[list[_Read], list[str]]:
    """Decodes every pair; of those that fail it returns their names and why.

    Raises:
      UserError: the images of a pair do not fit each other.
    """
    size, read, failed = config.image_size, [], []
    attempt = functools.partial(_tried, pairs, size, channels_of(config, own=0))
    each = collection.in_order(attempt, len(pairs), 6 * size * size)
    for pair, found in zip(pairs, each, strict=True):
        if isinstance(found, UserError):
            raise found
        if isinstance(found, Exception):
            failed.append(f"{printable(pair.name)}: {printable(one_line(found))}")
            continue
        channels, crcs = ([f(x) for x in found] for f in (_channels, zlib.crc32))
        kept = _fits(len(pairs), [x.shape for x in found], config)
        read.append(_Read(pair, channels, crcs, found if kept else None))
    return read, failed


def _channels(image: np.ndarray) -> int:
    return image.shape[-1]


def _tried(
    pairs: list[Pair], size: int, channels: int, index: int
) -> list[np.ndarray] | Exception:
    """Returns both images of a pair; or what was wrong."""
    try:
        return pairs[index].read(size, (channels, channels))
    except Exception as error:  # damaged files raise anything
        return error


# --- Edges of digits ----------------------------------------------------------------


def _digits(config: ConfigDict, direction: str, change: Jitter) -> InMemory:
    """Makes pairs of the packaged digits: A their edges, B themselves."""
    of_digits = config.copy_and_resolve_references()
    of_digits.data.name = "mnist"
    digits = packaged.load(of_digits)
    sides = edges(digits.examples), digits.examples
    conditions, examples = (sides[side] for side in DIRECTIONS[direction])
    info = Info(
        name=f"pairs:edges of {digits.info.name} {direction}",
        example=digits.info.example,
        condition=digits.info.example,
        num_examples=len(examples),
        fingerprint=fingerprint(conditions, examples),
    )
    return InMemory(info, examples, conditions, augment=change)


def edges(images: np.ndarray) -> np.ndarray:
    """Returns white lines on black where the grey levels of images change fast.

    Args:
      images: uint8 `[n, height, width, c]`.
    """
    rows, columns = np.gradient(images.astype(np.float32), axis=(1, 2))
    return 255 * (np.hypot(rows, columns) > _EDGE).astype(np.uint8)
