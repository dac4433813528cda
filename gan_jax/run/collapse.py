"""Guards against collapse: low diversity of samples, and a saturated D."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax.run.pictures import fixed_values

_SATURATED = 0.98  # of mean D(x) - mean D(G(z))
_MESSAGES = {
    "saturated": "D has had no doubt what is real for {count} log lines",
    "low": (
        "the last {count} sample grids had less than {diversity:g} of the data's "
        "variety"
    ),
}


def spread(examples: np.ndarray) -> float:
    """Returns the root mean square distance between two examples.

    Args:
      examples: `[num, ...]`.
    """
    flat = examples.reshape(len(examples), -1).astype(np.float64)
    return float(np.sqrt(2 * flat.var(0).sum()))


def spread_of_data(source: Any, num: int = 256) -> float:
    """Returns the spread of a source's examples, estimated from at most `num`."""
    if not hasattr(source, "sample"):
        num = min(num, len(source))
    return spread(fixed_values(source, "example", num))


class Collapse:
    """Watches the diversity of samples, and whether D is saturated.

    The diversity of samples is their spread divided by that of the data: 0 for a
    generator that has collapsed to one example. D is saturated when it is sure of
    every real and every generated example: then G learns little from it.

    Args:
      config: `config.guard`.
      source: of the data.
      counts: `counts` of the checkpoint that the run resumes from.
    """

    def __init__(self, config: ConfigDict, source: Any, counts: dict | None = None):
        self._config, self._source = config, source
        self._of_data: float | None = None
        self.counts = counts or {"low": [], "saturated": []}

    def diversity(self, examples: np.ndarray) -> list[float]:
        """Returns the diversity of each replica's samples, and counts the low ones.

        Args:
          examples: `[replicas, num, ...]`.
        """
        if self._of_data is None:
            self._of_data = spread_of_data(self._source)
        values = [spread(one) / max(self._of_data, 1e-12) for one in examples]
        self._count("low", [value < self._config.diversity for value in values])
        return values

    def see(self, record: dict) -> None:
        """Counts the log lines at which D is saturated.

        Args:
          record: with `d_real` and `d_fake`, each `[replicas]`.
        """
        gap = np.asarray(record["d_real"]) - np.asarray(record["d_fake"])
        self._count("saturated", (gap > _SATURATED).tolist())

    def alarms(self) -> dict[int, str]:
        """Returns the replicas that have collapsed, and why."""
        found, config = {}, self._config
        limits = {"saturated": config.saturation, "low": config.patience}
        for name, limit in limits.items():
            for replica, count in enumerate(self.counts[name]):
                if count >= limit:
                    message = _MESSAGES[name]
                    text = message.format(count=count, diversity=config.diversity)
                    found[replica] = text
        return found

    def _count(self, name: str, now: list[bool]) -> None:
        before = self.counts[name] or [0] * len(now)
        counted = zip(before, now, strict=True)
        self.counts[name] = [n + 1 if bad else 0 for n, bad in counted]


def healthy(carried: dict) -> bool:
    """Tells from what a checkpoint carries whether all was well when it was saved."""
    return not any(map(any, carried["counts"].values()))
