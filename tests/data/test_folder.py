"""Folders of images."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.config import default
from gan_jax.data import folder
from gan_jax.data.image import Encoded
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
def test_few_damaged_files_are_left_out(tmp_path, resident_mb):
    pixels = [write(tmp_path / f"{i:03d}.png") for i in range(101)]
    damage(tmp_path / "050.png")
    source = load(tmp_path, **{"data.resident_mb": resident_mb})
    assert len(source) == source.info.num_examples == 100
    kept = pixels[:50] + pixels[51:]
    np.testing.assert_array_equal([e["example"][..., 0] for e in source], kept)
    assert source.info.note.startswith("left out 1 of 101 images that cannot be read")
    assert "050.png" in source.info.note


def grey_and_colour(root):
    write(root / "a" / "grey.png")
    write(root / "b" / "red.png", (8, 8, 3))


def one_damaged_of_a_hundred(root):
    for i in range(100):
        write(root / f"{i}.png")
    damage(root / "7.png")


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
        (
            grey_and_colour,
            r"mixes 1 grey images \(a/grey.png\) with 1 in colour \(b/re",
        ),
        (one_damaged_of_a_hundred, r"1 of the 100 images in .* cannot be read \(7.png"),
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
