"""Image sets of TensorFlow Datasets, prepared and read without TensorFlow."""

import contextlib
import dataclasses
import importlib.util
import math
import os
import sys
import threading
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from gan_jax.data import idx, packaged
from gan_jax.data.image import Encoded, decode
from gan_jax.data.source import Images, Info, fingerprint
from gan_jax.errors import UserError, one_line, unknown


class _Unavailable(Exception):
    """The set cannot be had here; says why."""


def load(config: ConfigDict) -> Images | Encoded:
    """Opens the TFDS set `config.data.name`, preparing it first where need be.

    A prepared set under `config.data.data_dir` comes first, then the files in
    `config.data.manual_dir`, then a download, then a packaged sample.

    Raises:
      UserError: there is no such set or split, it holds no images, or it cannot be had.
    """
    data = config.data
    try:
        _look(data)
        builder = _prepared(data) or _prepare(data)
    except _Unavailable as why:
        return _packaged(config, str(why))
    return _open(builder, config)


def unreachable(url: str, seconds: float = 8.0) -> str:
    """Tells within `seconds` why `url` cannot be downloaded; '' if it can."""
    reason = [f"no answer within {seconds:g} s"]

    def probe():
        try:
            with urllib.request.urlopen(url, timeout=seconds) as response:
                response.read(1)
            reason.append("")
        except Exception as error:  # whatever it is, the download would meet it too
            reason.append(one_line(error))

    # A thread that may be left behind: the look-up of a host obeys no time-out.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(seconds)
    return reason[-1]


# Finding and preparing.


def _look(data: ConfigDict) -> None:
    """Finds without TFDS, which takes long to import, that a set cannot be had.

    Raises:
      _Unavailable: there is no folder of that set, and its files cannot be downloaded.
    """
    if data.name not in idx.URLS or data.manual_dir:
        return
    if "tensorflow_datasets" in sys.modules:  # more folders may be registered with it
        return
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    root = epath.Path(data.data_dir or default).expanduser()
    if not (root / data.name).exists():
        _check_reachable(data, root, idx.urls(data.name)[0])


def _check_reachable(data: ConfigDict, root: os.PathLike, url: str) -> None:
    if reason := unreachable(url):
        raise _Unavailable(
            f"{data.name} is not prepared in {root} and {url} cannot be reached "
            f"({reason})"
        )


def _prepared(data: ConfigDict) -> Any | None:
    """Returns a builder that reads the prepared set, if there is one."""
    import tensorflow_datasets as tfds

    _parse(data.name)
    try:
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
    missing = f"{data.name} is not prepared in {builder.data_dir_root}"
    if _needs_tensorflow(builder):
        raise _Unavailable(f"{missing} and preparing it needs TensorFlow")
    url = "" if data.manual_dir else _url(builder)
    if url:
        _check_reachable(data, builder.data_dir_root, url)
    try:
        _run(builder, data.manual_dir)
    except UserError:
        raise
    except Exception as error:
        if not _prepared(data):  # another process may have been first
            kind = UserError if data.manual_dir else _Unavailable
            raise kind(f"{missing}; preparing it fails ({one_line(error)})") from error
    return _prepared(data)


def _builder(data: ConfigDict) -> Any:
    """Makes the builder that can prepare the set."""
    import tensorflow_datasets as tfds

    name, options = _parse(data.name)
    valid = tfds.list_builders(with_community_datasets=False)
    if name not in valid:
        raise unknown("TFDS data set", name, valid)
    cls = idx.builder_class(name) if name in idx.URLS else tfds.builder_cls(name)
    try:
        return cls(data_dir=_data_dir(data), **options)
    except Exception as error:
        raise UserError(f"cannot open {data.name} ({one_line(error)})") from error


def _run(builder: Any, manual_dir: str) -> None:
    """Writes the set in one piece: into a folder beside its own, then renamed."""
    from tensorflow_datasets.core.download import DownloadConfig

    builder.manual_dir = manual_dir
    options = DownloadConfig(manual_dir=manual_dir or None)
    with contextlib.redirect_stdout(sys.stderr):  # stdout belongs to the command
        builder.download_and_prepare(
            download_config=options, file_format="array_record"
        )


def _parse(name: str) -> tuple[str, dict[str, Any]]:
    """Splits `set/config:version` into the set and options of its builder."""
    from tensorflow_datasets.core.naming import parse_builder_name_kwargs

    try:
        parsed, options = parse_builder_name_kwargs(name)
    except ValueError:
        parsed, options = None, {}
    # TFDS would read a path to elsewhere too, and NAME/KEY=VALUE.
    if not parsed or "=" in name or options.get("config") in (".", ".."):
        raise UserError(
            f"cannot read the TFDS data set {name!r}: write NAME, NAME/CONFIG or "
            "NAME:VERSION"
        )
    return str(parsed), options


def _data_dir(data: ConfigDict) -> str | None:
    return os.path.expanduser(data.data_dir) or None


def _url(builder: Any) -> str:
    if builder.name in idx.URLS:
        return idx.urls(builder.name)[0]
    return next(iter(builder.url_infos or ()), "")


def _needs_tensorflow(builder: Any) -> bool:
    # Stock builders unpack archives and encode images with it.
    stock = type(builder).__module__.startswith("tensorflow_datasets.")
    return (
        stock
        and builder.name not in idx.URLS
        and importlib.util.find_spec("tensorflow") is None
    )


def _packaged(config: ConfigDict, why: str) -> Images:
    """Falls back on the packaged sample, or says what to do instead."""
    name = config.data.name
    do = "prepare it once where TensorFlow is installed (pip install "
    do += "'gan_jax[tensorflow]') or pass --config.data.data_dir=DIR of a prepared copy"
    if name in idx.URLS:
        do = "pass --config.data.manual_dir=DIR with its four idx files"
    if name == "fashion_mnist":
        do += " (Debian's package dataset-fashion-mnist has them)"
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


# Reading.


class _Records(Sequence):
    """Random access to the encoded images of a prepared set and their labels."""

    def __init__(self, source: Any, image: str, label: str | None):
        self.source, self.image, self.label = source, image, label

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        return self._pair(self.source[range(len(self))[index]])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
        return [self._pair(record) for record in self.source.__getitems__(indices)]

    def _pair(self, record: bytes) -> tuple[bytes, int]:
        from tensorflow_datasets.proto.tf_example_generated_pb2 import Example

        feature = Example.FromString(record).features.feature
        label = feature[self.label].int64_list.value[0] if self.label else 0
        return feature[self.image].bytes_list.value[0], label


def _open(builder: Any, config: ConfigDict) -> Images | Encoded:
    """Describes the split and reads it whole if it is small enough."""
    import tensorflow_datasets as tfds

    features, size = builder.info.features, config.image_size
    image = _only(features, tfds.features.Image, "image")
    label = _only(features, tfds.features.ClassLabel, "label")
    if image is None or features[image].np_dtype != np.uint8:
        raise UserError(
            f"{builder.info.full_name} has no feature that is one 8-bit image "
            f"(it has: {', '.join(features)})"
        )
    records = _Records(_records(builder, config.data.split), image, label)
    info = Info(
        name=f"tfds:{builder.info.full_name}[{config.data.split}]",
        shape=(size, size, 1 if features[image].shape[-1] == 1 else 3),
        num_classes=(features[label].num_classes or 0) if label else 0,
        num_examples=len(records),
        fingerprint=_summary(builder.info, config.data.split),
    )
    source = Encoded(info, records)
    num_bytes = info.num_examples * math.prod(info.shape)
    return _decode_all(source) if num_bytes <= config.data.resident_mb << 20 else source


def _only(features: Any, kind: type, usual: str) -> str | None:
    """Returns the name of the feature of a kind: the usual one, or the only one."""
    found = [name for name, feature in features.items() if isinstance(feature, kind)]
    return usual if usual in found else found[0] if len(found) == 1 else None


def _records(builder: Any, split: str) -> Any:
    """Opens the encoded examples of a split."""
    from tensorflow_datasets.core.decode import DeserializeMethod

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
    try:
        raw = DeserializeMethod.RAW_BYTES
        return builder.as_data_source(split, deserialize_method=raw).data_source
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


def _decode_all(source: Encoded, block: int = 512) -> Images:
    """Reads and decodes every example into memory."""
    number, shape = len(source), source.info.shape
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
    content = fingerprint(images, labels)
    return Images(dataclasses.replace(source.info, fingerprint=content), images, labels)
