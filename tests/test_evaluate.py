"""The command that measures samples: of a run, and of two sets on disk."""

import json
import re
from collections import Counter

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image
from runs import config_of, untrained

from gan_jax import evaluate
from gan_jax.algorithm.spaces import Images
from gan_jax.errors import UserError
from gan_jax.run import evaluation
from gan_jax.run.training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluated") / "run"
    train(config_of("ring", num_steps=2, replicas=2), path)
    return path


@pytest.fixture
def measured(forks):
    """Returns a function from flags to what the command measured."""

    def measure(*args):
        status, out, err = forks("evaluate", "--json", *map(str, args))
        assert status == 0, err
        return json.loads(out)

    return measure


def evaluated_here(*args):
    """Runs the command in this process."""
    with flagsaver.flagsaver():
        flags.FLAGS(["evaluate", *map(str, args)])
        evaluate.main()


def features(path, mean, cov, num, **others):
    """Writes features whose moments are those of a Gaussian, exactly."""
    x = np.random.default_rng(num).normal(size=(num, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    np.savez(path, features=x @ np.linalg.cholesky(cov).T + mean, **others)
    return path


def test_two_sets_of_features(measured, tmp_path):
    """FD of two Gaussians whose covariances commute is a sum over their axes."""
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    first = features(tmp_path / "a.npz", [1, 2], turn @ np.diag([4, 1]) @ turn.T, 60)
    second = features(tmp_path / "b.npz", [3, 1], turn @ np.diag([1, 9]) @ turn.T, 70)
    found = measured(f"--real={first}", f"--fake={second}", "--metrics=fd, kid, prdc")
    fd = found["fd"]
    assert fd["value"] == pytest.approx(4 + 1 + (2 - 1) ** 2 + (1 - 3) ** 2, rel=1e-6)
    assert (fd["n_real"], fd["n_fake"], fd["stderr"]) == (60, 70, None)
    assert 0 < fd["floor"] < 1  # two halves of the reference differ by chance
    assert found["kid"]["stderr"] > 0
    names = {"fd", "kid", "precision", "recall", "density", "coverage"}
    assert found.keys() == names | {"features", "protocol", "seconds"}
    assert found["features"]["name"] == "given"
    assert found["protocol"]["note"] is None


def images(folder, values):
    folder.mkdir()
    for i, pixels in enumerate(values):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_two_folders_of_images(measured, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
    real, fake = images(tmp_path / "real", pixels), tmp_path / "fake.npz"
    np.savez(fake, images=pixels[::-1, :, :, None])
    found = measured(f"--real={real}", f"--fake={fake}", "--metrics=fd, prdc")
    assert found["features"]["name"] == "mnist_lenet"  # what suits 28x28, grey
    assert len(found["features"]["checksum"]) == 64
    assert found["fd"]["value"] == pytest.approx(0, abs=1e-3)
    assert found["precision"]["value"] == found["coverage"]["value"] == 1
    assert found["protocol"]["note"].startswith("fd of 12 examples with 128 features")


def test_a_run_is_measured_with_all_its_replicas(measured, run):
    how = f"--workdir={run}", "--num=400", "--metrics=fd, modes, diversity"
    found = measured(*how)
    fd = found["fd"]
    values = np.array(fd["replicas"])
    assert fd["value"] == pytest.approx(values.mean())
    assert fd["stderr"] == pytest.approx(abs(values[0] - values[1]) / 2)
    assert 0 <= fd["floor"] < 0.1 < fd["value"]  # after two steps
    assert found["protocol"]["step"] == 2
    assert found["protocol"]["reference"] == "toy:ring"
    assert found["diversity_of_data"]["value"] == pytest.approx(2.5, abs=0.2)


@pytest.mark.slow
def test_exported_generators_and_other_seeds(measured, forks, run, tmp_path):
    how = f"--workdir={run}", "--num=400", "--metrics=fd, modes, diversity"
    values = measured(*how)["fd"]["replicas"]
    assert measured(*how)["fd"]["replicas"] == values
    first = tmp_path / "first"
    assert forks("export", f"--workdir={run}", f"--out={first}")[0] == 0
    exported = measured(f"--workdir={first}", *how[1:])
    assert exported["fd"]["value"] == pytest.approx(values[0], rel=1e-5)

    alone = measured(*how, "--replica=1", "--repeats=3")
    assert alone["protocol"]["seeds"] == [0, 1, 2]
    assert abs(alone["fd"]["value"] - values[1]) < 5 * alone["fd"]["stderr"]


def test_every_program_is_compiled_once(run, caplog):
    """For two replicas, two seeds and the reference: G, and the extractor."""
    jax.clear_caches()
    with jax.log_compiles():
        how = "--num=300", "--repeats=2", "--metrics=fd"
        evaluated_here(f"--workdir={run}", *how)
    found = Counter(re.findall(r"Compiling jit\((\w+)\)", caplog.text))
    assert (found["_each"], found["_apply"]) == (1, 1)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("fd, fd_per_class", "needs samples with classes"),
        ("memorisation", "needs a test split"),
        ("inception_score", "needs an extractor with a classifier"),
        ("cas", "needs samples with classes"),
        ("stacked_modes", "needs the features of mnist_lenet"),
        ("prdc", "needs at least 6 examples, and there are 5 real ones"),
    ],
)
def test_what_a_metric_lacks_is_found_before_anything_is_drawn(
    run, monkeypatch, metrics, message
):
    drawn = []
    for name in ("samples", "real_examples"):
        monkeypatch.setattr(evaluation, name, lambda *args: drawn.append(args))
    num = 5 if metrics == "prdc" else 200
    with pytest.raises(UserError, match=message):
        evaluated_here(f"--workdir={run}", f"--num={num}", f"--metrics={metrics}")
    assert not drawn


# --- The picture of pairs -----------------------------------------------------------


def test_the_pairs_of_two_sets_are_drawn(measured, tmp_path):
    """Of 15 samples the 12 nearest, each in a row with its 5 nearest real examples."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 70, 66, 3), np.uint8)
    np.savez(tmp_path / "real.npz", images=pixels)
    fake = pixels[:15] // 2
    fake[7] = pixels[3]
    np.savez(tmp_path / "fake.npz", images=fake)
    pairs = tmp_path / "new" / "pairs.png"
    sets = (f"--{name}={tmp_path / name}.npz" for name in ("real", "fake"))
    how = "--features=pixels", "--metrics=diversity", f"--pairs={pairs}"
    found = measured(*sets, *how)
    with Image.open(found["protocol"]["pairs"]) as picture:
        drawn = np.asarray(picture)
    assert drawn.shape == (12 * (70 + 14), 6 * 66, 3)
    np.testing.assert_array_equal(drawn[:70, :66], pixels[3])  # the copy comes first
    np.testing.assert_array_equal(drawn[:70, 66 : 2 * 66], pixels[3])


def test_the_pairs_of_a_run_are_drawn(measured, tmp_path):
    how = {"data.source": "packaged", "data.split": "test"}
    config = config_of("mnist_mlp", **how, **{"eval.features": "pixels"})
    untrained(tmp_path / "run", config, Images((28, 28, 1)))
    how = "--num=8", "--metrics=diversity", f"--pairs={tmp_path / 'pairs.png'}"
    found = measured(f"--workdir={tmp_path / 'run'}", *how)
    assert found["features"]["name"] == "pixels"  # of the run's own evaluations
    with Image.open(tmp_path / "pairs.png") as picture:
        assert picture.size == (6 * 84, 8 * (84 + 14))


def test_features_that_are_code_of_the_run_are_not_loaded(forks, run, tmp_path):
    about = json.loads((run / "config.json").read_text())
    about["config"]["eval"]["features"] = "mine.py:load(size=0.5)"
    (tmp_path / "config.json").write_text(json.dumps(about))
    (tmp_path / "checkpoints").symlink_to(run / "checkpoints")
    status, _, err = forks("evaluate", f"--workdir={tmp_path}")
    assert status == 2
    assert "give --features=mine.py:load" in err
    args = "--features=identity", "--num=50", "--metrics=fd"
    assert forks("evaluate", f"--workdir={tmp_path}", *args)[0] == 0


# --- Bad input ----------------------------------------------------------------------

RING = "--workdir={run}"
SETS = "--real={sets}/a.npz", "--fake={sets}/b.npz"
MIXED = "--real={sets}/mixed", "--fake={sets}/mixed"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give --workdir=DIR, or --real=PATH and --fake=PATH"),
        ([RING, *SETS], "give --workdir=DIR, or"),
        (["--real=x"], "give --workdir=DIR, or"),
        ([*SETS, "--num=7"], "--num is for a run"),
        ([*SETS, "--split=test"], "--split is for a run"),
        ([RING, "--num=1"], "--num=1: it must be from 2"),
        ([RING, "--metrics=fid"], "unknown metric 'fid'; did you mean 'fd'"),
        ([RING, "--metrics="], "there is no metric"),
        ([RING, "--metrics=kid(subset=3)"], "did you mean 'subsets'"),
        ([RING, "--features=lenet"], "did you mean 'mnist_lenet'"),
        ([RING, "--features=mnist_lenet", "--num=9"], "grey images of 28x28x1"),
        ([RING, "--metrics=cas", "--num=200"], "needs samples with classes"),
        ([RING, "--metrics=memorisation", "--num=9"], "needs a test split"),
        ([RING, "--replica=2"], "replicas 0 ... 1"),
        (["--workdir={sets}"], "config.json"),
        (["--real={sets}/none", "--fake=x"], "there is no folder or npz file"),
        (["--real={sets}/empty", "--fake=x"], "has no images"),
        (["--real={sets}/text.npz", "--fake=x"], "is no npz file"),
        ([SETS[0], "--fake={sets}/wide.npz"], "has 2 features and"),
        ([SETS[0], "--fake={sets}/nan.npz"], "NaN"),
        ([SETS[0], "--fake={sets}/other.npz"], "neither 'images'"),
        ([SETS[0], "--fake={sets}/images.npz"], "images on both sides"),
        ([*SETS, "--metrics=inception_score"], "needs an extractor with a classifier"),
        ([*SETS, "--metrics=ppl"], "needs a run"),
        ([*MIXED, "--metrics=fd"], "a set must have one size"),
        ([RING, "--pairs=x.jpg"], "--pairs=x.jpg: name the file *.png"),
        ([RING, "--pairs=x.png"], "--pairs shows images, and these are points"),
        ([*SETS, "--pairs=x.png"], "--pairs shows images, and these are features"),
    ],
)
def test_bad_input_is_one_line(forks, run, sets, args, message):
    args = [arg.format(run=run, sets=sets) for arg in args]
    status, out, err = forks("evaluate", *args)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    for name, cov in (("a", np.eye(2)), ("b", np.eye(2)), ("wide", np.eye(3))):
        features(folder / f"{name}.npz", np.zeros(len(cov)), cov, 20)
    np.savez(folder / "nan.npz", features=np.full((9, 2), np.nan))
    np.savez(folder / "other.npz", x=np.ones(3))
    np.savez(folder / "images.npz", images=np.zeros((9, 28, 28, 1), np.uint8))
    (folder / "text.npz").write_text("no archive")
    (folder / "empty").mkdir()
    pixels = [np.zeros((28, 28), np.uint8), np.zeros((28, 30), np.uint8)]
    images(folder / "mixed", pixels)
    return folder
