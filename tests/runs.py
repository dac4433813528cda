"""Runs that are trained in tests: shipped configs, cut down, and what came of them."""

import importlib.util
import json
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from gan_jax import sample
from gan_jax.run import workdir

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
# What a run may take long over, cut down; every config is trained as it stands besides.
SHRUNK = {
    "num_steps": 2,
    "log_every": 1,
    "sample_every": 2,
    "checkpoint_every": 2,
    "batch_size": 4,
    "width": 4,
}

# All that remembers something from step to step, moving fast enough for a few steps.
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

TIMES = ("images_per_sec", "data_stall")


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
    num = workdir.read(path)["config"]["replicas"]
    states = [sample.load(path, replica=i)[1] for i in range(num)]
    return [state.replace(key=jax.random.key_data(state.key)) for state in states]


def sheet_of(path):
    """Returns the pixels of the last samples."""
    with Image.open(max((path / "samples").iterdir())) as sheet:
        return np.asarray(sheet).astype(int)


def assert_same_run(a, b):
    """Compares the last states, and the metrics but for the time they took."""
    jax.tree.map(np.testing.assert_array_equal, states_of(a), states_of(b))
    ours, theirs = (
        [{k: v for k, v in r.items() if k not in TIMES} for r in records(path)]
        for path in (a, b)
    )
    assert ours == theirs
