"""One of two hosts is killed: the other one ends, and the same command resumes."""

import signal
import time

import pytest
from runs import SHRUNK, assert_same_run

from gan_jax.devices import hosts

STEPS = {"num_steps": 9, "checkpoint_every": 3, "sample_every": 9, "batch_size": 8}
# A host that dies, or fails, right after a call of a function.
HOST = """
import os, signal
from gan_jax import cli, train
from gan_jax.devices import hosts
from gan_jax.run import checkpoint, records

hosts.SILENCE = 5

def then(end, owner, name, due):
    real = getattr(owner, name)
    def call(*args, **kwargs):
        result = real(*args, **kwargs)
        if due(*args):
            end()
        return result
    setattr(owner, name, call)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def fail():
    raise LookupError("of this host alone")

Records, Checkpoints = records.Records, checkpoint.Checkpoints
if WHERE == "training":
    then(die, Records, "take", lambda records, step, *_: step >= 5)
if WHERE == "failing":
    then(fail, Records, "take", lambda records, step, *_: step >= 5)
if WHERE == "saving":  # Orbax's threads are writing
    then(die, Checkpoints, "save", lambda folder, state, step, *_: step >= 6)
if WHERE == "restoring":
    then(die, Checkpoints, "_about", lambda *_: True)
cli.run(train.main)
"""
LAST = (
    "error: host {} of the run is gone or did not come, see what JAX says above of "
    "tasks; the same command on all hosts starts or resumes the run"
)


@pytest.fixture
def pair(spawn, free_port):
    """Runs two hosts to their end, one of which dies; returns both, and the seconds."""

    def run(path, victim=None, where=None):
        keys = {**SHRUNK, **STEPS}
        args = ["train", "--config=configs/ring.py", f"--workdir={path}"]
        args += [f"--config.{key}={value}" for key, value in keys.items()]
        args += [f"--coordinator=127.0.0.1:{free_port}", "--num_processes=2"]
        both = []
        for i in range(2):
            code = f"WHERE = {(where if i == victim else None)!r}\n{HOST}"
            both.append(spawn(code, *args, f"--process_id={i}", devices=2))
        if victim is not None:
            both[victim].wait()
        start = time.monotonic()
        for host in both:
            host.wait(60)
        return [*both, time.monotonic() - start]

    return run


@pytest.mark.slow
def test_a_killed_host_ends_the_run_and_nothing_is_lost(tmp_path, pair):
    ends = [("training", 1), ("saving", 0), ("restoring", 1)]
    for where, victim in ends:  # each resumes what the one before has left
        *both, seconds = pair(tmp_path / "run", victim, where)
        dead, other = both[victim], both[1 - victim]
        assert dead.status == -signal.SIGKILL, dead.err
        assert other.status == hosts.LOST, other.err
        assert other.err.splitlines()[-1] == LAST.format(victim)
        assert seconds < 30  # JAX takes up to 1.5 times the 5 of `SILENCE`
    for path in (tmp_path / "run", tmp_path / "undisturbed"):
        *both, _ = pair(path)
        assert [host.status for host in both] == [0, 0], both[0].err + both[1].err
    assert_same_run(tmp_path / "run", tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_host_that_fails_alone_says_why_and_ends_the_run(tmp_path, pair):
    first, second, seconds = pair(tmp_path, 0, "failing")
    assert first.status == 1
    assert "LookupError: of this host alone" in first.err.splitlines()
    assert second.status == hosts.LOST
    assert second.err.splitlines()[-1] == LAST.format(0)
    assert seconds < 30
