import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gan_jax import build, init_state
from gan_jax.sample import interpolations, layout
from gan_jax.steps import render
from gan_jax.writers import save_examples, tile

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def unconditional():
    gan = build(shape=(8, 8, 3), model="mlp", width=8, latent_size=5)
    return gan, jax.jit(init_state)(gan, KEY)


def test_tiles_row_by_row_and_leaves_the_rest_black():
    images = (
        np.arange(1, 6, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2)
    )
    sheet = tile(images, 3)
    assert sheet.shape == (4, 6, 1)
    np.testing.assert_array_equal(sheet[::2, ::2, 0], [[1, 2, 3], [4, 5, 0]])


@pytest.mark.parametrize("channels", [1, 3])
def test_png_holds_the_pixels(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 5, channels), np.uint8)
    save_examples(tmp_path / "new" / "x.png", images, 2)
    back = np.asarray(Image.open(tmp_path / "new" / "x.png")).reshape(10, 10, channels)
    np.testing.assert_array_equal(back, tile(images, 2))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    ("num", "classes", "interpolate", "labels", "columns"),
    [
        (7, [], False, [0, 1, 2, 0, 1, 2, 0], 3),
        (6, ["2", "0"], False, [2, 2, 2, 0, 0, 0], 3),
        (5, ["2", "0"], False, [2, 2, 2, 0, 0], 3),
        (9, [], True, [0, 0, 0, 1, 1, 1, 2, 2, 2], 3),
        (4, ["1"], True, [1, 1, 1, 1], 2),
    ],
)
def test_layout_of_classes(num, classes, interpolate, labels, columns):
    gan = build(shape=(8, 8, 3), model="mlp", num_classes=3)
    got, got_columns = layout(gan, num, classes, interpolate)
    assert (got.tolist(), got_columns) == (labels, columns)


def test_interpolations_go_from_one_latent_to_the_other(unconditional):
    gan, state = unconditional
    sheet = interpolations(gan, state, KEY, 16, None, 1.0)
    assert sheet.shape == (16, 8, 8, 3)
    start, end = (gan.latent.sample(k, 4) for k in jax.random.split(KEY))
    np.testing.assert_array_equal(sheet[::4], render(gan, state, start))
    np.testing.assert_array_equal(sheet[3::4], render(gan, state, end))
    # Steps along a row are small beside its length.
    rows = sheet.reshape(4, 4, -1).astype(jnp.float32)
    step = jnp.abs(jnp.diff(rows, axis=1)).mean((1, 2))
    assert (step < jnp.abs(rows[:, 0] - rows[:, -1]).mean(1)).all()
