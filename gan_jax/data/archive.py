"""CIFAR-10, CIFAR-100 and SVHN from the archives that their authors publish.

They are read from `data.manual_dir`, else downloaded once, and never unpacked on disk.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes
from gan_jax.data import arrays
from gan_jax.data.arrays import Arrays
from gan_jax.data.download import MAX_BYTES, fetch, home, unreachable
from gan_jax.data.image import Encoded
from gan_jax.data.source import InMemory
from gan_jax.errors import UserError, one_line, printable, unknown

_SIDE, _PIXELS = 32, 3 * 32 * 32


class _Set(NamedTuple):
    """One set of images.

    Attributes:
      known_as: its name in TFDS, which has recorded the checksums.
      urls: of its files.
      read: maps their paths to the splits and the names of the classes.
    """

    known_as: str
    urls: tuple[str, ...]
    read: Callable[[Sequence[Path]], tuple[dict[str, Arrays], tuple[str, ...]]]

    @property
    def files(self) -> list[str]:
        """Their names."""
        return [url.rpartition("/")[2] for url in self.urls]


def load(config: ConfigDict) -> InMemory | Encoded:
    """Opens the split `config.data.split` of the set `config.data.name`.

    Raises:
      UserError: there is no such set or split, or its archives are missing or damaged.
    """
    name = config.data.name
    if name not in SETS:
        raise unknown("archive", name, SETS)
    splits, names = SETS[name].read(_files(config.data))
    return arrays.load(f"archive:{name}", splits, Classes(len(names), names), config)


def name_of(name: str) -> str:
    """Returns what a set of TFDS is called here; '' if it is not among ours."""
    found = [ours for ours, one in SETS.items() if one.known_as == name]
    return found[0] if found else ""


# Finding.


def _files(data: ConfigDict) -> list[Path]:
    """Returns the files of a set, downloading them once."""
    one = SETS[data.name]
    folder = Path(home(data), "downloads", one.known_as)
    if data.manual_dir:
        folder = Path(data.manual_dir).expanduser()
    elif not folder.is_dir():
        _download(data.name, folder)
    missing = [file for file in one.files if not (folder / file).is_file()]
    if missing:
        raise UserError(f"{folder} lacks {' and '.join(missing)} of {data.name}")
    return [folder / file for file in one.files]


def _download(name: str, folder: Path) -> None:
    one = SETS[name]
    why = unreachable(one.urls[0])
    try:
        if not why:
            fetch(one.known_as, one.urls, folder)
    except Exception as error:
        why = one_line(error)
    if why:
        raise UserError(
            f"{name} is not in {folder} and cannot be downloaded from {one.urls[0]} "
            f"({why}): pass --config.data.manual_dir=DIR with {' and '.join(one.files)}"
        )


# CIFAR: records of labels and pixels, in a gzipped tar file.


def _cifar10(files: Sequence[Path]) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    folder = "cifar-10-batches-bin/"
    train = [f"{folder}data_batch_{i}.bin" for i in range(1, 6)]
    test, names = f"{folder}test_batch.bin", f"{folder}batches.meta.txt"
    return _cifar(files[0], train, test, names, labels=1)


def _cifar100(files: Sequence[Path]) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    folder = "cifar-100-binary/"
    train, test = [f"{folder}train.bin"], f"{folder}test.bin"
    return _cifar(files[0], train, test, f"{folder}fine_label_names.txt", labels=2)


def _cifar(
    path: Path, train: list[str], test: str, names: str, labels: int
) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    """Reads one of both sets.

    Args:
      path: of the archive.
      train: its members with the training examples.
      test: the one with the test examples.
      names: the one with the names of the classes.
      labels: how many bytes of labels each record starts with; the last is the class.
    """
    content = _members(path, [*train, test, names])

    def read(members: list[str]) -> Arrays:
        parts = []
        for member in members:
            if len(content[member]) % (labels + _PIXELS):
                raise UserError(f"{path}: {member} does not hold whole records")
            part = np.frombuffer(content[member], np.uint8)
            parts.append(part.reshape(-1, labels + _PIXELS))
        records = np.concatenate(parts)
        pixels = records[:, labels:].reshape(-1, 3, _SIDE, _SIDE)
        classes = records[:, labels - 1].astype(np.int32)
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)), classes

    words = content[names].decode("utf-8", "replace").split()
    return {"train": read(train), "test": read([test])}, tuple(map(printable, words))


def _members(path: Path, names: list[str]) -> dict[str, bytes]:
    """Reads files of a gzipped tar file, by their names and into memory alone."""
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:  # a file of kilobytes may unpack to gigabytes
            raise UserError(f"{path} unpacks to more than {MAX_BYTES >> 20} MiB")
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            found = {member.name: member for member in tar if member.isreg()}
            missing = [name for name in names if name not in found]
            if missing:
                raise UserError(f"{path} lacks {', '.join(missing)}")
            return {name: tar.extractfile(found[name]).read() for name in names}
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UserError(f"cannot read {path} ({one_line(error)})") from error


# SVHN: MATLAB's arrays.


def _svhn(files: Sequence[Path]) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    splits = dict(zip(("train", "test"), map(_matlab, files), strict=True))
    return splits, tuple("0123456789")


def _matlab(path: Path) -> Arrays:
    """Reads the images `X`, [32, 32, 3, n], and the labels `y`, 10 for the digit 0."""
    import scipy.io

    try:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
        number = shapes.get("X", (0,))[-1]
        fits = shapes.get("X") == (_SIDE, _SIDE, 3, number)
        if not fits or shapes.get("y") != (number, 1) or number * _PIXELS > MAX_BYTES:
            raise ValueError("it holds no images X [32, 32, 3, n] with labels y [n, 1]")
        found = scipy.io.loadmat(path, variable_names=["X", "y"])
        pixels, labels = found["X"].transpose(3, 0, 1, 2), found["y"][:, 0]
        if pixels.dtype != np.uint8 or not np.isin(labels, np.arange(1, 11)).all():
            raise ValueError("X must hold bytes, and y labels from 1 to 10")
    except Exception as error:  # of a damaged file SciPy raises anything
        raise UserError(f"cannot read {path} ({one_line(error)})") from error
    return np.ascontiguousarray(pixels), labels.astype(np.int32) % 10


SETS = {
    "cifar10": _Set(
        "cifar10",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        _cifar10,
    ),
    "cifar100": _Set(
        "cifar100",
        ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
        _cifar100,
    ),
    "svhn": _Set(
        "svhn_cropped",
        (
            "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
            "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
        ),
        _svhn,
    ),
}
