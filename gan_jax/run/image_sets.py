"""Sets of examples on disk, to be compared: folders of images, and npz files."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gan_jax.data.folder import SUFFIXES
from gan_jax.data.image import flatten, own_channels
from gan_jax.data.source import check_pixels
from gan_jax.errors import UserError, one_line

_CHANNELS = (1, 3)
_BATCH = 64


class ExampleSet(NamedTuple):
    """A set of examples, or of their features.

    Attributes:
      name: of the file or folder.
      shape: of an example; `(k,)` of features.
      num: how many there are.
      paths: of the images of a folder; empty for a file.
      arrays: of a file, by name: `images` or `features`, and perhaps `logits` and
        `labels`.
    """

    name: str
    shape: tuple[int, ...]
    num: int
    paths: tuple[Path, ...]
    arrays: dict[str, np.ndarray]

    @property
    def has_features(self) -> bool:
        """Whether it holds features in place of examples."""
        return "features" in self.arrays

    def batches(self, channels: int) -> Iterator[np.ndarray]:
        """Yields uint8 `[batch, height, width, channels]`, grey repeated for colour.

        Raises:
          UserError: an image cannot be read, or has another size than the first.
        """
        for start in range(0, self.num, _BATCH):
            if self.paths:
                paths = self.paths[start : start + _BATCH]
                found = [_image(path, self.shape[:2], channels) for path in paths]
                yield np.stack(found)
            else:
                batch = self.arrays["images"][start : start + _BATCH]
                yield np.broadcast_to(batch, (*batch.shape[:3], channels))


def open_set(path: str | Path) -> ExampleSet:
    """Opens a folder of images, at any depth, or an npz file.

    The file has `images`, uint8 `[n, height, width, channels]`, or `features`, `[n,
    k]`; it may have `labels` `[n]` too, and `logits` `[n, classes]` beside features.

    Raises:
      UserError: it is neither, or holds something else.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise UserError(f"there is no folder or npz file {path}")
    return _open_file(path)


def _open_folder(folder: Path) -> ExampleSet:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        kinds = ", ".join(SUFFIXES)
        raise UserError(f"{folder} has no images: their names end in {kinds}")
    channels = max(_read(path, own_channels) for path in paths)
    with Image.open(paths[0]) as first:
        shape = (first.height, first.width, channels)
    return ExampleSet(str(folder), shape, len(paths), tuple(paths), {})


def _image(path: Path, size: tuple[int, ...], channels: int) -> np.ndarray:
    def decode(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            check_pixels(*image.size)
            return np.asarray(flatten(image, channels))

    pixels = _read(path, decode)
    if pixels.shape[:2] != tuple(size):
        found, wanted = ("x".join(map(str, s)) for s in (pixels.shape[:2], size))
        raise UserError(
            f"{path} has {found} pixels and the first image has {wanted}: a set must "
            "have one size"
        )
    return pixels.reshape(*size, channels)


def _read(path: Path, how):
    try:
        return how(path)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"cannot read the image {path} ({one_line(error)})") from error


def _open_file(path: Path) -> ExampleSet:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = {"images", "features", "logits", "labels"} & set(file.files)
            arrays = {name: file[name] for name in sorted(names)}
    except Exception as error:
        raise UserError(f"{path} is no npz file ({one_line(error)})") from error
    key = "features" if "features" in arrays else "images"
    if key not in arrays:
        raise UserError(
            f"{path} has neither 'images', uint8 [n, height, width, channels], nor "
            "'features', [n, k]"
        )
    found = arrays[key]
    fits = found.ndim == 2 and found.dtype.kind == "f"
    if key == "images":
        fits = found.ndim == 4 and found.dtype == np.uint8
        fits = fits and found.shape[-1] in _CHANNELS
    if not fits or not len(found):
        wanted = "float [n, k]"
        if key == "images":
            wanted = "uint8 [n, height, width, 1 or 3]"
        raise UserError(
            f"{path}: {key!r} is {found.dtype} {list(found.shape)}; it must be {wanted}"
        )
    for name, array in arrays.items():
        if len(array) != len(found):
            raise UserError(f"{path}: {name!r} has {len(array)} rows, not {len(found)}")
    return ExampleSet(str(path), found.shape[1:], len(found), (), arrays)
