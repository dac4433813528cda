import games
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from runs import config_of

from gan_jax import build, init_state
from gan_jax.algorithm.players import render
from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.config import default
from gan_jax.errors import UserError
from gan_jax.run.sampling import interpolations, layout, read_conditions
from gan_jax.run.training import train

KEY = jax.random.key(0)


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
    gan = build(Images((8, 8, 3)), Classes(3), model="mlp")
    got, got_columns = layout(gan, num, classes, interpolate)
    assert (got.tolist(), got_columns) == (labels, columns)


@pytest.fixture(scope="module")
def conditional_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("conditional") / "run"
    small = {"num_steps": 2, "sample_every": 1, "checkpoint_every": 1, "width": 8}
    small |= {"data.source": "packaged"}
    train(config_of("mnist_mlp", "conditional", **small), path)
    return path


@pytest.mark.parametrize(
    ("args", "size"),
    [
        ([], (10, 7)),
        (["--num=25"], (10, 3)),
        (["--labels=3,7", "--num=12"], (6, 2)),
        (["--interpolate"], (8, 8)),
        (["--interpolate", "--labels=4", "--num=9"], (3, 3)),
    ],
)
def test_the_command(forks, conditional_run, tmp_path, args, size):
    out = tmp_path / "grids" / "x.png"
    status, stdout, err = forks(
        "sample", f"--workdir={conditional_run}", f"--out={out}", *args
    )
    assert (status, stdout) == (0, ""), err
    with Image.open(out) as grid:
        assert grid.size == (28 * size[0], 28 * size[1])


def test_the_command_draws_what_it_says(forks, conditional_run, tmp_path):
    def pixels(*args):
        out = tmp_path / "x.png"
        status, _, err = forks(
            "sample", f"--workdir={conditional_run}", f"--out={out}", *args
        )
        assert status == 0, err
        with Image.open(out) as grid:
            return np.asarray(grid).astype(int)

    plain = pixels()
    np.testing.assert_array_equal(plain, pixels("--step=2", "--truncation=1.0"))
    for other in ("--step=1", "--seed=1", "--truncation=0.5"):
        assert (plain != pixels(other)).any()
    # The third column is the threes, in --labels their row.
    assert (plain[:28, 84:112] != plain[:28, 56:84]).any()


def test_interpolations_go_from_one_latent_to_the_other():
    gan = build(Images((8, 8, 3)), model="mlp", width=8, latent_size=5)
    state = jax.jit(init_state)(gan, KEY)
    grid = interpolations(gan, state, KEY, 16, None, 1.0)
    assert grid.shape == (16, 8, 8, 3)
    start, end = (gan.latent.sample(k, 4) for k in jax.random.split(KEY))
    np.testing.assert_array_equal(grid[::4], render(gan, state, start))
    np.testing.assert_array_equal(grid[3::4], render(gan, state, end))
    # Steps along a row are small compared with its length.
    rows = grid.reshape(4, 4, -1).astype(jnp.float32)
    step = jnp.abs(jnp.diff(rows, axis=1)).mean((1, 2))
    assert (step < jnp.abs(rows[:, 0] - rows[:, -1]).mean(1)).all()


# A condition that is no class: one line for each file that cannot be used.


TRANSLATION = """
import flax.linen as nn
from gan_jax.models import mlp

class Generator(nn.Module):
    shape: tuple = ()
    condition: object = None
    streams = ()

    @nn.compact
    def __call__(self, latents, condition, *, train):
        return nn.tanh(nn.Dense(1)(condition))

class Discriminator(nn.Module):
    condition: object = None
    streams = ()

    @nn.compact
    def __call__(self, examples, condition, *, train):
        return nn.Dense(1)(examples + condition)[..., 0]  # judges each pixel
"""


@pytest.fixture(scope="module")
def translation(tmp_path_factory):
    path = tmp_path_factory.mktemp("translation") / "translation.py"
    path.write_text(TRANSLATION)
    space = Images((4, 4, 1))
    return build(space, space, model=str(path), latent_size=0)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (None, r"needs conditions: give --condition=FILE.npy, uint8 \[n, 4, 4, 1\]"),
        (np.zeros((3, 4, 4), np.uint8), r"uint8 \[3, 4, 4\]; it must hold uint8 \[n, "),
        (np.zeros((0, 4, 4, 1), np.uint8), r"holds uint8 \[0, 4, 4, 1\]; it must"),
        (np.zeros((3, 4, 4, 1), np.float32), r"holds float32 \[3, 4, 4, 1\]; it must"),
        (np.array([{}, 3]), r"ValueError: Array can't be memory-mapped"),
        ("text", r"x.npy: ValueError: "),
    ],
)
def test_conditions_that_do_not_fit_are_refused(tmp_path, translation, array, message):
    path = tmp_path / "x.npy"
    if isinstance(array, str):
        path.write_text(array)
    elif array is not None:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        layout(translation, 9, [], file=None if array is None else str(path))
    with pytest.raises(UserError, match=r"none.npy: there is no such file"):
        read_conditions(str(tmp_path / "none.npy"), translation)


def test_conditions_are_used_in_turn(tmp_path, translation):
    stored = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
    np.save(tmp_path / "x.npy", stored)
    file = str(tmp_path / "x.npy")
    got, columns = layout(translation, 7, [], file=file)
    np.testing.assert_array_equal(got, stored[[0, 1, 2, 0, 1, 2, 0]])
    assert columns == 3
    with pytest.raises(UserError, match="--labels needs a conditional run; this one"):
        layout(translation, 7, ["1"], file=file)
    classes = build(Images((8, 8, 1)), Classes(3), model="mlp")
    with pytest.raises(UserError, match="this run has classes: use --labels"):
        layout(classes, 7, [], file=file)
    plain = build(Images((8, 8, 1)), model="mlp")
    with pytest.raises(UserError, match="this run has no condition"):
        layout(plain, 7, [], file=file)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("masks", (3 * 8, 2 * 8)),
        pytest.param("clips", (3 * 24, 2 * 8), marks=pytest.mark.slow),
    ],
)
def test_the_command_samples_other_spaces(forks, tmp_path, name, size):
    config = default()
    config.update_from_flattened_dict({**games.SMALL, **games.GAMES[name]})
    config.num_steps = 2
    train(config, tmp_path / "run")
    args = [f"--workdir={tmp_path}/run", f"--out={tmp_path}/x.png", "--num=5"]
    args += [f"--model={config.model}"]
    if name == "masks":
        status, _, err = forks("sample", *args)
        assert (status, "give --condition=FILE.npy, uint8 [n, " in err) == (2, True)
        np.save(tmp_path / "x.npy", np.zeros((2, 8, 8, 3), np.uint8))
        args.append(f"--condition={tmp_path}/x.npy")
        status, _, err = forks("sample", *args, "--interpolate")
        assert (status, "this run has latent_size 0" in err) == (2, True)
    status, _, err = forks("sample", *args)
    assert (status, err) == (0, "")
    with Image.open(tmp_path / "x.png") as grid:
        assert grid.size == size
