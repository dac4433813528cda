"""Image sets of Hugging Face `datasets`, from a folder or from the hub.

A hub set is data, such as Parquet files or images: code from the hub is never run.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes
from gan_jax.data import collection
from gan_jax.data.image import Encoded
from gan_jax.data.source import InMemory, only
from gan_jax.errors import UserError, one_line, printable, unknown

_NAME = re.compile(r"(?P<set>\w[\w.-]*(/\w[\w.-]*)?)(:(?P<config>\w[\w.-]*))?")


def load(config: ConfigDict) -> InMemory | Encoded:
    """Opens a set of images that `datasets` can load.

    It is the folder `config.data.data_dir` if that is given, as `save_to_disk` writes
    it, else the set `config.data.name` of the hub. The images and the classes are found
    by the types of the columns.

    Raises:
      UserError: `datasets` is not installed; there is no such set or split, the hub
        cannot be reached, there is no column of images, or too many of them cannot be
        read.
    """
    datasets, data = _library(), config.data
    splits, name = _saved(datasets, data) if data.data_dir else _hub(datasets, data)
    rows = _select(datasets, splits, data.split, name)
    image = only(rows.features, datasets.Image, "image", "img")
    label = only(rows.features, datasets.ClassLabel, "label")
    if image is None:
        raise UserError(
            f"{name} has no column that is one image (its columns: "
            f"{', '.join(rows.features)})"
        )
    note = ""
    if label and any(one is None or one < 0 for one in rows[label]):
        note = f"some rows have no {label}, so there are no classes"
        label = None
    names = tuple(map(printable, rows.features[label].names)) if label else ()
    encoded = rows.cast_column(image, datasets.Image(decode=False))
    files = collection.Collection(
        name=f"{name}[{data.split}]",
        place=f"{name}[{data.split}]",
        records=_Rows(encoded, image, label),
        title=lambda index: f"row {index}",
        classes=Classes(len(names), names) if label else None,
        note=note,
    )
    return collection.load(files, config)


def _library() -> Any:
    need = "the data source hf needs Hugging Face's datasets, version 4 or newer"
    try:
        import datasets
    except ImportError:
        raise UserError(f"{need}: pip install 'gan_jax[hf]'") from None
    if int(datasets.__version__.partition(".")[0]) < 4:  # they run code of the hub
        raise UserError(
            f"{need}, not {datasets.__version__}: pip install 'gan_jax[hf]'"
        )
    return datasets


def _saved(datasets: Any, data: ConfigDict) -> tuple[Any, str]:
    """Returns the splits that `save_to_disk` has written, and their name in logs."""
    folder = Path(data.data_dir).expanduser()
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise UserError(
            f"data.data_dir: {folder} holds no data set that save_to_disk of datasets "
            f"has written ({one_line(error)})"
        ) from error
    if isinstance(found, datasets.Dataset):  # one split, which may have no name
        found = {str(found.split or data.split): found}
    return found, f"hf:{printable(folder.absolute().name)}"


def _hub(datasets: Any, data: ConfigDict) -> tuple[Any, str]:
    """Returns the splits of a set of the hub, and their name in logs."""
    match = _NAME.fullmatch(data.name)
    if not match:
        raise UserError(
            f"cannot read the Hugging Face data set {data.name!r}: write NAME, "
            "OWNER/NAME or OWNER/NAME:CONFIG"
        )
    try:
        found = datasets.load_dataset(match["set"], match["config"])
    except Exception as error:
        raise UserError(
            f"cannot load {data.name} from the Hugging Face hub ({one_line(error)}): "
            "check its name and the network, or pass --config.data.data_dir=DIR of a "
            "set that save_to_disk has written"
        ) from error
    return found, f"hf:{data.name}"


def _select(datasets: Any, splits: Any, split: str, name: str) -> Any:
    """Returns the rows of a split, or of a part of one."""
    try:
        instruction = datasets.ReadInstruction.from_spec(split)
        parts = instruction.to_absolute({key: len(splits[key]) for key in splits})
        return datasets.concatenate_datasets(
            [splits[p.splitname].select(range(p.from_, p.to)) for p in parts]
        )
    except Exception as error:  # there is no one type for a split that is not there
        raise unknown(f"split of {name}", split, splits) from error


class _Rows(Sequence):
    """Random access to the encoded images of a set and their labels.

    Args:
      rows: a `datasets.Dataset` that leaves images encoded.
      image: name of the column.
      label: name of the column; None if there is none.
    """

    def __init__(self, rows: Any, image: str, label: str | None):
        self._rows, self._image, self._label = rows, image, label

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[str | bytes, int]:
        row = self._rows[index]
        image = row[self._image]
        return image["bytes"] or image["path"], row[self._label] if self._label else 0
