"""What config.json says of a start, and of those before it."""

import os
import subprocess

import pytest

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


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999"), (17_154, "17.2 K"), (1_234_567, "1.23 M")]
)
def test_numbers_of_parameters_are_short(number, text):
    assert start._count(number) == text
