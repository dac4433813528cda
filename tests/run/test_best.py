"""The best checkpoint by an evaluation is kept besides the last few."""

import errno
import json
import os
import re
import shutil

import jax
import numpy as np
import pytest
from runs import assert_same_run, config_of

import gan_jax
from gan_jax.errors import RollBack, UserError
from gan_jax.run import evaluation
from gan_jax.run.best import criterion
from gan_jax.run.checkpoint import Checkpoints
from gan_jax.run.evaluator import Evaluator
from gan_jax.run.loop import Loop
from gan_jax.run.records import Records
from gan_jax.run.restore import load
from gan_jax.run.training import train

# The lowest of the first ten is at no multiple of checkpoint_every.
VALUES = {2: 5.0, 4: 3.0, 6: 2.0, 8: 4.0, 10: 2.5, 12: 1.0, 14: 0.5}
HOW = {"num_steps": 10, "sample_every": 20, "checkpoint_every": 4}
HOW |= {"keep_checkpoints": 2, "eval.every": 2, "eval.metrics": "fd, prdc"}
BEST = {**HOW, "eval.best": "fd"}


@pytest.fixture
def values(monkeypatch):
    """What evaluations find, by the step or by the step and the stream of noise."""
    values = dict(VALUES)

    def measure(evaluator, draw):
        gan, state = draw.args
        step, num = int(max(state.step)), len(state.step)
        value = values[key if (key := (step, gan.noise_stream)) in values else step]
        found = np.broadcast_to(value, num).tolist()
        about = {"n_real": 9, "n_fake": 9, "features": "none", "reference": "none"}
        return {"fd": found, "precision": found, **about}

    monkeypatch.setattr(Evaluator, "measure", measure)
    return values


def run(path, override=False, **how):
    train(config_of("ring", **how), path, override)


def steps(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def best_of(path):
    """Returns the steps that are kept, and the value of the last."""
    _, carried = Checkpoints(path / "best").latest_carried()
    return steps(path / "best"), carried["best"]["value"]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run of ten steps, with the values as they are; not to be changed."""
    path = tmp_path_factory.mktemp("best") / "run"
    with pytest.MonkeyPatch.context() as patch:
        values.__wrapped__(patch)
        run(path, **BEST)
    return path


@pytest.fixture
def copy(ended, tmp_path):
    return shutil.copytree(ended, tmp_path / "copy")


def test_the_best_is_kept_and_changes_nothing(values, ended, tmp_path):
    assert best_of(ended) == ([6], 2.0)
    assert steps(ended / "checkpoints") == [8, 10]
    run(tmp_path, **{**HOW, "checkpoint_every": 2, "keep_checkpoints": 9})
    assert_same_run(ended, tmp_path)
    assert not (tmp_path / "best").exists()
    found, wanted = (
        state.replace(key=jax.random.key_data(state.key))
        for state in (load(ended, "best")[1], load(tmp_path, 6)[1])
    )
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_run_resumes_with_the_best_so_far(values, copy):
    for step in (8, 10):  # as if it had been killed before the first of them was there
        shutil.rmtree(copy / "checkpoints" / str(step))
    kept = (copy / "best" / "6").stat().st_ino
    run(copy, **BEST)
    assert best_of(copy) == ([6], 2.0)
    assert (copy / "best" / "6").stat().st_ino == kept
    run(copy, **BEST | {"num_steps": 12})
    assert best_of(copy) == ([12], 1.0)


def test_another_criterion_starts_anew(values, copy, capfd):
    values[12] = 1.5
    how = BEST | {"eval.best": "precision", "num_steps": 12}
    run(copy, **how)
    assert best_of(copy) == ([12], 1.5)  # worse than all before it, by precision too
    err = capfd.readouterr().err
    assert (
        "the best checkpoint, of step 6, was chosen by fd of fd(), on 9 samples, 9 "
        "examples of none and the features of none: step 12 replaces it, the first by "
        "precision of prdc()" in err
    )
    values[14] = 1.0
    run(copy, **how | {"num_steps": 14})
    assert best_of(copy) == ([12], 1.5)
    run(copy, **HOW | {"num_steps": 16, "eval.every": 0})  # nothing takes it away
    assert best_of(copy) == ([12], 1.5)


@pytest.mark.parametrize(
    ("first", "best"), [(2.0, ([8], 6.0)), (9.0, ([4], 3.0))], ids=["late", "early"]
)
def test_a_rollback_forgets_what_came_later(values, tmp_path, monkeypatch, first, best):
    """A guard objects at step 8: the run goes back to step 4, with other noise."""
    values |= {6: first, (6, 1): 7.0, (8, 1): 6.0}
    objections = [8]

    def alarm(records, step):
        if step in objections:
            objections.remove(step)
            raise RollBack(f"alarm at step {step}")

    monkeypatch.setattr(Records, "alarm", alarm)
    run(tmp_path, **BEST | {"num_steps": 8})
    assert not objections
    assert best_of(tmp_path) == best


def test_another_experiment_forgets_what_came_later(values, copy):
    for step in (8, 10):
        shutil.rmtree(copy / "checkpoints" / str(step))
    values |= {2: 9.0, 4: 8.0}
    run(copy, override=True, **BEST | {"seed": 1, "num_steps": 4})
    assert best_of(copy) == ([4], 8.0)


@pytest.fixture(params=["at once", "in the background"])
def refused(request, monkeypatch):
    """Steps whose best checkpoint cannot be written."""
    from orbax.checkpoint import CheckpointManager

    steps, full = [], OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    save, finish = Checkpoints.save, CheckpointManager.wait_until_finished

    def refuse(folder, state, step, carried):
        if "best" in carried and step in steps:
            raise full
        save(folder, state, step, carried)

    def fail(manager):
        finish(manager)
        step = manager.latest_step()
        if manager.directory.name == "best" and step in steps:
            manager.delete(step)
            raise full

    if request.param == "at once":
        monkeypatch.setattr(Checkpoints, "save", refuse)
    else:
        monkeypatch.setattr(CheckpointManager, "wait_until_finished", fail)
    return steps


def test_a_full_disk_costs_the_best_alone(values, refused, ended, tmp_path, capfd):
    """Five in a row are refused, and the run does not stop."""
    refused += [2, 4, 6, 8, 10]
    run(tmp_path, **BEST)
    assert_same_run(ended, tmp_path)
    assert not list((tmp_path / "best").glob("*"))
    err = capfd.readouterr().err
    for step in (2, 4, 6, 8):
        assert f"cannot save step {step}, the best one (" in err
    assert "training goes on" in err


def test_what_could_not_be_saved_is_not_remembered(values, refused, tmp_path):
    refused.append(6)
    run(tmp_path, **BEST)
    assert best_of(tmp_path) == ([10], 2.5)  # better than 3.0 of step 4


def test_an_evaluation_that_fails_is_passed_over(values, tmp_path, capfd):
    del values[6]
    run(tmp_path, **BEST | {"num_steps": 8})
    assert best_of(tmp_path) == ([4], 3.0)
    assert "cannot evaluate step 6 (KeyError: 6" in capfd.readouterr().err


def test_replicas_that_still_train_decide(values, tmp_path, monkeypatch):
    """Replica 0 is frozen at step 5: with it, step 6 were the best."""
    values |= {4: [4, 4], 6: [0, 4.5], 8: [9, 3]}
    monkeypatch.setattr(
        "gan_jax.run.records.first_not_finite",
        lambda step, metrics: {0: (5, "d_loss")} if step > 5 else {},
    )
    monkeypatch.setattr(Loop, "_dump", lambda *args: "replica 0 is rejected")
    run(tmp_path, **BEST | {"replicas": 2, "num_steps": 8})
    assert best_of(tmp_path) == ([8], 3.0)


def test_a_description_that_is_damaged_is_set_aside(values, copy, capfd):
    (copy / "best" / "6" / "_CHECKPOINT_METADATA").unlink()
    values[12] = 9.0
    run(copy, **BEST | {"num_steps": 12})
    assert best_of(copy) == ([12], 9.0)
    assert steps(copy / "checkpoints") == [10, 12]
    assert (copy / "damaged" / "6.0").is_dir()
    assert "is damaged (it does not say what it holds" in capfd.readouterr().err


def test_what_a_kill_left_of_the_one_before_is_removed(values, copy):
    """It came while Orbax was removing step 4."""
    shutil.copytree(copy / "best" / "6", copy / "best" / "4")
    (copy / "best" / "4" / "_CHECKPOINT_METADATA").unlink()
    run(copy, **BEST)
    assert best_of(copy) == ([6], 2.0)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("sample", ["--out={}/grid.png"]),
        pytest.param("export", ["--out={}/exported"], marks=pytest.mark.slow),
        pytest.param("evaluate", ["--num=50"], marks=pytest.mark.slow),
    ],
)
def test_the_best_can_be_used(forks, ended, tmp_path, command, args):
    args = [f"--workdir={ended}", "--step=best", *(x.format(tmp_path) for x in args)]
    status, out, err = forks(command, *args)
    assert status == 0, err
    assert re.search(r"\bstep:? 6\b", out)


def test_what_is_no_step_is_refused(forks, ended, tmp_path):
    status, _, err = forks("sample", f"--workdir={ended}", "--step=bets")
    assert status == 2
    assert err == "error: --step=bets: step must be a whole number or 'best'\n"
    (tmp_path / "run").mkdir()
    shutil.copy(ended / "config.json", tmp_path / "run")
    with pytest.raises(UserError, match=r"has no best checkpoint: it is kept"):
        load(tmp_path / "run", "best")


def test_a_damaged_best_is_refused(copy):
    for file in (copy / "best").rglob("*"):
        if file.is_file() and "d" in file.parts:  # which the arrays are in
            file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"^the checkpoint of step 6 in \S+/best is d"):
        gan_jax.load(copy, "best")
    assert load(copy)[1].step == 10


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"eval.best": "fid"},
            r"eval.best is 'fid': .* \(valid: coverage, density, fd",
        ),
        ({"eval.best": "prdc"}, r"eval.best is 'prdc'"),
        ({"eval.best": "kid"}, r"eval.best is 'kid'"),
        ({"eval.every": 0}, r"eval.best is 'fd', and nothing is evaluated: set --conf"),
        (
            {"eval.best": "gap", "eval.metrics": "mine.py:gap"},
            r"\(valid: none\); a metric of your own says it by @metric\(lower='gap'\)",
        ),
    ],
)
def test_a_wrong_criterion_is_refused(tmp_path, how, message):
    file = tmp_path / "mine.py"
    file.write_text("def gap(real, fake):\n    return 1.0\n")
    if "eval.metrics" in how:
        how = how | {"eval.metrics": f"{file}:gap"}
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", **BEST | how)
    assert not (tmp_path / "run").exists()


MINE = """
import numpy as np
from gan_jax.metrics.metric import metric

@metric(higher="wave")
def wave(real, fake, *, scale=1e3):
    return {"wave": np.sin(scale * fake.mean()), "mean": fake.mean()}
"""


def test_the_best_by_a_metric_of_ones_own(tmp_path):
    """It goes up and down, as a function of the samples."""
    (tmp_path / "mine.py").write_text(MINE)
    how = {"eval.metrics": f"{tmp_path}/mine.py:wave", "eval.best": "wave"}
    run(tmp_path / "run", **BEST | how | {"eval.num": 50, "num_steps": 12})
    lines = (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()
    found = {record["step"]: record["wave"] for record in map(json.loads, lines)}
    best = max(found, key=found.get)
    assert 2 < best < 12  # so that neither the first nor the last would do
    assert best_of(tmp_path / "run") == ([best], found[best])


def test_metrics_say_what_is_better():
    found = evaluation.build_metrics("fd, prdc, modes, ms_ssim(pairs=9)")
    assert criterion("fd", found).is_better(2, 5)
    assert not criterion("recall", found).is_better(2, 5)
    assert criterion("reverse_kl", found).is_better(2, 5)
    assert not criterion("fd", found).is_better(2, 2)
    with pytest.raises(UserError, match="did you mean 'ms_ssim'"):
        criterion("ms_ssim_of_data", found)
    about = {"n_real": 8, "n_fake": 9, "reference": "data", "features": "pixels 1"}
    by = criterion("ms_ssim", found).found({"ms_ssim": [3, 5, 4], **about}, {0, 1})
    assert by["value"] == 4
    assert by["by"].startswith("ms_ssim of ms_ssim(pairs=9), on 9 samples, 8 examples")
