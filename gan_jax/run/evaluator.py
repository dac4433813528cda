"""Measures a run while it trains."""

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm.gan import GAN
from gan_jax.devices import hosts
from gan_jax.errors import UserError
from gan_jax.metrics.features.extractor import load_extractor
from gan_jax.run import best, evaluation
from gan_jax.run.evaluation import Side
from gan_jax.run.programs import EVALUATED


class Evaluator:
    """Compares samples with the data, by the metrics that a config names.

    The samples are of the same latents at every step, and nothing of the run's own
    randomness is used: a run is the same with and without evaluations.

    Args:
      config: the experiment; its `eval` says what is measured.
      gan: the static half.
      source: of the data.

    Attributes:
      criterion: which of two evaluations is better; None if the config does not ask.

    Raises:
      UserError: a metric, the extractor or the value of `eval.best` is unknown, or
        cannot be had.
    """

    def __init__(self, config: ConfigDict, gan: GAN, source: Any):
        self._config, self._gan, self._source = config, gan, source
        self._metrics = evaluation.build_metrics(config.eval.metrics)
        name = config.eval.features or evaluation.default_extractor(gan.example)
        self._extractor = load_extractor(name)
        self._check()
        value = config.eval.best
        self.criterion = best.criterion(value, self._metrics) if value else None

    def measure(self, draw: Callable) -> dict[str, Any]:
        """Measures every replica.

        Args:
          draw: `(latents, condition, seed) -> [replicas, batch, *shape]`, stored
            values.

        Returns:
          For each metric a list of its values, one of each replica; and what they were
          measured with, as `evaluations.jsonl` has it.

        Raises:
          UserError: a metric lacks what it needs.
        """
        start = time.monotonic()
        real, conditions = self._reference
        num = self._config.eval.num
        told = evaluation.conditions_of(self._gan, num, conditions)
        samples = self._samples(draw, num, told)
        found = []
        for examples in samples:
            batches = evaluation.batches_of(examples)
            fake = evaluation.side(self._extractor, "samples", batches)
            fake = fake.told(self._gan.condition, told)
            offered = {"source": self._source}
            found.append(evaluation.compare(self._metrics, real, [fake], **offered))
        return {
            **{name: [one[name].value for one in found] for name in found[0]},
            "floor": self._floors,
            "n_real": len(real.outputs.features),
            "n_fake": num,
            "features": f"{self._extractor.name} {self._extractor.version}",
            "reference": real.name,
            "seconds": round(time.monotonic() - start, 3),
        }

    def _check(self) -> None:
        """Checks that every metric will have what it asks for."""
        later = {"test", "test_examples", "test_labels", "traverse", "latent"}
        later |= {"real_conditions", "fake_conditions"}  # of examples trained on
        for metric in self._metrics:
            if later & set(metric.asks):
                raise UserError(
                    f"eval.metrics: {metric.name!r} is not measured while training: "
                    "use python -m gan_jax.evaluate"
                )
        num, source = self._config.eval.num, self._source
        evaluation.check_run(self._metrics, self._extractor, self._gan, source, num)

    def _samples(self, draw: Callable, num: int, told: np.ndarray | None) -> np.ndarray:
        """Returns `[replicas, num, *shape]`, stored values."""
        latents, _ = evaluation.latents_of(self._gan, num, seed=0)
        latents = np.asarray(latents)  # which is the same on all hosts
        size, parts = min(num, EVALUATED), []
        for first in range(0, num, size):  # the last is filled up, for one program
            at = np.minimum(np.arange(first, first + size), num - 1)
            condition = None if told is None else told[at]
            parts.append(draw(latents[at], condition, np.uint32(first)))
        return np.concatenate([np.asarray(part) for part in parts], 1)[:, :num]

    @functools.cached_property
    def _floors(self) -> dict[str, float]:
        real, _ = self._reference
        return evaluation.floors(self._metrics, real, source=self._source)

    @functools.cached_property
    def _reference(self) -> tuple[Side, np.ndarray | None]:
        num = self._config.eval.num
        real, conditions = evaluation.reference(self._extractor, self._source, num)
        of_real, features = real.outputs.features.shape
        if note := evaluation.note(self._metrics, min(of_real, num), features):
            hosts.say(f"warning: {note}")
        return real, conditions
