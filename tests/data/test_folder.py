"""Folders of images."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.config import default
from gan_jax.data import folder
from gan_jax.data.image import Encoded, decode
from gan_jax.data.source import InMemory
from gan_jax.errors import UserError

RNG = np.random.default_rng(0)


def load(directory, **keys):
    config = default()
    config.update_from_flattened_dict({"image_size": 8, **keys})
    config.data.data_dir = str(directory)
    return folder.load(config)


def write(path, shape=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_folders_are_classes_in_order(tmp_path):
    names = ("b/2.png", "b/deep/er/1.PNG", "a/z.bmp", "a/a.tif", "c/x.BMP")
    pixels = {name: write(tmp_path / name) for name in names}
    for name in ("a/notes.txt", "a/._a.png", ".hidden/a.png", "empty/readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    source = load(tmp_path)
    order = ("a/a.tif", "a/z.bmp", "b/2.png", "b/deep/er/1.PNG", "c/x.BMP")
    np.testing.assert_array_equal(source.examples[..., 0], [pixels[n] for n in order])
    assert source.conditions.tolist() == [0, 0, 1, 1, 2]
    assert source.info.example == Images((8, 8, 1))
    assert source.info.condition == Classes(3)
    assert source.info.condition.names == ("a", "b", "c")
    assert source.info.name == f"folder:{tmp_path.name}"


def test_files_directly_inside_have_no_labels(tmp_path):
    pixels = [write(tmp_path / f"{i}.png", (8, 8, 3)) for i in range(3)]
    source = load(tmp_path)
    np.testing.assert_array_equal(source.examples, pixels)
    assert source.info.condition is None
    assert source.conditions is None
    assert set(source[0]) == {"example"}


@pytest.mark.parametrize("shape", [(20, 12), (20, 12, 3)])
def test_lazy_equals_resident(tmp_path, shape):
    for i in range(40):
        write(tmp_path / f"{i % 4}" / f"{i}.png", shape)
    whole = load(tmp_path)
    lazy = load(tmp_path, **{"data.resident_mb": 0})
    assert isinstance(whole, InMemory)
    assert isinstance(lazy, Encoded)
    assert lazy.info == whole.info
    assert len(lazy) == 40
    for a, b in zip(pickle.loads(pickle.dumps(lazy)), whole, strict=True):
        np.testing.assert_array_equal(a["example"], b["example"])
        assert a["condition"] == b["condition"]


def test_fingerprint_follows_pixels_and_labels(tmp_path):
    for name in ("a/1.png", "b/2.png"):
        write(tmp_path / name)
    first = load(tmp_path).info.fingerprint
    assert load(tmp_path).info.fingerprint == first
    (tmp_path / "b" / "2.png").rename(tmp_path / "a" / "2.png")
    moved = load(tmp_path).info.fingerprint
    write(tmp_path / "a/2.png")
    assert len({first, moved, load(tmp_path).info.fingerprint}) == 3


def damage(path):
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize("resident_mb", [0, 1])
@pytest.mark.parametrize(("number", "damaged"), [(2, 0), (7, 3), (399, 3), (400, 4)])
def test_few_damaged_files_are_left_out(tmp_path, number, damaged, resident_mb):
    """At most three, or 1 %; of two files, one is half."""
    pixels = [write(tmp_path / f"{i:03d}.png") for i in range(number)]
    for i in range(damaged):
        damage(tmp_path / f"{i:03d}.png")
    source = load(tmp_path, **{"data.resident_mb": resident_mb})
    assert len(source) == source.info.num_examples == number - damaged
    np.testing.assert_array_equal(
        [e["example"][..., 0] for e in source], pixels[damaged:]
    )
    note = f"left out {damaged} of {number} images that cannot be read (000.png: OSErr"
    assert source.info.note.startswith(note if damaged else "")
    assert bool(source.info.note) == bool(damaged)
    assert source.info.note.isprintable()
    assert source.info.note.count(".png") == min(damaged, 3)
    assert source.info.note.endswith("; ...)") == (damaged > 3)


@pytest.mark.parametrize(("number", "damaged"), [(2, 1), (6, 3), (300, 4), (399, 4)])
def test_more_damaged_files_are_refused(tmp_path, number, damaged):
    for i in range(number):
        write(tmp_path / f"{i:03d}.png")
        if i < damaged:
            damage(tmp_path / f"{i:03d}.png")
    message = f"^{damaged} of the {number} images in .* cannot be read .000.png: "
    with pytest.raises(UserError, match=message):
        load(tmp_path)


MIXED = {"a/0.png": 1, "a/1.png": 3, "b/2.png": 3, "b/3.png": 1, "b/4.png": 3}
GREY_NOTE = "2 of 5 images are grey and converted to colour"


@pytest.mark.parametrize("resident_mb", [0, 1])
@pytest.mark.parametrize(
    ("channels", "files", "result", "note"),
    [
        ("auto", MIXED, 3, GREY_NOTE),
        ("rgb", MIXED, 3, GREY_NOTE),
        ("grey", MIXED, 1, "3 of 5 images are colour and converted to grey"),
        ("auto", dict.fromkeys(MIXED, 1), 1, ""),
        ("auto", dict.fromkeys(MIXED, 3), 3, ""),
        ("rgb", {"0.png": 1}, 3, "1 of 1 images is grey and converted to colour"),
    ],
)
def test_channels(tmp_path, channels, files, result, note, resident_mb):
    for name, own in files.items():
        write(tmp_path / name, (12, 10, 3) if own == 3 else (12, 10))
    keys = {"data.resident_mb": resident_mb, "data.channels": channels}
    source = load(tmp_path, **keys)
    assert isinstance(source, Encoded if resident_mb == 0 else InMemory)
    assert source.info.example == Images((8, 8, result))
    assert source.info.note == note
    for example, name in zip(source, sorted(files), strict=True):
        expected = decode(str(tmp_path / name), 8, result)
        np.testing.assert_array_equal(example["example"], expected)


def test_a_grey_and_a_broken_file_stop_nobody(tmp_path):
    for i in range(20):
        write(tmp_path / f"{i:02d}.png", (8, 8) if i == 3 else (8, 8, 3))
    damage(tmp_path / "11.png")
    source = load(tmp_path)
    assert source.examples.shape == (19, 8, 8, 3)
    assert source.info.note.startswith("left out 1 of 20 images that cannot be read (1")
    end = "); 1 of 19 images is grey and converted to colour"
    assert source.info.note.endswith(end)


def not_an_image(root):
    (root / "a.jpg").write_text("hello")


def loose_and_classes(root):
    write(root / "a" / "1.png")
    write(root / "2.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, r"holds no images \(\.png"),
        (lambda root: root.rmdir(), "data.data_dir: there is no folder /"),
        (not_an_image, r"1 of the 1 images in .* cannot be read \(a.jpg: Unidentified"),
        (loose_and_classes, r"and 1 images outside of them \(the first: 2.png\)"),
    ],
)
def test_refuses(tmp_path, make, message):
    root = tmp_path / "images"
    root.mkdir()
    make(root)
    with pytest.raises(UserError, match=message) as caught:
        load(root)
    assert "\n" not in str(caught.value)


def test_needs_a_folder():
    with pytest.raises(UserError, match=r"needs --config\.data\.data_dir=DIR"):
        load("")


def test_jpeg(tmp_path):
    file = io.BytesIO()
    Image.new("CMYK", (16, 10), (0, 0, 0, 0)).save(file, "JPEG")
    (tmp_path / "white.JPeG").write_bytes(file.getvalue())
    assert (load(tmp_path).examples == 255).all()
