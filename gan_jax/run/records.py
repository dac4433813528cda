"""What chunks leave, on its way to the writers and the guards."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from gan_jax.devices import hosts
from gan_jax.errors import Stopped
from gan_jax.run import dumps as guard
from gan_jax.run.dumps import Collapse, RollBack
from gan_jax.run.writers import Writers


class Stall:
    """Times how long the device has nothing to do because its data are not there.

    The host reads what a chunk needs while the device is busy with the chunk before.
    What counts is the time from when that one is done, or from when reading began if
    that is later, until the data are there: reading that the device does not wait for
    is free. The first chunk, which has none before it, does not count.
    """

    def __init__(self):
        self._watch = ThreadPoolExecutor(1)
        self._reads: list[tuple[float, float, Future]] = []

    def read(self, feed, step: int, n: int, running) -> Any:
        """Returns `feed.at(step, n)`.

        Args:
          feed: of the run.
          step: the first step of the chunk to come.
          n: how many steps it makes.
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
        """Returns what has come together since it was last asked."""
        reads, self._reads = self._reads, []
        return sum(
            max(0.0, end - max(start, done.result())) for start, end, done in reads
        )


def _time_done(running) -> float:
    jax.block_until_ready(running)
    return time.monotonic()


class Report:
    """Brings metrics and samples to the writers, a chunk late.

    The host reads what a chunk left only once the next one is on its way, so that the
    device never waits for it.

    Args:
      config: the experiment.
      writers: where they go.
      columns: examples in a row of a sheet.
      data: the name of what it trains on.
      collapse: watches the same run.
      window: the metrics of the steps since the last log line, of a run that goes on.
    """

    def __init__(
        self,
        config: ConfigDict,
        writers: Writers,
        columns: int,
        data: str,
        collapse: Collapse,
        window: dict[str, list] | None = None,
    ):
        self._config, self._writers, self._collapse = config, writers, collapse
        self._columns, self._data = columns, data
        self.stall, self.frozen = Stall(), set()
        self._alarmed: set[int] = set()
        self._late: tuple | None = None
        self._window: list[dict[str, np.ndarray]] = []
        if window:
            kept = {key: np.array(value, np.float32) for key, value in window.items()}
            self._window.append(kept)
        self._since: float | None = None
        self._made = 0  # steps since then

    def take(self, step: int, metrics: dict[str, Array], examples: Array | None):
        """Takes what the steps up to `step` left; flush what was taken before."""
        if self._since is None:  # the first chunk is compiled and on its way
            self._since = time.monotonic()
        self._late = step, metrics, examples

    def flush(self) -> dict[int, tuple[int, str]]:
        """Writes what has been taken.

        Returns:
          The replicas that have come to be frozen: at which step, and which metric was
          not finite. If none is left, nothing is written.
        """
        if self._late is None:
            return {}
        (step, metrics, examples), self._late = self._late, None
        metrics = jax.device_get(metrics)
        broken = guard.not_finite(step, metrics)
        broken = {i: why for i, why in broken.items() if i not in self.frozen}
        self.frozen |= broken.keys()
        if len(self.frozen) == self._config.replicas:
            return broken
        if self._window and self._window[0].keys() != metrics.keys():
            self._window = []  # gathered under another config
        self._window.append(metrics)
        self._made += len(metrics["d_loss"])
        diversity = None
        if examples is not None:
            examples = np.asarray(examples)
            diversity = self._diversity(examples)
            self._writers.samples(step, examples, self._columns)
        if step % self._config.log_every == 0 or step == self._config.num_steps:
            record = self._record(step, diversity)
            self._collapse.see(record)
            self._writers.metrics(record)
        return broken

    def alarm(self, step: int) -> None:
        """Does what the config says where runs have collapsed.

        Raises:
          Stopped: every replica has, or is frozen, and the config says to stop.
          RollBack: likewise, and it says to go back.
        """
        action, found = self._config.guard.collapse, self._collapse.alarms()
        if action == "off":
            return
        for i in found.keys() - self._alarmed:
            who = f"replica {i}: " if self._config.replicas > 1 else ""
            hosts.say(f"step {step}: {who}{found[i]}")
        self._alarmed = set(found)
        over = found and len(found.keys() | self.frozen) == self._config.replicas
        if over and action != "warn":
            why = f"collapsed by step {step}: {next(iter(found.values()))}"
            if action == "rollback":
                raise RollBack(why, guard.healthy)
            raise Stopped(3, why)

    def save(self) -> None:
        """Brings to disk what could not be written yet.

        Raises:
          OSError: it cannot.
        """
        self._writers.save()

    def carried(self) -> dict:
        """Returns what a run that goes on from here needs of this."""
        window = self._joined() if self._window else {}
        return {
            "window": {key: value.tolist() for key, value in window.items()},
            "counts": self._collapse.counts,
        }

    def _diversity(self, examples: np.ndarray) -> float | list[float]:
        single = self._config.replicas == 1
        found = self._collapse.diversity(examples[None] if single else examples)
        return found[0] if single else found

    def _joined(self) -> dict[str, np.ndarray]:
        return {
            key: np.concatenate([chunk[key] for chunk in self._window])
            for key in self._window[0]
        }

    def _record(self, step: int, diversity) -> dict:
        values, now = self._joined(), time.monotonic()
        images_per_step = self._config.batch_size * self._config.d_updates
        made, seconds = self._made, now - self._since
        self._window, self._since, self._made = [], now, 0
        means = {key: value.mean(0).tolist() for key, value in values.items()}
        record = {"step": step, "images": step * images_per_step, **means}
        if diversity is not None:
            record["diversity"] = diversity
        rate = made * images_per_step * self._config.replicas / seconds
        record["images_per_sec"] = rate
        record["data_stall"] = self.stall.seconds() / seconds
        return record | {"data": self._data}
