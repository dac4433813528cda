"""Alarms: the signs that a run which goes on has failed."""

import functools
import re
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes
from gan_jax.metrics import classes, modes
from gan_jax.run.grids import fixed_values

_SATURATED = 0.98  # of mean D(x) - mean D(G(z))
_EARLY = 0.2  # of a run: until then, modes without samples are no alarm
_INVERTED = 0.1  # the accuracy of a D that is not just fooled
_LINES = 3  # log lines in a row with a vanished gradient or an exploded loss
_REFERENCES = 2_000  # real examples that samples are compared with, at most
_NUMBERS = 2**23  # in these examples, at most
_TRUSTED = 0.8  # the least accuracy of the nearest-neighbour rule that is used
_MAX_SHARES = 20  # classes whose shares are logged one by one

_MESSAGES = {
    "low_diversity": (
        "mode collapse: the last {count} sample grids had less than {diversity:g} of "
        "the diversity of the data"
    ),
    "lost_modes": (
        "mode collapse: the last {count} sample grids had samples in less than "
        "{modes:g} of the data's modes or classes"
    ),
    "saturated": (
        "D has been sure what is real for {count} log lines (D(x) - D(G(z)) > "
        f"{_SATURATED}): G learns little"
    ),
    "inverted": (
        "D has ranked generated examples above real ones for {count} log lines "
        f"(d_accuracy < {_INVERTED}): a sign in the loss is wrong, or D is too slow"
    ),
    "vanished_d": (
        "vanished gradient: d_grad_norm has been below {vanishing:g} for {count} log "
        "lines, D does not learn"
    ),
    "vanished_g": (
        "vanished gradient: g_grad_norm has been below {vanishing:g} for {count} log "
        "lines, G does not learn"
    ),
    "exploded": (
        "a loss or a norm of a gradient has been above {explosion:g} for {count} log "
        "lines: lower the learning rate, or add a penalty such as r1"
    ),
}


def spread(examples: np.ndarray) -> float:
    """Returns the root mean square distance between two examples.

    Args:
      examples: `[num, ...]`.
    """
    flat = examples.reshape(len(examples), -1).astype(np.float64)
    return float(np.sqrt(2 * flat.var(0).sum()))


class Reference:
    """Real examples that samples are compared with.

    Args:
      source: of the data.
    """

    def __init__(self, source: Any):
        self._source = source

    @functools.cached_property
    def spread(self) -> float:
        """The spread of the data, estimated from at most 256 examples."""
        return spread(self._values("example", 256))

    def measure(self, samples: np.ndarray) -> dict[str, float]:
        """Compares samples with the data.

        Args:
          samples: `[num, *shape]`, stored values.

        Returns:
          `diversity`, the spread of the samples divided by that of the data: 0 for a
          generator that has collapsed to one example. For a source with `centres` and
          `scale`, `modes` and `quality`, see `metrics.modes.Coverage`. For data with
          classes that nearest neighbours tell apart, `classes`, how many of them have
          samples, and if there are at most 20, `share_NAME` of each, or its number.
        """
        found = {"diversity": spread(samples) / max(self.spread, 1e-12)}
        if centres := getattr(self._source, "centres", None):
            coverage = modes.coverage(samples, centres, self._source.scale)
            found |= coverage._asdict()
        elif self._labelled:
            labels = classes.nearest_labels(samples, *self._labelled)
            shares = classes.shares(labels, self._num_classes)
            found["classes"] = int((shares > 0).sum())
            if len(shares) <= _MAX_SHARES:
                each = zip(self._names, shares, strict=True)
                found |= {f"share_{name}": float(x) for name, x in each}
        return found

    def covered(self, found: dict[str, float]) -> float:
        """Returns the share of the known modes or classes that are found, or 1."""
        if "modes" in found:
            return found["modes"] / len(self._source.centres)
        return found["classes"] / self._num_classes if "classes" in found else 1.0

    @functools.cached_property
    def _num_classes(self) -> int:
        condition = self._source.info.condition
        return condition.num_classes if isinstance(condition, Classes) else 0

    @functools.cached_property
    def _names(self) -> list[str]:
        """Names of the classes for metrics, their numbers if these tell them apart."""
        given = self._source.info.condition.names
        safe = [re.sub(r"[^\w.-]+", "_", name).strip("_") for name in given]
        if len(set(safe) - {""}) == self._num_classes:
            return safe
        return [str(i) for i in range(self._num_classes)]

    @functools.cached_property
    def _labelled(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Examples with their labels, None where nearest neighbours do not tell."""
        if self._num_classes < 2:
            return None
        size = max(int(np.prod(self._source.info.example.shape)), 1)
        num = min(_REFERENCES, _NUMBERS // size)
        if num < 10 * self._num_classes:
            return None
        pair = self._values("example", num), self._values("condition", num)
        trusted = classes.leave_one_out_accuracy(*pair) >= _TRUSTED
        return pair if trusted else None

    def _values(self, key: str, num: int) -> np.ndarray:
        if not hasattr(self._source, "sample"):
            num = min(num, len(self._source))
        return fixed_values(self._source, key, num)


class Alarms:
    """Counts for how long each replica has shown the signs of a failed run.

    Args:
      config: the experiment.
      source: of the data.
      counts: `counts` of the checkpoint that the run resumes from.
    """

    def __init__(self, config: ConfigDict, source: Any, counts: dict | None = None):
        self._guard, self._reference = config.guard, Reference(source)
        self._early = _EARLY * config.num_steps
        self.counts: dict[str, list[int]] = dict(counts or {})

    def measure(self, step: int, examples: np.ndarray) -> dict[str, list[float]]:
        """Compares the samples of a grid with the data, and counts collapsed ones.

        Args:
          step: of the grid.
          examples: `[replicas, num, *shape]`, stored values.

        Returns:
          What `Reference.measure` does, each `[replicas]`.
        """
        found = [self._reference.measure(samples) for samples in examples]
        covered = np.array([self._reference.covered(each) for each in found])
        diversity = np.array([each["diversity"] for each in found])
        self._count("low_diversity", diversity < self._guard.diversity)
        self._count("lost_modes", (covered < self._guard.modes) & (step > self._early))
        return {key: [each[key] for each in found] for key in found[0]}

    def see(self, record: dict) -> None:
        """Counts the log lines with signs of failure.

        Args:
          record: of metrics, each `[replicas]`.
        """
        if "d_real" in record:  # a critic has no probability that could be certain
            gap = np.subtract(record["d_real"], record["d_fake"])
            self._count("saturated", gap > _SATURATED)
        self._count("inverted", np.asarray(record["d_accuracy"]) < _INVERTED)
        for player in ("d", "g"):
            norm = np.asarray(record[f"{player}_grad_norm"])
            self._count(f"vanished_{player}", norm < self._guard.vanishing)
        names = ("d_loss", "g_loss", "d_grad_norm", "g_grad_norm")
        largest = np.max([np.abs(record[name]) for name in names], 0)
        self._count("exploded", largest > self._guard.explosion)

    def active(self, replica: int) -> dict[str, str]:
        """Returns a replica's alarms: their messages by their names."""
        guard = self._guard
        limits = {"low_diversity": guard.patience, "lost_modes": guard.patience}
        limits |= {"saturated": guard.saturation, "inverted": guard.saturation}
        found = {}
        for name, message in _MESSAGES.items():
            count = self.counts[name][replica] if name in self.counts else 0
            if count >= limits.get(name, _LINES):
                found[name] = message.format(count=count, **guard)
        return found

    def _count(self, name: str, now: Any) -> None:
        before = self.counts.get(name) or [0] * len(now)
        counted = zip(before, now, strict=True)
        self.counts[name] = [n + 1 if bad else 0 for n, bad in counted]


def healthy(carried: dict) -> bool:
    """Tells from what a checkpoint carries whether all was well when it was saved."""
    return not any(map(any, carried["counts"].values()))
