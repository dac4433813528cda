"""Runs can be told apart: by the names of their folders, and in a list."""

import json
import re
import subprocess
import sys

import pytest
from runs import ROOT, config_of

from gan_jax.data.toy import ring
from gan_jax.run import workdir

X = "-xxxxxxxxx"
ADAM = "ring-adam-learning_rate0.0002-b10.5"
LONG = {"num_steps": 123456, **dict.fromkeys("abcdefghijklm", "x" * 9), "replicas": 8}
LONG |= {"seed": 3, "loss": "non_saturating"}
NAMES = [
    ("configs/ring.py", {}, "ring"),
    ("configs/mnist.py:conditional", {"loss": "hinge"}, "mnist-conditional-hinge"),
    ("ring.py", {"seed": 3, "guard.patience": 2}, "ring-seed3-patience2"),
    ("ring.py", {"conditional": True, "augment": ""}, "ring-conditional-no_augment"),
    ("ring.py", {"data.fallback": False}, "ring-no_fallback"),
    ("ring.py", {"log_every": 5, "num_steps": 9, "chunk": 5}, "ring-num_steps9"),
    ("ring.py", {"loss": "../a/my_losses.py:pearson"}, "ring-my_losses-pearson"),
    ("ring.py", {"penalties": "r1(weight=5), lecam"}, "ring-r1-weight5-lecam"),
    ("ring.py", {"data.data_dir": "/mnt/cats/"}, "ring-cats"),
    ("ring.py", {"optimizer": "x" * 500}, "ring"),  # no word of it fits
    ("ring.py", dict.fromkeys("abcdefghijklm", "x" * 9), "ring" + 9 * X),
    (
        "ring.py",
        LONG,
        "ring-non_saturating-seed3-replicas8" + 4 * X + "-num_steps123456",
    ),
    ("ring.py", {"loss": "y" * 90, "seed": 3}, f"ring-{'y' * 90}-seed3"),
    ("ring.py", {"optimizer": "adam(learning_rate=0.0002, b1=0.5)"}, ADAM),
]


@pytest.mark.parametrize(("path", "overrides", "name"), NAMES)
def test_a_folder_is_named_by_what_was_overridden(path, overrides, name):
    found = workdir.name(path, overrides)
    assert found.parent.name == "runs"
    assert re.fullmatch(re.escape(name) + r"-\d{8}-\d{6}-\d{3}", found.name)


def run_at(path, command, lines, **keys):
    """Writes the files of a run."""
    config = config_of("ring", num_steps=9, **keys)
    about = json.loads(json.dumps(workdir.describe(config, ring().info)))
    time = f"2026-01-0{len(lines) + 1}T00:00:00+00:00"
    start = {"time": time, "command": f"python -m gan_jax.train {command}"}
    workdir.record(path, about, start if command else {})
    (path / "metrics.jsonl").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of runs in all states, and of what is none."""
    root = tmp_path_factory.mktemp("runs")
    command = "--config.loss hinge --config=configs/ring.py:conditional --workdir=x"
    lines = [
        '{"step": 3, "d_loss": [1, 2, null], "diversity": 0.5, "alarms": ["exploded"]}',
        '{"step": 6, "d_loss": [2, 3, null]}',
        '{"step": 9, "d_lo',
    ]
    run_at(root / "stopped", command, lines, loss="hinge")
    last = '{"step": 9, "d_loss": 0.5, "alarms": [["exploded"], ["saturated"]]}'
    run_at(root / "done", "--config ring.py --config.seed=3", [last], seed=3)
    (root / "done" / "guard" / "000007").mkdir(parents=True)
    for name in ("4", "6", "8.orbax-checkpoint-tmp"):  # a kill has left the first
        (root / "done" / "best" / name).mkdir(parents=True)
    run_at(root / "from a program", "", [], loss="f_gan")
    (root / "no_run").mkdir()
    (root / "[red]damaged\n").mkdir()
    (root / "[red]damaged\n" / "config.json").write_text('{"config": [], "data": 3}')
    (root / "wild").mkdir()
    wild = {"config": {}, "data": {"name": 1, "fingerprint": 2}, "history": 3}
    (root / "wild" / "config.json").write_text(json.dumps(wild))
    (root / "file").write_text("")
    return root


def test_runs_are_listed(forks, folder):
    with workdir.locked(folder / "from a program"):
        status, out, err = forks("runs", str(folder), "--json")
    assert status == 0, err
    found = {}
    for line in out.splitlines():
        run = json.loads(line)
        found[run.pop("run").removeprefix(f"{folder}/")] = run
    assert [*found] == ["done", "stopped", "from a program"]  # by their first start
    run = found["stopped"]
    assert (run["config"], run["changed"]) == ("ring:conditional", {"loss": "hinge"})
    assert (run["step"], run["num_steps"], run["status"]) == (6, 9, "stopped")
    assert run["metrics"] == {"d_loss": 2.5, "diversity": 0.5}  # the last of each
    assert run["stderr"] == {"d_loss": 0.5}  # s / sqrt(n) of 2 and 3
    assert run["alarms"] == []  # the alarm did not last
    run = found["done"]
    assert (run["config"], run["changed"]) == ("ring", {"seed": 3})
    assert (run["step"], run["status"]) == (9, "done")
    assert run["alarms"] == ["exploded", "saturated", "rejected step 000007"]
    assert (run["best"], found["stopped"]["best"]) == (6, None)
    run = found["from a program"]
    assert (run["config"], run["changed"]["loss"]) == ("", "f_gan")
    assert (run["step"], run["status"], run["metrics"]) == (0, "running", {})
    skipped = [line for line in err.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == len(err.splitlines()) == 3
    for word in ("no_run is not a run", "config.json is damaged", "wild is damaged"):
        assert word in err


def test_runs_are_shown_in_a_table(forks, folder):
    status, out, _ = forks("runs", str(folder))
    assert status == 0
    rows = [line for line in out.splitlines() if re.search(r"\d/9 ", line)]
    alarms = "done, exploded, saturated, rejected step 000007"
    cells = [re.split(r"\s{2,}", row.strip()) for row in rows]
    assert cells[0][:4] == ["done", "ring seed=3", "9/9", alarms]
    assert cells[1][:4] == ["stopped", "ring:conditional loss=hinge", "6/9", "stopped"]
    assert cells[1][4:] == ["diversity 0.5"]
    assert out.count("best: step 6") == out.count("best") == 1
    assert out.splitlines()[out.splitlines().index(rows[1]) + 1].split() == [
        *("d_loss", "2.5", "±", "0.5")
    ]
    assert cells[2][0] == "from a program"
    status, out, _ = forks("runs", str(folder / "done"), "--json")  # one run
    assert json.loads(out)["step"] == 9
    status, _, err = forks("runs", str(folder / "none"))
    assert (status, err.count("\n")) == (2, 1)
    assert "none: give the folder of your runs" in err
    status, out, err = forks("runs", str(folder / "done" / "guard" / "000007"))
    assert (status, out) == (0, "")
    assert err.startswith("there are no runs in ")


def test_help_lists_the_flags_of_a_run():
    command = [sys.executable, "-m", "gan_jax.train", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    for word in ("--config:", "--workdir:", "--config=configs/mnist.py", "--replay:"):
        assert word in text
