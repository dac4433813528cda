"""scripts/tpu_vm.sh against stand-ins for gcloud and for what a worker has.

The stand-in for gcloud runs what it would send to a worker in a shell of its own, with
a home folder that is empty at first.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import records

ROOT = Path(__file__).parents[2]
ARCHIVE = "gs://bucket/some folder/code.tgz"
# Appends what it is called with, and answers as the real program would.
TOOL = f"""#!{sys.executable}
import json, os, pathlib, shutil, subprocess, sys
cloud, (tool, *args) = pathlib.Path(os.environ["CLOUD"]), sys.argv
tool, home = os.path.basename(tool), os.environ["HOME"]
with (cloud / "calls").open("a") as file:
    file.write(json.dumps([os.path.basename(home), tool, *args]) + "\\n")
here = pathlib.Path(__file__).parent

def copy(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(__file__, path)

def kept(url):
    path = cloud / "buckets" / url.removeprefix("gs://")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path

if tool == "gcloud" and args[:3] == ["storage", "cp", "-"]:
    kept(args[3]).write_bytes(sys.stdin.buffer.read())
elif tool == "gcloud" and args[:2] == ["storage", "cat"]:
    sys.stdout.buffer.write(kept(args[2]).read_bytes())
elif tool == "gcloud" and args[:4] == ["compute", "tpus", "tpu-vm", "ssh"]:
    flags = dict(arg[2:].split("=", 1) for arg in args[5:])
    every = range(int(os.environ["WORKERS"]))
    for i in every if flags["worker"] == "all" else [flags["worker"]]:
        home = cloud / f"home{{i}}"
        home.mkdir(exist_ok=True)
        command = ["bash", "-c", flags["command"]]
        env = os.environ | {{"HOME": str(home)}}
        subprocess.run(command, cwd=home, env=env, check=True)
elif tool == "python3" and args[:3] == ["-m", "pip", "install"]:
    copy(pathlib.Path(home, ".local/bin/uv"))
elif tool == "uv" and args[0] == "venv":
    copy(pathlib.Path(args[-1], "bin/python"))
elif tool == "python" and os.environ.get("REAL"):
    os.environ["PYTHONPATH"] = os.getcwd()
    os.execv(sys.executable, [sys.executable, *args])
"""
FLAGS = [
    "--config=configs/mnist.py",
    "--config.penalties=r1(weight=5, every=16), lecam",
    '--config.loss=it\'s $HOME; "exit" `7` & *',
    "--workdir=/mnt/my runs/1",
]


@pytest.fixture
def cloud(tmp_path):
    """Runs the script: `cloud(*args, workers=2, real=False) -> finished process`."""
    if subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True
    ).returncode:
        pytest.skip("not a git checkout")
    (tmp_path / "bin").mkdir()
    for tool in ("gcloud", "python3"):
        path = tmp_path / "bin" / tool
        path.write_text(TOOL)
        path.chmod(0o755)

    def run(*args, workers=2, real=False):
        env = os.environ | {"CLOUD": str(tmp_path), "WORKERS": str(workers)}
        env |= {"REAL": "1"} if real else {}
        env["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        env["HOME"] = str(tmp_path / "laptop")
        command = [ROOT / "scripts/tpu_vm.sh", *args]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    return run


def calls(cloud, home, tool):
    lines = (cloud / "calls").read_text().splitlines()
    return [call[2:] for call in map(json.loads, lines) if call[:2] == [home, tool]]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def test_every_worker_starts_the_run_with_the_flags_as_they_are(cloud, tmp_path):
    run = cloud("my-tpu", "us-west4-a", ARCHIVE, *FLAGS)
    assert run.returncode == 0, run.stderr
    assert "gcloud compute tpus tpu-vm ssh my-tpu --zone=us-west4-a" in run.stdout
    for home in ("home0", "home1"):
        wait_for(lambda home=home: calls(tmp_path, home, "python"))
        assert calls(tmp_path, home, "python") == [["-m", "gan_jax.train", *FLAGS]]
        (venv, install) = calls(tmp_path, home, "uv")
        assert venv[-3:] == ["--python", ">=3.11", "env"]
        assert install[-2:] == ["-e", ".[gcs,tpu]"]
        (train,) = (tmp_path / home / "gan_jax").glob("*/gan_jax/train.py")
        committed = ["git", "show", "HEAD:gan_jax/train.py"]
        assert train.read_text() == subprocess.check_output(
            committed, cwd=ROOT, text=True
        )
        assert (tmp_path / home / "gan_jax/log").read_text() == ""
        assert int((tmp_path / home / "gan_jax/pid").read_text())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["my-tpu", "us-west4-a", ARCHIVE], "usage: "),
        (
            ["my-tpu", "us-west4-a", ARCHIVE, "--config=x.py"],
            "error: give --workdir=gs://BUCKET/DIR",
        ),
        (
            ["my-tpu", "us-west4-a", ARCHIVE, "--workdir=runs/1"],
            "error: give --workdir=gs://BUCKET/DIR",
        ),
    ],
)
def test_what_is_missing_is_said_before_anything_is_sent(
    cloud, tmp_path, args, message
):
    run = cloud(*args)
    assert run.returncode == 2
    assert message in run.stderr
    assert not (tmp_path / "calls").exists()


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_resumes(cloud, tmp_path):
    """The one worker really trains, from the last commit."""
    path, log = tmp_path / "run", tmp_path / "home0" / "gan_jax" / "log"
    keys = {
        "num_steps": 20_000,
        "log_every": 20,
        "chunk": 10,
        "batch_size": 8,
        "width": 8,
    }
    keys |= {"sample_every": 10**5, "checkpoint_every": 10**5, "eval.every": 0}
    flags = [f"--config.{key}={value}" for key, value in keys.items()]
    flags = ["--config=configs/ring.py", f"--workdir={path}", *flags]
    steps = []
    for _ in range(2):
        log.unlink(missing_ok=True)
        run = cloud("my-tpu", "us-west4-a", ARCHIVE, *flags, workers=1, real=True)
        assert run.returncode == 0, run.stderr
        wait_for(lambda: log.exists() and "D(x)" in log.read_text())
        os.kill(int((log.parent / "pid").read_text()), signal.SIGTERM)
        wait_for(lambda: "stopped: saved at step" in log.read_text())
        steps.append(int(log.read_text().split("saved at step ")[1].split(",")[0]))
    assert "resum" in log.read_text()
    assert 0 < steps[0] < steps[1]
    found = [record["step"] for record in records(path)]
    assert found == [*range(20, found[-1] + 1, 20)]
