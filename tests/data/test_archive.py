"""CIFAR and SVHN, from small archives of their authors' formats."""

import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest
import scipy.io
from idx_files import configure

from gan_jax import data
from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data import archive, download
from gan_jax.data.image import Encoded
from gan_jax.errors import UserError

RNG = np.random.default_rng(0)
SIZES = {"train": 10, "test": 4}
PIXELS = {k: RNG.integers(0, 256, (n, 32, 32, 3), np.uint8) for k, n in SIZES.items()}
LABELS = {k: RNG.integers(0, 10, n).astype(np.uint8) for k, n in SIZES.items()}
LABELS["train"][:2] = 0, 9
WORDS = [f"word{i}" for i in range(10)]
FINE = [f"fine_{i}" for i in range(100)]
DIGITS = tuple("0123456789")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(archive, "unreachable", lambda url: "offline")


def load(folder, name="cifar10", **keys):
    config = configure(source="archive", name=name, manual_dir=str(folder), **keys)
    config.image_size = 32
    return data.load(config)


def records(split, part=slice(None), coarse=False):
    """Encodes examples: labels, then the red, green and blue planes of each."""
    labels = LABELS[split][part, None]
    planes = PIXELS[split][part].transpose(0, 3, 1, 2).reshape(len(labels), -1)
    first = [np.full_like(labels, 7)] if coarse else []
    return np.concatenate([*first, labels, planes], 1).tobytes()


def tar(path, members):
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def cifar10(**changes):
    home = "cifar-10-batches-bin/"
    batch = {f"data_batch_{i + 1}.bin": slice(2 * i, 2 * i + 2) for i in range(5)}
    members = {f"{home}{name}": records("train", part) for name, part in batch.items()}
    members[f"{home}test_batch.bin"] = records("test")
    members[f"{home}batches.meta.txt"] = ("\n".join(WORDS) + "\n\n").encode()
    members[f"{home}readme.html"] = b"hello"
    changes = {f"{home}{name}": content for name, content in changes.items()}
    return {k: v for k, v in (members | changes).items() if v is not None}


def cifar100():
    home = "cifar-100-binary/"
    return {
        f"{home}train.bin": records("train", coarse=True),
        f"{home}test.bin": records("test", coarse=True),
        f"{home}fine_label_names.txt": "\n".join(FINE).encode(),
    }


def matlab(split, **changes):
    labels = np.where(LABELS[split] == 0, 10, LABELS[split])[:, None]
    return {"X": PIXELS[split].transpose(1, 2, 3, 0), "y": labels} | changes


def write(folder, name, **changes):
    """Writes the archives of a set."""
    folder.mkdir(exist_ok=True)
    if name == "svhn":
        for split in SIZES:
            path = folder / f"{split}_32x32.mat"
            scipy.io.savemat(path, matlab(split, **changes), do_compression=True)
    elif name == "cifar10":
        tar(folder / "cifar-10-binary.tar.gz", cifar10(**changes))
    else:
        tar(folder / "cifar-100-binary.tar.gz", cifar100())
    return folder


@pytest.mark.parametrize(
    ("name", "names"), [("cifar10", WORDS), ("cifar100", FINE), ("svhn", DIGITS)]
)
def test_reads_archives(tmp_path, name, names):
    folder = write(tmp_path / "archives", name)
    for split in SIZES:
        source = load(folder, name, split=split)
        np.testing.assert_array_equal(source.examples, PIXELS[split])
        np.testing.assert_array_equal(source.conditions, LABELS[split])
        assert source.info.name == f"archive:{name}[{split}]"
        assert source.info.example == Images((32, 32, 3))
        assert source.info.condition == Classes(len(names))
        assert source.info.condition.names == tuple(names)
    part = load(folder, name, split="train[:3]", resident_mb=0)
    assert isinstance(part, Encoded)
    assert len(part) == 3
    np.testing.assert_array_equal(part[2]["example"], PIXELS["train"][2])
    assert part[1]["condition"] == 9
    assert list(tmp_path.iterdir()) == [folder]  # nothing is unpacked


def test_becomes_grey(tmp_path):
    source = load(write(tmp_path, "svhn"), "svhn", channels="grey")
    expected = PIXELS["train"] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(source.examples[..., 0], expected, atol=0.51)


def test_the_archives_are_those_of_tfds():
    """Which has recorded their checksums."""
    import tensorflow_datasets as tfds

    for one in archive.SETS.values():
        assert set(one.urls) <= set(tfds.builder_cls(one.known_as).url_infos)
        known = download.checksums(one.known_as)
        assert {len(known[file]) for file in one.files} == {64}


def test_downloads_once(tmp_path, monkeypatch, capsys):
    files = write(tmp_path / "files", "svhn")
    urls = tuple((files / f"{split}_32x32.mat").as_uri() for split in SIZES)
    one = archive.SETS["svhn"]._replace(urls=urls)
    monkeypatch.setitem(archive.SETS, "svhn", one)
    known = {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files.iterdir()
    }
    monkeypatch.setattr(download, "checksums", lambda name: known)
    home = tmp_path / "home"

    def fetched():
        return load("", "svhn", data_dir=str(home))

    with pytest.raises(UserError, match=r"svhn is not in .* downloaded from .*\(offl"):
        fetched()
    monkeypatch.setattr(archive, "unreachable", lambda url: "")
    np.testing.assert_array_equal(fetched().examples, PIXELS["train"])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "downloading train_32x32.mat" in shown.err
    monkeypatch.setattr(archive, "unreachable", lambda url: "offline")
    np.testing.assert_array_equal(fetched().examples, PIXELS["train"])

    monkeypatch.setattr(archive, "unreachable", lambda url: "")
    home, known["test_32x32.mat"] = tmp_path / "other", "0" * 64
    message = r"test_32x32.mat has another checksum than the file of svhn_cropped\): pa"
    with pytest.raises(UserError, match=message):
        fetched()
    assert not [path for path in home.rglob("*") if path.is_file()]


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def garbage(path):
    path.write_bytes(b"no archive at all" * 50)


def link(path):
    with tarfile.open(path, "w:gz") as file:
        for name in cifar10():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            file.addfile(info)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "lacks cifar-10-binary.tar.gz of cifar10"),
        (cut, r"cannot read .*cifar-10-binary.tar.gz \(EOFError: "),
        (garbage, r"cannot read .* \(BadGzipFile: Not a gzipped file"),
        (link, "tar.gz lacks cifar-10-batches-bin/data_batch_1.bin, "),
        (lambda path: path.write_bytes(gzip.compress(b"x" * 999)), "ReadError: "),
        (
            {"data_batch_3.bin": bytes(3074)},
            "data_batch_3.bin does not hold whole records",
        ),
        ({"test_batch.bin": None}, "lacks cifar-10-batches-bin/test_batch.bin$"),
        ({"data_batch_1.bin": b"\x0a" * 3073}, "holds the class 10: they go from 0 to"),
        ({"batches.meta.txt": b"a a"}, "info.condition has 2 classes of the name 'a'"),
    ],
)
def test_refuses_damaged_archives(tmp_path, damage, message):
    write(tmp_path, "cifar10", **(damage if isinstance(damage, dict) else {}))
    if callable(damage):
        damage(tmp_path / "cifar-10-binary.tar.gz")
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path)
    assert str(caught.value).isprintable()


def test_an_archive_has_a_largest_size(tmp_path, monkeypatch):
    folder = write(tmp_path, "cifar10")
    monkeypatch.setattr(archive, "MAX_BYTES", 2**14)
    with pytest.raises(UserError, match=r"tar.gz unpacks to more than 0 MiB"):
        load(folder)
    write(tmp_path, "svhn")
    with pytest.raises(UserError, match=r"it holds no images X"):
        load(folder, "svhn")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"cannot read .*train_32x32.mat \("),
        (garbage, r"cannot read .*train_32x32.mat \("),
        (
            {"y": np.zeros((10, 1), np.uint8)},
            "it holds no images X|labels from 1 to 10",
        ),
        ({"X": np.zeros((32, 32, 3, 10))}, r"X must hold bytes|it holds no images X"),
        ({"X": np.zeros((28, 28, 3, 10), np.uint8)}, r"it holds no images X \[32, 32"),
        ({"y": np.ones((9, 1), np.uint8)}, r"it holds no images X \[32, 32"),
    ],
)
def test_refuses_damaged_matlab_files(tmp_path, damage, message):
    write(tmp_path, "svhn", **(damage if isinstance(damage, dict) else {}))
    if callable(damage):
        damage(tmp_path / "train_32x32.mat")
    with pytest.raises(UserError, match=message):
        load(tmp_path, "svhn")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "cifar"}, "unknown archive 'cifar'; did you mean 'cifar10"),
        (
            {"name": "mnist"},
            r"unknown archive 'mnist' \(valid: cifar10, cifar100, svhn",
        ),
        (
            {"split": "trian"},
            "cifar10 has no examples in the split 'trian' .its splits",
        ),
    ],
)
def test_refuses(tmp_path, keys, message):
    with pytest.raises(UserError, match=message):
        load(write(tmp_path, "cifar10"), **keys)
