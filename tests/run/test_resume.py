"""A run may end at any instant: kills, signals, full disks, a second process."""

import errno
import os
import signal
import subprocess
import sys
import time
import types

import pytest
from runs import ROOT, SHRUNK, assert_same_run, config_of, records

from gan_jax.errors import Stopped, UserError
from gan_jax.run import loop, workdir
from gan_jax.run.checkpoint import Checkpoints
from gan_jax.run.training import train
from gan_jax.run.writers import MetricsFile

HOW = {"num_steps": 8, "log_every": 4, "sample_every": 4, "checkpoint_every": 4}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """A save that must be made at once is tried again without a pause."""
    nothing = types.SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr(loop, "time", nothing)


def command(path, **how):
    """Returns the arguments of a run of the ring, as small as those of `config_of`."""
    args = [f"--config.{key}={value}" for key, value in {**SHRUNK, **how}.items()]
    return ["--config=configs/ring.py", f"--workdir={path}", *args]


def until(condition, run=None, seconds=120):
    """Waits until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def handles_signals(pid):
    """Tells whether a process catches SIGTERM."""
    with open(f"/proc/{pid}/status") as file:
        caught = next(line for line in file if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1


@pytest.mark.slow
def test_killed_runs_end_as_one_that_was_not():
    done = subprocess.run(
        [
            *(sys.executable, "scripts/kill_test.py", "--kills=5", "--steps=400"),
            *("--cases=points", "--seed=3"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("5 kills of ")
    assert done.stdout.endswith(" 0 lost\n")


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not(forks, tmp_path):
    """SIGKILL while it trains and writes; another process takes over its lock."""
    how = {**HOW, "num_steps": 40, "chunk": 1}
    path = tmp_path / "killed"
    run = forks.start("train", *command(path, **how))
    metrics = path / "metrics.jsonl"
    until(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > 3)
    run.send(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    train(config_of("ring", **how), path)
    train(config_of("ring", **how), tmp_path / "whole")
    assert_same_run(tmp_path / "whole", path)


@pytest.mark.slow
def test_a_difference_is_noticed(tmp_path):
    """The comparison that the kills rest on is one that can fail."""
    train(config_of("ring", **HOW), tmp_path / "a")
    train(config_of("ring", **HOW, seed=1), tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_stops_between_log_lines_and_logs_the_same(tmp_path, monkeypatch, replicas):
    """The metrics since the last log line are in the checkpoint."""
    how = {**HOW, "num_steps": 12, "chunk": 1, "replicas": replicas}
    train(config_of("ring", **how), tmp_path / "whole")

    class Signals:
        """SIGTERM arrives in the sixth chunk."""

        votes = 0

        def cast(self, number):
            self.votes += 1
            return signal.SIGTERM if self.votes == 6 else 0

    with monkeypatch.context() as patch:
        patch.setattr("gan_jax.devices.hosts.Vote", lambda mesh: Signals())
        with pytest.raises(Stopped, match=r"^saved at step 6, on SIGTERM$") as stop:
            train(config_of("ring", **how), tmp_path / "parts")
    assert stop.value.status == 143
    assert [r["step"] for r in records(tmp_path / "parts")] == [4]
    train(config_of("ring", **how), tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("first", "second"),
    [("TERM", "TERM"), pytest.param("INT", "TERM", marks=pytest.mark.slow)],
)
def test_a_second_signal_ends_at_once(forks, tmp_path, first, second):
    """In the middle of a chunk that would take minutes, but not with the first."""
    how = dict.fromkeys(("log_every", "sample_every", "checkpoint_every"), 10**6)
    err, path = tmp_path / "err", tmp_path / "run"
    run = forks.start("train", *command(path, **how, num_steps=10**6), err=err)
    until(lambda: handles_signals(run.pid))
    run.send(signal.Signals[f"SIG{first}"])
    until(lambda: "saving after this chunk" in err.read_text())
    run.send(signal.Signals[f"SIG{second}"])  # the same, of a wrapper that passes it on
    time.sleep(1.05)
    run.send(signal.Signals[f"SIG{second}"])
    start = time.monotonic()
    assert run.wait() == 128 + signal.Signals[f"SIG{second}"]
    assert time.monotonic() - start < 5
    assert err.read_text().endswith("at once\nstopped at once\n")
    assert not list((path / "checkpoints").glob("[0-9]*"))


class Full:
    """A disk that is full for so many saves."""

    def __init__(self, monkeypatch, times):
        self.left, save = times, Checkpoints._check_room

        def check_room(checkpoints, state):
            if self.left > 0:
                self.left -= 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            save(checkpoints, state)

        monkeypatch.setattr(Checkpoints, "_check_room", check_room)


def test_a_full_disk_is_tried_again(tmp_path, monkeypatch, capfd):
    how = {**HOW, "num_steps": 16}
    train(config_of("ring", **how), tmp_path / "whole")
    Full(monkeypatch, 2)
    train(config_of("ring", **how), tmp_path / "full")
    assert_same_run(tmp_path / "whole", tmp_path / "full")
    err = capfd.readouterr().err
    for step in (4, 8):
        assert f"cannot save step {step} ([Errno 28] No space left on device)" in err
    assert "training goes on, and the next save is tried" in err
    kept = [int(p.name) for p in (tmp_path / "full" / "checkpoints").iterdir()]
    assert sorted(kept) == [12, 16]


@pytest.mark.slow
def test_writes_that_fail_in_the_background_count_too(tmp_path, monkeypatch, capfd):
    """They are noticed at the next save, which is made all the same."""
    from orbax.checkpoint import CheckpointManager

    failures, finish = [4, 8], CheckpointManager.wait_until_finished

    def wait(manager):
        finish(manager)
        if failures and manager.latest_step() == failures[0]:
            manager.delete(failures.pop(0))
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(CheckpointManager, "wait_until_finished", wait)
    train(config_of("ring", **{**HOW, "num_steps": 16}), tmp_path / "two")
    err = capfd.readouterr().err
    assert [f"cannot save step {n} (OSError: [Errno 5]" in err for n in (4, 8)] == [
        1,
        1,
    ]
    kept = [int(p.name) for p in (tmp_path / "two" / "checkpoints").iterdir()]
    assert sorted(kept) == [12, 16]
    failures[:] = [4, 8, 12]
    with pytest.raises(
        Stopped, match=r"^cannot save step 12 .*, 3 times in a row"
    ) as stop:
        train(config_of("ring", **{**HOW, "num_steps": 40}), tmp_path / "three")
    assert stop.value.status == 4


@pytest.mark.slow
def test_a_run_whose_stderr_is_closed_goes_on(forks, tmp_path):
    """As of `2>&1 | tee log` after tee has ended."""
    pipe, path = tmp_path / "pipe", tmp_path / "run"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    run = forks.start("train", *command(path, **HOW | {"num_steps": 24}), err=pipe)
    until(lambda: (path / "config.json").exists())
    os.close(reader)
    assert run.wait() == 0
    assert [r["step"] for r in records(path)] == [4, 8, 12, 16, 20, 24]


def test_a_disk_that_stays_full_ends_the_run(tmp_path, monkeypatch):
    how = {**HOW, "num_steps": 40}
    train(config_of("ring", **{**how, "num_steps": 4}), tmp_path)
    Full(monkeypatch, 99)
    with pytest.raises(
        Stopped, match=r"^cannot save step 16 .*, 3 times in a row"
    ) as stop:
        train(config_of("ring", **how), tmp_path)
    assert stop.value.status == 4
    assert [int(p.name) for p in (tmp_path / "checkpoints").iterdir()] == [4]


def test_the_last_save_is_tried_at_once(tmp_path, monkeypatch):
    Full(monkeypatch, 2)
    train(config_of("ring", **{**HOW, "num_steps": 4}), tmp_path)
    assert [int(p.name) for p in (tmp_path / "checkpoints").iterdir()] == [4]


def test_records_that_cannot_be_written_hold_back_the_checkpoint(
    tmp_path, monkeypatch, capfd
):
    """A checkpoint must not be ahead of the log: what is missing would stay missing."""
    write, refused = MetricsFile.write, []

    def refuse(file, record):
        if record["step"] == 4 and len(refused) < 2:
            refused.append(record)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, record)

    train(config_of("ring", **HOW), tmp_path / "whole")
    monkeypatch.setattr(MetricsFile, "write", refuse)
    train(config_of("ring", **HOW), tmp_path / "full")
    assert_same_run(tmp_path / "whole", tmp_path / "full")
    assert "cannot write the metrics of step 4" in capfd.readouterr().err
    kept = [int(p.name) for p in (tmp_path / "full" / "checkpoints").iterdir()]
    assert kept == [8]


def test_a_second_process_is_refused(tmp_path):
    config = config_of("ring", **HOW)
    with (
        workdir.locked(tmp_path),
        pytest.raises(UserError, match="another process trains"),
    ):
        train(config, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["lock"]


def test_resumes_from_the_checkpoint_before_a_damaged_one(tmp_path, capfd):
    how = {**HOW, "num_steps": 12}
    train(config_of("ring", **how), tmp_path / "whole")
    train(config_of("ring", **HOW), tmp_path / "hurt")
    newest = tmp_path / "hurt" / "checkpoints" / "8"
    for file in newest.rglob("*"):
        if file.is_file() and "d" in file.parts:
            file.write_bytes(file.read_bytes()[:-7])
    train(config_of("ring", **how), tmp_path / "hurt")
    assert_same_run(tmp_path / "whole", tmp_path / "hurt")
    assert "step 8" in capfd.readouterr().err
    assert (tmp_path / "hurt" / "damaged" / "8.0").is_dir()
