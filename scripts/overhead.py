"""What logging, sheets and checkpoints cost the run of `configs/mnist.py`."""

import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from gan_jax import data, from_config, train, train_chunk
from gan_jax.build.names import user_object
from gan_jax.data.feed import open_feed
from gan_jax.devices import mesh as sharding
from gan_jax.run.checkpoint import Checkpoints, Saved
from gan_jax.run.dumps import Collapse
from gan_jax.run.loop import Loop
from gan_jax.run.records import Report
from gan_jax.run.writers import Writers


def overhead(turns: int) -> dict:
    """Times `configs/mnist.py` with its records and without, on the packaged sample.

    Args:
      turns: how often either goes from one checkpoint to the next.

    Returns:
      The seconds of either, by the wall's clock and of the processors, and the share of
      the records in each.
    """
    root = Path(__file__).parents[1]
    config = user_object("config", f"{root}/configs/mnist.py:get_config")()
    config.data.source = "packaged"
    source = data.load(config)
    gan = from_config(config, source.info.shape, source.info.num_classes)
    mesh, spent = sharding.make_mesh(), {"with": [], "without": []}
    with jax.set_mesh(mesh), tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        checkpoints = Checkpoints(path / "checkpoints", config.keep_checkpoints)
        writers = Writers(path, 10**6, 0)
        saved = train.start(gan, config, checkpoints, mesh)
        key = sharding.copy_of_key(saved.state.key)
        feed = open_feed(source, config, key, 0, mesh)
        collapse = Collapse(config.guard, source)
        report = Report(config, writers, 8, "overhead", collapse)
        trainer = Loop(gan, config, feed, checkpoints, report, None)
        chunk = jax.jit(train_chunk, static_argnames="n", donate_argnames="state")
        for turn in range(-1, turns):
            # The first turn, a short one, is there to compile.
            length = config.log_every if turn < 0 else config.checkpoint_every
            start = _clocks()
            config.num_steps = saved.step + length
            state = trainer.run(saved)
            jax.block_until_ready(state)
            checkpoints.wait()
            step, middle = config.num_steps, _clocks()
            for _ in range(length // config.log_every):
                n = config.log_every
                state, _ = chunk(gan, state, feed.at(step, n), n=n)
                step += n
            jax.block_until_ready(state)
            saved = Saved(step, state, {})
            if turn >= 0:
                spent["with"].append(middle - start)
                spent["without"].append(_clocks() - middle)
        checkpoints.close()
        writers.close()
    ratios = np.array(spent["with"]) / np.array(spent["without"])
    overhead = np.median(ratios, 0) - 1
    return {
        "steps": config.checkpoint_every * turns,
        **{f"seconds_{key}": round(sum(v)[0], 1) for key, v in spent.items()},
        **{f"cpu_seconds_{key}": round(sum(v)[1], 1) for key, v in spent.items()},
        "overhead": round(float(overhead[0]), 4),
        "overhead_of_cpu": round(float(overhead[1]), 4),
    }


def _clocks() -> np.ndarray:
    """Returns the wall's clock and the processors', of all threads; in seconds."""
    return np.array([time.perf_counter(), time.process_time()])
