"""Sets that TensorFlow Datasets has prepared, read without TensorFlow."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from idx_files import configure, examples, prepare, prepare_mnist
from PIL import Image

from gan_jax import data
from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data import tfds as source_module
from gan_jax.data.image import Encoded
from gan_jax.data.source import InMemory
from gan_jax.errors import UserError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(source_module, "unreachable", lambda url: "offline")


def load(data_dir, **keys):
    return data.load(configure(data_dir=str(data_dir), **keys))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare_mnist(tmp_path_factory.mktemp("prepared"))


def as_pairs(images, labels):
    """Returns the examples in a fixed order: TFDS shuffles them."""
    return sorted(
        (bytes(np.ascontiguousarray(i)), int(y))
        for i, y in zip(images, labels, strict=True)
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_reads_what_tfds_does_in_its_order(prepared, split):
    import tensorflow_datasets as tfds

    theirs = tfds.data_source("mnist", split=split, data_dir=prepared, download=False)
    ours = load(prepared, split=split)
    assert ours.info.name == f"tfds:mnist/3.0.1[{split}]"
    assert ours.info.example == Images((28, 28, 1))
    assert ours.info.condition == Classes(10)
    assert ours.info.condition.names == tuple("0123456789")
    assert ours.info.note == ""
    assert len(theirs) == len(ours)
    for a, b in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(a["image"], b["example"])
        assert a["label"] == b["condition"]
    assert as_pairs(ours.examples, ours.conditions) == as_pairs(*examples(split))


def test_a_prepared_set_comes_first(prepared, idx_dir):
    for keys in ({"manual_dir": str(idx_dir)}, {"name": "mnist:3.0.1"}):
        source = load(prepared, **keys)
        assert source.info.name == "tfds:mnist/3.0.1[train]"


def test_needs_no_tensorflow(prepared):
    """A set in TFDS's default folder is found too."""
    code = """
import sys
import gan_jax.data.tfds as source
assert "tensorflow_datasets" not in sys.modules
from gan_jax.config import default
print(source.load(default()).info.fingerprint)
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"TFDS_DATA_DIR": str(prepared)},
    )
    assert done.stdout.strip() == load(prepared).info.fingerprint, done.stderr


@pytest.mark.parametrize(
    ("split", "number"),
    [("train", 300), ("test", 60), ("train[:50]", 50), ("train[50%:]", 150)],
)
def test_splits(prepared, split, number):
    source = load(prepared, split=split)
    assert len(source) == source.info.num_examples == number
    assert source.info.name == f"tfds:mnist/3.0.1[{split}]"


@pytest.mark.parametrize("split", ["trian", "train[", "train[:0]", ""])
def test_refuses_splits(prepared, split):
    message = r"no examples in the split '.*' \(its splits: test, train; or part of"
    with pytest.raises(UserError, match=message):
        load(prepared, split=split)


@pytest.mark.parametrize("size", [28, 16])
def test_lazy_equals_resident(prepared, size):
    config = configure(data_dir=str(prepared))
    config.image_size = size
    whole = data.load(config)
    config.data.resident_mb = 0
    lazy = data.load(config)
    assert isinstance(whole, InMemory)
    assert isinstance(lazy, Encoded)
    assert whole.info.example == lazy.info.example == Images((size, size, 1))
    for a, b in zip(pickle.loads(pickle.dumps(lazy)), whole, strict=True):
        np.testing.assert_array_equal(a["example"], b["example"])
        assert a["condition"] == b["condition"]
    with pytest.raises(IndexError):
        lazy[300]
    again = data.load(config)
    assert again.info == lazy.info
    config.data.split = "train[:299]"
    assert data.load(config).info.fingerprint != lazy.info.fingerprint


def test_any_prepared_set_of_images(tmp_path):
    def features(f):
        return f.FeaturesDict({"photo": f.Image(), "caption": f.Text()})

    Image.new("RGB", (40, 20), "red").save(tmp_path / "red.png")
    red = {"photo": str(tmp_path / "red.png"), "caption": "red"}
    prepare(tmp_path, "mine", features, {"train": [red] * 128})
    for name in ("mine", "mine:1.0.0"):
        source = load(tmp_path, name=name)
        assert source.info.example == Images((28, 28, 3))
        assert source.info.condition is None
        assert (source.examples == [255, 0, 0]).all()
        assert set(source[0]) == {"example"}
    grey = load(tmp_path, name="mine", channels="grey")
    assert grey.info.example == Images((28, 28, 1))
    assert (grey.examples == 76).all()  # 0.299 * 255


def test_refuses_a_set_without_images(tmp_path):
    splits = {"train": [{"words": "hello"}]}
    prepare(tmp_path, "mine", lambda f: f.FeaturesDict({"words": f.Text()}), splits)
    with pytest.raises(UserError, match=r"mine/1.0.0 has no feature that is .*: words"):
        load(tmp_path, name="mine")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "unknown TFDS data set 'mnits'; did you mean 'mnist'?"),
        ("hub:mnist", "unknown TFDS data set 'hub:mnist'"),
        ("a b", "cannot read the TFDS data set 'a b': write NAME, NAME/"),
        ("", "cannot read the TFDS data set '': write NAME, NAME/"),
        ("mnist/..", "cannot read the TFDS data set 'mnist/..': write NAME, NAME/"),
        ("mnist/..:3.0.1", "cannot read the TFDS data set 'mnist/..:3.0.1': write"),
        ("mnist/a=b", "cannot read the TFDS data set 'mnist/a=b': write NAME, NAME/"),
        (
            "cifar10",
            r"needs TensorFlow: pass --config.data.source=archive --config.dat",
        ),
        (
            "svhn_cropped",
            r"--config.data.name=svhn, which needs no TensorFlow; or prep",
        ),
        ("stl10", r"needs TensorFlow: prepare it once where TensorFlow "),
    ],
)
def test_refuses_names(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, name=name)
    assert not list(tmp_path.iterdir())


def as_tfrecord(root):
    path = root / "dataset_info.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"fileFormat": "tfrecord"})
    )


def without_shard(root):
    (root / "mnist-train.array_record-00000-of-00001").unlink()


def with_cut_shard(root):
    path = root / "mnist-train.array_record-00000-of-00001"
    path.write_bytes(path.read_bytes()[:70000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (as_tfrecord, "mnist/3.0.1 in .* is not prepared as array_record: prepare it"),
        (without_shard, "cannot read tfds:mnist/3.0.1"),
        (with_cut_shard, "cannot read tfds:mnist/3.0.1"),
    ],
)
def test_refuses_a_damaged_set(tmp_path, prepared, damage, message):
    data_dir = shutil.copytree(prepared, tmp_path / "copy")
    damage(data_dir / "mnist" / "3.0.1")
    with pytest.raises(UserError, match=message):
        load(data_dir)
