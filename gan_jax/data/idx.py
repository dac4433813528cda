"""MNIST and Fashion-MNIST from their four idx files, local or downloaded."""

import gzip
import hashlib
import math
import tempfile
import urllib.request
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data.image import Encoded, resize_grey
from gan_jax.data.source import Info, InMemory, check_pixels, fingerprint
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


def checksums(name: str) -> dict[str, str]:
    """Returns the SHA-256 of each file of a set, by its name, as TFDS has recorded."""
    import tensorflow_datasets as tfds

    known = tfds.builder_cls(name).url_infos
    return {url.rpartition("/")[2]: known[url].checksum for url in known}


def download(name: str, folder: Path) -> None:
    """Downloads the four files of a set into a new folder, which appears whole.

    Args:
      name: of the set.
      folder: if another process makes it first, that one stays.

    Raises:
      ValueError: a file is not the one that TFDS knows.
      OSError: a file cannot be downloaded or written.
    """
    known = checksums(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{name}.") as part:
        files = Path(part, "files")
        files.mkdir()
        for url in urls(name):
            with urllib.request.urlopen(url, timeout=60) as response:
                data = response.read(_MAX_BYTES)
            file = url.rpartition("/")[2]
            if hashlib.sha256(data).hexdigest() != known[file]:
                raise ValueError(f"{url} has another checksum than the file of {name}")
            (files / file).write_bytes(data)
        try:
            files.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def load(name: str, files: list[Path], config: ConfigDict) -> InMemory | Encoded:
    """Reads the split `config.data.split` of a set from its four files.

    Raises:
      UserError: the files are damaged, there is no such split, or `config.image_size`
        is too large.
    """
    size, split = config.image_size, config.data.split
    try:
        check_pixels(size, size)
    except ValueError as error:
        raise UserError(f"image_size is {size}: {error}") from error
    pixels, labels = _select(name, split, examples(*files[:2]), examples(*files[2:]))
    info = Info(
        name=f"idx:{name}[{split}]",
        example=Images((size, size, 1)),
        condition=Classes(10),
        num_examples=len(pixels),
        fingerprint=fingerprint(pixels, labels),
    )
    if len(pixels) * size**2 > config.data.resident_mb << 20:
        records = list(zip(pixels, labels.tolist(), strict=True))
        return Encoded(info, records, _resized)
    if size != 28:
        return InMemory(info, np.stack([resize_grey(x, size) for x in pixels]), labels)
    return InMemory(info, pixels[..., None], labels)


def _resized(pixels: np.ndarray, size: int, channels: int) -> np.ndarray:
    del channels  # always grey
    return resize_grey(pixels, size)


def _select(
    name: str, split: str, train: tuple, test: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images and labels of a split, or of a part of one."""
    splits = {"train": train, "test": test}
    try:
        parts = _parts(split, {key: len(splits[key][1]) for key in splits})
        chosen = [[x[part] for x in splits[key]] for key, part in parts]
        images, labels = (np.concatenate(x) for x in zip(*chosen, strict=True))
    except Exception:  # TFDS has no one type for a split that it cannot parse
        labels = ()
    if not len(labels):
        raise UserError(
            f"{name} has no examples in the split {split!r} (its splits: test, train; "
            "or part of one: 'train[:500]')"
        )
    return images, labels


def _parts(split: str, sizes: dict[str, int]) -> list[tuple[str, slice]]:
    if split in sizes:
        return [(split, slice(None))]
    import tensorflow_datasets as tfds  # only it knows how to parse 'train[10%:]'

    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0)
        for name, size in sizes.items()
    }
    instruction = tfds.core.ReadInstruction.from_spec(split)
    return [
        (part.splitname, slice(part.from_, part.to))
        for part in instruction.to_absolute(infos)
    ]
