"""The loop: chunk after chunk, with what is due in between."""

import contextlib
import os
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from gan_jax import replicas, steps
from gan_jax.checkpoint import Checkpoints
from gan_jax.gan import GAN
from gan_jax.state import TrainState
from gan_jax.writers import Writers


class Stopped(Exception):
    """A run ended early; `status` is what the command exits with."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


def run(
    gan: GAN,
    state: TrainState,
    step: int,
    feed,
    config: ConfigDict,
    checkpoints: Checkpoints,
    writers: Writers,
    data: str,
) -> TrainState:
    """Trains until `config.num_steps`.

    Args:
      gan: the static half.
      state: where to start, of one run or of several; its arrays are given up.
      step: of that state.
      feed: its `at(step, n)` is the feed of the next `n` steps.
      config: the experiment.
      checkpoints: where states are saved.
      writers: where metrics and samples go.
      data: the name of what it trains on, for the records.

    Returns:
      The last state.

    Raises:
      Stopped: a metric of every replica was not finite, or a signal came; in the
        latter case the state is saved.
    """
    single = config.replicas == 1
    algorithm = steps if single else replicas
    chunk = jax.jit(algorithm.train_chunk, static_argnames="n", donate_argnames="state")
    picture = jax.jit(algorithm.sheet, static_argnames="num")
    num, columns = sheet_size(gan, rows=8 if single else 1)
    frozen = set() if single else replicas.frozen(state, step)
    stall, metrics = Stall(), None
    report = Report(config, writers, columns, data, stall, frozen)

    with _signals() as came:
        while step < config.num_steps:
            n = chunk_length(config, step)
            drawn = stall.read(feed, step, n, metrics)
            state, metrics = chunk(gan, state, drawn, n=n)
            step += n
            last = step == config.num_steps
            due = last or step % config.sample_every == 0
            examples = picture(gan, state, num) if due else None
            report.add(step, metrics, examples)

            stopping = came and step % config.log_every == 0
            if last or stopping or step % config.checkpoint_every == 0:
                report.flush()  # so that no state is saved that is not finite
                checkpoints.save(state, step)
            if stopping and not last:
                raise Stopped(128 + came[0], f"saved at step {step}, on {came[0].name}")
    return state


def chunk_length(config: ConfigDict, step: int) -> int:
    """Returns how many steps the next chunk makes: at most up to the next log line."""
    length = config.chunk or config.log_every
    to_log = config.log_every - step % config.log_every
    return min(length, to_log, config.num_steps - step)


def sheet_size(gan: GAN, rows: int) -> tuple[int, int]:
    """Returns how many examples of a run a sheet shows, and how many are in a row."""
    if not gan.range:
        return 2000, 1
    columns = min(gan.num_classes, 16) or 8
    return rows * columns, columns


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
      stall: of the same run.
      frozen: the replicas that are frozen already.
    """

    def __init__(
        self,
        config: ConfigDict,
        writers: Writers,
        columns: int,
        data: str,
        stall: Stall,
        frozen: set[int],
    ):
        self._config, self._writers, self._stall = config, writers, stall
        self._columns, self._data, self._frozen = columns, data, frozen
        self._late: tuple | None = None
        self._window: list[dict[str, np.ndarray]] = []
        self._since: float | None = None

    def add(self, step: int, metrics: dict[str, Array], examples: Array | None) -> None:
        """Takes what the steps up to `step` left, and writes what those before did.

        Raises:
          Stopped: a metric of every replica was not finite.
        """
        if self._since is None:  # the first chunk is compiled and on its way
            self._since = time.monotonic()
        self.flush()
        self._late = step, metrics, examples

    def flush(self) -> None:
        """Writes what has been taken so far.

        Raises:
          Stopped: a metric of every replica was not finite.
        """
        if self._late is None:
            return
        (step, metrics, examples), self._late = self._late, None
        metrics = jax.device_get(metrics)
        self._guard(step, metrics)
        self._window.append(metrics)
        if step % self._config.log_every == 0 or step == self._config.num_steps:
            self._writers.metrics(self._record(step))
        if examples is not None:
            self._writers.samples(step, np.asarray(examples), self._columns)

    def _guard(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Tells which replicas have come to be frozen; raises if none is left."""
        seed, num = self._config.seed, self._config.replicas
        new = {
            i: f"replica {i} (seed {seed + i}): {why}" if num > 1 else why
            for i, why in not_finite(step, metrics).items()
            if i not in self._frozen
        }
        self._frozen |= new.keys()
        if len(self._frozen) == num:
            raise Stopped(3, f"{'; '.join(new.values())}; nothing saved since")
        for why in new.values():
            print(f"{why}; frozen, the others go on", file=sys.stderr)

    def _record(self, step: int) -> dict:
        values = {
            key: np.concatenate([chunk[key] for chunk in self._window])
            for key in self._window[0]
        }
        images_per_step = self._config.batch_size * self._config.d_updates
        n, now = len(next(iter(values.values()))), time.monotonic()
        seconds = now - self._since
        self._window, self._since = [], now
        means = {key: value.mean(0).tolist() for key, value in values.items()}
        images = step * images_per_step
        record = {"step": step, "images": images, **means}
        rate = n * images_per_step * self._config.replicas / seconds
        record["images_per_sec"] = rate
        record["data_stall"] = self._stall.seconds() / seconds
        return record | {"data": self._data}


def not_finite(step: int, metrics: dict[str, np.ndarray]) -> dict[int, str]:
    """Finds where metrics are not finite.

    Args:
      step: the last one that they are of.
      metrics: each `[n]`, or `[n, replicas]`.

    Returns:
      Of each replica that has such a metric, the first: its name and step.
    """
    finite = [np.isfinite(m).reshape(len(m), -1) for m in metrics.values()]
    finite, names, found = np.stack(finite, -1), list(metrics), {}
    for replica in np.flatnonzero(~finite.all((0, 2))):
        at, which = np.argwhere(~finite[:, replica])[0]
        at += step - len(finite) + 1
        found[int(replica)] = f"{names[which]} is not finite at step {at}"
    return found


@contextlib.contextmanager
def _signals():
    """Yields a list to which SIGTERM and SIGINT are added; a second one interrupts."""
    came: list[signal.Signals] = []

    def note(number, frame):
        if came:
            raise KeyboardInterrupt
        came.append(signal.Signals(number))
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"saving at the next log line; once more to stop at once\n")

    old = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
