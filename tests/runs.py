"""Runs that tests train: shipped configs, made small, and what the runs left."""

import contextlib
import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from gan_jax import from_config
from gan_jax.algorithm import replicas
from gan_jax.build import names
from gan_jax.data.source import Info
from gan_jax.run import restore, workdir
from gan_jax.run.checkpoint import Checkpoints

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
# What takes long in a run, made small.
SHRUNK = {
    "num_steps": 2,
    "log_every": 1,
    "sample_every": 2,
    "checkpoint_every": 2,
    "batch_size": 4,
    "width": 4,
    "eval.every": 0,
}

# All terms that have memory, changing fast enough for a few steps.
MEMORY = {
    "loss": "non_saturating, label_flipping(p=0.2)",
    "penalties": "lecam, path_length(every=2), r1(weight=1, every=2)",
    # The target is one that D always exceeds, so that p rises.
    "augment": "ada(images_to_one=100, every=2, target=-1.5), flip",
    "replay": 8,
    "d_updates": 2,
    "image_size": 8,
    "data.source": "packaged",
}

TIMES = ("images_per_sec", "data_stall", "seconds_left", "wall_time")


def load(name, arg=None):
    """Returns a shipped config."""
    path = ROOT / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(arg)


def config_of(name, arg=None, **overrides):
    """Returns a shipped config, shrunk."""
    config = load(name, arg)
    config.update_from_flattened_dict({**SHRUNK, **overrides})
    return config


def records(path):
    return [json.loads(x) for x in (path / "metrics.jsonl").read_text().splitlines()]


def states_of(path):
    """Returns the last state of each replica, with its key as a plain array."""
    config = workdir.read(path)["config"]
    model = config["model"] if names.is_code(config["model"]) else None
    states = [
        restore.load(path, replica=i, model=model)[1] for i in range(config["replicas"])
    ]
    return [state.replace(key=jax.random.key_data(state.key)) for state in states]


def grid_of(path):
    """Returns the pixels of the last sample grid."""
    with Image.open(max((path / "samples").iterdir())) as grid:
        return np.asarray(grid).astype(int)


def assert_same_run(a, b):
    """Compares the last states, and all metrics but times."""
    jax.tree.map(np.testing.assert_array_equal, states_of(a), states_of(b))
    ours, theirs = (
        [{k: v for k, v in r.items() if k not in TIMES} for r in records(path)]
        for path in (a, b)
    )
    assert ours == theirs


def untrained(path, config, example, condition=None):
    """Writes the files of a run that has drawn its first states, as if at step 7."""
    gan = from_config(config, example, condition)
    keys = replicas.root_keys(config.seed, config.replicas)
    state = jax.jit(replicas.init_state, static_argnums=0)(gan, keys)
    about = {"name": "made", "fingerprint": "made", "num_examples": 24}
    info = Info(example=example, condition=condition, **about)
    workdir.write(path, workdir.describe(config, info))
    with contextlib.closing(Checkpoints(path / "checkpoints", keep=1)) as checkpoints:
        checkpoints.save(state.replace(step=state.step + 7), 7, {})
        checkpoints.wait()
    return path
