"""Kills training runs at random instants, and compares what they come to.

    python scripts/kill_test.py --kills=200 --seed=0

For each case (a lazy penalty with two discriminator updates, images on the device with
two replicas, a streamed folder) one run is left alone. Others, of the same command, are
killed (SIGKILL) again and again, half of the time while they start and half while they
train and write, until they end. Then the last states must be equal, bit for bit, and so
must the best ones (the first case has `eval.best`), the last sample grid and the
records of `metrics.jsonl`, each step once and none missing. Exit status: 0 all equal, 1
something was lost.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np
from absl import flags
from PIL import Image

from gan_jax import cli
from gan_jax.errors import unknown
from gan_jax.run import workdir
from gan_jax.run.restore import load

KILLS = flags.DEFINE_integer("kills", 200, "How many, over all cases.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the instants.")
STEPS = flags.DEFINE_integer("steps", 3000, "Of each run.", lower_bound=1)
CASES = flags.DEFINE_list("cases", ["points", "replicas", "stream"], "Which to run.")

COMMON = {"log_every": 50, "sample_every": 100, "checkpoint_every": 100, "chunk": 10}
BEST = {"eval.every": 50, "eval.num": 200, "eval.best": "fd"}
KINDS = {
    "points": ("ring", {"penalties": "r1(every=4)", "d_updates": 2, **BEST}),
    "replicas": (
        "mnist_mlp",
        {"data.source": "packaged", "replicas": 2, "width": 16, "batch_size": 16},
    ),
    "stream": (
        "folder",
        {"data.resident_mb": 0, "image_size": 8, "width": 4, "batch_size": 8},
    ),
}
TIMES = ("images_per_sec", "data_stall", "seconds_left", "wall_time")
ROOT = Path(__file__).parents[1]


class Case:
    """One kind of run: how it starts, and how it must end.

    Args:
      name: of KINDS.
      steps: of each run.
      folder: for everything that is written.
    """

    def __init__(self, name: str, steps: int, folder: Path):
        config, keys = KINDS[name]
        keys = {**COMMON, **keys, "num_steps": steps}
        if config == "folder":
            keys["data.data_dir"] = _images(folder / "images")
        self._command = [sys.executable, "-m", "gan_jax.train"]
        self._command += [f"--config={ROOT}/configs/{config}.py"]
        self._command += [f"--config.{key}={value}" for key, value in keys.items()]
        cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
        self._env = {**os.environ, **cache}
        self._undisturbed = folder / "undisturbed"
        # How long a run starts, and how long it trains, with what it compiles cached.
        for path in (folder / "first", self._undisturbed):
            start = time.monotonic()
            run = self.start(path)
            while not (path / "metrics.jsonl").exists() and run.poll() is None:
                time.sleep(0.01)
            self.starting = time.monotonic() - start
            if run.wait():
                raise RuntimeError(f"{name} does not run: {_said(path)}")
            self.training = time.monotonic() - start - self.starting

    def start(self, path: Path) -> subprocess.Popen:
        """Starts a run, or resumes it."""
        path.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".log").open("w") as log:
            return subprocess.Popen(
                [*self._command, f"--workdir={path}"],
                stderr=log,
                stdout=log,
                env=self._env,
            )

    def lost(self, path: Path) -> list[str]:
        """Returns how the run at `path` differs from the one that was left alone."""
        found = []
        ours, theirs = (_records(run) for run in (path, self._undisturbed))
        if [r["step"] for r in ours] != [r["step"] for r in theirs]:
            found.append("the steps of metrics.jsonl")
        if ours != theirs:
            found.append("metrics.jsonl")
        ours, theirs = (
            sorted((run / "samples").iterdir()) for run in (path, self._undisturbed)
        )
        if [p.name for p in ours] != [p.name for p in theirs]:
            found.append("which grids there are")
        if ours[-1].read_bytes() != theirs[-1].read_bytes():
            found.append("the last grid")
        for which in ("last", "best"):
            ours, theirs = (_states(run, which) for run in (path, self._undisturbed))
            same = jax.tree.map(np.array_equal, ours, theirs)
            if not all(jax.tree.leaves(same)):
                found.append(f"the {which} state")
        return found


def torture(case: Case, kills: int, instants: random.Random, folder: Path) -> Counter:
    """Kills runs of a case, one after the other until each ends.

    Returns:
      How often it was killed where, and 'lost', how many runs came to another end.
    """
    done, left = Counter(), kills
    for number in itertools.count():
        path = folder / f"killed{number}"
        while True:
            run, before = case.start(path), _progress(path)
            if left:
                _kill(run, case, path, instants)
            if run.wait() != -signal.SIGKILL:
                break
            left -= 1
            done[_where(path, before)] += 1
        done["runs"] += 1
        problems = case.lost(path) if run.returncode == 0 else [_said(path)]
        if problems:
            done["lost"] += 1
            print(f"{path}: {'; '.join(problems)}", file=sys.stderr)
        if not left:
            return done


def _kill(run, case: Case, path: Path, instants: random.Random) -> None:
    """Kills a run, unless it ends before: while it starts, or once it trains."""
    before, wait = _progress(path), instants.uniform(0, case.starting)
    if instants.random() < 0.5:
        while _progress(path) == before and run.poll() is None:
            time.sleep(0.005)
        wait = instants.uniform(0, 0.2 * case.training)
    try:
        run.wait(wait)
    except subprocess.TimeoutExpired:
        run.kill()


def _progress(path: Path) -> int:
    file = path / "metrics.jsonl"
    return file.stat().st_size if file.exists() else 0


def _where(path: Path, before: int) -> str:
    """Returns what a killed run was doing, by what it left."""
    if any(path.glob("checkpoints/*tmp*")) or any(path.glob("best/*tmp*")):
        return "writing a checkpoint"
    if any(path.rglob(".*.partial")):
        return "writing a file"
    metrics = path / "metrics.jsonl"
    if metrics.exists() and metrics.read_bytes()[-1:] not in (b"\n", b""):
        return "writing a record"
    return "training" if _progress(path) > before else "starting"


def _said(path: Path) -> str:
    return (path.with_suffix(".log").read_text().splitlines() or ["nothing"])[-1]


def _records(path: Path) -> list[dict]:
    lines = (path / "metrics.jsonl").read_text().splitlines()
    drop = dict.fromkeys(TIMES)
    return [{**json.loads(line), **drop} for line in lines]


def _states(path: Path, which: str) -> list:
    """Returns the `last` states of the replicas, or the `best` if they are kept."""
    config = workdir.read(path)["config"]
    if which == "best" and not config["eval"]["best"]:
        return []
    step = "best" if which == "best" else None
    states = [load(path, step, i)[1] for i in range(config["replicas"])]
    return [s.replace(key=jax.random.key_data(s.key)) for s in states]


def _images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0)
    for i in range(50):
        image = pixels.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def main() -> int:
    """Runs the command."""
    for name in CASES.value:
        if name not in KINDS:
            raise unknown("case", name, KINDS)
    total, start = Counter(), time.monotonic()
    for i, name in enumerate(CASES.value):
        share = KILLS.value * (i + 1) // len(CASES.value)
        share -= KILLS.value * i // len(CASES.value)
        with tempfile.TemporaryDirectory() as folder:
            case = Case(name, STEPS.value, Path(folder))
            instants = random.Random(f"{SEED.value} {name}")
            found = torture(case, share, instants, Path(folder))
        print(f"{name}: {dict(sorted(found.items()))}", flush=True)
        total += found
    minutes = (time.monotonic() - start) / 60
    print(
        f"{KILLS.value} kills of {total['runs']} runs in {minutes:.0f} min, "
        f"{total['lost']} lost"
    )
    return 1 if total["lost"] else 0


if __name__ == "__main__":
    cli.run(main)
