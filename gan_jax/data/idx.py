"""MNIST and its kin from their idx files, prepared for TFDS without TensorFlow."""

import functools
import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gan_jax.data import png
from gan_jax.errors import UserError, one_line

URLS = {  # those whose checksums TFDS knows
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_UBYTE = b"\x00\x00\x08"  # the magic number's first three bytes: data are uint8
_MAX_BYTES = 2**28  # five times MNIST; a gzipped file of kilobytes may ask for more


def read(path: str | Path) -> np.ndarray:
    """Reads an idx file of unsigned bytes in up to three dimensions, gzipped or not.

    Raises:
      UserError: the file is not one, does not hold what its header says, or too much.
    """
    try:
        with open(path, "rb") as file:
            gzipped = file.peek(2)[:2] == b"\x1f\x8b"
            return _read(gzip.GzipFile(fileobj=file) if gzipped else file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path} ({one_line(error)})") from error


def _read(file: BinaryIO, path: str | Path) -> np.ndarray:
    """Reads the header, then as much as it asks for, and a byte to see the end."""
    magic = file.read(4)
    number = magic[3] if len(magic) == 4 and magic[:3] == _UBYTE else 0
    sizes = file.read(4 * number)
    if not 1 <= number <= 3 or len(sizes) != 4 * number:
        raise UserError(f"{path} is not an idx file of unsigned bytes")
    shape = np.frombuffer(sizes, ">u4").tolist()
    count = math.prod(shape)
    if math.prod(max(size, 1) for size in shape) > _MAX_BYTES:
        raise UserError(f"{path}: its header {shape} asks for more than 256 MiB")
    data = file.read(count + 1)
    if len(data) != count:
        held = f"more than {count}" if len(data) > count else len(data)
        raise UserError(
            f"{path} holds {held} bytes of data: its header {shape} asks for {count}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def find(directory: str | Path) -> list[Path]:
    """Finds the four files in the order of `FILES`, by any of their usual names.

    Raises:
      UserError: some are not there; names them.
    """
    directory = Path(directory).expanduser()
    found = [_find_one(directory, name) for name in FILES]
    missing = [name for name, path in zip(FILES, found, strict=True) if not path]
    if missing:
        raise UserError(
            f"{directory} lacks {', '.join(missing)} (gzipped with .gz, or plain)"
        )
    return found


def _find_one(directory: Path, name: str) -> Path | None:
    for stem in (name, name.replace("-idx", ".idx")):
        for path in (directory / f"{stem}.gz", directory / stem):
            if path.is_file():
                return path
    return None


def examples(images: Path, labels: Path) -> list[tuple[np.ndarray, int]]:
    """Reads one split.

    Raises:
      UserError: the files do not fit each other, or are not MNIST's kind.
    """
    pixels, classes = read(images), read(labels)
    if pixels.shape[1:] != (28, 28):
        raise UserError(f"{images} does not hold images of 28x28")
    if classes.shape != pixels.shape[:1]:
        raise UserError(
            f"{images} holds {len(pixels)} images and {labels} {len(classes)} labels"
        )
    if len(classes) and classes.max() > 9:
        raise UserError(
            f"{labels} holds the label {classes.max()}: they go from 0 to 9"
        )
    return list(zip(pixels, classes.tolist(), strict=True))


def urls(name: str) -> list[str]:
    """Returns where the four files of a set are downloaded from."""
    return [f"{URLS[name]}{file}.gz" for file in FILES]


@functools.cache
def builder_class(name: str) -> type:
    """Derives from the stock TFDS builder one that needs no TensorFlow.

    What it prepares is the ordinary set: the same features, keys and so order. Set
    `manual_dir` on an instance to read files that are already there.
    """
    import tensorflow_datasets as tfds

    stock = tfds.builder_cls(name)

    def split_generators(self, manager):
        if self.manual_dir:
            files = find(self.manual_dir)
        else:
            files = manager.download(urls(name))
        splits = {"train": examples(*files[:2]), "test": examples(*files[2:])}
        return {
            split: self._generate_examples(pairs) for split, pairs in splits.items()
        }

    def generate_examples(self, pairs) -> Iterator[tuple[int, dict]]:
        for index, (image, label) in enumerate(pairs):
            yield index, {"image": png.encode(image), "label": label}

    body = {
        "manual_dir": "",
        "__module__": stock.__module__,
        "_split_generators": split_generators,
        "_generate_examples": generate_examples,
    }
    with tfds.core.registered.skip_registration():
        return type(stock.__name__, (stock,), body)
