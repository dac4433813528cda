import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gan_jax import build, init_state
from gan_jax.algorithm.players import render
from gan_jax.run.writers import save_examples, tile
from gan_jax.sample import interpolations, layout

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


@pytest.fixture(scope="module")
def conditional_run(forks, tmp_path_factory):
    path = tmp_path_factory.mktemp("conditional") / "run"
    args = {"num_steps": 2, "log_every": 1, "sample_every": 1, "checkpoint_every": 1}
    args |= {"width": 8, "data.source": "packaged"}
    status, _, err = forks(
        "train",
        "--config=configs/mnist_mlp.py:conditional",
        f"--workdir={path}",
        *[f"--config.{key}={value}" for key, value in args.items()],
    )
    assert status == 0, err
    return path


@pytest.mark.parametrize(
    ("args", "size"),
    [
        ([], (10, 7)),
        (["--num=25"], (10, 3)),
        (["--labels=3,7", "--num=12"], (6, 2)),
        (["--interpolate"], (8, 8)),
        (["--interpolate", "--labels=4", "--num=9"], (3, 3)),
        (["--truncation=0.5"], (10, 7)),
        (["--step=1", "--seed=3"], (10, 7)),
    ],
)
def test_the_command(forks, conditional_run, tmp_path, args, size):
    out = tmp_path / "sheets" / "x.png"
    status, stdout, err = forks(
        "sample", f"--workdir={conditional_run}", f"--out={out}", *args
    )
    assert (status, stdout) == (0, ""), err
    with Image.open(out) as sheet:
        assert sheet.size == (28 * size[0], 28 * size[1])


def test_the_command_draws_what_it_says(forks, conditional_run, tmp_path):
    def pixels(*args):
        out = tmp_path / "x.png"
        status, _, err = forks(
            "sample", f"--workdir={conditional_run}", f"--out={out}", *args
        )
        assert status == 0, err
        with Image.open(out) as sheet:
            return np.asarray(sheet).astype(int)

    plain = pixels()
    np.testing.assert_array_equal(plain, pixels("--step=2", "--truncation=1.0"))
    for other in ("--step=1", "--seed=1", "--truncation=0.5"):
        assert (plain != pixels(other)).any()
    # The third column is the threes, in --labels their row.
    assert (pixels("--num=10")[:, 84:112] != pixels("--num=10")[:, 56:84]).any()


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
