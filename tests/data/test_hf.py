"""Sets of Hugging Face `datasets`, made and saved here."""

import io
import os
import pickle
import sys

import numpy as np
import pytest
from idx_files import configure
from PIL import Image

from gan_jax import data
from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data import hf
from gan_jax.data.image import Encoded, decode
from gan_jax.data.source import InMemory
from gan_jax.errors import UserError

RNG = np.random.default_rng(0)
NAMES = ("cat", "dog", "relief")


def png(*shape):
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, shape, np.uint8)).save(file, "PNG")
    return file.getvalue()


FILES = [png(10, 12, 3) for _ in range(8)]
LABELS = [i % 3 for i in range(8)]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
    patch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    yield datasets
    patch.undo()


@pytest.fixture
def save(library, tmp_path):
    def save_set(folder="set", **columns):
        types = {
            bytes: library.Image(),
            int: library.ClassLabel(names=list(NAMES)),
            str: library.Value("string"),
        }
        features = {
            name: types[next(type(x) for x in column if x is not None)]
            for name, column in columns.items()
        }
        rows = {
            name: [{"bytes": x, "path": None} if isinstance(x, bytes) else x for x in c]
            for name, c in columns.items()
        }
        made = library.Dataset.from_dict(rows, library.Features(features))
        splits = {"train": made, "test": made.select([0])} if len(made) > 1 else {}
        found = library.DatasetDict(splits) if splits else made
        found.save_to_disk(str(tmp_path / folder))
        return tmp_path / folder

    return save_set


def load(folder, size=8, **keys):
    config = configure(source="hf", data_dir=str(folder), **keys)
    config.image_size = size
    return data.load(config)


@pytest.mark.parametrize("resident_mb", [0, 1])
def test_reads_a_saved_set(save, resident_mb):
    """The columns are found by their types, whatever they are called."""
    folder = save(photo=FILES, words=["x"] * 8, kind=LABELS)
    source = load(folder, resident_mb=resident_mb)
    assert source.info.name == "hf:set[train]"
    assert source.info.example == Images((8, 8, 3))
    assert source.info.condition == Classes(3)
    assert source.info.condition.names == NAMES
    assert source.info.note == ""
    assert isinstance(source, InMemory if resident_mb else Encoded)
    for i, example in enumerate(pickle.loads(pickle.dumps(source))):
        np.testing.assert_array_equal(example["example"], decode(FILES[i], 8))
        assert example["condition"] == LABELS[i]
    assert load(folder).info.fingerprint == source.info.fingerprint
    assert load(folder, size=9).info.fingerprint != source.info.fingerprint


@pytest.mark.parametrize(
    ("split", "number"), [("test", 1), ("train[:3]", 3), ("train+test", 9)]
)
def test_splits(save, split, number):
    source = load(save(image=FILES, other=FILES), split=split)
    assert len(source) == source.info.num_examples == number
    assert source.info.condition is None


def test_one_split_needs_no_name(save):
    assert len(load(save(image=FILES[:1]))) == 1


def test_grey_and_broken_images(save):
    files = [*FILES, png(8, 8), FILES[0][:60], None]
    source = load(save(image=files))
    assert source.examples.shape == (9, 8, 8, 3)
    assert source.info.note.startswith("left out 2 of 11 images that cannot be read (")
    assert "(row 9: OSError" in source.info.note
    assert source.info.note.endswith("; 1 of 9 images is grey and converted to colour")


def test_classes_that_are_not_known_are_not_used(save):
    source = load(save(image=FILES, label=[*LABELS[:7], -1]))
    assert source.info.condition is None
    assert source.info.note == "some rows have no label, so there are no classes"


@pytest.mark.parametrize("name", ["pipe", "text", "none"])
def test_a_row_that_names_a_file_leads_to_an_image_or_nowhere(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")  # reading it would not end
    (tmp_path / "text").write_text("secret")
    image = {"bytes": None, "path": str(tmp_path / name)}
    file, label = hf._Rows([{"image": image}], "image", None)[0]
    assert label == 0
    with pytest.raises((OSError, ValueError), match=r"not a file|identify|No such"):
        decode(file, 8)


def test_reads_a_set_as_the_hub_has_it(library, tmp_path, monkeypatch):
    """A folder of this name stands in for the hub: the same code reads both."""
    for i, file in enumerate(FILES):
        home = tmp_path / "owner" / "pets" / "train" / NAMES[i % 2]
        home.mkdir(parents=True, exist_ok=True)
        (home / f"{i}.png").write_bytes(file)
    monkeypatch.chdir(tmp_path)
    source = load("", name="owner/pets")
    assert source.info.name == "hf:owner/pets[train]"
    assert source.info.condition.names == NAMES[:2]
    assert sorted(source.conditions) == [0] * 4 + [1] * 4
    first = source.examples[source.conditions == 0][0]
    np.testing.assert_array_equal(first, decode(FILES[0], 8))


def test_no_code_of_a_set_is_run(library, tmp_path, monkeypatch):
    home = tmp_path / "owner" / "evil"
    home.mkdir(parents=True)
    (home / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot load owner/evil from the Hugging Face"):
        load("", name="owner/evil")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"split": "trian"}, "unknown split of hf:set 'trian'; did you mean 'train'"),
        ({"split": "train[:0]"}, r"hf:set\[train\[:0\]\] holds no images"),
        ({"split": ""}, r"unknown split of hf:set '' \(valid: test, train"),
        ({"data_dir": "nowhere"}, "data.data_dir: nowhere holds no data set that save"),
        (
            {"data_dir": "", "name": "../x"},
            "cannot read the Hugging Face data set '../",
        ),
        (
            {"data_dir": "", "name": "/etc"},
            "cannot read the Hugging Face data set '/et",
        ),
        (
            {"data_dir": "", "name": ""},
            "cannot read the Hugging Face data set '': writ",
        ),
        (
            {"data_dir": "", "name": "owner/set"},
            r"cannot load owner/set from the Hugging Face hub \(.*\): check its name",
        ),
    ],
)
def test_refuses(save, keys, message):
    folder = save(image=FILES, label=LABELS)
    config = configure(source="hf", **({"data_dir": str(folder)} | keys))
    with pytest.raises(UserError, match=message) as caught:
        data.load(config)
    assert str(caught.value).isprintable()


def test_needs_a_column_of_images(save):
    with pytest.raises(UserError, match=r"has no column that is one image .*: words\)"):
        load(save(words=["a", "b"]))


@pytest.mark.parametrize("version", ["", "3.6.0"])
def test_needs_the_library(monkeypatch, version):
    module = type(sys)("datasets")
    module.__version__ = version
    monkeypatch.setitem(sys.modules, "datasets", module if version else None)
    with pytest.raises(
        UserError, match=r"version 4 or newer.*pip install 'gan_jax\[hf"
    ):
        load("")
