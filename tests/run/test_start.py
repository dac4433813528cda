"""What config.json says of a start, and of those before it."""

import os
import subprocess

import pytest
from runs import config_of

from gan_jax.algorithm.spaces import Classes, Points
from gan_jax.data.source import Info
from gan_jax.run import start, workdir

OLD = {"config": {"loss": "hinge"}, "data": {"name": "a", "fingerprint": ""}}


def test_config_json_keeps_earlier_starts_and_what_was_replaced(tmp_path):
    new = OLD | {"config": {"loss": "minimax"}, "versions": {"jax": "1"}}
    for content, step in ((OLD, 0), (OLD, 5), (new, 7), (new, 9)):
        workdir.record(tmp_path, content, {"step": step})
    found = workdir.read(tmp_path)
    assert {key: found[key] for key in new} == new
    assert found["start"] == {"step": 9}
    replaced = {"config": {"loss": "hinge"}, "versions": None}
    assert found["history"] == [{"step": 0}, {"step": 5} | replaced, {"step": 7}]


def test_the_history_is_bounded_and_keeps_the_first_start(tmp_path):
    for step in range(50):
        workdir.record(tmp_path, OLD, {"step": step})
    steps = [about["step"] for about in workdir.read(tmp_path)["history"]]
    assert steps == [0, *range(30, 49)]


@pytest.mark.parametrize("text", ["{", '{"history": 3, "start": []}'])
def test_a_damaged_file_has_no_history(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    workdir.record(tmp_path, OLD, {"step": 0})
    assert workdir.read(tmp_path)["history"] == []


def git(*args):
    names = {
        f"GIT_{who}_{what}": "a@b"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    subprocess.run(["git", *args], check=True, env=os.environ | names)


def test_a_start_names_the_commit_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "git" not in start.describe(0)
    git("init", "--quiet")
    assert "git" not in start.describe(0)  # there is no commit
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "--quiet", "--message=first")
    about = start.describe(0)["git"]
    assert (len(about["commit"]), about["dirty"]) == (40, False)
    (tmp_path / "runs").mkdir()  # what git does not know is no change of the code
    assert start.describe(0)["git"] == about
    (tmp_path / "file").write_text("b")
    assert start.describe(0)["git"] == about | {"dirty": True}
    monkeypatch.setenv("PATH", "")
    assert "git" not in start.describe(0)


def info_of(shape, condition, num_examples):
    return Info(
        name="a",
        example=Points(shape),
        condition=condition,
        num_examples=num_examples,
        fingerprint="",
    )


RING8 = info_of((2,), Classes(8), 0)


@pytest.mark.parametrize(
    ("info", "conditional", "text"),
    [
        (RING8, True, "a, drawn without end, shape (2,); 8 classes"),
        (
            RING8,
            False,
            "a, drawn without end, shape (2,); 8 classes, not used: conditional is "
            "False",
        ),
        (info_of((3,), None, 4000), False, "a, 4,000 examples of shape (3,)"),
    ],
)
def test_the_data_are_told_in_a_line(info, conditional, text):
    assert start._data(info, conditional) == text


@pytest.mark.parametrize(
    ("step", "schedule", "text"),
    [
        (0, "constant", "4,000 steps, batch size 256"),
        (50, "linear", "resuming from step 50 of 4,000 steps, batch size 256"),
        (
            4000,
            "constant(warmup=9)",
            "finished already, at step 4,000; to train longer: --config.num_steps=N",
        ),
        (4000, "linear", "--config.num_steps=N --override_config"),
    ],
)
def test_a_resumed_run_tells_whether_it_is_finished(step, schedule, text):
    config = config_of("ring", num_steps=4000, batch_size=256, schedule=schedule)
    assert start._training(config, step).endswith(text)


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999"), (17_154, "17.2 K"), (1_234_567, "1.23 M")]
)
def test_numbers_of_parameters_are_short(number, text):
    assert start._count(number) == text
