"""What a run costs besides the algorithm: imports, programs, memory, waiting."""

import contextlib
import gc
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from gan_jax import config as config_lib
from gan_jax import data
from gan_jax.algorithm import replicas
from gan_jax.build.builder import from_config
from gan_jax.data import toy
from gan_jax.data.feed import Drawn, open_feed
from gan_jax.devices import mesh as sharding
from gan_jax.objective.losses import estimates_log_odds
from gan_jax.run.alarms import Alarms
from gan_jax.run.checkpoint import Saved
from gan_jax.run.loop import Loop, Saver
from gan_jax.run.records import Records
from gan_jax.run.training import train

ROOT = Path(__file__).parents[2]
COMPILED = "/jax/core/compile/backend_compile_duration"


def ring(**keys):
    """Returns a config that trains in a second."""
    config = config_lib.default()
    config.model, config.width, config.batch_size = "mlp", 4, 4
    config.data.source, config.data.name = "toy", "ring"
    config.num_steps, config.log_every = 8, 2
    config.sample_every = config.checkpoint_every = 4
    config.update_from_flattened_dict(keys)
    return config


@contextlib.contextmanager
def compilations():
    """Yields a list to which the name of every program is added that is compiled."""
    names = []

    def listen(event, duration, fun_name="", **_):
        if event == COMPILED:
            names.append(fun_name)

    jax.clear_caches()  # so that what earlier tests compiled counts as well
    estimates_log_odds.cache_clear()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def imported(code):
    """Returns the modules that a fresh interpreter has after `code`."""
    code += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


HEAVY = {"PIL", "grain", "matplotlib", "orbax", "tensorboardX"}
HEAVY |= {"datasets", "tensorflow_datasets", "tensorstore"}


@pytest.mark.parametrize(
    ("code", "used"),
    [
        ("import gan_jax", set()),
        ("import gan_jax.train, gan_jax.sample", set()),
        ("import gan_jax.train\nfrom gan_jax.data import toy", set()),
        ("from gan_jax.data import archive, folder, hf, packaged, tfds", {"PIL"}),
    ],
)
def test_heavy_packages_are_imported_where_they_are_used(code, used):
    assert HEAVY & imported(code) == used


def test_falling_back_needs_no_tfds(tmp_path):
    code = f"""
import gan_jax.data.tfds as source
from gan_jax.config import default
source.unreachable = lambda url: "offline"
config = default()
config.data.data_dir = {str(tmp_path)!r}
assert source.load(config).info.name == "packaged:mnist[train]"
"""
    assert "tensorflow_datasets" not in imported(code)


PROGRAMS = {"jit(log_odds)", "jit(sample_grid)", "jit(train_chunk)", "jit(_squeeze)"}
REFERENCE = "jit(_of_density)"  # its examples
IMAGES = {"data.source": "packaged", "data.name": "mnist", "image_size": 8}


@pytest.mark.parametrize(
    "config",
    [
        ring(penalties="r1(every=2)", d_updates=2, schedule="cosine"),
        pytest.param(ring(**IMAGES, conditional=True), marks=pytest.mark.slow),
    ],
    ids=["points", "images"],
)
def test_every_program_is_compiled_once(config, tmp_path):
    with compilations() as names:
        train(config, tmp_path)
    programs = [*PROGRAMS, "jit(init)"]
    toy = config.data.source == "toy"  # for pictures, and for the diversity of samples
    programs += [REFERENCE] * 2 if toy else ["jit(d_loss)"]
    assert sorted(names) == sorted(programs)


@pytest.mark.slow
def test_resuming_compiles_no_start(tmp_path):
    train(ring(num_steps=4), tmp_path)
    with compilations() as names:
        train(ring(), tmp_path)
    programs = [*PROGRAMS, "jit(d_loss)"]  # which is of runs without penalty
    programs += [REFERENCE] * 2
    assert sorted(names) == sorted(programs)


class Writers:
    """Calls a function at each log line instead of writing."""

    def __init__(self, call=lambda record: None):
        self.records, self._call = [], call

    def metrics(self, record):
        self.records.append(record)
        self._call(record)

    def samples(self, step, examples):
        pass

    def sync(self):
        pass


class Checkpoints:
    def save(self, state, step, carried):
        pass

    def wait(self):
        pass


def run(config, writers, feed=None):
    """Runs the loop; returns the state that it was given and the one it returned."""
    source = data.load(config)
    gan = from_config(config, source.info.example, source.info.condition)
    mesh, keys = sharding.make_mesh(), replicas.root_keys(0, 1)
    state = jax.jit(replicas.init_state)(gan, keys)
    state = jax.device_put(state, sharding.replicated(mesh))
    feed = feed or open_feed(source, config, keys, 0, mesh)
    records = Records(config, writers, Alarms(config, source), "data")
    loop = Loop(gan, config, feed, Saver(Checkpoints(), records), records, None)
    return state, loop.run(Saved(0, state, {}))


@pytest.mark.slow
def test_the_state_is_donated_to_the_steps():
    before, after = run(ring(**IMAGES), Writers())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


def test_nothing_piles_up_on_the_device():
    held = []

    def count(record):
        if record["step"] in (20, 200):
            gc.collect()  # what earlier tests and tracing left
            held.append(sum(array.nbytes for array in jax.live_arrays()))

    run(ring(num_steps=220, sample_every=220, **IMAGES), Writers(count))
    early, late = held
    assert late == pytest.approx(early, rel=0.02)


class Slow:
    """A feed that takes a while to be read."""

    def __init__(self, feed, seconds):
        self.feed, self.seconds = feed, seconds

    def at(self, step, n):
        time.sleep(self.seconds)
        return self.feed


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "least", "most"), [(0.2, 0.5, 1), (0, 0, 0.3)])
def test_logs_the_share_of_the_time_that_the_device_waits(seconds, least, most):
    drawn = Drawn(replicas.root_keys(0, 1), toy.ring(), 4)
    writers = Writers()
    run(ring(log_every=1), writers, Slow(drawn, seconds))
    stalls = [record["data_stall"] for record in writers.records]
    assert stalls[0] == 0  # nothing else could run while the first data were read
    assert least <= np.median(stalls[1:]) <= most
