import dataclasses
import datetime
import functools
import json
import re
import shlex
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from runs import (
    CONFIGS,
    MEMORY,
    SHRUNK,
    TIMES,
    assert_same_run,
    grid_of,
    load,
    records,
    states_of,
)

from gan_jax import Loss, draw
from gan_jax.algorithm.keys import purpose_key
from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data import toy
from gan_jax.errors import Stopped
from gan_jax.run import restore, workdir
from gan_jax.run.checkpoint import Checkpoints
from gan_jax.run.training import prepare, train


@pytest.fixture(scope="session")
def tfds_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture
def make(images, idx_dir, tfds_dir):
    """Returns a shipped config, shrunk, on data that is there."""

    def make(name, arg=None, **overrides):
        config = load(name, arg)
        if config.data.source in ("tfds", "stacked_mnist", "moving_mnist"):
            config.data.data_dir = str(tfds_dir)
            config.data.manual_dir = str(idx_dir)
        elif config.data.source in ("folder", "archive"):  # which would be downloaded
            config.data.source, config.data.data_dir = "folder", str(images)
        config.update_from_flattened_dict({**SHRUNK, **overrides})
        return config

    return make


# A set that is read while it trains, and no convolutions, which compile for long.
STREAM = {"model": "mlp", "image_size": 8, "data.resident_mb": 0}
TRAINED = ("folder", "mnist_mlp", "ring")  # one of each kind of data


@pytest.mark.parametrize(
    "name",
    [*(pytest.param(name, marks=pytest.mark.slow) for name in TRAINED[:2]), TRAINED[2]],
)
def test_configs_train_and_sample(name, make, tmp_path):
    path = tmp_path / "run"
    state = train(make(name, image_size=8), path)
    assert state.step == 2
    lines = records(path)
    assert [line["step"] for line in lines] == [1, 2]
    wanted = {"images", "d_loss", "g_loss", "d_accuracy"}
    wanted |= {"images_per_sec", "data_stall", "d_grad_norm", "g_grad_norm", "data"}
    assert wanted <= set(lines[0])
    assert (path / "samples" / "000002.png").is_file()
    assert list(path.glob("events.out.*"))
    assert not list(path.glob(".*"))  # nothing half-written

    gan, state = restore.load(path)
    assert "diversity" in lines[1]  # with the sample grid
    judged = {"value", "d_real"} if gan.log_odds else {"critic_real", "critic_fake"}
    assert judged <= set(lines[0])
    drawn = draw(gan, state, jax.random.key(0), 3)
    assert drawn.shape == (3, *gan.example.shape)
    assert drawn.dtype == gan.example.stored_dtype


def volumes(folder):
    """Writes a volume, if the extra for them is installed."""
    nibabel = pytest.importorskip("nibabel")
    voxels = np.random.default_rng(0).random((64, 64, 4))
    nibabel.save(nibabel.Nifti1Image(voxels, 4 * np.eye(4)), folder / "a.nii")
    return folder


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_can_be_trained(path, make, tmp_path, tmp_path_factory):
    """As it is, at full width: `prepare` checks by abstract evaluation."""
    config, whole = make(path.stem), load(path.stem)
    whole.data, whole.batch_size = config.data, config.batch_size
    whole.update_from_flattened_dict({"data.resident_mb": 0})
    if path.stem == "mri":
        whole.data.data_dir = str(volumes(tmp_path_factory.mktemp("volumes")))
    run = prepare(whole, tmp_path / "run")
    assert run.gan.example == run.source.info.example or run.gan.example.is_image
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "arg", "how"),
    [
        pytest.param(
            *("ring", None, {"penalties": "r1(every=2)", "d_updates": 2}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("mnist_mlp", "conditional", {"image_size": 8}), marks=pytest.mark.slow
        ),
        ("folder", "conditional", STREAM),
        pytest.param(
            *("folder", None, {**STREAM, "replicas": 2}), marks=pytest.mark.slow
        ),
        ("mnist_mlp", None, MEMORY),
    ],
    ids=["points", "resident", "stream", "replicas", "memory"],
)
def test_resume_equals_no_stop(name, arg, how, make, tmp_path):
    how = {**how, "num_steps": 6, "chunk": 1}
    train(make(name, arg, **how), tmp_path / "whole")
    train(make(name, arg, **{**how, "num_steps": 4}), tmp_path / "parts")
    train(make(name, arg, **how), tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_every_memory_changes(make, tmp_path):
    """What the tests with `MEMORY` compare differs from the start."""
    train(make("mnist_mlp", **MEMORY, num_steps=4, checkpoint_every=4), tmp_path)
    (state,) = states_of(tmp_path)
    assert state.memory.keys() == {"lecam", "path_length", "ada", "replay"}
    for memory in state.memory.values():
        assert any(x.any() for x in jax.tree.leaves(memory))
    assert state.memory["ada"]["p"] > 0
    assert {"ada_p", "g_penalty_path_length"} <= set(records(tmp_path)[0])


def test_a_killed_run_resumes_from_its_last_checkpoint(make, tmp_path):
    """After a kill, the log runs ahead of the checkpoint and ends in half a line."""
    how = {"num_steps": 4, "checkpoint_every": 2}
    train(make("ring", **how), tmp_path / "whole")
    path = tmp_path / "killed"
    train(make("ring", **{**how, "num_steps": 2}), path)
    text = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines(True)
    (path / "metrics.jsonl").write_text("".join(text[:3]) + text[3][:20])
    train(make("ring", **how), path)
    assert_same_run(tmp_path / "whole", path)


def test_a_finished_run_is_left_as_it_is(make, tmp_path):
    train(make("ring"), tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    state = train(make("ring"), tmp_path)
    assert state.step == 2
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_keeps_the_last_checkpoints(make, tmp_path):
    how = {"num_steps": 5, "sample_every": 1, "checkpoint_every": 1}
    train(make("ring", **how, keep_checkpoints=2), tmp_path)
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert kept == [4, 5]
    assert restore.load(tmp_path, step=4)[1].step == 4


@pytest.mark.slow
def test_a_checkpoint_is_not_touched_by_the_steps_after_it(make, tmp_path):
    """It is written in the background while the next chunk reuses its memory."""
    how = {"width": 256, "data.source": "packaged", "image_size": 8}
    train(make("mnist_mlp", **how, num_steps=2), tmp_path / "short")
    train(make("mnist_mlp", **how, num_steps=6, keep_checkpoints=9), tmp_path / "long")
    states = []
    for path in (tmp_path / "short", tmp_path / "long"):
        _, state = restore.load(path, step=2)
        states.append(state.replace(key=jax.random.key_data(state.key)))
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_logs_means_over_the_steps_between(make, tmp_path):
    fine = {"num_steps": 4, "chunk": 1}
    train(make("ring", **fine), tmp_path / "fine")
    coarse = {"log_every": 4, "sample_every": 4, "checkpoint_every": 4}
    train(make("ring", **{**fine, **coarse}), tmp_path / "coarse")
    (line,) = records(tmp_path / "coarse")
    mean = np.mean([r["d_loss"] for r in records(tmp_path / "fine")])
    np.testing.assert_allclose(line["d_loss"], mean, rtol=1e-5)
    assert line["images"] == 16


@pytest.mark.parametrize(
    ("replicas", "message"),
    [
        (1, r"^d_loss is not finite at step 1: the discriminator's .* \(replay it: "),
        pytest.param(
            2,
            r"^replica 0 \(seed 7\): d_loss is .*; replica 1 \(seed 8\): d_loss is",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_stops_where_no_metric_is_finite(make, tmp_path, replicas, message):
    loss = tmp_path / "loss.py"
    loss.write_text(
        "from gan_jax import Loss\nimport jax.numpy as jnp\n"
        "bad = Loss(d=lambda r, f: jnp.log(-jnp.exp(r)), g=lambda f, r: -f)\n"
    )
    path = tmp_path / "run"
    with pytest.raises(Stopped, match=message) as stop:
        train(make("ring", loss=f"{loss}:bad", seed=7, replicas=replicas), path)
    assert stop.value.status == 3
    checkpoints = Checkpoints(path / "checkpoints")
    assert checkpoints.latest() is None
    checkpoints.close()


def test_a_start_says_what_runs(make, tmp_path, capfd):
    """On the terminal, and in config.json with what only programs need."""
    config = make(
        "mnist", model="mlp", discriminator="", image_size=8, width=100, replicas=2
    )
    train(config, tmp_path)
    # 100 latents, or 64 pixels, to two layers of 100 units, to pixels or a logit.
    g, d = 101 * 100 + 101 * 100 + 101 * 64, 65 * 100 + 101 * 100 + 101
    data = "idx:mnist[train], 300 examples of shape (8, 8, 1); 10 classes, not "
    assert capfd.readouterr().err.splitlines()[:5] == [
        f"workdir: {tmp_path}",
        f"devices: {jax.device_count()} cpu",
        f"data: {data}used: conditional is False",
        f"model: mlp, G has {g / 1e3:.3g} K parameters, D {d / 1e3:.3g} K",
        "training: 2 steps, batch size 4, 2 replicas, seeds 0 to 1",
    ]
    with Image.open(tmp_path / "real.png") as real:
        assert real.size == (8 * 8, 8 * 8)  # as the samples of one seed
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["config"] == json.loads(json.dumps(config.to_dict()))
    assert written["data"]["name"] == "idx:mnist[train]"
    assert written["data"]["num_examples"] == 300
    assert (written["data"]["shape"], written["data"]["num_classes"]) == ([8, 8, 1], 10)
    assert workdir.spaces(written["data"]) == (Images((8, 8, 1)), Classes(10))
    assert written["versions"]["jax"] == jax.__version__
    assert records(tmp_path)[0]["data"] == written["data"]["name"]
    start = written["start"]
    assert datetime.datetime.fromisoformat(start["time"]).tzinfo
    assert shlex.split(start["command"]) == sys.orig_argv
    assert {"step", "host", "devices"} <= start.keys()
    assert written["history"] == []


def test_fallback_is_told_everywhere(make, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("gan_jax.data.tfds.unreachable", lambda url: "offline")
    config = make("mnist", model="mlp", discriminator="", image_size=8)
    config.data.manual_dir, config.data.data_dir = "", str(tmp_path / "none")
    train(config, tmp_path / "run")
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written["data"]["name"] == "packaged:mnist[train]"
    assert "offline" in written["data"]["note"]
    assert records(tmp_path / "run")[0]["data"] == "packaged:mnist[train]"
    err = capfd.readouterr().err
    assert "note: mnist is not prepared" in err
    assert err.count("packaged:mnist[train]") == 1


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_sigterm_saves_and_the_run_resumes(forks, tmp_path, replicas):
    """The command, stopped and started again, ends like one never stopped."""
    args = ["--config=configs/ring.py", "--config.log_every=100"]
    args += [f"--config.replicas={replicas}", "--config.batch_size=8"]
    args += ["--config.sample_every=2000", "--config.checkpoint_every=2000"]
    path, err = tmp_path / "stopped", tmp_path / "err"
    how = ["--config.num_steps=10000", f"--workdir={path}"]
    run = forks.start("train", *args, *how, err=err)
    while not err.exists() or "\n300/" not in err.read_text():
        time.sleep(0.01)
    run.send(signal.SIGTERM)
    assert run.wait() == 143
    assert "stopped: saved at step" in err.read_text()
    stopped = records(path)[-1]["step"]
    assert 300 <= stopped < 10000

    again = f"--config.num_steps={stopped + 100}"
    for folder in (path, tmp_path / "whole"):
        status, _, text = forks("train", *args, again, f"--workdir={folder}")
        assert status == 0, text
    assert_same_run(path, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 3])
def test_two_devices_train_as_one(forks, tmp_path, replicas):
    shrunk = {**SHRUNK, "num_steps": 3, "batch_size": 8, "data.source": "packaged"}
    shrunk |= {"replicas": replicas}
    shrunk |= {"sample_every": 3, "checkpoint_every": 3, "image_size": 8}
    args = [f"--config.{key}={value}" for key, value in shrunk.items()]
    metrics = []
    for devices in (1, 2):
        path = tmp_path / str(devices)
        status, _, err = forks(
            "train",
            "--config=configs/mnist_mlp.py",
            *args,
            f"--workdir={path}",
            XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
        )
        assert status == 0, err
        metrics.append(records(path))
    status, _, err = forks(
        "train",
        "--config=configs/ring.py",
        "--config.batch_size=5",
        f"--workdir={tmp_path / 'odd'}",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    assert status == 2
    assert "batch_size is 5: it must be a multiple of the number of devices" in err
    for one, two in zip(*metrics, strict=True):
        for key in ("d_loss", "g_loss", "d_grad_norm", "g_grad_norm", "value"):
            np.testing.assert_allclose(two[key], one[key], rtol=2e-3)


def test_user_files_name_a_loss_a_penalty_and_a_model(make, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text(
        "import jax.numpy as jnp\n"
        "from gan_jax import Loss\n"
        "from gan_jax.models.mlp import Discriminator, Generator\n"
        "tilted = Loss(d=lambda r, f: f - 2 * r, g=lambda f, r: -f)\n"
        "def small(critic, real, fake, key):\n"
        "    return jnp.square(critic(fake))\n"
    )
    state = train(
        make(
            "ring",
            loss=f"{code}:tilted",
            penalties=f"{code}:small(weight=0.5), r2",
            model=str(code),
        ),
        tmp_path / "run",
    )
    assert state.step == 2
    assert {"penalty_small", "penalty_r2"} <= set(records(tmp_path / "run")[0])
    assert isinstance(restore.load(tmp_path / "run", model=str(code))[0].loss, Loss)


@pytest.mark.slow
def test_samples_of_a_run_need_no_more_than_its_generator(make, tmp_path):
    """Neither a batch that fills packs and parts, nor the user's terms."""
    code = tmp_path / "mine.py"
    code.write_text(
        "from gan_jax import penalty\n"
        "@penalty(initial={'deep': {'mean': 0.0}})\n"
        "def swing(critic, real, fake, key, *, real_logits, memory):\n"
        "    mean = memory['deep']['mean'] + 0.1 * real_logits.mean()\n"
        "    return (real_logits - mean) ** 2, {'deep': {'mean': mean}}\n"
    )
    terms = f"r1, {code}:swing(weight=0.1, every=2), lecam"
    how = {"pack": 2, "accumulate": 2, "replay": 4, "penalties": terms}
    train(make("ring", **how), tmp_path / "run")
    _, state = restore.load(tmp_path / "run")
    assert state.memory["swing"]["deep"]["mean"] != 0
    assert state.memory["replay"]["filled"] == 4


@pytest.mark.parametrize(
    ("name", "arg", "how"),
    [
        pytest.param(
            *("ring", None, {"penalties": "r1(every=2)", "d_updates": 2}),
            marks=pytest.mark.slow,
        ),
        pytest.param("mnist_mlp", "conditional", {}, marks=pytest.mark.slow),
        pytest.param("folder", None, STREAM, marks=pytest.mark.slow),
        pytest.param("mnist_mlp", None, MEMORY, marks=pytest.mark.slow),
    ],
    ids=["points", "resident", "stream", "memory"],
)
def test_a_replica_is_the_run_with_its_seed(name, arg, how, make, tmp_path):
    how = {**how, "num_steps": 4, "sample_every": 4, "checkpoint_every": 4}
    how |= {"optimizer": "sgd(learning_rate=0.05)"}  # Adam makes a step of rounding
    train(make(name, arg, **how, seed=5, replicas=3), tmp_path / "all")
    train(make(name, arg, **how, seed=6), tmp_path / "one")
    assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    (one,) = states_of(tmp_path / "one")
    jax.tree.map(assert_close, states_of(tmp_path / "all")[1], one)
    rows = zip(records(tmp_path / "all"), records(tmp_path / "one"), strict=True)
    for ours, theirs in rows:
        other = {"step", "images", "data", "diversity", *TIMES}  # of fewer samples
        for key in theirs.keys() - other:
            assert_close(ours[key][1], theirs[key])
        assert len(set(ours["d_loss"])) == 3
        assert (ours["step"], ours["images"]) == (theirs["step"], theirs["images"])
    if name != "ring":
        ours, theirs = (grid_of(tmp_path / run) for run in ("all", "one"))
        first, second, third = np.split(ours, 3)
        row = theirs[: len(second)]
        assert np.abs(second - row).max() <= 1
        assert np.abs(first - row).max() > 1
        assert np.abs(third - row).max() > 1


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Poisoned:
    """The ring, but NaN for the keys whose uniform variate is in `at`."""

    at: tuple[float, float, float]
    info = toy.ring().info

    def sample(self, key, n):
        bad = (jax.random.uniform(key) == jnp.array(self.at)).any()
        batch = toy.ring().sample(key, n)
        return {**batch, "example": jnp.where(bad, jnp.nan, batch["example"])}


def poison(monkeypatch, *seeds_and_steps):
    """Makes the data of these seeds at these steps NaN."""

    def variate(seed, step):
        key = purpose_key(jax.random.key(seed), step - 1, "data")
        return float(jax.random.uniform(key))

    at = tuple(variate(*where) for where in seeds_and_steps)
    monkeypatch.setitem(toy.DENSITIES, "ring", lambda: Poisoned((2, 2, 2, *at)[-3:]))


@pytest.mark.slow
def test_replicas_that_are_not_finite_are_frozen(make, tmp_path, monkeypatch, capfd):
    """One after another; the others go on, also after a resume, until none is left."""
    how = {"seed": 10, "replicas": 3, "log_every": 2, "batch_size": 16, "chunk": 1}
    poison(monkeypatch)
    train(make("ring", **how, num_steps=4), tmp_path / "sound")
    assert "not finite" not in capfd.readouterr().err

    poison(monkeypatch, (11, 3), (10, 4), (12, 6))
    frozen = tmp_path / "frozen"
    train(make("ring", **how, num_steps=4), frozen)
    err = capfd.readouterr().err
    lines = [line for line in err.splitlines() if "not finite" in line]
    assert [line.partition(":")[0] for line in lines] == [
        "replica 1 (seed 11)",
        "replica 0 (seed 10)",
    ]
    assert " is not finite at step 3: the discriminator's update would put" in lines[0]
    assert re.search(r" 6 of its 6 arrays \(.*\); frozen, the others go on$", lines[0])
    ours, sound = states_of(frozen), states_of(tmp_path / "sound")
    assert [int(state.step) for state in ours] == [3, 2, 4]
    jax.tree.map(np.testing.assert_array_equal, ours[2], sound[2])
    before = restore.load(tmp_path / "sound", step=2, replica=1)[1]
    before = before.replace(key=jax.random.key_data(before.key))
    jax.tree.map(np.testing.assert_array_equal, ours[1], before)
    rows = zip(records(frozen), records(tmp_path / "sound"), strict=True)
    for got, all_sound in rows:
        for key in ("d_loss", "g_loss", "value"):
            assert (got[key][1] is None) == (got["step"] > 2)
            assert got[key][2] == all_sound[key][2]

    message = r"^replica 2 \(seed 12\): .* step 6: .*/000006-2\); a smaller"
    for path in (frozen, tmp_path / "whole"):
        with pytest.raises(Stopped, match=message) as stop:
            train(make("ring", **how, num_steps=8), path)
        assert stop.value.status == 3
        frozen_now = capfd.readouterr().err.count("frozen, the others go on")
        assert frozen_now == (0 if path == frozen else 2)
        assert [line["step"] for line in records(path)] == [2, 4]
    assert_same_run(frozen, tmp_path / "whole")


def test_a_run_of_before_replicas_and_spaces_resumes(make, tmp_path):
    train(make("ring"), tmp_path)
    content = workdir.read(tmp_path)
    del content["config"]["replicas"]
    del content["data"]["example"], content["data"]["condition"]
    workdir.write(tmp_path, content)
    assert restore.load(tmp_path)[1].step == 2
    assert train(make("ring", num_steps=4), tmp_path).step == 4
