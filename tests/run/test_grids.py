"""What a run's sample grids show, and how they are laid out."""

import dataclasses
import io

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
from gan_jax.run import grids, pictures


def gan_of(example, condition):
    gan = build(example, model="mlp", width=4)
    return dataclasses.replace(gan, condition=condition)


def stored(seed, space, num):
    values = np.random.default_rng(seed).integers(0, 256, (num, *space.shape))
    return values.astype(space.stored_dtype)


@pytest.mark.parametrize(
    ("example", "condition", "one", "several"),
    [
        (Images((8, 8, 1)), None, (64, 8), (8, 8)),
        (Images((8, 8, 1)), Classes(2), (64, 8), (8, 8)),
        (Images((8, 8, 1)), Classes(3), (81, 9), (9, 9)),
        (Images((8, 8, 1)), Classes(10), (100, 10), (10, 10)),
        (Images((8, 8, 1)), Classes(100), (100, 10), (10, 10)),
        (Images((8, 8, 1)), Images((8, 8, 3)), (72, 6), (6, 6)),  # cells of 8x16
        (Images((8, 8, 1)), Images((4, 4, 3)), (64, 8), (8, 8)),
        (Pair((2, 8, 8, 1)), Pair((2, 8, 8, 1)), (64, 4), (4, 4)),
        (Points((2,)), None, (2500, 1), (2500, 1)),
    ],
)
def test_the_size_of_a_sample_grid(example, condition, one, several):
    gan = gan_of(example, condition)
    assert grids.grid_size(gan, 1) == one
    assert grids.grid_size(gan, 3) == several


TRANSLATIONS = [  # the example, its condition, and the size of both pictures together
    (Images((4, 6, 3)), Images((4, 6, 3)), (4, 12, 3)),
    (Images((4, 6, 3)), Images((4, 5, 1)), (4, 11, 3)),
    (Images((4, 6, 1)), Images((4, 6, 3)), (4, 12, 3)),
    (Images((4, 6, 1)), Images((4, 6, 4)), (4, 12, 4)),
    (Images((4, 6, 3)), Images((4, 6, 4)), (4, 12, 4)),
    (Pair((2, 4, 6, 1)), Pair((2, 4, 6, 1)), (4, 24, 1)),
    (Video((3, 4, 6, 1)), Images((4, 6, 1)), (4, 24, 1)),
    (PianoRoll((8, 5, 2)), PianoRoll((8, 5, 1)), (20, 128, 3)),
]


@pytest.mark.parametrize(("example", "condition", "size"), TRANSLATIONS, ids=str)
def test_a_condition_is_to_the_left_of_its_example(example, condition, size):
    gan, samples = gan_of(example, condition), stored(0, example, 6)
    told = stored(1, condition, 3)
    left = grids.beside(gan, told)
    assert grids.cell_size(gan) == size[:2]
    files = pictures.files(example, samples.reshape(2, 3, *example.shape), 3, left)
    with Image.open(io.BytesIO(files[".png"])) as grid:
        pixels = np.asarray(grid).reshape(2, size[0], 3, size[1], size[2])
    width = left.shape[2]
    colours = min(3, size[2])
    for row, shown in enumerate(pixels[..., :colours].swapaxes(1, 2)):
        right = pictures.as_images(example, samples[3 * row :][:3])
        for part, wanted in ((shown[:, :, :width], left), (shown[:, :, width:], right)):
            np.testing.assert_array_equal(*np.broadcast_arrays(part, wanted[..., :3]))
    opaque = [part for part in (left, right) if part.shape[-1] < size[2] == 4]
    if opaque:
        at = slice(width) if opaque[0] is left else slice(width, None)
        assert (pixels[..., at, 3] == 255).all()


OTHERS = [
    (Images((4, 6, 1)), None),
    (Images((4, 6, 1)), Classes(3)),
    (Images((4, 6, 1)), Images((2, 3, 1))),
    (Images((4, 6, 1)), Space((7,))),
    (Points((2,)), Points((2,))),
]


@pytest.mark.parametrize(("example", "condition"), OTHERS, ids=str)
def test_other_conditions_are_not_shown(example, condition):
    gan = gan_of(example, condition)
    assert grids.beside(gan, condition and np.zeros((3, *condition.shape))) is None
    assert grids.cell_size(gan) == pictures.image_size(example)


def test_fixed_conditions_are_spread_over_the_source():
    space = Images((4, 4, 1))
    examples = stored(0, space, 10)
    info = Info(
        name="x", example=space, condition=space, num_examples=10, fingerprint=""
    )
    source = InMemory(info, examples, examples[::-1])
    gan = gan_of(space, space)
    got = grids.fixed_conditions(gan, source, 4)
    np.testing.assert_array_equal(got, examples[::-1][[0, 3, 6, 9]])
    np.testing.assert_array_equal(grids.shown_with(gan, source, got), got)
    assert len(grids.fixed_values(source, "example", 30)) == 30
