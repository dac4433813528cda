"""Pairs of images, and how they are changed as they are drawn."""

import pickle

import jax
import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.algorithm.spaces import Images
from gan_jax.config import default
from gan_jax.data import pairs
from gan_jax.data.image import decode
from gan_jax.data.jitter import Jitter
from gan_jax.data.source import InMemory
from gan_jax.errors import UserError

RNG = np.random.default_rng(0)


def load(root, **keys):
    config = default()
    found = {"data.source": "pairs", "data.name": "AtoB", "image_size": 8}
    config.update_from_flattened_dict({**found, "batch_size": 1, **keys})
    config.data.data_dir = str(root)
    return data.load(config)


def write(path, shape=(8, 8, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def beside(root, names, shape=(8, 8, 3)):
    """Writes pairs side by side, and returns A and B."""
    height, width, *c = shape
    both = np.stack([write(root / f"{n}.png", (height, 2 * width, *c)) for n in names])
    return both[:, :, :width], both[:, :, width:]


def in_folders(root, names, a=(8, 8), b=(8, 8, 3)):
    """Writes pairs in two folders, of other suffixes, and returns A and B."""
    return [
        np.stack([write(root / side / f"{n}{suffix}", shape) for n in names])
        for side, suffix, shape in (("A", ".png", a), ("B", ".bmp", b))
    ]


def names_of(num, test=False):
    """Returns names that are in the training set, or in the test set."""
    names = (f"{i:03d}" for i in range(20 * num))
    return [name for name in names if pairs.held_out(name) == test][:num]


@pytest.mark.parametrize("resident_mb", [0, 1])
@pytest.mark.parametrize("name", ["AtoB", "BtoA"])
@pytest.mark.parametrize("make", [beside, in_folders])
@pytest.mark.parametrize("split", ["train", "val", "test", ""])
def test_both_layouts_in_both_directions(tmp_path, make, name, split, resident_mb):
    names = names_of(5)
    a, b = make(tmp_path / split, names)
    if split:
        make(tmp_path / ("test" if split == "train" else "train"), ["other"])
    keys = {"data.split": split or "train", "data.resident_mb": resident_mb}
    source = load(tmp_path, **{"data.name": name, **keys})
    assert isinstance(source, InMemory if resident_mb else pairs.Files)
    assert source.info.name == f"pairs:{tmp_path.name}[{split or 'train'}] {name}"
    condition, example = (a, b) if name == "AtoB" else (b, a)
    assert len(source) == 5
    for i, entry in enumerate(pickle.loads(pickle.dumps(source))):
        for key, wanted in (("condition", condition), ("example", example)):
            space = getattr(source.info, key)
            assert space == Images((8, 8, wanted.shape[3] if wanted.ndim == 4 else 1))
            np.testing.assert_array_equal(
                entry[key], wanted[i].reshape(space.shape), key
            )


def test_names_decide_the_split_where_folders_do_not(tmp_path):
    names = [f"{i:03d}" for i in range(200)]
    a, _ = beside(tmp_path, names)
    found = {
        split: load(tmp_path, **{"data.split": split}).conditions
        for split in ("train", "test")
    }
    held = np.array([pairs.held_out(name) for name in names])
    assert 10 <= held.sum() <= 30
    np.testing.assert_array_equal(found["test"], a[held])
    np.testing.assert_array_equal(found["train"], a[~held])
    for name in names[::2]:  # the others stay where they are
        (tmp_path / f"{name}.png").unlink()
    np.testing.assert_array_equal(load(tmp_path).conditions, a[1::2][~held[1::2]])


def test_pairs_are_scaled_and_cropped_alike(tmp_path):
    names = names_of(2)
    a, b = beside(tmp_path, names, (20, 12, 3))
    source = load(tmp_path)
    for i in range(2):
        for side, got in ((a, source.conditions), (b, source.examples)):
            Image.fromarray(side[i]).save(tmp_path / "alone.bmp")
            np.testing.assert_array_equal(
                got[i], decode(str(tmp_path / "alone.bmp"), 8)
            )


@pytest.mark.parametrize(
    ("channels", "shapes"),
    [("auto", (1, 3)), ("rgb", (3, 3)), ("grey", (1, 1))],
)
def test_each_side_has_its_channels(tmp_path, channels, shapes):
    in_folders(tmp_path, names_of(3))
    write(tmp_path / "B" / f"{names_of(1)[0]}.bmp", (8, 8))  # one of them is grey
    info = load(tmp_path, **{"data.channels": channels}).info
    found = info.condition.shape[-1], info.example.shape[-1]
    assert found == shapes


def test_transparent_pixels_are_white(tmp_path):
    in_folders(tmp_path, names_of(2))
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.save(tmp_path / "A" / f"{names_of(1)[0]}.png")
    assert (load(tmp_path).conditions[0] == 255).all()


def test_the_fingerprint_follows_both_sides(tmp_path):
    names = names_of(3)
    in_folders(tmp_path, names)
    found = {load(tmp_path).info.fingerprint}
    for side in ("A/{}.png", "B/{}.bmp"):
        write(tmp_path / side.format(names[1]))
        found.add(load(tmp_path).info.fingerprint)
        assert load(tmp_path).info.fingerprint in found
    assert len(found) == 3


def test_few_damaged_pairs_are_left_out(tmp_path):
    names = names_of(9)
    a, _ = in_folders(tmp_path, names)
    for side in ("A/{}.png", "B/{}.bmp"):
        file = tmp_path / side.format(names[2 + 3 * side.startswith("B")])
        file.write_bytes(file.read_bytes()[:40])
    source = load(tmp_path)
    kept = [i for i in range(9) if i not in (2, 5)]
    np.testing.assert_array_equal(source.conditions[..., 0], a[kept])
    assert source.info.num_examples == 7
    note = f"left out 2 of 9 pairs that cannot be read ({names[2]}: "
    assert source.info.note.startswith(note)


def odd(root):
    write(root / "a.png", (8, 17, 3))


def unequal(root):
    in_folders(root, ["a", "b"])
    write(root / "B" / "b.bmp", (9, 8))


def alone(root):
    in_folders(root, ["a", "b", "c", "d", "e", "f", "g"])
    for name in "abcd":
        (root / "B" / f"{name}.bmp").unlink()
    (root / "A" / "g.png").unlink()


def one_side(root):
    write(root / "A" / "a.png")


def twice(root):
    in_folders(root, ["a"])
    write(root / "A" / "a.jpg")


def damaged(root):
    for name in names_of(4):
        (root / f"{name}.png").write_text("no image")


def other_split(root):
    beside(root / "train", ["a"])
    beside(root / "val", ["a"])


@pytest.mark.parametrize(
    ("make", "keys", "message"),
    [
        (
            odd,
            {},
            r"/a\.png: its width is 17, and two images side by side have an even",
        ),
        (
            unequal,
            {},
            r"/A/b\.png has 8x8 pixels and its partner .*/B/b\.bmp 8x9: both",
        ),
        (alone, {}, r"partner .*: 4 in A \(a, b, c, \.\.\.\) and 1 in B \(g\)"),
        (one_side, {}, "has a folder A and not the other of A and B"),
        (twice, {}, "A has a.(jpg|png) and a.(jpg|png): names must differ"),
        (damaged, {}, r"4 of the 4 pairs in .* cannot be read \(\w+: Unidentified"),
        (lambda root: None, {}, r"holds? no images|has no images \(\.png"),
        (lambda root: (root / "A").mkdir(), {}, "has a folder A and not"),
        (lambda root: root.rmdir(), {}, "data.data_dir: there is no folder /"),
        (other_split, {"data.split": "test"}, "'test': its folders are train, val"),
        (odd, {"data.split": "val"}, "unknown split of .* 'val'"),
        (
            lambda root: beside(root, names_of(3)),
            {"data.split": "test"},
            "too few pairs for a split 'test': one of 10 is in 'test'",
        ),
        (
            odd,
            {"data.name": "AtoC"},
            "direction of data.name: 'AtoC'; did you mean 'At",
        ),
        (odd, {"data.name": "AtoB, BtoA"}, "write one of AtoB and BtoA"),
        (odd, {"data.name": "AtoB(scale=2)"}, "option of AtoB 'scale' .*enlarge, mir"),
        (odd, {"data.name": "AtoB(enlarge=0.9)"}, "enlarge is 0.9: it must be from 1"),
        (odd, {"data.name": "AtoB(mirror=1)"}, "mirror is 1: it must be True or False"),
    ],
)
def test_refuses(tmp_path, make, keys, message):
    root = tmp_path / "images"
    root.mkdir()
    make(root)
    with pytest.raises(UserError, match=message) as caught:
        load(root, **keys)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_without_a_folder_there_are_edges_of_digits(split):
    source = load("", **{"image_size": 28, "data.split": split})
    other = load("", **{"image_size": 28, "data.split": split, "data.name": "BtoA"})
    np.testing.assert_array_equal(source.conditions, other.examples)
    np.testing.assert_array_equal(source.examples, other.conditions)
    assert set(np.unique(source.conditions)) == {0, 255}
    assert 0.1 < source.conditions.mean() / 255 < 0.3


def test_edges_are_where_grey_levels_change():
    image = np.zeros((1, 4, 6, 1), np.uint8)
    image[:, :, 3:] = 200  # half of the step on either side
    assert pairs.edges(image)[0, 0, :, 0].tolist() == [0, 0, 255, 255, 0, 0]
    assert not pairs.edges(image // 4).any()


# --- Changes in training --------------------------------------------------------------


def coordinates(batch, side):
    """Returns images whose two channels are their rows and columns."""
    rows, columns = np.mgrid[:side, :side]
    return np.tile(np.stack([rows, columns], -1).astype(np.uint8), (batch, 1, 1, 1))


def test_examples_and_conditions_are_changed_alike():
    batch = {"example": coordinates(64, 32), "condition": coordinates(64, 32) + 10}
    found = jax.jit(Jitter())(jax.random.key(0), batch)
    assert {name: x.dtype for name, x in found.items()} == dict.fromkeys(batch, "uint8")
    np.testing.assert_array_equal(found["condition"], found["example"] + 10)
    rows, columns = np.moveaxis(np.int32(found["example"]), -1, 0)
    # 32 pixels are enlarged to 36, of which 32 are kept: corners from 0 to 4.
    assert set(rows[:, 0, 0]) == {0, 1, 2, 3, 4}
    mirrored = columns[:, 0, 0] > columns[:, 0, -1]
    assert 16 < mirrored.sum() < 48
    steps = np.abs(columns[:, 0, -1] - columns[:, 0, 0])
    np.testing.assert_allclose(steps, 31 * 32 / 36, atol=1)
    assert (np.abs(rows - rows[:, :, :1]) == 0).all()


def test_a_crop_is_one_of_the_enlarged_image():
    image = RNG.integers(0, 256, (1, 16, 16, 3), np.uint8)
    change = Jitter(1.25, mirror=False)
    got = np.asarray(jax.jit(change)(jax.random.key(3), {"example": image})["example"])[
        0
    ]
    large = jax.image.resize(np.float32(image[0]), (20, 20, 3), "linear")
    crops = [large[i : i + 16, j : j + 16] for i in range(5) for j in range(5)]
    assert min(np.abs(crop - got).max() for crop in crops) <= 0.51


def test_without_changes_images_stay():
    batch = {"example": RNG.integers(0, 256, (5, 6, 6, 1), np.uint8)}
    found = jax.jit(Jitter(1, mirror=False))(jax.random.key(0), batch)
    np.testing.assert_array_equal(found["example"], batch["example"])
