"""A folder of image files, whose sub-folders are the classes."""

import os
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes
from gan_jax.data import collection
from gan_jax.data.image import Encoded
from gan_jax.data.source import InMemory
from gan_jax.errors import UserError, printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def load(config: ConfigDict) -> InMemory | Encoded:
    """Opens the tree of images under `config.data.data_dir`.

    Each sub-folder with images, at any depth, is a class, in alphabetical order; images
    directly in the folder have no labels. Links are followed, but no folder is visited
    twice.

    Raises:
      UserError: the folder does not exist or has no images, or too many of them cannot
        be read.
    """
    root = directory("folder", config.data.data_dir)
    paths, labels, names = find(root)
    files = collection.Collection(
        name=f"folder:{printable(root.name)}",
        place=str(root),
        records=list(zip(map(str, paths), labels, strict=True)),
        title=lambda index: str(paths[index].relative_to(root)),
        classes=Classes(len(names), names) if names else None,
    )
    return collection.load(files, config)


def directory(source: str, data_dir: str, what: str = "") -> Path:
    """Returns the folder that a source reads.

    Args:
      source: its name.
      data_dir: of the config.
      what: the folder holds, for the message if it is not given: ', a folder of ...'.

    Raises:
      UserError: there is none.
    """
    if not data_dir:
        raise UserError(f"the source {source} needs --config.data.data_dir=DIR{what}")
    root = Path(data_dir).expanduser().absolute()
    if not root.is_dir():
        raise UserError(f"data.data_dir: there is no folder {root}")
    return root


def find(
    root: Path, suffixes: tuple[str, ...] = SUFFIXES, what: str = "images"
) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Lists files in a fixed order, with their labels, and the classes' names.

    Args:
      root: the folder; its sub-folders are the classes.
      suffixes: of the files, in small letters.
      what: the files are, as messages call them.

    Raises:
      UserError: there are none, or some are next to the folders of the classes.
    """
    homes = _homes(root)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and _entered(p, homes))
    classes = [
        (printable(folder.name), found)
        for folder in folders
        if (found := list(_walk(folder, homes, suffixes)))
    ]
    loose = sorted(p for p in root.iterdir() if p.is_file() and _is(p.name, suffixes))
    if loose and classes:
        raise UserError(
            f"{root} holds both folders of {what}, one a class, and {len(loose)} "
            f"{what} outside of them (the first: {loose[0].name})"
        )
    if not loose and not classes:
        raise UserError(f"{root} holds no {what} ({', '.join(suffixes)})")
    each = [found for _, found in classes] or [loose]
    paths = [path for found in each for path in found]
    labels = [label for label, found in enumerate(each) for _ in found]
    return paths, labels, tuple(name for name, _ in classes)


def images_below(root: Path) -> list[Path]:
    """Lists the images of a folder at any depth, in a fixed order."""
    return list(_walk(root, _homes(root), SUFFIXES))


def _walk(
    folder: Path, homes: dict[str, Path], suffixes: tuple[str, ...]
) -> Iterator[Path]:
    for home, folders, files in os.walk(folder, followlinks=True):
        folders[:] = (f for f in sorted(folders) if _entered(Path(home, f), homes))
        yield from (Path(home, name) for name in sorted(files) if _is(name, suffixes))


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


def _is(name: str, suffixes: tuple[str, ...]) -> bool:
    return _visible(name) and name.lower().endswith(suffixes)
