"""Stacked-MNIST: what its images are made of."""

import jax
import numpy as np
import pytest
from idx_files import configure, examples

from gan_jax import data
from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.errors import UserError


def load(idx_dir, **keys):
    size = keys.pop("image_size", 28)
    config = configure(source="stacked_mnist", manual_dir=str(idx_dir), **keys)
    config.image_size = size
    return data.load(config)


def drawn(source, num):
    draw = jax.jit(source.sample, static_argnums=1)
    return jax.tree.map(np.asarray, draw(jax.random.key(3), num))


def test_each_channel_is_a_digit_and_the_class_is_the_number(idx_dir):
    source, (digits, labels) = load(idx_dir), examples("train")
    assert source.info.example == Images((28, 28, 3))
    assert source.info.condition == Classes(1000)
    batch = drawn(source, 400)
    known = {digit.tobytes(): n for n, digit in enumerate(digits)}
    images = np.moveaxis(batch["example"], -1, 1)
    which = np.array([[known[x.tobytes()] for x in image] for image in images])
    np.testing.assert_array_equal(labels[which] @ [100, 10, 1], batch["condition"])
    # Of 300 digits each comes four times; a channel does not tell another.
    assert len(np.unique(which)) > 0.95 * len(digits)
    assert np.abs(np.corrcoef(which.T) - np.eye(3)).max() < 4 / 400**0.5


def test_two_sets_are_told_apart_by_their_digits(idx_dir):
    """As static arguments of compiled programs they are compared."""
    train, test = load(idx_dir), load(idx_dir, split="test")
    again = load(idx_dir, resident_mb=0)
    assert (train, hash(train)) == (again, hash(again))
    assert train != test
    assert train.info.fingerprint != test.info.fingerprint
    assert drawn(test, 2)["example"].shape == (2, 28, 28, 3)


def test_other_sizes_and_the_packaged_sample(idx_dir, monkeypatch):
    assert drawn(load(idx_dir, image_size=14), 5)["example"].shape == (5, 14, 14, 3)
    with pytest.raises(UserError, match="no examples in the split 'tests'"):
        load(idx_dir, split="tests")
    monkeypatch.setattr("gan_jax.data.tfds.unreachable", lambda url: "no network")
    source = load("", data_dir=str(idx_dir / "none"), split="test")
    assert source.info.name == "stacked_mnist:packaged:mnist[test]"
    assert "the packaged sample of 2,000 images is used" in source.info.note
    with pytest.raises(UserError, match="no network"):
        load("", data_dir=str(idx_dir / "none"), fallback=False)
