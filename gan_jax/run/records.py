"""What chunks leave, on its way to the writers and the guards."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from gan_jax.devices import hosts
from gan_jax.errors import RollBack, Stopped
from gan_jax.run.alarms import Alarms, healthy
from gan_jax.run.dumps import first_not_finite
from gan_jax.run.writers import Writers, squeezed


class Stall:
    """Measures how long the device is idle because its data are not ready.

    The host reads the data of a chunk while the device computes the chunk before. Only
    the time from when that chunk is done (or reading begins, if later) until the data
    are read counts: reading that the device does not wait for is free. The first chunk,
    which has none before it, does not count.
    """

    def __init__(self):
        # JAX calls nobody back, and asking `is_ready` after reading tells that the
        # chunk is done but not since when.
        self._watch = ThreadPoolExecutor(1)
        self._reads: list[tuple[float, float, Future]] = []

    def read(self, feed, step: int, n: int, running) -> Any:
        """Returns `feed.at(step, n)`.

        Args:
          feed: of the run.
          step: the first step of the next chunk.
          n: how many steps it has.
          running: arrays that the chunk before computes; None for the first chunk.
        """
        if running is None:
            return feed.at(step, n)
        done = self._watch.submit(_time_done, running)
        start = time.monotonic()
        drawn = feed.at(step, n)
        self._reads.append((start, time.monotonic(), done))
        return drawn

    def seconds(self) -> float:
        """Returns the idle time since the last call."""
        reads, self._reads = self._reads, []
        return sum(
            max(0.0, end - max(start, done.result())) for start, end, done in reads
        )


def _time_done(running) -> float:
    jax.block_until_ready(running)
    return time.monotonic()


class Records:
    """Brings metrics and samples to the writers and guards, one chunk late.

    The host reads what a chunk left only after the next one is dispatched, so that the
    device never waits for it.

    Args:
      config: the experiment.
      writers: of the run.
      alarms: its alarms.
      data: the name of the data.
      window: the metrics of the steps since the last log line, from `carried`.
    """

    def __init__(
        self,
        config: ConfigDict,
        writers: Writers,
        alarms: Alarms,
        data: str,
        window: dict[str, list] | None = None,
    ):
        self._config, self._writers, self._alarms = config, writers, alarms
        self._data = data
        self.stall, self.frozen = Stall(), set()
        self._reported: set[tuple[int, str]] = set()
        self._late: tuple | None = None
        self._window: list[dict[str, np.ndarray]] = []  # each [n, replicas]
        if window:
            shape = (-1, config.replicas)  # of one run it is stored as [n]
            kept = {
                key: np.array(value, np.float32).reshape(shape)
                for key, value in window.items()
            }
            self._window.append(kept)
        self._start: float | None = None  # of the interval that is timed
        self._steps = 0  # in that interval

    def take(self, step: int, metrics: dict[str, Array], examples: Array | None):
        """Takes what the steps up to `step` left; flush what was taken before.

        Args:
          step: the last one.
          metrics: each `[n, replicas]`.
          examples: `[replicas, num, *shape]`, if a sample grid is due.
        """
        if self._start is None:  # the first chunk is compiled and dispatched
            self._start = time.monotonic()
        self._late = step, metrics, examples

    def flush(self) -> dict[int, tuple[int, str]]:
        """Writes what has been taken.

        Returns:
          The replicas that were frozen: at which step, and the first metric that was
          not finite. If none is left, nothing is written.
        """
        if self._late is None:
            return {}
        (step, metrics, examples), self._late = self._late, None
        metrics = jax.device_get(metrics)
        broken = first_not_finite(step, metrics)
        broken = {i: why for i, why in broken.items() if i not in self.frozen}
        self.frozen |= broken.keys()
        if len(self.frozen) == self._config.replicas:
            return broken
        self._gather(metrics)
        measured = {}
        if examples is not None:
            examples = np.asarray(examples)
            measured = self._alarms.measure(step, examples)
            self._writers.samples(step, examples)
        if step % self._config.log_every == 0 or step == self._config.num_steps:
            record = self._record(step, measured)
            self._alarms.see(record)
            if any(active := self._active()):
                record["alarms"] = [sorted(each) for each in active]
            self._writers.metrics(record)
        return broken

    def alarm(self, step: int) -> None:
        """Reports new alarms, and stops as the config says.

        Raises:
          Stopped: every replica has an alarm or is frozen, and the config says stop.
          RollBack: likewise, and it says roll back.
        """
        action, active = self._config.guard.collapse, self._active()
        found = {(i, name) for i, each in enumerate(active) for name in each}
        for i, name in sorted(found - self._reported):
            who = f"replica {i}: " if self._config.replicas > 1 else ""
            hosts.say(f"alarm at step {step}: {who}{active[i][name]}")
        self._reported = found
        failed = {i for i, _ in found}
        over = failed and len(failed | self.frozen) == self._config.replicas
        if over and action != "warn":
            message = next(iter(active[min(failed)].values()))
            why = f"alarm at step {step}: {message}"
            if action == "rollback":
                raise RollBack(why, healthy)
            raise Stopped(3, why)

    def _active(self) -> list[dict[str, str]]:
        """Returns the alarms of each replica, none if the config turns them off."""
        if self._config.guard.collapse == "off":
            return [{} for _ in range(self._config.replicas)]
        return [self._alarms.active(i) for i in range(self._config.replicas)]

    def save(self) -> None:
        """Writes what could not be written yet.

        Raises:
          OSError: it cannot be written now either.
        """
        self._writers.save()

    def carried(self) -> dict:
        """Returns what a run that resumes here needs of this."""
        window = self._joined() if self._window else {}
        return {
            "window": {
                key: [squeezed(row) for row in value.tolist()]
                for key, value in window.items()
            },
            "counts": self._alarms.counts,
        }

    def _gather(self, metrics: dict[str, np.ndarray]) -> None:
        if self._window and self._window[0].keys() != metrics.keys():
            self._window = []  # from before another config
        self._window.append(metrics)
        self._steps += len(metrics["d_loss"])

    def _joined(self) -> dict[str, np.ndarray]:
        return {
            key: np.concatenate([chunk[key] for chunk in self._window])
            for key in self._window[0]
        }

    def _record(self, step: int, measured: dict[str, list]) -> dict:
        values, now = self._joined(), time.monotonic()
        images_per_step = self._config.batch_size * self._config.d_updates
        steps, seconds = self._steps, now - self._start
        self._window, self._start, self._steps = [], now, 0
        means = {key: value.mean(0).tolist() for key, value in values.items()}
        record = {"step": step, "images": step * images_per_step, **means, **measured}
        rate = steps * images_per_step * self._config.replicas / seconds
        record["images_per_sec"] = rate
        record["data_stall"] = self.stall.seconds() / seconds
        return record | {"data": self._data}
