"""Moving digits: the law of their motion, and how they are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.algorithm.spaces import Video
from gan_jax.config import default
from gan_jax.data import contract, moving_mnist
from gan_jax.data.moving_mnist import drawn, reflected, trajectories
from gan_jax.errors import UserError
from gan_jax.metrics.motion import centres_of_mass

KEY = jax.random.key(0)


def load(**keys):
    config = default()
    config.update_from_flattened_dict({"image_size": 32, **keys})
    config.data.data_dir = "/nonexistent"  # so that it is the packaged sample
    return moving_mnist.load(config)


def test_walls_reflect():
    """One coordinate, step by step: at a wall the velocity changes its sign."""
    place, velocity, wanted = 0.3, 0.37, []
    for _ in range(40):
        wanted.append(place)
        place += velocity
        if not 0 <= place <= 1:
            place, velocity = (-place if place < 0 else 2 - place), -velocity
    found = reflected(0.3 + 0.37 * jnp.arange(40))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_speed_is_constant_within_the_walls():
    low, high, frames = 0.05, 0.1, 30
    paths = np.asarray(trajectories(KEY, (500,), frames, (low, high)), np.float64)
    assert paths.shape == (500, frames, 2)
    assert paths.min() >= 0
    assert paths.max() <= 1
    steps = np.diff(paths, axis=1)
    # Where a step meets no wall, its length along each axis is that of the velocity.
    along = np.abs(steps).max(1, keepdims=True)
    bounced = np.abs(steps) < along - 1e-5
    assert 0 < bounced.mean() < 0.15
    edge = np.minimum(paths, 1 - paths)
    near = np.minimum(edge[:, 1:], edge[:, :-1]) < along
    assert near[bounced].all()
    speed = np.linalg.norm(along[:, 0], axis=-1)
    assert low - 1e-5 <= speed.min() < 1.1 * low
    assert 0.95 * high < speed.max() <= high + 1e-5
    assert speed.mean() == pytest.approx((low + high) / 2, rel=0.05)
    angles = np.arctan2(*np.moveaxis(steps[:, 0], -1, 0))
    assert np.histogram(angles, 8, (-np.pi, np.pi))[0].min() > 30


def test_a_digit_moves_with_its_place_and_stays_whole():
    digit = np.zeros((5, 5), np.uint8)
    digit[1:4, 2], digit[3, 1:4] = 240, 120
    paths = trajectories(KEY, (3, 1), 20, (0.1, 0.3))
    clips = np.asarray(drawn(np.stack([digit] * 3)[:, None], 11 * paths, 16))
    assert clips.shape == (3, 20, 16, 16, 1)
    assert clips.dtype == np.uint8
    mass = clips.sum((2, 3, 4), dtype=int)
    np.testing.assert_allclose(mass, digit.sum(dtype=int), atol=8)
    still = np.broadcast_to(digit[..., None], (1, 3, 5, 5, 1))
    wanted = 11 * paths[:, 0] + centres_of_mass(still)[0, 0]
    np.testing.assert_allclose(centres_of_mass(clips), wanted, atol=0.03)


def test_a_frame_is_the_maximum_over_its_digits():
    images = jax.random.randint(KEY, (2, 3, 4, 4), 0, 256).astype(jnp.uint8)
    places = jax.random.randint(KEY, (2, 3, 5, 2), 0, 7).astype(jnp.float32)
    clips = np.asarray(drawn(images, places, 10))
    wanted = np.zeros((2, 5, 10, 10), np.uint8)
    for n, d, t in np.ndindex(2, 3, 5):
        i, j = np.int32(places[n, d, t])
        part = wanted[n, t, i : i + 4, j : j + 4]
        np.maximum(part, images[n, d], out=part)
    np.testing.assert_array_equal(clips[..., 0], wanted)


def test_is_a_source_of_clips():
    source = load(**{"data.name": "mnist(frames=5, digits=3, speed=(0.0, 0.2))"})
    contract.check(source, "moving_mnist")
    assert source.info.example == Video((5, 32, 32, 1))
    assert source.info.condition is None
    assert source.images.shape[1:] == (14, 14)
    assert source.digits == 3
    clips = jax.jit(source.sample, static_argnums=1)(KEY, 4)["example"]
    assert clips.shape == (4, 5, 32, 32, 1)
    assert (clips.max((1, 2, 3, 4)) > 128).all()


def test_sets_differ_by_their_settings_and_digits():
    whole, again = load(), load()
    assert whole == again
    assert hash(whole) == hash(again)
    others = [
        load(**{"data.name": "mnist(digits=1)"}),
        load(**{"data.name": "mnist(speed=(0.05, 0.2))"}),
        load(**{"data.split": "test"}),
        load(image_size=64),
    ]
    assert len({whole, *others}) == 5
    assert len({x.info.fingerprint for x in (whole, *others)}) == 5
    assert others[-1].images.shape[1:] == (28, 28)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"data.name": "mnist(frame=3)"},
            "unknown option .* 'frame'; did you mean '",
        ),
        ({"data.name": "mnist(frames=0)"}, "moving digits: frames is 0: it is a numbe"),
        ({"data.name": "mnist(digits=1.5)"}, "moving digits: digits is 1.5: it is a "),
        ({"data.name": "mnist(speed=(1, 2))"}, "speed is .*: it is a pair .least, gr"),
        ({"data.name": "mnist(speed=1)"}, "speed is 1: it is a pair"),
        ({"data.name": "mnist, mnist"}, "moving digits 'mnist, mnist': write one NAME"),
        ({"image_size": 2}, "image_size is 2: moving digits need at least 3 pixels"),
    ],
)
def test_refuses(keys, message):
    with pytest.raises(UserError, match=message):
        load(**keys)
