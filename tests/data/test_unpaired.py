"""Images of two domains: all pairs to train on, partners to measure on."""

import collections
import pickle

import jax
import numpy as np
import pytest
from idx_files import png, prepare
from PIL import Image

from gan_jax import data
from gan_jax.algorithm.spaces import Pair
from gan_jax.config import default
from gan_jax.data import pairs, unpaired
from gan_jax.data.jitter import Jitter
from gan_jax.errors import UserError


def load(root, **keys):
    config = default()
    found = {"data.source": "unpaired", "data.name": "AandB", "image_size": 8}
    config.update_from_flattened_dict({**found, "batch_size": 1, **keys})
    config.data.data_dir = str(root)
    return data.load(config)


def write(root, names, seed=0, shape=(8, 8, 3)):
    """Writes random images, and returns them."""
    root.mkdir(parents=True)
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (len(names), *shape), np.uint8)
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(root / f"{name}.png")
    return images


def domains(root, a="abc", b="uvwxy", **keys):
    """Writes two domains of a split, of other names and numbers."""
    split = keys.pop("split", "train")
    sides = (("A", a, 0), ("B", b, 1))
    return [
        write(root / f"{split}{s}", names, seed, **keys) for s, names, seed in sides
    ]


def all_of(source):
    return np.stack([source[i]["example"] for i in range(len(source))])


@pytest.mark.parametrize("resident_mb", [0, 1])
def test_every_image_meets_every_image_of_the_other_domain(tmp_path, resident_mb):
    a, b = domains(tmp_path)
    keys = {"data.resident_mb": resident_mb}
    source = pickle.loads(pickle.dumps(load(tmp_path, **keys)))
    assert source.info.name == f"unpaired:{tmp_path.name}[train]"
    assert source.info.example == source.info.condition == Pair((2, 8, 8, 3))
    assert (len(source), source.info.num_examples) == (15, 15)
    found = {x.tobytes() for x in all_of(source)}
    assert found == {np.stack([x, y]).tobytes() for x in a for y in b}
    assert not source.partners


def test_an_example_is_its_own_condition(tmp_path):
    domains(tmp_path)
    entry = load(tmp_path)[4]
    assert entry["condition"] is entry["example"]


@pytest.mark.parametrize("sizes", [(40, 40), (60, 7), (63, 10), (30, 150)])
def test_the_few_pairs_of_a_sample_grid_have_many_images_of_both(sizes):
    class Numbers(list):
        info = load("", image_size=28).info

    a, b = (unpaired.Domain(Numbers(range(n)), names=()) for n in sizes)
    source = object.__new__(unpaired.Unpaired)
    source._sizes, source._in_order = [len(a), len(b)], False
    spread = np.linspace(0, sizes[0] * sizes[1] - 1, 49).astype(int)
    for side in zip(*map(source._places, spread.tolist()), strict=True):
        n = len(set(side))
        assert n > 0.5 * min(49, max(side) + 1), n
        assert max(collections.Counter(side).values()) <= 12


def test_partners_are_in_order_where_names_are_equal(tmp_path):
    a, b = domains(tmp_path, "abc", "abc", split="test")
    source = load(tmp_path, **{"data.split": "test"})
    assert source.partners
    np.testing.assert_array_equal(all_of(source), np.stack([a, b], 1))


def test_other_images_are_measured_once_each(tmp_path):
    a, b = domains(tmp_path, split="test")
    source = load(tmp_path, **{"data.split": "test"})
    assert not source.partners
    np.testing.assert_array_equal(all_of(source)[:, 0], a[[0, 1, 2, 0, 1]])
    np.testing.assert_array_equal(all_of(source)[:, 1], b)


def test_an_image_that_cannot_be_read_leaves_no_partners(tmp_path):
    domains(tmp_path, "abcdef", "abcdef", split="test")
    (tmp_path / "testA" / "b.png").write_text("no image")
    source = load(tmp_path, **{"data.split": "test"})
    assert not source.partners
    assert source.info.note.startswith("left out 1 of 6 images")


def test_pairs_are_read_too_and_their_partners_are_kept_to_measure(tmp_path):
    names = [f"{i:03d}" for i in range(60)]
    test = [name for name in names if pairs.held_out(name)]
    a, b = (write(tmp_path / side, names, i) for i, side in enumerate("AB"))
    held = np.array([name in test for name in names])
    source = load(tmp_path, **{"data.split": "test"})
    assert source.partners
    np.testing.assert_array_equal(all_of(source), np.stack([a, b], 1)[held])
    source = load(tmp_path)
    assert not source.partners
    assert len(source) == (60 - len(test)) ** 2
    found = all_of(source)
    for i, images in enumerate((a, b)):
        wanted = {x.tobytes() for x in images[~held]}
        assert {x.tobytes() for x in found[:, i]} == wanted


@pytest.mark.parametrize("layout", ["trainA", "A"])
def test_a_grey_domain_gets_the_channels_of_the_other(tmp_path, layout):
    names = [str(i) for i in range(30)]
    a = write(tmp_path / layout, names, shape=(8, 8))
    write(tmp_path / layout.replace("A", "B"), names)
    source = load(tmp_path)
    assert source.info.example.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(source[0]["example"][0], np.stack([a[0]] * 3, -1))


def test_the_fingerprint_follows_both_domains(tmp_path):
    domains(tmp_path / "one")
    domains(tmp_path / "two", b="uvwx")
    domains(tmp_path / "three", a="abcd")
    found = [load(tmp_path / n).info.fingerprint for n in ("one", "two", "three")]
    assert len(set(found)) == 3
    assert load(tmp_path / "one").info.fingerprint == found[0]


@pytest.mark.parametrize("split", ["train", "test"])
def test_without_a_folder_there_are_digits_and_their_edges(split):
    source = load("", **{"image_size": 28, "data.split": split})
    assert source.info.name == f"unpaired:edges of digits[{split}]"
    assert source.partners == (split == "test")
    assert len(source) == {"train": 10_000**2, "test": 2_000}[split]
    a, b = source[1_234]["example"]
    assert set(np.unique(a)) == {0, 255}
    if split == "test":
        np.testing.assert_array_equal(a, pairs.edges(b[None])[0])


def test_sets_of_tfds(tmp_path):
    def features(f):
        image, label = f.Image(shape=(8, 8, 3)), f.ClassLabel(num_classes=2)
        return f.FeaturesDict({"image": image, "label": label})

    random = np.random.default_rng(0)
    images = {"trainA": 3, "trainB": 4, "testA": 2, "testB": 2}
    for split, number in images.items():
        images[split] = random.integers(0, 256, (number, 8, 8, 3), np.uint8)
    splits = {
        split: [{"image": png(image), "label": 0} for image in found]
        for split, found in images.items()
    }
    prepare(tmp_path / "cycle_gan", "horse2zebra", features, splits)
    keys = {"data.name": "cycle_gan/horse2zebra(mirror=False)"}
    source = load(tmp_path, **keys)
    assert source.info.name == "unpaired:cycle_gan/horse2zebra[train]"
    assert not source.augment.change.mirror
    assert len(source) == 12
    for i, side in enumerate("AB"):
        found = {x.tobytes() for x in all_of(source)[:, i]}
        assert found == {x.tobytes() for x in images[f"train{side}"]}
    source = load(tmp_path, **keys, **{"data.split": "test"})
    assert len(source) == 2
    assert not source.partners


def test_the_two_images_of_a_pair_are_changed_apart():
    rows, columns = np.mgrid[:16, :16]
    image = np.stack([rows, columns], -1).astype(np.uint8)
    batch = np.broadcast_to(image, (32, 2, 16, 16, 2))
    batch = {"example": batch, "condition": batch}
    found = jax.jit(unpaired.Apart(Jitter()))(jax.random.key(0), batch)
    np.testing.assert_array_equal(found["example"], found["condition"])
    assert found["example"].shape == (32, 2, 16, 16, 2)
    corners = found["example"][:, :, 0, 0, 0]
    assert (corners[:, 0] != corners[:, 1]).any()


def one_domain(root):
    write(root / "trainA", "abc")


def empty_domain(root):
    one_domain(root)
    (root / "trainB").mkdir()


def damaged(root):
    domains(root, "ab", "ab")
    for name in "ab":
        (root / "trainB" / f"{name}.png").write_text("no image")


@pytest.mark.parametrize(
    ("make", "keys", "message"),
    [
        (one_domain, {}, "has no folder trainB$"),
        (one_domain, {"data.split": "test"}, "has no folder testA$"),
        (empty_domain, {}, r"trainB has no images \(\.png"),
        (damaged, {}, r"2 of the 2 images in .*trainB cannot be read \(a\.png: "),
        (lambda root: None, {}, r"has no images \(\.png"),
        (lambda root: root.rmdir(), {}, "data.data_dir: there is no folder /"),
        (domains, {"data.name": "AtoB"}, "unknown data.name of unpaired 'AtoB'"),
        (domains, {"data.name": "AandB(scale=2)"}, "option of AandB 'scale'"),
        (domains, {"data.name": "AandB(mirror=1)"}, "mirror is 1: it must be True"),
        (domains, {"batch_size": 16}, "batch_size is 16 and .* has only 15 examples"),
    ],
)
def test_refuses(tmp_path, make, keys, message):
    root = tmp_path / "images"
    root.mkdir()
    make(root)
    with pytest.raises(UserError, match=message) as caught:
        load(root, **keys)
    assert "\n" not in str(caught.value)
