"""What logging, sample grids and checkpoints cost the run of `configs/mnist.py`."""

import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from gan_jax.algorithm import replicas
from gan_jax.build.names import user_object
from gan_jax.data.feed import open_feed
from gan_jax.devices import mesh as sharding
from gan_jax.run import training
from gan_jax.run.alarms import Alarms
from gan_jax.run.checkpoint import Checkpoints, Saved
from gan_jax.run.grids import grid_size
from gan_jax.run.loop import Loop, Saver
from gan_jax.run.progress import ProgressLine
from gan_jax.run.records import Records
from gan_jax.run.writers import Board, MetricsFile, SampleFiles, Writers


def overhead(turns: int) -> dict:
    """Times `configs/mnist.py` with its records and without, on the packaged sample.

    Args:
      turns: how often each trains from one checkpoint to the next.

    Returns:
      The seconds of both, by the wall clock and of the processors, and the share of the
      records in each.
    """
    root = Path(__file__).parents[1]
    config = user_object("config", f"{root}/configs/mnist.py:get_config")()
    config.data.source = "packaged"
    spent = {"with": [], "without": []}
    with tempfile.TemporaryDirectory() as folder:
        run = training.prepare(config, Path(folder))
        with jax.set_mesh(run.mesh):
            timed = _Timed(run)
            # The first turn, a short one, compiles.
            timed.turn(config.log_every)
            for _ in range(turns):
                logged, plain = timed.turn(config.checkpoint_every)
                spent["with"].append(logged)
                spent["without"].append(plain)
            timed.close()
    ratios = np.array(spent["with"]) / np.array(spent["without"])
    overhead = np.median(ratios, 0) - 1
    return {
        "steps": config.checkpoint_every * turns,
        **{f"seconds_{key}": round(sum(v)[0], 1) for key, v in spent.items()},
        **{f"cpu_seconds_{key}": round(sum(v)[1], 1) for key, v in spent.items()},
        "overhead": round(float(overhead[0]), 4),
        "overhead_of_cpu": round(float(overhead[1]), 4),
    }


class _Timed:
    """One run that trains with its records and without, in turn."""

    def __init__(self, run: training.Run):
        self.config, gan, path = run.config, run.gan, run.path
        self.checkpoints = Checkpoints(
            path / "checkpoints", self.config.keep_checkpoints
        )
        self.saved = training.start(run, self.checkpoints)
        keys = sharding.copy_of_key(self.saved.state.key)
        feed = open_feed(run.source, self.config, keys, 0, run.mesh)
        outputs = [MetricsFile(path / "metrics.jsonl"), SampleFiles(path)]
        outputs += [Board(path, 0), ProgressLine(10**6, 0)]
        self.writers = Writers(outputs, gan.example, grid_size(gan, 1)[1])
        alarms = Alarms(self.config, run.source)
        records = Records(self.config, self.writers, alarms, "overhead")
        saver = Saver(self.checkpoints, records)
        self.loop = Loop(gan, self.config, feed, saver, records, None)
        self.chunk = jax.jit(
            replicas.train_chunk, static_argnames="n", donate_argnames="state"
        )

    def turn(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Trains `length` steps with records, then without; returns the times."""
        start, step = _clocks(), self.saved.step + length
        self.config.num_steps = step
        state = jax.block_until_ready(self.loop.run(self.saved))
        self.checkpoints.wait()
        middle, n = _clocks(), self.config.log_every
        for _ in range(length // n):
            state, _ = self.chunk(self.loop.gan, state, self.loop.feed.at(step, n), n=n)
            step += n
        jax.block_until_ready(state)
        self.saved = Saved(step, state, {})
        return middle - start, _clocks() - middle

    def close(self) -> None:
        self.checkpoints.close()
        self.writers.close()


def _clocks() -> np.ndarray:
    """Returns the wall clock and the processors', of all threads; in seconds."""
    return np.array([time.perf_counter(), time.process_time()])
