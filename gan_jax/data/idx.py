"""MNIST and Fashion-MNIST from their four idx files, local or downloaded."""

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes
from gan_jax.data import arrays
from gan_jax.data.download import MAX_BYTES
from gan_jax.data.image import Encoded
from gan_jax.data.source import InMemory
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
NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}


def read(path: str | Path) -> np.ndarray:
    """Reads an idx file of unsigned bytes in up to three dimensions, gzipped or not.

    Raises:
      UserError: the file is no idx file, or its data are more or fewer than its header
        says, or more than 256 MiB.
    """
    try:
        with open(path, "rb") as file:
            gzipped = file.peek(2)[:2] == b"\x1f\x8b"
            return _read(gzip.GzipFile(fileobj=file) if gzipped else file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path} ({one_line(error)})") from error


def _read(file: BinaryIO, path: str | Path) -> np.ndarray:
    """Reads the header, the data that it asks for, and one byte to detect more."""
    magic = file.read(4)
    number = magic[3] if len(magic) == 4 and magic[:3] == _UBYTE else 0
    sizes = file.read(4 * number)
    if not 1 <= number <= 3 or len(sizes) != 4 * number:
        raise UserError(f"{path} is not an idx file of unsigned bytes")
    shape = np.frombuffer(sizes, ">u4").tolist()
    count = math.prod(shape)
    # A gzipped file of kilobytes may ask for more.
    if math.prod(max(size, 1) for size in shape) > MAX_BYTES:
        raise UserError(f"{path}: its header {shape} asks for more than 256 MiB")
    data = file.read(count + 1)
    if len(data) != count:
        held = f"more than {count}" if len(data) > count else len(data)
        raise UserError(
            f"{path} holds {held} bytes of data: its header {shape} asks for {count}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def find(directory: str | Path) -> list[Path]:
    """Finds the four files, by any of their usual names, in the order of `FILES`.

    Raises:
      UserError: some are missing; names them.
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


def examples(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads one split: `[num_examples, 28, 28]` pixels and `[num_examples]` labels.

    Raises:
      UserError: the files do not fit each other, or are not of MNIST's kind.
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
    return pixels, classes


def urls(name: str) -> list[str]:
    """Returns where the four files of a set are downloaded from."""
    return [f"{URLS[name]}{file}.gz" for file in FILES]


def load(name: str, files: list[Path], config: ConfigDict) -> InMemory | Encoded:
    """Reads the split `config.data.split` of a set from its four files.

    Raises:
      UserError: the files are damaged, there is no such split, or `config.image_size`
        is too large.
    """
    splits = {"train": examples(*files[:2]), "test": examples(*files[2:])}
    classes = Classes(10, NAMES[name])
    return arrays.load(f"idx:{name}", splits, classes, config)
