"""Pictures of each kind of space: a row brings all checks."""

import io

import numpy as np
import pytest
from PIL import Image

from gan_jax.algorithm.spaces import (
    Images,
    Pair,
    PianoRoll,
    Points,
    Space,
    Video,
)
from gan_jax.metrics.arrays import Neighbours
from gan_jax.run import pictures, plots
from gan_jax.run.writers import Output, Writers

ROWS = [  # a space, and the size of the image of one example
    (Images((4, 6, 1)), (4, 6, 1)),
    (Images((4, 6, 3)), (4, 6, 3)),
    (Images((4, 6, 2)), (4, 12, 1)),  # two channels are no colours
    (Images((4, 6, 1), bounds=None), (4, 6, 1)),
    (Pair((2, 4, 6, 3)), (4, 12, 3)),
    (Video((5, 4, 6, 1)), (4, 30, 1)),
    (PianoRoll((8, 5, 2)), (20, 64, 3)),
    (Space((7,)), (1, 7, 1)),
    (Space((3, 7)), (3, 7, 1)),
    (Space((3, 2, 2, 2, 2)), (3, 16, 1)),
    (Space(()), (1, 1, 1)),
]


def opened(content):
    return Image.open(io.BytesIO(content))


def stored(space, num):
    values = np.random.default_rng(0).integers(0, 256, (num, *space.shape))
    return values.astype(space.stored_dtype)


@pytest.mark.parametrize(("space", "size"), ROWS, ids=str)
def test_every_space_has_a_picture(space, size):
    examples = stored(space, 5)
    images = pictures.as_images(space, examples)
    assert (images.shape, images.dtype) == ((5, *size), np.uint8)
    assert pictures.image_size(space) == size[:2]
    if isinstance(space, PianoRoll):
        assert images.std() > 0
    elif space.bounds is not None:  # no number is lost or made up
        np.testing.assert_array_equal(
            np.sort(images, axis=None), np.sort(examples, axis=None)
        )
    else:
        assert (images.min(), images.max()) == (0, 255)
    assert opened(pictures.png(space, examples[None], 3)).size == (
        3 * size[1],
        2 * size[0],
    )


def test_pairs_are_side_by_side_and_clips_are_strips():
    pair = stored(Pair((2, 3, 4, 1)), 2)
    image = pictures.as_images(Pair((2, 3, 4, 1)), pair)
    np.testing.assert_array_equal(image[1, :, :4], pair[1, 0])
    np.testing.assert_array_equal(image[1, :, 4:], pair[1, 1])
    clip = stored(Video((5, 3, 4, 1)), 2)
    image = pictures.as_images(Video((5, 3, 4, 1)), clip)
    np.testing.assert_array_equal(image[1, :, 8:12], clip[1, 2])


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
def test_png_holds_the_pixels(channels):
    space = Images((5, 5, channels))
    images = stored(space, 4)
    back = np.asarray(opened(pictures.png(space, images[None], 2)))
    wanted = pictures.tile(images, 2)
    np.testing.assert_array_equal(back.reshape(10, 10, channels), wanted)


def test_floats_that_are_not_finite_are_drawn():
    values = np.array([np.nan, -np.inf, 1.0, 2.0, 3.0, np.inf], np.float32)
    space = Images((2, 3, 1), bounds=None)
    image = pictures.as_images(space, values.reshape(1, 2, 3, 1))
    assert image.ravel().tolist() == [0, 0, 0, 128, 255, 255]
    assert not pictures.as_images(space, np.full((1, 2, 3, 1), np.nan)).any()


def test_replicas_are_rows_of_images():
    space = Images((5, 5, 1))
    rows = stored(space, 12).reshape(3, 4, 5, 5, 1)
    wanted = pictures.tile(rows.reshape(12, 5, 5, 1), 4)[..., 0]
    np.testing.assert_array_equal(opened(pictures.png(space, rows, 4)), wanted)


# --- Plots of points ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("coordinates", "views"),
    [
        (1, [(0,)]),
        (2, [(0, 1)]),
        (3, [(0, 1), (1, 2)]),
        (5, [(0, 1), (2, 3), (3, 4)]),
        (9, [(0, 1), (2, 3), (4, 5)]),
    ],
)
def test_points_are_shown_by_neighbouring_coordinates(coordinates, views):
    assert plots.projections(coordinates) == views


@pytest.mark.parametrize(("coordinates", "grid"), [(1, (2, 2)), (5, (3, 3))])
def test_points_have_plots_for_each_replica(coordinates, grid):
    random, space = np.random.default_rng(0), Points((coordinates,))
    points = 1000 + random.normal(size=(3, 50, coordinates))
    points[1, :9], points[2] = np.inf, np.nan
    plot = opened(pictures.png(space, points, 1, points[0]))
    assert plot.size == (480 * grid[0], 480 * grid[1])


def test_axes_are_those_of_the_data_at_every_step():
    data = np.random.default_rng(0).normal(size=(1000, 2)) * [1, 50]
    data[:2] = 1e6  # two of a thousand do not set the axes
    seen = []

    def scatter(axes, points, num, shown, colour):
        seen.append((len(points), num, shown, colour))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_scatter", scatter)
        for samples in (np.zeros((1, 10, 2)), np.full((1, 10, 2), 1e9)):
            plots.png(samples, data)
    (_, _, shown, grey), (inside, ten, *_), (_, _, again, _), (outside, *_) = seen
    assert shown == again
    assert (inside, ten, outside, grey) == (10, 10, 0, "0.7")
    for (low, high), scale in zip(shown, (1, 50), strict=True):
        # The quantiles of the normal at 0.5 % are -2.58 and 2.58, and 20 % are added.
        assert low / scale == pytest.approx(-2.58 * 1.4, rel=0.15)
        assert high / scale == pytest.approx(2.58 * 1.4, rel=0.15)


@pytest.mark.parametrize("value", [0.0, 7.0, -3e38, np.nan, np.inf])
def test_axes_have_a_length_whatever_is_drawn(value):
    low, high = plots.limits(np.full(5, value, np.float32))
    assert low < high
    assert not np.isfinite(value) or low < value < high
    samples = np.full((1, 5, 1), value, np.float32)
    assert opened(plots.png(samples)).size == (480, 480)


class Drawings(Output):
    """Keeps what it is given."""

    def __init__(self):
        self.steps, self.pngs = [], []

    def write(self, record):
        self.steps.append(record["step"])

    def samples(self, step, files):
        self.pngs.append(step)


def test_a_picture_that_cannot_be_drawn_is_logged_and_the_run_goes_on(capsys):
    output, space = Drawings(), Images((2, 2, 1))
    writers = Writers([output], space, 1)
    writers.samples(1, np.zeros((1, 2, 2, 2, 1), object))  # of a type without a colour
    writers.metrics({"step": 1})
    writers.samples(2, stored(space, 2)[None])
    writers.close()
    assert (output.steps, output.pngs) == ([1], [2])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cannot draw the samples of step 1 (TypeError: ")


# --- Sizes and captions -------------------------------------------------------------


@pytest.mark.parametrize("num", [None, 25, 64, 100, 1000])
@pytest.mark.parametrize(
    "size", [(28, 28), (64, 128), (64, 1024), (88, 64), (300, 200), (1, 7)]
)
def test_grids_are_nearly_square(size, num):
    for group in (0, 1, 2, 3, 5, 10, 16, 40, 1000):
        total, columns = pictures.square_grid(size, group)
        if num is not None:
            total, columns = num, pictures.columns_of(num, size, group)
        height, width = -(-total // columns) * size[0], columns * size[1]
        assert max(height, width) < 2.7 * min(height, width)
        if group in (1, 2, 3, 5, 10, 16) and size[0] == size[1] and num is None:
            assert total % columns == columns % group == 0
    assert pictures.square_grid((4000, 4000)) == (1, 1)


def test_captions_are_below_the_images():
    images = stored(Images((20, 28, 3)), 3)
    captioned = pictures.with_captions(images, ["relief", "", "a name " * 99])
    assert captioned.shape == (3, 3 * 20 + 14, 3 * 28, 3)
    np.testing.assert_array_equal(captioned[:, :60:3, ::3], images)
    strip = captioned[:, 60:].any((1, 3))
    assert strip[0].any()
    assert not strip[1].any()
    assert not strip[0, :10].any()  # in the middle
    assert not strip[0, -10:].any()
    space = Images((20, 28, 3))
    assert pictures.image_size(space, captions=True) == captioned.shape[1:3]
    png = opened(pictures.png(space, images[None], 3, captions=["a", "b", "c"]))
    assert png.size == (3 * 3 * 28, 74)


@pytest.mark.parametrize(("space", "size"), ROWS, ids=str)
def test_samples_are_beside_their_nearest_training_examples(space, size):
    samples, training = stored(space, 4), stored(space, 6)[::-1]
    indices = np.array([[5, 0], [1, 2], [0, 4], [3, 3]])
    distances = np.array([[3.0, 4.0], [1.0, 5.0], [2.0, 2.5], [0.0, 9.0]])
    found = Neighbours(indices, distances)
    got = opened(pictures.pairs(space, samples, training, found, rows=3))
    height, width = pictures.image_size(space, captions=True)
    assert got.size == (3 * width, 3 * height)
    shown = [samples[3], training[3], training[3], samples[1], training[1], training[2]]
    shown += [samples[2], training[0], training[4]]  # from the nearest on
    captions = ["sample", "0", "9", "sample", "1", "5", "sample", "2", "2.5"]
    png = pictures.png(space, np.stack(shown)[None], 3, captions=captions)
    np.testing.assert_array_equal(got, opened(png))


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_an_animation_has_its_frames_and_repeats(kind):
    frames = np.zeros((5, 2, 4, 6, 1), np.uint8)
    frames[np.arange(5), 0] = np.arange(5)[:, None, None, None] * 50
    film = opened(pictures.animation(frames, 2, kind, 25))
    assert (film.size, film.n_frames, film.info["loop"]) == ((12, 4), 5, 0)
    film.seek(3)
    film.load()
    assert film.info["duration"] == 40
    grey = np.asarray(film.convert("L")).astype(int)
    assert np.abs(grey - pictures.tile(frames[3], 2)[..., 0]).max() <= 3


def test_clips_have_a_film_in_which_all_run_at_the_same_time():
    space = Video((4, 6, 8, 1))
    clips = np.kron(stored(Video((4, 3, 4, 1)), 5), np.ones((1, 1, 2, 2, 1), np.uint8))
    found = pictures.files(space, clips[None], 2)
    assert list(found) == [".png", ".gif"]
    film = opened(found[".gif"])
    columns = pictures.columns_of(5, (6, 8))
    assert (film.n_frames, film.info["duration"], film.info["loop"]) == (4, 100, 0)
    for time in range(4):
        film.seek(time)
        film.load()
        wanted = pictures.tile(clips[:, time], columns)[..., 0]
        np.testing.assert_array_equal(np.asarray(film.convert("L")), wanted)
