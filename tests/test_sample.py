import functools

import games
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from runs import config_of

from gan_jax import build, draw
from gan_jax.algorithm.latents import Latent
from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.config import default
from gan_jax.errors import UserError
from gan_jax.run import restore, sampling
from gan_jax.run.training import train

KEY = jax.random.key(0)
SIZE = (28, 28)
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("num", "classes", "rows", "taken", "columns"),
    [
        (7, 3, False, [0, 1, 2, 0, 1, 2, 0], 3),
        (6, 2, True, [0, 0, 0, 1, 1, 1], 3),
        (5, 2, True, [0, 0, 0, 1, 1], 3),
        (12, 2, True, [0] * 6 + [1] * 6, 3),  # two rows each
        (4, 5, True, [0, 1, 2, 3], 2),
        (9, 0, False, list(range(9)), 3),
    ],
)
def test_layout_of_classes(num, classes, rows, taken, columns):
    turns, got = sampling.layout(SIZE, num, classes, rows)
    assert ((turns % (classes or 9)).tolist(), got) == (taken, columns)


@pytest.mark.parametrize(
    ("classes", "rows", "num", "columns"),
    [(0, False, 64, 8), (10, False, 100, 10), (2, True, 64, 8), (3, True, 81, 9)],
)
def test_the_number_is_chosen_for_a_square(classes, rows, num, columns):
    turns, got = sampling.layout(SIZE, None, classes, rows)
    assert (len(turns), got) == (num, columns)
    if classes:  # each has as many
        assert len(set(np.bincount(turns % classes))) == 1


def classes_of(labels, names=("relief", "map", "3", "sea")):
    gan = build(Images((8, 8, 3)), Classes(4, names), model="mlp", width=4)
    return sampling.conditions(gan, labels, None).tolist()


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ([], [0, 1, 2, 3]),
        (["sea", "0", "relief"], [3, 0, 0]),
        (["3"], [2]),  # a name goes before a number
    ],
)
def test_classes_are_given_by_name_or_number(labels, numbers):
    assert classes_of(labels) == numbers


def test_an_unknown_class_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"'relif'; did you mean 'relief'\? \(valid: 3"):
        classes_of(["1", "relif"])
    with pytest.raises(UserError, match=r"--labels: '4' is none of 0 ... 3"):
        classes_of(["4"], names=())


def test_captions_are_names_or_numbers():
    labels = np.array([1, 0, 2], np.int32)
    assert sampling.captions(Classes(3, ("a", "b")), labels) == ["b", "a", "2"]
    assert sampling.captions(Classes(3), labels) == ["1", "0", "2"]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("7", [7]), ("3,7,10-12", [3, 7, 10, 11, 12]), ("4294967295", [2**32 - 1])],
)
def test_seeds_are_numbers_and_ranges(text, seeds):
    assert sampling.parse_seeds(text).tolist() == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *[
            (x, "give numbers below")
            for x in ("", "3-", "5-3", "a", "1,,2", "4294967296")
        ],
        ("0-4294967295", "they are more than 1000000"),
    ],
)
def test_other_seeds_are_refused(text, message):
    with pytest.raises(UserError, match=f"--seeds={text}: {message}"):
        sampling.parse_seeds(text)


@pytest.fixture(scope="module")
def conditional_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("conditional") / "run"
    small = {"num_steps": 2, "sample_every": 1, "checkpoint_every": 1, "width": 8}
    small |= {"data.source": "packaged"}
    train(config_of("mnist_mlp", "conditional", **small), path)
    return path


@pytest.mark.parametrize(
    ("args", "num", "size"),
    [
        ([], 100, (280, 280)),
        slow(["--num=25", "--step=1"], 25, (5 * 28, 5 * 28)),
        slow(["--labels=3,7", "--num=12"], 12, (3 * 28, 4 * 28)),
        slow(["--interpolate"], 64, (8 * 28, 8 * 28)),
        slow(["--interpolate", "--labels=4", "--num=9"], 9, (3 * 28, 3 * 28)),
        slow(["--seeds=1-7", "--captions"], 7, (3 * 84, 3 * 98)),
    ],
)
def test_the_command(forks, conditional_run, tmp_path, args, num, size):
    out = tmp_path / "grids" / "x.png"
    status, stdout, err = forks(
        "sample", f"--workdir={conditional_run}", f"--out={out}", *args
    )
    step = 1 if "--step=1" in args else 2
    said = f"{out}: {num} examples, step {step}, replica 0\n"
    assert (status, stdout) == (0, said), err
    with Image.open(out) as grid:
        assert grid.size == size


@pytest.mark.slow
def test_the_command_draws_what_it_says(forks, conditional_run):
    def pixels(*args):
        status, said, err = forks("sample", f"--workdir={conditional_run}", *args)
        assert status == 0, err
        with Image.open(said.partition(": ")[0]) as grid:
            return np.asarray(grid).astype(int)

    plain = pixels()
    np.testing.assert_array_equal(plain, pixels("--step=2", "--truncation=1.0"))
    for other in ("--step=1", "--seed=1", "--truncation=0.5"):
        assert (plain != pixels(other)).any()
    # The third column is the threes, in --labels their row.
    assert (plain[:28, 84:112] != plain[:28, 56:84]).any()
    assert {path.name for path in (conditional_run / "drawn").iterdir()} == {
        *("000002.png", "000001.png", "000002-seed1.png"),
        *("000002-truncation1.0.png", "000002-truncation0.5.png"),
    }
    assert len(list((conditional_run / "samples").iterdir())) == 2  # the run's own


@pytest.mark.slow
def test_a_folder_holds_what_each_seed_gives(forks, conditional_run, tmp_path):
    """Whatever other seeds there are; and other tools read it."""
    gan, state = restore.load(conditional_run)
    args = [f"--workdir={conditional_run}", f"--outdir={tmp_path}/x", "--seeds=5,0-150"]
    status, said, err = forks("sample", *args)
    wanted = f"{tmp_path}/x: 152 examples, one PNG each and samples.npz, step 2, "
    assert (status, said) == (0, f"{wanted}replica 0\n"), err
    with np.load(tmp_path / "x" / "samples.npz") as found:
        assert set(found.files) == {"images", "labels"}
        images, labels = found["images"], found["labels"]
    assert (images.shape, images.dtype) == ((152, 28, 28, 1), np.uint8)
    np.testing.assert_array_equal(labels[1:], np.arange(151) % 10)
    np.testing.assert_array_equal(images[0], images[6])
    for seed in (0, 140):  # of the first batch, and of another
        with Image.open(tmp_path / "x" / f"{seed:06d}.png") as image:
            np.testing.assert_array_equal(image, images[1 + seed, ..., 0])
        key = jax.random.key(seed)
        alone = draw(gan, state, key, 1, np.array([seed % 10]))[0]
        assert np.abs(images[1 + seed].astype(int) - alone).max() <= 1
    status, _, err = forks("sample", *args)
    assert (status, "it is not empty; give a new folder" in err) == (2, True)


def test_a_video_walks_in_a_circle(forks, conditional_run, tmp_path):
    args = ["--labels=3", "--seeds=1,2", "--frames=6", f"--video={tmp_path}/x.webp"]
    status, said, err = forks("sample", f"--workdir={conditional_run}", *args)
    wanted = f"{tmp_path}/x.webp: 6 frames of 1 example, step 2, replica 0\n"
    assert (status, said) == (0, wanted), err
    with Image.open(tmp_path / "x.webp") as film:
        assert (film.n_frames, film.size) == (6, (28, 28))


def test_a_loop_goes_through_its_stops_and_closes():
    latent = Latent(4)
    stops = latent.sample(KEY, 6).reshape(2, 3, 4)
    paths = np.asarray(sampling.loop(latent, stops, 30))
    assert paths.shape == (30, 2, 4)
    for i in range(3):
        np.testing.assert_allclose(paths[10 * i], stops[:, i], atol=1e-5)
    middle = latent.interpolate(stops[:, 2], stops[:, 0], jnp.full(2, 0.5))
    np.testing.assert_allclose(paths[25], middle, atol=1e-5)
    steps = np.linalg.norm(paths - np.roll(paths, 1, 0), axis=-1)
    assert steps.max() < 1  # also from the last frame to the first


def test_interpolations_go_from_one_latent_to_the_other():
    latent = Latent(5)
    grid = sampling.interpolated(latent, KEY, 15, 4, 1.0)
    assert grid.shape == (15, 5)
    start, end = (latent.sample(k, 4) for k in jax.random.split(KEY))
    np.testing.assert_allclose(grid[::4], start, atol=1e-6)
    np.testing.assert_allclose(grid[3::4], end[:3], atol=1e-6)
    third = latent.interpolate(start[0], end[0], jnp.float32(1 / 3))
    np.testing.assert_allclose(grid[1], third, atol=1e-5)


# A condition that is no class: one line for each file that cannot be used.


TRANSLATION = """
import flax.linen as nn
from gan_jax.models import mlp

class Generator(nn.Module):
    shape: tuple = ()
    condition: object = None

    @nn.compact
    def __call__(self, latents, condition, *, train):
        return nn.tanh(nn.Dense(1)(condition))

class Discriminator(nn.Module):
    condition: object = None

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
        sampling.conditions(translation, [], None if array is None else str(path))
    with pytest.raises(UserError, match=r"none.npy: there is no such file"):
        sampling.read_conditions(str(tmp_path / "none.npy"), translation)


def test_conditions_are_read_for_the_runs_that_have_them(tmp_path, translation):
    stored = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
    np.save(tmp_path / "x.npy", stored)
    file = str(tmp_path / "x.npy")
    got = sampling.conditions(translation, [], file)
    np.testing.assert_array_equal(got, stored)
    with pytest.raises(UserError, match="--labels needs a conditional run; this one"):
        sampling.conditions(translation, ["1"], file)
    classes = build(Images((8, 8, 1)), Classes(3), model="mlp")
    with pytest.raises(UserError, match="this run has classes: use --labels"):
        sampling.conditions(classes, [], file)
    plain = build(Images((8, 8, 1)), model="mlp")
    with pytest.raises(UserError, match="this run has no condition"):
        sampling.conditions(plain, [], file)
    assert sampling.conditions(plain, [], None) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("masks", (2 * 16, 3 * 8)),
        ("clips", (2 * 24, 3 * 8)),
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
        pixels = np.asarray(grid)
    if name == "masks":  # each is to the right of its condition, which is black
        left, right = np.moveaxis(pixels.reshape(3 * 8, 2, 2, 8, 3), 2, 0)
        assert not left.any()
        assert right.any()
