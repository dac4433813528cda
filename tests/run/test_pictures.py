"""Pictures of each kind of space: a row brings all checks."""

import numpy as np
import pytest
from PIL import Image

from gan_jax import build
from gan_jax.algorithm.spaces import (
    Classes,
    Images,
    Pair,
    PianoRoll,
    Points,
    Space,
    Video,
)
from gan_jax.data.source import Info, InMemory
from gan_jax.run import pictures

ROWS = [  # a space, and the size of the image of one example
    (Images((4, 6, 1)), (4, 6, 1)),
    (Images((4, 6, 3)), (4, 6, 3)),
    (Images((4, 6, 2)), (4, 12, 1)),  # two channels are no colours
    (Images((4, 6, 1), bounds=None), (4, 6, 1)),
    (Pair((2, 4, 6, 3)), (4, 12, 3)),
    (Video((5, 4, 6, 1)), (4, 30, 1)),
    (PianoRoll((8, 5, 2)), (10, 8, 1)),
    (Space((7,)), (1, 7, 1)),
    (Space((3, 7)), (3, 7, 1)),
    (Space((3, 2, 2, 2, 2)), (3, 16, 1)),
    (Space(()), (1, 1, 1)),
]


def stored(space, num):
    values = np.random.default_rng(0).integers(0, 256, (num, *space.shape))
    return values.astype(space.stored_dtype)


@pytest.mark.parametrize(("space", "size"), ROWS, ids=str)
def test_every_space_has_a_picture(tmp_path, space, size):
    examples = stored(space, 5)
    images = pictures.as_images(space, examples)
    assert (images.shape, images.dtype) == ((5, *size), np.uint8)
    assert pictures.num_pixels(space) == size[0] * size[1]
    if space.bounds is not None:  # no number is lost or made up
        np.testing.assert_array_equal(
            np.sort(images, axis=None), np.sort(examples, axis=None)
        )
    else:
        assert (images.min(), images.max()) == (0, 255)
    pictures.save(tmp_path / "x.png", space, examples[None], 3)
    with Image.open(tmp_path / "x.png") as grid:
        assert grid.size == (3 * size[1], 2 * size[0])


def test_pairs_are_side_by_side_and_clips_are_strips():
    pair = stored(Pair((2, 3, 4, 1)), 2)
    image = pictures.as_images(Pair((2, 3, 4, 1)), pair)
    np.testing.assert_array_equal(image[1, :, :4], pair[1, 0])
    np.testing.assert_array_equal(image[1, :, 4:], pair[1, 1])
    clip = stored(Video((5, 3, 4, 1)), 2)
    image = pictures.as_images(Video((5, 3, 4, 1)), clip)
    np.testing.assert_array_equal(image[1, :, 8:12], clip[1, 2])


def test_time_goes_right_and_pitch_up():
    roll = np.zeros((1, 8, 5, 2), np.uint8)
    roll[0, 6, 1, 0] = roll[0, 2, 4, 1] = 255  # (time, pitch, voice)
    (image,) = pictures.as_images(PianoRoll((8, 5, 2)), roll)
    assert np.argwhere(image[..., 0]).tolist() == [[3, 6], [5, 2]]


def test_a_kind_of_the_users_own_is_drawn_as_the_one_it_extends():
    class Scans(Images):
        pass

    images = stored(Scans((4, 6, 1)), 2)
    np.testing.assert_array_equal(pictures.as_images(Scans((4, 6, 1)), images), images)


def test_tiles_row_by_row_and_leaves_the_rest_black():
    images = (
        np.arange(1, 6, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2)
    )
    grid = pictures.tile(images, 3)
    assert grid.shape == (4, 6, 1)
    np.testing.assert_array_equal(grid[::2, ::2, 0], [[1, 2, 3], [4, 5, 0]])


@pytest.mark.parametrize("channels", [1, 3])
def test_png_holds_the_pixels(tmp_path, channels):
    space = Images((5, 5, channels))
    images = stored(space, 4)
    pictures.save(tmp_path / "new" / "x.png", space, images[None], 2)
    back = np.asarray(Image.open(tmp_path / "new" / "x.png")).reshape(10, 10, channels)
    np.testing.assert_array_equal(back, pictures.tile(images, 2))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.png"]


def test_replicas_are_rows_of_images_and_panels_of_points(tmp_path):
    space = Images((5, 5, 1))
    rows = stored(space, 12).reshape(3, 4, 5, 5, 1)
    pictures.save(tmp_path / "x.png", space, rows, 4)
    with Image.open(tmp_path / "x.png") as grid:
        wanted = pictures.tile(rows.reshape(12, 5, 5, 1), 4)[..., 0]
        np.testing.assert_array_equal(grid, wanted)


@pytest.mark.parametrize("coordinates", [1, 2, 3])
def test_points_have_a_panel_for_each_replica(tmp_path, coordinates):
    random, space, sizes = np.random.default_rng(0), Points((coordinates,)), []
    for num in (1, 3):
        points = random.normal(size=(num, 50, coordinates))
        pictures.save(tmp_path / "x.png", space, points, 1)
        with Image.open(tmp_path / "x.png") as plot:
            sizes.append(plot.size)
    assert sizes[1] == (2 * sizes[0][0], 2 * sizes[0][1])


@pytest.mark.parametrize(
    ("example", "condition", "one", "several"),
    [
        (Images((8, 8, 1)), None, (64, 8), (8, 8)),
        (Images((8, 8, 1)), Classes(3), (24, 3), (3, 3)),
        (Images((8, 8, 1)), Classes(100), (128, 16), (16, 16)),
        (Points((2,)), None, (2000, 1), (2000, 1)),
    ],
)
def test_the_size_of_a_sample_grid(example, condition, one, several):
    gan = build(example, condition, model="mlp", width=4)
    assert pictures.grid_size(gan, 1) == one
    assert pictures.grid_size(gan, 3) == several


def test_fixed_conditions_are_spread_over_the_source():
    space = Images((4, 4, 1))
    examples = stored(space, 10)
    info = Info(
        name="x", example=space, condition=space, num_examples=10, fingerprint=""
    )
    source = InMemory(info, examples, examples[::-1])
    got = pictures.fixed_values(source, "condition", 4)
    np.testing.assert_array_equal(got, examples[::-1][[0, 3, 6, 9]])
    assert len(pictures.fixed_values(source, "example", 30)) == 30
