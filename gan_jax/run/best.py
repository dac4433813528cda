"""Keeps the checkpoint whose evaluation is best, besides the last few.

It lies in a folder of its own, in the format of the others, with the value that chose
it: a run that resumes knows what it must beat.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from gan_jax.algorithm.state import TrainState
from gan_jax.devices import hosts
from gan_jax.errors import UserError, choices
from gan_jax.metrics.metric import Metric
from gan_jax.run.checkpoint import Checkpoints


class Criterion(NamedTuple):
    """Which of two evaluations is better.

    Attributes:
      name: of the value that decides.
      metric: which gives it.
    """

    name: str
    metric: Metric

    def found(
        self, evaluated: dict[str, Any], training: Collection[int]
    ) -> dict[str, Any]:
        """Returns the `value` of an evaluation, and `by`, what else it depends on.

        Args:
          evaluated: what `Evaluator.measure` returned.
          training: the replicas that still train; the value is their mean.
        """
        values = [evaluated[self.name][i] for i in training]
        settings = ", ".join(f"{k}={x!r}" for k, x in self.metric.settings)
        by = (
            f"{self.name} of {self.metric.name}({settings}), on {evaluated['n_fake']} "
            f"samples, {evaluated['n_real']} examples of {evaluated['reference']} and "
            f"the features of {evaluated['features']}"
        )
        return {"value": float(np.mean(values)), "by": by}

    def is_better(self, one: float, other: float) -> bool:
        """Tells whether a value is better than another."""
        return one < other if self.name in self.metric.lower else one > other


def criterion(name: str, metrics: Sequence[Metric]) -> Criterion:
    """Returns the criterion by a value of some metrics.

    Args:
      name: of the value, such as 'fd', or 'precision' of `prdc`.
      metrics: those that are measured.

    Raises:
      UserError: none of them says that lower or higher is better for it.
    """
    directed = {
        value: metric for metric in metrics for value in metric.lower + metric.higher
    }
    if name in directed:
        return Criterion(name, directed[name])
    how = f"; a metric of your own says it by @metric(lower={name!r})"
    known = all(metric.lower or metric.higher for metric in metrics)
    raise UserError(
        f"eval.best is {name!r}: eval.metrics gives no such value of which lower or "
        f"higher is better{choices(name, directed)}{'' if known else how}"
    )


class Best:
    """Keeps the best state that was evaluated, and saves it in the background.

    That it cannot be saved is logged, and stops no run.

    Args:
      folder: its checkpoints, of which one is kept.
      criterion: which of two evaluations is better.
    """

    def __init__(self, folder: Checkpoints, criterion: Criterion):
        self._folder, self._criterion = folder, criterion
        step, carried = folder.latest_carried() or (-1, {})
        folder.drop(lambda other: other < step)  # a kill may leave it, or parts of it
        self._kept, self._pending = (step, carried.get("best")), None

    def offer(
        self,
        state: TrainState,
        step: int,
        evaluated: dict[str, Any] | None,
        training: Collection[int],
        carried: Callable[[], dict],
    ) -> None:
        """Saves a state if it is better than what is kept.

        Args:
          state: of the run.
          step: its number.
          evaluated: what `Evaluator.measure` returned; None if it failed.
          training: the replicas that still train.
          carried: returns what its checkpoint carries besides.
        """
        self._finish()
        found = self._criterion.found(evaluated, training) if evaluated else None
        if not hosts.of_first(self._is_best(step, found)):
            return
        try:
            self._folder.save(state, step, carried() | {"best": found})
            self._pending = step, found
        except OSError as error:
            self._fail(step, error)

    def _is_best(self, step: int, found: dict | None) -> bool:
        """Tells whether to save a step.

        Steps up to the kept one have been compared, before the run was resumed. A value
        that was measured in another way cannot be compared.
        """
        last, kept = self._kept
        if found is None or step <= last:
            return False
        if kept is None:
            return True
        if kept["by"] != found["by"]:
            hosts.say(
                f"the best checkpoint, of step {last}, was chosen by {kept['by']}: "
                f"step {step} replaces it, the first by {found['by']}"
            )
            return True
        return self._criterion.is_better(found["value"], kept["value"])

    def _finish(self) -> None:
        """Waits for the save under way, and remembers its value if it succeeded."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            self._folder.wait()
            self._kept = pending
        except OSError as error:
            self._fail(pending[0], error)

    def _fail(self, step: int, error: OSError) -> None:
        hosts.say(
            f"cannot save step {step}, the best one ({error}); the one before it is "
            "kept, and training goes on"
        )
