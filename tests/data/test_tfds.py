"""Sets of TensorFlow Datasets, prepared and read without TensorFlow."""

import gzip
import http.server
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from idx_files import configure, examples, to_idx, write_idx

from gan_jax.data import idx, png
from gan_jax.data import tfds as source_module
from gan_jax.data.image import Encoded
from gan_jax.data.source import Images
from gan_jax.errors import UserError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(source_module, "unreachable", lambda url: "offline")


def load(data_dir, **keys):
    return source_module.load(configure(data_dir=str(data_dir), **keys))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, idx_dir):
    data_dir = tmp_path_factory.mktemp("prepared")
    load(data_dir, manual_dir=str(idx_dir))
    return data_dir


def as_pairs(images, labels):
    """Returns the examples in an order of their own: TFDS shuffles them."""
    return sorted(
        (bytes(np.ascontiguousarray(i)), int(y))
        for i, y in zip(images, labels, strict=True)
    )


def assert_is(source, split):
    assert as_pairs(source.images, source.labels) == as_pairs(*examples(split))


def left_over(data_dir):
    """Lists what a failed preparation must not leave."""
    return [p for p in data_dir.glob("mnist/**/*") if p.is_file()]


# Preparing.


@pytest.mark.parametrize("name", idx.URLS)
@pytest.mark.parametrize(
    "spelling", [{}, {"gz": False}, {"dotted": True}, {"gz": False, "dotted": True}]
)
def test_prepares_from_idx_files(tmp_path, name, spelling):
    files = write_idx(tmp_path / "idx", **spelling)
    train = load(tmp_path, name=name, manual_dir=str(files))
    test = load(tmp_path, name=name, split="test")
    assert_is(train, "train")
    assert_is(test, "test")
    assert train.info.name == f"tfds:{name}/3.0.1[train]"
    assert train.info.shape == (28, 28, 1)
    assert train.info.num_classes == 10
    assert train.info.note == ""
    assert train.info.fingerprint != test.info.fingerprint


def test_is_the_ordinary_set_to_tfds(prepared):
    import tensorflow_datasets as tfds

    theirs = tfds.data_source("mnist", split="train", data_dir=prepared, download=False)
    ours = load(prepared)
    assert len(theirs) == len(ours)
    for a, b in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        assert a["label"] == b["label"]


def test_needs_no_tensorflow(prepared, idx_dir, tmp_path):
    """Nor does it prepare anywhere but in TFDS's own default folder."""
    code = f"""
import sys
import gan_jax.data.tfds as source
assert "tensorflow_datasets" not in sys.modules
from gan_jax.config import default
config = default()
config.data.manual_dir = {str(idx_dir)!r}
print(source.load(config).info.fingerprint)
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"TFDS_DATA_DIR": str(tmp_path)},
    )
    assert done.stdout.strip() == load(prepared).info.fingerprint, done.stderr
    assert_is(load(tmp_path), "train")


def serve(root, answer=None):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(root))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answer or Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def download_from(monkeypatch):
    """Lets the builder of mnist download from a folder, over HTTP."""
    servers = []

    def start(root):
        servers.append(serve(root))
        url = f"http://127.0.0.1:{servers[-1].server_port}/"
        monkeypatch.undo()
        monkeypatch.setitem(idx.URLS, "mnist", url)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_downloads(tmp_path, idx_dir, download_from, capsys):
    download_from(idx_dir)
    source = load(tmp_path)
    assert_is(source, "train")
    assert source.info.note == ""
    assert capsys.readouterr().out == ""


def test_broken_download_falls_back(tmp_path, idx_dir, download_from):
    files = shutil.copytree(idx_dir, tmp_path / "files")
    (files / "t10k-labels-idx1-ubyte.gz").unlink()
    download_from(files)
    assert "HTTP code: 404" in load(tmp_path).info.note
    assert not left_over(tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupted_preparation_leaves_nothing(tmp_path, idx_dir, monkeypatch, error):
    calls = []

    def fail_later(image):
        calls.append(image)
        if len(calls) == 100:
            raise error
        return encode(image)

    encode = png.encode
    monkeypatch.setattr(png, "encode", fail_later)
    kind = UserError if error is MemoryError else error
    with pytest.raises(kind):
        load(tmp_path, manual_dir=str(idx_dir))
    assert not left_over(tmp_path)
    assert_is(load(tmp_path, manual_dir=str(idx_dir)), "train")


def test_two_processes_may_prepare_at_once(tmp_path, idx_dir, monkeypatch):
    """The set appears while we write it: theirs is used, ours leaves no trace."""
    keys = {"manual_dir": str(idx_dir)}

    def encode_after_the_other(image):
        monkeypatch.setattr(png, "encode", encode)
        load(tmp_path, **keys)
        return encode(image)

    encode = png.encode
    monkeypatch.setattr(png, "encode", encode_after_the_other)
    assert_is(load(tmp_path, **keys), "train")
    assert [p.name for p in (tmp_path / "mnist").iterdir()] == ["3.0.1"]


def test_remains_of_a_killed_preparation_do_no_harm(tmp_path, idx_dir):
    remains = tmp_path / "mnist" / "incomplete.ABCDEF_3.0.1"
    remains.mkdir(parents=True)
    (remains / "mnist-train.array_record-00000-of-00001").write_bytes(b"half")
    for manual_dir in (str(idx_dir), ""):
        assert_is(load(tmp_path, manual_dir=manual_dir), "train")


# Where it cannot be had.


def test_falls_back_on_the_packaged_sample(tmp_path):
    start = time.monotonic()
    source = load(tmp_path)
    assert time.monotonic() - start < 10
    assert source.info.name == "packaged:mnist[train]"
    assert len(source) == 10_000
    assert source.info.note == (
        f"mnist is not prepared in {tmp_path} and https://storage.googleapis.com/"
        "cvdf-datasets/mnist/train-images-idx3-ubyte.gz cannot be reached (offline), "
        "so the packaged sample of 10,000 images is used instead; for the whole set "
        "pass --config.data.manual_dir=DIR with its four idx files"
    )


def corrupt(name, change):
    def make(tmp_path, idx_dir):
        files = shutil.copytree(idx_dir, tmp_path / "files")
        path = files / f"{name}.gz"
        path.write_bytes(change(path.read_bytes()))
        return {"manual_dir": str(files)}

    return make


def repack(change):
    return lambda data: gzip.compress(change(gzip.decompress(data)))


def without_labels(tmp_path, idx_dir):
    files = shutil.copytree(idx_dir, tmp_path / "files")
    for path in files.glob("*labels*"):
        path.unlink()
    return {"manual_dir": str(files)}


def keys(**given):
    return lambda tmp_path, idx_dir: given


IMAGES, LABELS = idx.FILES[:2]
LOST = r"lacks train-labels-idx1-ubyte, t10k-labels-idx1-ubyte \(gzipped"
NINE_BY_NINE = to_idx(np.zeros((300, 9, 9), np.uint8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            keys(fallback=False),
            r"cannot be reached \(offline\): pass --config.data.man",
        ),
        (keys(name="fashion_mnist"), r"\(Debian's package dataset-fashion-mnist has"),
        (keys(split="train[:9]"), r"cannot be reached \(offline\): pass --config"),
        (keys(name="mnits"), "unknown TFDS data set 'mnits'; did you mean 'mnist'?"),
        (keys(name="hub:mnist"), "unknown TFDS data set 'hub:mnist'"),
        (keys(name="a b"), "cannot read the TFDS data set 'a b': write NAME, NAME/"),
        (keys(name=""), "cannot read the TFDS data set '': write NAME, NAME/"),
        (keys(name="mnist:9.9.9"), r"cannot open mnist:9.9.9 \(.*only: 3.0.1"),
        (keys(name="cifar10"), r"needs TensorFlow: prepare it once where TensorFlow "),
        (keys(manual_dir="/no/where"), "/no/where lacks train-images-idx3-ubyte, tra"),
        (without_labels, LOST),
        (corrupt(IMAGES, lambda data: data[:999]), f"cannot read .*{IMAGES}.gz .EOFE"),
        (corrupt(IMAGES, lambda data: b"hello"), f"{IMAGES}.gz is not an idx file of"),
        (corrupt(IMAGES, lambda data: b"\0\0\x08"), "is not an idx file of unsigned"),
        (corrupt(IMAGES, lambda data: b""), f"{IMAGES}.gz is not an idx file of"),
        (corrupt(IMAGES, repack(lambda data: data[:-1])), "holds 235199 bytes of data"),
        (corrupt(IMAGES, lambda data: NINE_BY_NINE), "does not hold images of 28x28"),
        (
            corrupt(LABELS, lambda data: to_idx(np.zeros(299, np.uint8))),
            f"{IMAGES}.gz holds 300 images and .*{LABELS}.gz 299 labels",
        ),
        (
            corrupt(LABELS, lambda data: to_idx(np.full(300, 10, np.uint8))),
            f"{LABELS}.gz holds the label 10: they go from 0 to 9",
        ),
    ],
)
def test_refuses(tmp_path, idx_dir, make, message):
    given = make(tmp_path, idx_dir)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, **given)
    assert "\n" not in str(caught.value)
    assert not left_over(tmp_path)


class Unavailable(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(503)

    def log_message(self, *args):
        pass


def test_unreachable_ends_soon(monkeypatch, tmp_path):
    monkeypatch.undo()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        reason = source_module.unreachable(f"http://127.0.0.1:{port}/", seconds=0.2)
        assert "0.2 s" in reason or "timed out" in reason
    assert "refused" in source_module.unreachable(f"http://127.0.0.1:{port}/")
    (tmp_path / "file").write_text("here")
    for root, answer, path, expected in (
        (tmp_path, None, "file", ""),
        (tmp_path, None, "none", "HTTPError: HTTP Error 404: File not found"),
        (
            tmp_path,
            Unavailable,
            "file",
            "HTTPError: HTTP Error 503: Service Unavailable",
        ),
    ):
        server = serve(root, answer)
        url = f"http://127.0.0.1:{server.server_port}/{path}"
        assert source_module.unreachable(url) == expected
        server.shutdown()
        server.server_close()


# Reading.


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
    whole = source_module.load(config)
    config.data.resident_mb = 0
    lazy = source_module.load(config)
    assert isinstance(whole, Images)
    assert isinstance(lazy, Encoded)
    assert whole.info.shape == lazy.info.shape == (size, size, 1)
    for a, b in zip(pickle.loads(pickle.dumps(lazy)), whole, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        assert a["label"] == b["label"]
    with pytest.raises(IndexError):
        lazy[300]
    again = source_module.load(config)
    assert again.info == lazy.info
    config.data.split = "train[:299]"
    assert source_module.load(config).info.fingerprint != lazy.info.fingerprint


def custom(features, example, data_dir):
    """Prepares a set of one's own: ten times the same example."""
    import tensorflow_datasets as tfds

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=features(tfds.features))

    body = {
        "__module__": __name__,
        "VERSION": tfds.core.Version("1.0.0"),
        "_info": info,
        "_split_generators": lambda self, _: {"train": self._generate_examples()},
        "_generate_examples": lambda self: ((i, example) for i in range(10)),
    }
    with tfds.core.registered.skip_registration():
        cls = type("Mine", (tfds.core.GeneratorBasedBuilder,), body)
    cls(data_dir=data_dir).download_and_prepare(file_format="array_record")


def test_any_prepared_set_of_images(tmp_path):
    from PIL import Image

    def features(f):
        return f.FeaturesDict({"photo": f.Image(), "caption": f.Text()})

    Image.new("RGB", (40, 20), "red").save(tmp_path / "red.png")
    custom(features, {"photo": str(tmp_path / "red.png"), "caption": "red"}, tmp_path)
    source = load(tmp_path, name="mine")
    assert source.info.shape == (28, 28, 3)
    assert source.info.num_classes == 0
    assert (source.images == [255, 0, 0]).all()
    assert not source.labels.any()


def test_refuses_a_set_without_images(tmp_path):
    custom(lambda f: f.FeaturesDict({"words": f.Text()}), {"words": "hello"}, tmp_path)
    with pytest.raises(UserError, match=r"mine/1.0.0 has no feature that is .*: words"):
        load(tmp_path, name="mine")


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
