"""A folder of image files, whose sub-folders are the classes."""

import functools
import math
import os
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data.image import Encoded, decode
from gan_jax.data.source import Info, InMemory, fingerprint
from gan_jax.errors import UserError, one_line, printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def load(config: ConfigDict) -> InMemory | Encoded:
    """Opens the tree of images under `config.data.data_dir`.

    Each sub-folder with images, at any depth, is a class, in alphabetical order; images
    directly in the folder have no labels. Links are followed, but no folder is visited
    twice. Every file is decoded once: files that cannot be read are left out with a
    warning, or refused if they are 1 % or more.

    Raises:
      UserError: the folder does not exist, has no images or images that do not fit
        together, or too many of them cannot be read.
    """
    root = _directory(config.data.data_dir)
    paths, labels, num_classes = _find(root)
    limit = config.data.resident_mb << 20
    good, crcs, images, note = _decode_all(root, paths, config.image_size, limit)
    paths, labels = [paths[i] for i in good], labels[good]
    info = Info(
        name=f"folder:{printable(root.name)}",
        example=Images(images[0].shape),
        condition=Classes(num_classes) if num_classes else None,
        num_examples=len(paths),
        fingerprint=fingerprint(crcs, labels),
        note=note,
    )
    if len(images) == len(paths):
        return InMemory(info, np.stack(images), labels if num_classes else None)
    return Encoded(info, list(zip(map(str, paths), labels.tolist(), strict=True)))


def _directory(data_dir: str) -> Path:
    if not data_dir:
        raise UserError("the source folder needs --config.data.data_dir=DIR")
    root = Path(data_dir).expanduser().absolute()
    if not root.is_dir():
        raise UserError(f"data.data_dir: there is no folder {root}")
    return root


def _find(root: Path) -> tuple[list[Path], np.ndarray, int]:
    """Lists the images in a fixed order, with their labels and the number of classes.

    Raises:
      UserError: there are none, or some are next to the folders of the classes.
    """
    homes = _homes(root)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and _entered(p, homes))
    classes = [found for folder in folders if (found := list(_walk(folder, homes)))]
    loose = sorted(p for p in root.iterdir() if p.is_file() and _is_image(p.name))
    if loose and classes:
        raise UserError(
            f"{root} holds both folders of images, one a class, and {len(loose)} "
            f"images outside of them (the first: {loose[0].name})"
        )
    if not loose and not classes:
        raise UserError(f"{root} holds no images ({', '.join(SUFFIXES)})")
    sizes = [len(found) for found in classes or [loose]]
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return loose + [path for found in classes for path in found], labels, len(classes)


def _walk(folder: Path, homes: dict[str, Path]) -> Iterator[Path]:
    for home, folders, files in os.walk(folder, followlinks=True):
        folders[:] = (f for f in sorted(folders) if _entered(Path(home, f), homes))
        yield from (Path(home, name) for name in sorted(filter(_is_image, files)))


def _homes(root: Path) -> dict[str, Path]:
    """Maps each real folder in the tree to its path without links."""
    homes = {}
    for home, folders, _ in os.walk(root):
        folders[:] = filter(_visible, folders)
        homes[os.path.realpath(home)] = Path(home)
    return homes


def _entered(folder: Path, homes: dict[str, Path]) -> bool:
    """Tells whether to visit a folder by this path.

    Links may lead to a folder along many paths, and in circles. A folder is visited by
    its path without links if that is in the tree, else by the first that is found.
    """
    if not _visible(folder.name):
        return False
    return homes.setdefault(os.path.realpath(folder), folder) == folder


def _visible(name: str) -> bool:
    return not name.startswith(".")


def _is_image(name: str) -> bool:
    return _visible(name) and name.lower().endswith(SUFFIXES)


def _decode_all(
    root: Path, paths: list[Path], size: int, limit: int
) -> tuple[list[int], np.ndarray, list[np.ndarray], str]:
    """Decodes every file once.

    Returns:
      The indices of the files that can be read, the checksums of their images, these
      images (only the first if all exceed `limit` bytes), and a note on the others.
    """
    by_channels: dict[int, list[int]] = {}
    failed, crcs, images = [], [], []
    for index, image in enumerate(_in_order(paths, size)):
        if isinstance(image, Exception):
            name = paths[index].relative_to(root)
            failed.append(printable(f"{name}: {one_line(image)}"))
            continue
        by_channels.setdefault(image.shape[-1], []).append(index)
        crcs.append(zlib.crc32(image))
        if not images or len(paths) * math.prod(image.shape) <= limit:
            images.append(image)
    note = _check_readable(root, failed, len(paths))
    _check_channels(root, {c: [paths[i] for i in by_channels[c]] for c in by_channels})
    (good,) = by_channels.values()
    return good, np.array(crcs, np.uint32), images, note


def _in_order(paths: list[Path], size: int) -> Iterator[np.ndarray | Exception]:
    # At most a quarter of a gigabyte of decoded images waits to be used.
    slab = min(1024, max(1, 2**28 // (3 * size * size)))
    with ThreadPoolExecutor() as pool, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # of Pillow, about files that it can read
        for start in range(0, len(paths), slab):
            read = functools.partial(_try_decode, size=size)
            yield from pool.map(read, paths[start : start + slab])


def _try_decode(path: Path, size: int) -> np.ndarray | Exception:
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise ValueError("it is not a file")
        return decode(str(path), size)
    except Exception as error:  # damaged files raise anything
        return error


def _check_readable(root: Path, failed: list[str], number: int) -> str:
    """Logs a warning about files that cannot be read, and returns it."""
    if not failed:
        return ""
    which = "; ".join(failed[:3]) + ("; ..." if failed[3:] else "")
    if len(failed) * 100 >= number:
        raise UserError(
            f"{len(failed)} of the {number} images in {root} cannot be read ({which})"
        )
    note = f"left out {len(failed)} of {number} images that cannot be read ({which})"
    logging.warning("%s: %s", root, note)
    return note


def _check_channels(root: Path, by_channels: dict[int, list[Path]]) -> None:
    if len(by_channels) > 1:
        grey, colour = by_channels[1], by_channels[3]
        raise UserError(
            f"{root} mixes {len(grey)} grey images ({grey[0].relative_to(root)}) with "
            f"{len(colour)} in colour ({colour[0].relative_to(root)})"
        )
