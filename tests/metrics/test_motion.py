"""Clips whose motion is known."""

import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.metrics import motion, named
from gan_jax.metrics.features import pixels
from gan_jax.metrics.metric import Comparison

RANDOM = np.random.default_rng(0)
SIDE, TIME = 24, 6


def clip(*velocities, start=(8, 8), size=3):
    """Returns a clip of bright squares, whose corners move by whole pixels."""
    frames = np.zeros((TIME, SIDE, SIDE, 1), np.uint8)
    for velocity in velocities:
        for t in range(TIME):
            i, j = np.add(start, t * np.array(velocity))
            frames[t, i : i + size, j : j + size] = 200
    return frames


def walks(num, seed=0, most=2):
    """Returns clips of single squares with random velocities and starts."""
    random = np.random.default_rng(seed)
    ends = (
        random.integers(-most, most + 1, (num, 2)),
        random.integers(most * (TIME - 1), SIDE - 3 - most * (TIME - 1) + 1, (num, 2)),
    )
    return np.stack([clip(v, start=s) for v, s in zip(*ends, strict=True)])


def measured(metric, real, fake):
    nothing = np.zeros((len(real), 1)), np.zeros((len(fake), 1))
    about = Comparison(*nothing, real_examples=real, fake_examples=fake)
    return {name: value for name, (value, _) in metric.measure(about).items()}


@pytest.mark.parametrize(
    ("velocities", "speed"),
    [
        ([(0, 0)], 0),
        ([(1, 2)], 5**0.5),
        ([(-1, 0)], 1),
        ([(0, 2), (2, 0)], 2**0.5),  # of two, that of their middle
    ],
)
def test_speed_of_a_centre_of_mass(velocities, speed):
    # From the second frame on two squares no longer overlap.
    starts = [(8, 8)] if len(velocities) == 1 else [(1, 9), (9, 1)]
    moving = sum(clip(v, start=s) for v, s in zip(velocities, starts, strict=True))
    np.testing.assert_allclose(motion.speeds(moving[None]), speed, atol=1e-6)
    np.testing.assert_allclose(motion.accelerations(moving[None]), 0, atol=1e-5)


def test_acceleration_is_twice_the_speed_at_a_wall():
    there, back = clip((1, 1)), clip((-1, -1), start=(8 + TIME - 2, 8 + TIME - 2))
    bounced = np.concatenate([there[:-1], back[1:]])[None]
    wanted = np.zeros((1, 2 * TIME - 4))
    wanted[0, TIME - 3] = 2 * 2**0.5
    np.testing.assert_allclose(motion.accelerations(bounced), wanted, atol=1e-5)


def test_an_empty_frame_is_centred():
    empty = np.zeros((1, 3, 4, 6, 3), np.uint8)
    np.testing.assert_allclose(motion.centres_of_mass(empty)[0], [[1.5, 2.5]] * 3)


def test_speeds_are_compared_in_pixels():
    slow, fast = (np.stack([clip(v)] * 4) for v in ((0, 1), (0, 2)))
    found = measured(named.speeds, slow, fast)
    assert found["speeds"] == pytest.approx(1, abs=1e-6)
    assert found["accelerations"] == pytest.approx(0, abs=1e-5)


def test_sets_are_at_distance_zero_of_themselves():
    clips = walks(40)
    for metric in (named.frames, named.speeds):
        assert measured(metric, clips, clips[::-1]) == pytest.approx(
            dict.fromkeys(measured(metric, clips, clips), 0), abs=1e-8
        )


def test_the_order_of_frames_is_seen_in_motion_alone():
    real, fake = walks(200), walks(200, seed=1)
    shuffled = np.stack([one[RANDOM.permutation(TIME)] for one in fake])
    in_order, out_of_order = (measured(named.frames, real, x) for x in (fake, shuffled))
    assert out_of_order["fd_frames"] == pytest.approx(in_order["fd_frames"], rel=1e-6)
    assert out_of_order["fd_motion"] > 3 * in_order["fd_motion"]
    swift = measured(named.speeds, real, shuffled)
    assert swift["speeds"] > 3 * measured(named.speeds, real, fake)["speeds"]


def test_fd_frames_is_of_the_features_that_are_asked_for():
    """Means alone differ: the distance is the square of what separates them."""
    real = np.zeros((3, TIME, 4, 4, 1), np.uint8)
    fake = real.copy()
    fake[:] = 255
    found = measured(named.frames.with_settings(features="pixels"), real, fake)
    assert found == pytest.approx({"fd_frames": 16, "fd_motion": 0}, abs=1e-9)
    found = measured(named.frames.with_settings(features="pixels(side=1)"), real, fake)
    assert found["fd_frames"] == pytest.approx(1)


def test_pixels_are_brought_to_a_side():
    images = RANDOM.integers(0, 256, (2, 3, 8, 8, 2), np.uint8)
    extractor = pixels.load(side=4)
    found = extractor.apply({}, images).features.reshape(2, 3, 4, 4, 2)
    one = extractor.apply({}, images[:, 0]).features.reshape(2, 4, 4, 2)
    np.testing.assert_allclose(found[:, 0], one, rtol=1e-6)
    even = np.full((1, 8, 8, 1), 51, np.uint8)
    np.testing.assert_allclose(extractor.apply({}, even).features, 0.2, rtol=1e-6)
    assert extractor.name == "pixels(side=4)"
    with pytest.raises(UserError, match="pixels: side is -1: it is a number"):
        pixels.load(side=-1)


@pytest.mark.parametrize("metric", [named.frames, named.speeds])
def test_refuses_what_does_not_move(metric):
    images = np.zeros((4, 8, 8, 1), np.uint8)
    with pytest.raises(UserError, match=r"shape \(8, 8, 1\): motion is measured of cl"):
        measured(metric, images, images)
