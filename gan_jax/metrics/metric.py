"""The type of a metric: what it may ask for, and what it returns.

A metric is a function `(real, fake) -> value` of the features of two sets of examples,
under the decorator `@metric`, and is named like a penalty: `kid(subsets=50)`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from gan_jax.errors import UserError
from gan_jax.objective.terms import Term, decorated


class Value(NamedTuple):
    """A result.

    Attributes:
      value: the number.
      stderr: its standard error; None where the metric has none.
    """

    value: float
    stderr: float | None = None


class Comparison(NamedTuple):
    """What a metric may ask for by name.

    Attributes:
      real: `[n, k]`, features of the reference.
      fake: `[m, k]`, features of the samples.
      real_logits: `[n, classes]`, of the extractor's classifier; None if it has none.
      fake_logits: `[m, classes]`, likewise.
      real_labels: `[n]`, the classes of the reference; None without classes.
      fake_labels: `[m]`, the classes that the samples were made for; None without.
      real_examples: `[n, *shape]`, as stored; None if only features are known.
      fake_examples: `[m, *shape]`, likewise.
      real_conditions: `[n, ...]`, of the reference, as stored; None without, or if they
        are classes.
      fake_conditions: `[m, ...]`, what the samples were made from, likewise.
      test: `[l, k]`, features of examples that were not trained on; None without.
      test_examples: `[l, *shape]`, as stored; None if only features are known.
      test_labels: `[l]`, their classes; None without classes.
      traverse: a function, latents `[batch, size]` to the features of what G makes of
        them, not rounded as stored images are; jittable. None without a run.
      latent: the prior, a `Latent`; None without a run.
      source: of the data; None without.
      seed: for what the metric draws.
      extractor: the name of what made the features; '' if they were given.
    """

    real: np.ndarray
    fake: np.ndarray
    real_logits: np.ndarray | None = None
    fake_logits: np.ndarray | None = None
    real_labels: np.ndarray | None = None
    fake_labels: np.ndarray | None = None
    real_examples: np.ndarray | None = None
    fake_examples: np.ndarray | None = None
    real_conditions: np.ndarray | None = None
    fake_conditions: np.ndarray | None = None
    test: np.ndarray | None = None
    test_examples: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    traverse: Callable | None = None
    latent: Any = None
    source: Any = None
    seed: int = 0
    extractor: str = ""


# What a metric needs, by the field of a comparison that is missing.
_LACKS = {
    "real_logits": "an extractor with a classifier, such as inception or mnist_lenet",
    "real_labels": "data with classes",
    "fake_labels": "samples with classes: a conditional run",
    "real_examples": "examples, not features alone",
    "real_conditions": "a run whose condition is no class, such as an image",
    "test": "a test split of the data",
    "latent": "a run that draws latents, not a set of samples",
    "traverse": "a run without conditions, not a set of samples",
    "source": "the data of a run",
}
_LACKS |= {f"fake_{name}": _LACKS[f"real_{name}"] for name in ("logits", "examples")}
_LACKS |= {"fake_conditions": _LACKS["real_conditions"]}
_LACKS |= {f"test_{name}": _LACKS["test"] for name in ("examples", "labels")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric(Term):
    """A comparison of samples with real examples: `(real, fake) -> value`.

    The function returns a number, a pair of a number and its standard error, or several
    of these by their names.

    Attributes:
      minimum: examples that each side must have.
      distance: whether it is a distance of two sets, which then has a floor: that
        between two sets of real examples.
      lower: the name of a value that is better if it is lower, or several names.
      higher: likewise, if it is higher. Of other values it is not known.
      extractor: the name of the only one whose features it is for; '' for any.
    """

    minimum: int = 2
    distance: bool = False
    lower: tuple[str, ...] = ()
    higher: tuple[str, ...] = ()
    extractor: str = ""

    kind: ClassVar[str] = "metric"
    key: ClassVar[str] = "metrics"
    positional: ClassVar[tuple[str, ...]] = Comparison._fields[:2]
    offered: ClassVar[tuple[str, ...]] = Comparison._fields[2:]

    def __post_init__(self):
        """Takes one name for a tuple of one."""
        super().__post_init__()
        for key in ("lower", "higher"):
            names = getattr(self, key)
            names = (names,) if isinstance(names, str) else tuple(names)
            object.__setattr__(self, key, names)

    def measure(self, comparison: Comparison) -> dict[str, Value]:
        """Returns its values by their names.

        Raises:
          UserError: a side has too few examples, or lacks what the metric asks for.
        """
        self.check(comparison)
        asked = {name: getattr(comparison, name) for name in self.asks}
        return self._named(self(*comparison[:2], **asked))

    def check(self, comparison: Comparison) -> None:
        """Checks that a comparison has what the metric needs.

        Args:
          comparison: its arrays may be shapes, of examples that are yet to be drawn.

        Raises:
          UserError: a side has too few examples, or lacks what the metric asks for.
        """
        for side in ("real", "fake"):
            num = getattr(comparison, side).shape[0]
            if num < self.minimum:
                raise UserError(
                    f"metric {self.name!r} needs at least {self.minimum} examples, and "
                    f"there are {num} {side} ones"
                )
        if self.extractor not in ("", comparison.extractor):
            raise UserError(
                f"metric {self.name!r} needs the features of {self.extractor}"
            )
        for name in self.asks:
            if getattr(comparison, name) is None:
                raise UserError(f"metric {self.name!r} needs {_LACKS[name]}")

    def _named(self, found: Any) -> dict[str, Value]:
        if not isinstance(found, Mapping):
            found = {self.name: found}
        pairs = {
            name: Value(*(one if isinstance(one, tuple) else (one,)))
            for name, one in found.items()
        }
        for name in (*self.lower, *self.higher):
            if name not in pairs:
                raise self._error(f"gives no {name!r}, which its decorator names")
        for name, (value, _) in pairs.items():
            if not math.isfinite(value):
                raise UserError(f"metric {name!r} is {value}: check the examples")
        return {
            name: Value(float(value), None if error is None else float(error))
            for name, (value, error) in pairs.items()
        }


def metric(function: Callable | None = None, **options):
    """Makes a `Metric` of a function: `@metric`, or `@metric(lower="fd")`."""
    return decorated(Metric, function, options)
