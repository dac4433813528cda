"""MNIST and Fashion-MNIST from idx files, through the source tfds."""

import gzip
import hashlib
import http.server
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

from gan_jax import data
from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data import download, idx
from gan_jax.data import tfds as source_module
from gan_jax.data.image import Encoded
from gan_jax.data.source import InMemory
from gan_jax.errors import UserError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(source_module, "unreachable", lambda url: "offline")


def load(data_dir, **keys):
    return data.load(configure(data_dir=str(data_dir), **keys))


def assert_is(source, split):
    images, labels = examples(split)
    np.testing.assert_array_equal(source.examples[..., 0], images)
    np.testing.assert_array_equal(source.conditions, labels)


@pytest.mark.parametrize("name", idx.URLS)
@pytest.mark.parametrize(
    "spelling", [{}, {"gz": False}, {"dotted": True}, {"gz": False, "dotted": True}]
)
def test_reads_idx_files(tmp_path, name, spelling):
    files = write_idx(tmp_path / "idx", **spelling)
    keys = {"name": name, "manual_dir": str(files)}
    train, test = load(tmp_path, **keys), load(tmp_path, split="test", **keys)
    assert_is(train, "train")
    assert_is(test, "test")
    assert train.info.name == f"idx:{name}[train]"
    assert train.info.example == Images((28, 28, 1))
    assert train.info.condition == Classes(10)
    assert train.info.condition.names[9] == ("9" if name == "mnist" else "Ankle boot")
    assert train.info.note == ""
    assert train.info.fingerprint != test.info.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["idx"]


def test_needs_no_tfds(idx_dir, tmp_path):
    """TFDS, which takes long to import, is not asked about what cannot be there."""
    code = f"""
import sys
import gan_jax.data.tfds as source
from gan_jax.config import default
config = default()
config.data.manual_dir = {str(idx_dir)!r}
print(source.load(config).info.fingerprint)
assert not {{"tensorflow", "tensorflow_datasets"}} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"TFDS_DATA_DIR": str(tmp_path)},
    )
    expected = load(tmp_path, manual_dir=str(idx_dir)).info.fingerprint
    assert done.stdout.strip() == expected, done.stderr
    assert not list(tmp_path.iterdir())


# Splits and sizes.


@pytest.mark.parametrize(
    ("split", "train", "test"),
    [
        ("train[:50]", slice(50), slice(0)),
        ("train[50%:]", slice(150, None), slice(0)),
        ("train[-10:]", slice(290, None), slice(0)),
        ("test[10%:20%]", slice(0), slice(6, 12)),
        ("train[:5]+test[:3]", slice(5), slice(3)),
        ("all", slice(None), slice(None)),
    ],
)
def test_parts_of_splits(tmp_path, idx_dir, split, train, test):
    source = load(tmp_path, manual_dir=str(idx_dir), split=split)
    images, labels = (
        np.concatenate([a[train], b[test]])
        for a, b in zip(examples("train"), examples("test"), strict=True)
    )
    np.testing.assert_array_equal(source.examples[..., 0], images)
    np.testing.assert_array_equal(source.conditions, labels)
    assert len(source) == source.info.num_examples == len(images)
    assert source.info.name == f"idx:mnist[{split}]"


@pytest.mark.parametrize("split", ["trian", "train[", "train[:0]", "train[x:]", ""])
def test_refuses_splits(tmp_path, idx_dir, split):
    message = r"mnist has no examples in the split '.*' \(its splits: test, train; or "
    with pytest.raises(UserError, match=message):
        load(tmp_path, manual_dir=str(idx_dir), split=split)


@pytest.mark.parametrize("size", [28, 16])
def test_lazy_equals_resident(tmp_path, idx_dir, size):
    config = configure(data_dir=str(tmp_path), manual_dir=str(idx_dir))
    config.image_size = size
    whole = data.load(config)
    config.data.resident_mb = 0
    lazy = data.load(config)
    assert isinstance(whole, InMemory)
    assert isinstance(lazy, Encoded)
    assert whole.info == lazy.info
    assert whole.info.example == Images((size, size, 1))
    for a, b in zip(pickle.loads(pickle.dumps(lazy)), whole, strict=True):
        np.testing.assert_array_equal(a["example"], b["example"])
        assert a["condition"] == b["condition"]


def test_an_image_size_has_bounds(tmp_path, idx_dir):
    config = configure(data_dir=str(tmp_path), manual_dir=str(idx_dir))
    config.image_size = 2**20
    with pytest.raises(UserError, match="is 1048576: 1048576x1048576 pixels, more th"):
        data.load(config)


# Downloads.


def serve(root, answer=None):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(root))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answer or Handler)
    # It looks for the end twenty times a second rather than twice.
    run = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    run.start()
    return server


@pytest.fixture
def download_from(monkeypatch):
    """Lets mnist be downloaded from a folder, over HTTP."""
    servers = []

    def start(root, checked=True):
        servers.append(serve(root))
        url = f"http://127.0.0.1:{servers[-1].server_port}/"
        sums = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.iterdir()
        }
        monkeypatch.undo()
        if checked:
            monkeypatch.setattr(download, "checksums", lambda name: sums)
        else:  # as of the true files
            known = download.checksums("mnist")
            monkeypatch.setattr(download, "checksums", lambda name: known)
        monkeypatch.setitem(idx.URLS, "mnist", url)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def left_over(data_dir):
    """Lists what a failed download must not leave."""
    return [p for p in data_dir.rglob("*") if p.is_file()]


def test_downloads_once(tmp_path, idx_dir, download_from, monkeypatch, capsys):
    download_from(idx_dir)
    source = load(tmp_path)
    assert_is(source, "train")
    assert (source.info.name, source.info.note) == ("idx:mnist[train]", "")
    assert capsys.readouterr().out == ""
    cache = tmp_path / "downloads" / "mnist"
    assert sorted(p.name for p in cache.iterdir()) == sorted(
        f"{name}.gz" for name in idx.FILES
    )
    assert list(cache.parent.iterdir()) == [cache]
    monkeypatch.setattr(source_module, "unreachable", lambda url: "offline")
    assert load(tmp_path).info == source.info
    (cache / f"{idx.FILES[1]}.gz").unlink()
    with pytest.raises(UserError, match=f"mnist lacks {idx.FILES[1]} .gzipped"):
        load(tmp_path)


def test_a_missing_file_falls_back(tmp_path, idx_dir, download_from):
    files = shutil.copytree(idx_dir, tmp_path / "files")
    (files / "t10k-labels-idx1-ubyte.gz").unlink()
    download_from(files)
    note = load(tmp_path / "to").info.note
    assert "; downloading it fails (HTTPError: HTTP Error 404: File not found)" in note
    assert not left_over(tmp_path / "to")


def test_other_files_fall_back(tmp_path, idx_dir, download_from):
    download_from(idx_dir, checked=False)
    source = load(tmp_path)
    assert source.info.name == "packaged:mnist[train]"
    message = "train-images-idx3-ubyte.gz has another checksum than the file of mnist"
    assert message in source.info.note
    assert not left_over(tmp_path)


def test_the_checksums_are_those_of_the_files():
    """As those who use these sets publish them."""
    train, *_ = sorted(download.checksums("mnist").items(), reverse=True)
    assert train == (
        "train-labels-idx1-ubyte.gz",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    )
    for name in idx.URLS:
        assert set(download.checksums(name)) == {f"{file}.gz" for file in idx.FILES}


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_download_leaves_nothing(
    tmp_path, idx_dir, download_from, monkeypatch, error
):
    download_from(idx_dir)

    class Sums(dict):
        def __getitem__(self, name):
            if name.startswith("t10k"):
                raise error
            return super().__getitem__(name)

    known = download.checksums("mnist")
    monkeypatch.setattr(download, "checksums", lambda name: Sums(known))
    if error is MemoryError:
        assert "downloading it fails (MemoryError" in load(tmp_path).info.note
    else:
        with pytest.raises(error):
            load(tmp_path)
    assert not left_over(tmp_path)
    monkeypatch.setattr(download, "checksums", lambda name: known)
    assert_is(load(tmp_path), "train")


def test_two_processes_may_download_at_once(
    tmp_path, idx_dir, download_from, monkeypatch
):
    """The files appear while we download: theirs are used, ours leave no trace."""
    download_from(idx_dir)
    known = download.checksums("mnist")

    def after_the_other(name):
        monkeypatch.setattr(download, "checksums", lambda name: known)
        load(tmp_path)
        return known

    monkeypatch.setattr(download, "checksums", after_the_other)
    assert_is(load(tmp_path), "train")
    assert [p.name for p in (tmp_path / "downloads").iterdir()] == ["mnist"]


def test_remains_of_a_killed_download_do_no_harm(tmp_path, idx_dir, download_from):
    download_from(idx_dir)
    remains = tmp_path / "downloads" / "mnist.abcdefgh" / "files"
    remains.mkdir(parents=True)
    (remains / f"{idx.FILES[0]}.gz").write_bytes(b"half")
    assert_is(load(tmp_path), "train")


def test_a_folder_that_cannot_be_written_falls_back(tmp_path, idx_dir, download_from):
    download_from(idx_dir)
    (tmp_path / "downloads").write_text("a file")
    assert "downloading it fails (FileExistsError" in load(tmp_path).info.note


# Where it is not available.


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


def keys(**settings):
    return lambda tmp_path, idx_dir: settings


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
        (keys(name="mnist:9.9.9"), r"cannot open mnist:9.9.9 \(.*only: 3.0.1"),
        (keys(name="mnist:3.0.1"), r"mnist:3.0.1 is not prepared in .*\(offline\): "),
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
    settings = make(tmp_path, idx_dir)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "to", **settings)
    assert "\n" not in str(caught.value)
    assert not left_over(tmp_path / "to")


class Unavailable(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(503)

    def log_message(self, *args):
        pass


def test_unreachable_ends_soon(monkeypatch, tmp_path):
    monkeypatch.undo()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        reason = download.unreachable(f"http://127.0.0.1:{port}/", seconds=0.2)
        assert "0.2 s" in reason or "timed out" in reason
    assert "refused" in download.unreachable(f"http://127.0.0.1:{port}/")
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
        assert download.unreachable(url) == expected
        server.shutdown()
        server.server_close()
