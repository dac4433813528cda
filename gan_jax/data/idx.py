"""MNIST and its kin from their idx files, prepared for TFDS without TensorFlow."""

import functools
import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gan_jax.data import png
from gan_jax.errors import UserError
from gan_jax.resolve import one_line

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


def read(path: str | Path) -> np.ndarray:
    """Reads an idx file of unsigned bytes, gzipped or not.

    Raises:
      UserError: the file is not one, or is cut short.
    """
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path} ({one_line(error)})") from error
    if data[:3] != _UBYTE or len(data) < 4 or len(data) < 4 + 4 * data[3]:
        raise UserError(f"{path} is not an idx file of unsigned bytes")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4).tolist()
    start, count = 4 + 4 * len(shape), math.prod(shape)
    if len(data) != start + count:
        raise UserError(
            f"{path} holds {len(data) - start} bytes of data: "
            f"its header {shape} asks for {count}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


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
