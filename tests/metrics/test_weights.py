import hashlib

import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_files import state, storage, tensor, write_legacy

from gan_jax.errors import UserError
from gan_jax.metrics.weights import files
from gan_jax.metrics.weights.files import Public

SIX = np.arange(6, dtype="<f4").reshape(2, 3)
URL = "https://example.com/some-weights.pth"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files.download, "unreachable", lambda url: "offline")
    return tmp_path / "cache" / "gan_jax" / "weights"


@pytest.fixture
def original(tmp_path):
    """A file of PyTorch with one tensor, and what is known of it."""
    made = state({"w": tensor(storage("0", 6), (3, 2), (1, 3))})
    path = write_legacy(tmp_path / "downloaded", made, {"0": SIX.tobytes()})
    return path, Public(URL, hashlib.sha256(path.read_bytes()).hexdigest())


def test_reads_both_formats(tmp_path, original):
    path, public = original
    assert files.read(path).sha256 == public.sha256
    np.testing.assert_array_equal(files.read(path).tensors["w"], SIX.T, strict=True)
    other = tmp_path / "w.safetensors"
    save_file({"w": SIX}, other)
    found = files.read(str(other))
    np.testing.assert_array_equal(found.tensors["w"], SIX, strict=True)
    assert found.sha256 == hashlib.sha256(other.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"\x80\x02}q\x00."]
)
def test_other_files(content, tmp_path):
    path = tmp_path / "w.pth"
    with pytest.raises(UserError, match=f"cannot read the weights {path}"):
        files.read(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match="neither of safetensors nor"):
        files.read(path)


def test_truncated_safetensors(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"w": SIX}, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):
        files.read(path)


def test_downloads_once(home, original, monkeypatch):
    path, public = original
    urls = []

    def fetch_file(url, part):
        urls.append(url)
        part.write_bytes(path.read_bytes())
        return public.sha256

    monkeypatch.setattr(files.download, "unreachable", lambda url: "")
    monkeypatch.setattr(files.download, "fetch_file", fetch_file)
    for _ in range(2):
        found = files.public(public)
        np.testing.assert_array_equal(found.tensors["w"], SIX.T, strict=True)
        assert found.sha256 == public.sha256
    assert urls == [URL]
    assert [x.name for x in home.iterdir()] == ["some-weights.safetensors"]


def test_wrong_download(home, original, monkeypatch):
    monkeypatch.setattr(files.download, "unreachable", lambda url: "")
    monkeypatch.setattr(files.download, "fetch_file", lambda url, part: "0")
    with pytest.raises(UserError, match="what comes has another checksum"):
        files.public(original[1])
    assert not list(home.iterdir())


def test_offline_says_where_to_put_the_file(home, original):
    path, public = original
    place = home / "some-weights.pth"
    with pytest.raises(UserError, match=f"offline.*put that file at {place}"):
        files.public(public)
    place.write_bytes(b"something else")
    with pytest.raises(UserError, match="neither of safetensors nor"):
        files.public(public)
    save_file({"w": SIX}, place)
    with pytest.raises(UserError, match=f"{place} has another checksum"):
        files.public(public)
    place.write_bytes(path.read_bytes())
    assert files.public(public).tensors.keys() == {"w"}


def test_damaged_copy(home, original):
    path, public = original
    home.mkdir(parents=True)
    (home / "some-weights.pth").write_bytes(path.read_bytes())
    files.public(public)
    copy = home / "some-weights.safetensors"
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1  # of the last number
    copy.write_bytes(content)
    with pytest.raises(UserError, match=f"{copy} is damaged: delete it"):
        files.public(public)
