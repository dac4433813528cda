"""Image sets of TensorFlow Datasets, read without TensorFlow."""

import contextlib
import dataclasses
import importlib.util
import math
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data import archive, idx, packaged
from gan_jax.data.download import fetch, home, unreachable
from gan_jax.data.image import Encoded, channels_of, decode
from gan_jax.data.source import Info, InMemory, fingerprint, only
from gan_jax.errors import UserError, one_line, unknown

# SET, SET/CONFIG, SET:VERSION, or both, with a namespace of TFDS before them.
_NAME = re.compile(
    r"(?P<set>([\w-]+:)?[a-zA-Z]\w*)(/(?!\.\.?(:|$))[\w+.-]+)?(:[\d*]+(\.[\d*]+){2})?"
)


class _Unavailable(Exception):
    """The set is not available here; says why."""


def load(config: ConfigDict) -> InMemory | Encoded:
    """Opens the TFDS set `config.data.name`, preparing it first if necessary.

    A prepared set under `config.data.data_dir` is preferred. MNIST and Fashion-MNIST
    are also read from their idx files, in `config.data.manual_dir` or downloaded, and
    MNIST falls back on the packaged sample.

    Raises:
      UserError: there is no such set or split, it has no images, or it is unavailable.
    """
    data = config.data
    try:
        builder = _prepared(data) if _may_be_prepared(data) else None
        if builder is None and _set(data.name) in idx.URLS:
            return idx.load(_set(data.name), _idx_files(data), config)
        builder = builder or _prepare(data)
    except _Unavailable as why:
        return _packaged(config, str(why))
    return _open(builder, config)


# Finding and preparing.


def _may_be_prepared(data: ConfigDict) -> bool:
    """Tells, if possible without TFDS, which takes long to import."""
    if data.name not in idx.URLS or "tensorflow_datasets" in sys.modules:
        return True  # with TFDS more folders may be registered
    return (home(data) / data.name).exists()


def _check_reachable(data: ConfigDict, url: str) -> None:
    if reason := unreachable(url):
        raise _Unavailable(
            f"{data.name} is not prepared in {home(data)} and {url} cannot be reached "
            f"({reason})"
        )


def _idx_files(data: ConfigDict) -> list[Path]:
    """Returns the idx files of MNIST or Fashion-MNIST, downloading them once."""
    name = _set(data.name)
    if name != data.name:
        _builder(data)  # refuses a version or config that does not exist
    if data.manual_dir:
        return idx.find(data.manual_dir)
    folder = Path(home(data), "downloads", name)
    if not folder.is_dir():
        if "://" in os.fspath(home(data)):
            raise _Unavailable(f"{data.name} is not prepared in {home(data)}")
        _check_reachable(data, idx.urls(name)[0])
        try:
            fetch(name, idx.urls(name), folder)
        except Exception as error:
            raise _Unavailable(
                f"{data.name} is not prepared in {home(data)}; downloading it fails "
                f"({one_line(error)})"
            ) from error
    return idx.find(folder)


def _prepared(data: ConfigDict) -> Any | None:
    """Returns a builder that reads the prepared set, if there is one."""
    import tensorflow_datasets as tfds

    _set(data.name)
    try:
        # Not public, but only it finds the newest version and the default config of a
        # set without the code that prepared it; the public `tfds.builder` prefers code.
        return tfds.core.read_only_builder.builder_from_files(
            data.name, data_dir=_data_dir(data)
        )
    except tfds.core.DatasetNotFoundError:
        return None
    except Exception as error:
        raise UserError(f"cannot open {data.name} ({one_line(error)})") from error


def _prepare(data: ConfigDict) -> Any:
    """Prepares the set and returns a builder that reads it."""
    builder = _builder(data)
    missing = f"{data.name} is not prepared in {home(data)}"
    if _needs_tensorflow(builder):
        raise _Unavailable(f"{missing} and preparing it needs TensorFlow")
    url = "" if data.manual_dir else next(iter(builder.url_infos or ()), "")
    if url:
        _check_reachable(data, url)
    try:
        _run(builder, data.manual_dir)
    except Exception as error:
        if not _prepared(data):  # another process may have been first
            kind = UserError if data.manual_dir else _Unavailable
            raise kind(f"{missing}; preparing it fails ({one_line(error)})") from error
    return _prepared(data)


def _builder(data: ConfigDict) -> Any:
    """Makes the builder that can prepare the set."""
    import tensorflow_datasets as tfds

    name, valid = _set(data.name), tfds.list_builders(with_community_datasets=False)
    if name not in valid:
        raise unknown("TFDS data set", name, valid)
    try:
        return tfds.builder(data.name, data_dir=_data_dir(data))
    except Exception as error:
        raise UserError(f"cannot open {data.name} ({one_line(error)})") from error


def _run(builder: Any, manual_dir: str) -> None:
    """Writes the set into a folder that TFDS renames when it is complete."""
    import tensorflow_datasets as tfds

    options = tfds.download.DownloadConfig(manual_dir=manual_dir or None)
    with contextlib.redirect_stdout(sys.stderr):  # stdout belongs to the command
        builder.download_and_prepare(
            download_config=options, file_format="array_record"
        )


def _set(name: str) -> str:
    """Returns the set of `SET/CONFIG:VERSION`.

    Raises:
      UserError: the name is of another form; TFDS would read paths to elsewhere too.
    """
    if match := _NAME.fullmatch(name):
        return match["set"]
    raise UserError(
        f"cannot read the TFDS data set {name!r}: write NAME, NAME/CONFIG or "
        "NAME:VERSION"
    )


def _data_dir(data: ConfigDict) -> str | None:
    return os.path.expanduser(data.data_dir) or None


def _needs_tensorflow(builder: Any) -> bool:
    # The builders of TFDS unpack archives and encode images with it.
    stock = type(builder).__module__.startswith("tensorflow_datasets.")
    return stock and importlib.util.find_spec("tensorflow") is None


def _packaged(config: ConfigDict, why: str) -> InMemory:
    """Falls back on the packaged sample, or says what to do instead."""
    name, do = config.data.name, _remedy(config.data.name)
    packed = name in packaged.names() and config.data.split in packaged.SPLITS
    if not (packed and config.data.fallback):
        raise UserError(f"{why}: {do}")
    source = packaged.load(config)
    note = (
        f"{why}, so the packaged sample of {len(source):,} images is used instead; "
        f"for the whole set {do}"
    )
    source.info = dataclasses.replace(source.info, note=note)
    return source


def _remedy(name: str) -> str:
    """Returns how to get a set that is not prepared."""
    if name == "fashion_mnist":
        return f"{_remedy('mnist')} (Debian's package dataset-fashion-mnist has them)"
    if name in idx.URLS:
        return "pass --config.data.manual_dir=DIR with its four idx files"
    prepare = (
        "prepare it once where TensorFlow is installed (pip install "
        "'gan_jax[tensorflow]') or pass --config.data.data_dir=DIR of a prepared copy"
    )
    ours = archive.name_of(_set(name))
    if not ours:
        return prepare
    return (
        f"pass --config.data.source=archive --config.data.name={ours}, which needs no "
        f"TensorFlow; or {prepare}"
    )


# Reading.


class _Records(Sequence):
    """Random access to the encoded images of a prepared set and their labels.

    Args:
      source: of TFDS, which leaves the images encoded.
      image: name of the feature.
      label: name of the feature; None if there is none.
    """

    def __init__(self, source: Any, image: str, label: str | None):
        self.source, self.image, self.label = source, image, label

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        return self._pair(self.source[range(len(self))[index]])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
        return [self._pair(example) for example in self.source.__getitems__(indices)]

    def _pair(self, example: dict[str, Any]) -> tuple[bytes, int]:
        return example[self.image], int(example[self.label]) if self.label else 0


def _open(builder: Any, config: ConfigDict) -> InMemory | Encoded:
    """Describes the split and reads it whole if it is small enough."""
    import tensorflow_datasets as tfds

    features, size = builder.info.features, config.image_size
    image = only(features, tfds.features.Image, "image")
    label = only(features, tfds.features.ClassLabel, "label")
    if image is None or features[image].np_dtype != np.uint8:
        raise UserError(
            f"{builder.info.full_name} has no feature that is one 8-bit image "
            f"(it has: {', '.join(features)})"
        )
    records = _Records(_records(builder, config.data.split), image, label)
    channels = channels_of(config, own=1 if features[image].shape[-1] == 1 else 3)
    info = Info(
        name=f"tfds:{builder.info.full_name}[{config.data.split}]",
        example=Images((size, size, channels)),
        condition=_classes(features[label]) if label else None,
        num_examples=len(records),
        fingerprint=_summary(builder.info, config.data.split),
    )
    source = Encoded(info, records)
    num_bytes = info.num_examples * math.prod(info.example.shape)
    return _decode_all(source) if num_bytes <= config.data.resident_mb << 20 else source


def _classes(feature: Any) -> Classes | None:
    number = feature.num_classes or 0
    return Classes(number, tuple(feature.names or ())) if number else None


def _records(builder: Any, split: str) -> Any:
    """Opens the examples of a split, their images encoded."""
    import tensorflow_datasets as tfds

    name, splits = builder.info.full_name, builder.info.splits
    try:
        number = splits[split].num_examples
    except Exception:
        number = 0
    if not number:
        raise UserError(
            f"{name} has no examples in the split {split!r} (its splits: "
            f"{', '.join(sorted(splits))}; or part of one: 'train[:500]')"
        )
    encoded = {
        key: tfds.decode.SkipDecoding()
        for key, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    try:
        return builder.as_data_source(split, decoders=encoded)
    except NotImplementedError:
        raise UserError(
            f"{name} in {builder.data_dir} is not prepared as array_record: prepare "
            "it again with download_and_prepare(file_format='array_record')"
        ) from None
    except Exception as error:
        raise UserError(f"cannot read {name} ({one_line(error)})") from error


def _summary(info: Any, split: str) -> str:
    sizes = [(s.name, s.shard_lengths, s.num_bytes) for s in info.splits.values()]
    return fingerprint(repr((info.full_name, split, sorted(sizes))).encode())


def _decode_all(source: Encoded, block: int = 512) -> InMemory:
    """Reads and decodes every example into memory."""
    number, shape = len(source), source.info.example.shape
    images, labels = np.empty((number, *shape), np.uint8), np.empty(number, np.int32)

    def fill(start: int):
        indices = range(start, min(start + block, number))
        pairs = source.records.__getitems__(indices)
        for index, (file, label) in zip(indices, pairs, strict=True):
            images[index], labels[index] = decode(file, *shape[1:]), label

    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(0, number, block)))
    except Exception as error:
        raise UserError(
            f"cannot read {source.info.name} ({one_line(error)})"
        ) from error
    info = dataclasses.replace(source.info, fingerprint=fingerprint(images, labels))
    return InMemory(info, images, labels if info.condition else None)
