"""What chunks leave, on its way to the writers and the guards."""

import time

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from gan_jax.devices import hosts
from gan_jax.errors import RollBack, Stopped
from gan_jax.run.alarms import Alarms, healthy
from gan_jax.run.clock import Clock, Lap
from gan_jax.run.dumps import first_not_finite
from gan_jax.run.writers import Writers, squeezed


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
        self.clock, self.frozen = Clock(), set()
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
        self._steps = 0  # that were timed since the last log line
        self._seconds = self._stalled = 0.0  # which they took

    def take(
        self,
        step: int,
        metrics: dict[str, Array],
        examples: Array | None,
        evaluated: dict | None = None,
    ):
        """Takes what the steps up to `step` left; flush what was taken before.

        Args:
          step: the last one.
          metrics: each `[n, replicas]`.
          examples: `[replicas, num, *shape]`, if a sample grid is due.
          evaluated: what `Evaluator.measure` returned, if an evaluation was due.
        """
        self._late = step, metrics, examples, evaluated

    def flush(self) -> dict[int, tuple[int, str]]:
        """Writes what has been taken.

        Returns:
          The replicas that were frozen: at which step, and the first metric that was
          not finite. If none is left, nothing is written.
        """
        if self._late is None:
            return {}
        (step, metrics, examples, evaluated), self._late = self._late, None
        metrics = jax.device_get(metrics)
        broken = first_not_finite(step, metrics)
        broken = {i: why for i, why in broken.items() if i not in self.frozen}
        self.frozen |= broken.keys()
        if len(self.frozen) == self._config.replicas:
            return broken
        self._gather(metrics, self.clock.lap())
        measured = {}
        if examples is not None:
            examples = np.asarray(examples)
            measured = self._alarms.measure(step, examples)
            self._writers.samples(step, examples)
        if evaluated:
            self._writers.evaluation({"step": step, **evaluated})
            values = {k: x for k, x in evaluated.items() if isinstance(x, list)}
            measured |= {f"eval_{name}": x for name, x in values.items()}
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
        """Writes what could not be written yet, and waits until all is on the disk.

        Raises:
          OSError: it cannot be written now either.
        """
        self._writers.sync()

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

    def _gather(self, metrics: dict[str, np.ndarray], lap: Lap) -> None:
        if self._window and self._window[0].keys() != metrics.keys():
            self._window = []  # from before another config
        self._window.append(metrics)
        self._steps += len(metrics["d_loss"])
        self._seconds += lap.seconds
        self._stalled += lap.stalled

    def _joined(self) -> dict[str, np.ndarray]:
        return {
            key: np.concatenate([chunk[key] for chunk in self._window])
            for key in self._window[0]
        }

    def _record(self, step: int, measured: dict[str, list]) -> dict:
        values, self._window = self._joined(), []
        images_per_step = self._config.batch_size * self._config.d_updates
        means = {key: value.mean(0).tolist() for key, value in values.items()}
        record = {"step": step, "images": step * images_per_step, **means, **measured}
        return record | self._times(step, images_per_step) | {"data": self._data}

    def _times(self, step: int, images_per_step: int) -> dict[str, float]:
        """Returns the speed since the last log line, and what follows from it."""
        stalled, seconds = self._stalled, max(self._seconds, 1e-9)
        per_step = seconds / self._steps
        self._steps, self._seconds, self._stalled = 0, 0.0, 0.0
        return {
            "images_per_sec": images_per_step * self._config.replicas / per_step,
            "data_stall": stalled / seconds,
            "seconds_left": (self._config.num_steps - step) * per_step,
            "wall_time": time.time(),
        }
