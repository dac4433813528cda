"""The packaged samples."""

import hashlib

import numpy as np
import pytest

from gan_jax.algorithm.spaces import Classes
from gan_jax.config import default
from gan_jax.data import packaged
from gan_jax.errors import UserError

FINGERPRINTS = {"train": "b3357578", "test": "41c115b3"}


def load(**keys):
    config = default()
    config.update_from_flattened_dict(keys)
    return packaged.load(config)


@pytest.mark.parametrize(("split", "per_class"), [("train", 1000), ("test", 200)])
def test_holds_every_class_equally(split, per_class):
    source = load(**{"data.split": split})
    assert source.examples.shape == (10 * per_class, 28, 28, 1)
    assert source.examples.dtype == np.uint8
    assert np.bincount(source.conditions).tolist() == [per_class] * 10
    assert source.info.name == f"packaged:mnist[{split}]"
    assert source.info.num_examples == len(source)
    # Of a resumed run it must be what it was when the run started.
    assert source.info.fingerprint == FINGERPRINTS[split]
    assert source.info.condition == Classes(10)
    assert source.info.condition.names == tuple("0123456789")


def test_becomes_colour():
    source, grey = (
        load(**{"data.channels": "rgb", "image_size": 14}),
        load(image_size=14),
    )
    assert source.info.example.shape == (14, 14, 3)
    np.testing.assert_array_equal(
        source.examples, np.broadcast_to(grey.examples, source.examples.shape)
    )


def test_resizes():
    small, whole = load(image_size=14), load()
    assert small.info.example.shape == small[0]["example"].shape == (14, 14, 1)
    mean = [source.examples[:100].mean() for source in (small, whole)]
    assert mean[0] == pytest.approx(mean[1], rel=0.05)
    assert small.info.fingerprint != whole.info.fingerprint


def test_is_the_file_that_its_readme_describes():
    path = packaged.path("mnist")
    assert path.stat().st_size < 2.5e6
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest in path.with_name("README.md").read_text()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"data.name": "mnits"}, "unknown packaged data set 'mnits'; did you mean 'mn"),
        ({"data.split": "trian"}, "unknown split of the packaged mnist 'trian'; did y"),
    ],
)
def test_refuses(keys, message):
    with pytest.raises(UserError, match=message):
        load(**keys)
