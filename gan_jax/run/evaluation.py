"""Measures a generator, or two sets of examples, by metrics of their features."""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.keys import purpose_key
from gan_jax.algorithm.players import generate
from gan_jax.algorithm.spaces import Classes, Images, Points, Space
from gan_jax.algorithm.state import TrainState
from gan_jax.build.objectives import terms_of
from gan_jax.data.download import cache_folder
from gan_jax.errors import UserError
from gan_jax.metrics import named
from gan_jax.metrics.features.extractor import Extractor, Outputs, extract
from gan_jax.metrics.metric import Comparison, Metric, Value
from gan_jax.run import sampling
from gan_jax.run.files import write_file

MOST = 50_000  # examples of each side, as is usual for FID
Progress = Callable[[int], None]


class Side(NamedTuple):
    """One of two sets of examples.

    Attributes:
      name: where they are from.
      outputs: what the extractor makes of them.
      examples: `[n, *shape]` as stored; None if only features are known.
      labels: `[n]`, their classes; None without.
      conditions: `[n, ...]`, as stored, if they are no classes; else None.
      extractor: its name; '' if features are given.
    """

    name: str
    outputs: Outputs
    examples: np.ndarray | None = None
    labels: np.ndarray | None = None
    conditions: np.ndarray | None = None
    extractor: str = ""

    def told(self, space: Space | None, conditions: np.ndarray | None) -> "Side":
        """Returns the side with its conditions: as labels if they are classes."""
        key = "labels" if isinstance(space, Classes) else "conditions"
        return self._replace(**{key: conditions})


def build_metrics(text: str) -> tuple[Metric, ...]:
    """Returns the metrics that a text names, such as 'fd, kid(subsets=50)'.

    Raises:
      UserError: there is none, a name is unknown, or its settings do not fit.
    """
    found = tuple(terms_of(text, (Metric,), named))
    if not found:
        raise UserError("there is no metric: name one, such as --metrics=fd")
    return found


def default_extractor(space: Space) -> str:
    """Returns the name of the extractor that suits examples best."""
    if isinstance(space, Points):
        return "identity"
    if isinstance(space, Images):
        return "mnist_lenet" if space.shape == (28, 28, 1) else "inception"
    return "pixels"


# --- The two sides ------------------------------------------------------------------


def real_examples(source: Any, num: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns at most `num` real examples and their conditions, as stored.

    They are all of the source, or if it has more, a random choice that is always the
    same; of a density, `num` draws.
    """
    if hasattr(source, "sample"):
        drawn = jax.jit(source.sample, static_argnums=1)(jax.random.key(0), num)
        drawn = jax.tree.map(np.asarray, drawn)
        return drawn["example"], drawn.get("condition")
    chosen = range(len(source))
    if num < len(source):
        chosen = np.random.default_rng(0).choice(len(source), num, replace=False)
    indices = np.sort(chosen)
    if hasattr(source, "examples"):
        conditions = source.conditions
        told = None if conditions is None else np.asarray(conditions)[indices]
        return np.asarray(source.examples)[indices], told
    entries = [source[int(i)] for i in indices]
    examples = np.stack([entry["example"] for entry in entries])
    if "condition" not in entries[0]:
        return examples, None
    return examples, np.stack([entry["condition"] for entry in entries])


def samples(
    gan: GAN, state: TrainState, num: int, seed: int, conditions: np.ndarray | None
) -> Iterator[np.ndarray]:
    """Yields what the averaged generator makes, as stored, a batch at a time.

    Args:
      gan: the static half.
      state: the array half, of one replica.
      num: how many.
      seed: of the latents.
      conditions: `[num, ...]`, None without a condition.
    """
    latents, key = latents_of(gan, num, seed)
    return sampling.drawn(gan, state, latents, conditions, jax.random.split(key, num))


def latents_of(gan: GAN, num: int, seed: int) -> tuple[Array, Array]:
    """Returns the latents that a generator is measured with, and a key for it."""
    key = purpose_key(jax.random.key(seed), 0, "evaluation")
    return gan.latent.sample(key, num), purpose_key(key, 0, "networks")


def conditions_of(gan: GAN, num: int, real: np.ndarray | None) -> np.ndarray | None:
    """Returns the conditions of `num` samples: each class in turn, or those of reals.

    Raises:
      UserError: the samples need conditions, and the data have none.
    """
    if gan.condition is None:
        return None
    if isinstance(gan.condition, Classes):
        return np.arange(num, dtype=np.int32) % gan.condition.num_classes
    if real is None:
        raise UserError("the run's generator needs conditions, and the data have none")
    return real[np.arange(num) % len(real)]


def traverse(
    extractor: Extractor, gan: GAN, state: TrainState
) -> Callable[[Array], Array] | None:
    """Returns a function from latents to features, without rounding to stored values.

    There is none where the generator needs a condition.
    """
    if gan.condition is not None:
        return None

    def features(latents: Array) -> Array:
        examples, _ = generate(gan, state.ema, latents, train=False)
        if gan.example.bounds is not None:
            low, high = gan.example.bounds
            examples = 255 * (examples - low) / (high - low)
        return extractor.apply(extractor.variables, examples).features

    return features


def side(
    extractor: Extractor,
    name: str,
    batches: Iterator[np.ndarray],
    labels: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Side:
    """Extracts the features of examples `[batch, *shape]`, as stored."""
    kept: list[np.ndarray] = []

    def kept_too():
        for batch in batches:
            kept.append(batch)
            yield batch

    outputs = extract(extractor, kept_too(), progress)
    examples = np.concatenate(kept)
    return Side(name, outputs, examples, labels, extractor=extractor.name)


def batches_of(examples: np.ndarray) -> Iterator[np.ndarray]:
    """Yields examples a batch at a time."""
    size = sampling.BATCH  # then extractors are compiled for one size alone
    for start in range(0, len(examples), size):
        yield examples[start : start + size]


def reference(
    extractor: Extractor,
    source: Any,
    num: int,
    progress: Progress | None = None,
) -> tuple[Side, np.ndarray | None]:
    """Returns at most `num` real examples with their features, and their conditions.

    The features are kept in the user's cache folder for the next time.
    """
    examples, conditions = real_examples(source, num)
    info = source.info

    def make() -> Outputs:
        return extract(extractor, batches_of(examples), progress)

    about = f"{info.name} {info.fingerprint} {examples.dtype} {examples.shape}"
    outputs = cached(extractor, about, make)
    found = Side(info.name, outputs, examples, extractor=extractor.name)
    return found.told(info.condition, conditions), conditions


def cached(extractor: Extractor, data: str, make: Callable[[], Outputs]) -> Outputs:
    """Returns features of a reference, from the user's cache folder if they are there.

    Args:
      extractor: of the features.
      data: all that determines the examples, as text.
      make: extracts them.
    """
    about = repr((extractor.name, extractor.version, extractor.checksum, data))
    digest = hashlib.sha256(about.encode()).hexdigest()[:24]
    file = cache_folder("features") / f"{digest}.npz"
    try:
        with np.load(file, allow_pickle=False) as kept:
            return Outputs(kept["features"], kept.get("logits"))
    except Exception:  # it is not there, or damaged
        outputs = make()
    buffer, arrays = io.BytesIO(), outputs._asdict()
    np.savez(buffer, **{name: x for name, x in arrays.items() if x is not None})
    with contextlib.suppress(OSError):  # a full disk costs time, and no more
        write_file(file, buffer.getvalue())
    return outputs


# --- The comparison -----------------------------------------------------------------


def check(
    metrics: Sequence[Metric],
    real: Side,
    fake: Side,
    test: Side | None = None,
    **offered: Any,
) -> None:
    """Checks that `compare` of such sides, which may be `planned`, has what it needs.

    Raises:
      UserError: a metric lacks something.
    """
    both = comparison(real, fake, test, **offered)
    for metric in metrics:
        metric.check(both)


def check_run(
    metrics: Sequence[Metric],
    extractor: Extractor,
    gan: GAN,
    source: Any,
    num: int,
    held_out: Any = None,
    **offered: Any,
) -> None:
    """Checks that metrics of a run will have what they ask for, before it is drawn.

    Args:
      metrics: to measure.
      extractor: of the features.
      gan: the static half.
      source: of the reference.
      num: how many samples there will be.
      held_out: the source of examples that were not trained on, if there is one.
      **offered: further fields of `Comparison`.

    Raises:
      UserError: a metric lacks something, or the extractor is for other examples.
    """

    def side(spaces: Any, num: int) -> Side:
        told = None
        if (space := spaces.condition) is not None:
            told = jax.ShapeDtypeStruct((num, *space.shape), space.stored_dtype)
        return planned(extractor, spaces.example, num).told(space, told)

    infos = [one.info for one in (source, held_out) if one is not None]
    real, *test = (side(info, min(num, info.num_examples or num)) for info in infos)
    fake = side(gan, num)
    check(metrics, real, fake, *test, source=source, **offered)


def planned(
    extractor: Extractor, space: Space, num: int, has_labels: bool = False
) -> Side:
    """Returns a side that is yet to be drawn: its shapes in place of its arrays.

    Args:
      extractor: of the features.
      space: of an example.
      num: how many examples there will be.
      has_labels: whether each will have a class.

    Raises:
      UserError: the extractor is for other examples.
    """
    examples = jax.ShapeDtypeStruct((num, *space.shape), space.stored_dtype)
    outputs = jax.eval_shape(extractor.apply, extractor.variables, examples)
    labels = jax.ShapeDtypeStruct((num,), np.int32) if has_labels else None
    return Side("planned", outputs, examples, labels, extractor=extractor.name)


def compare(
    metrics: Sequence[Metric],
    real: Side,
    fakes: Sequence[Side],
    test: Side | None = None,
    **offered: Any,
) -> dict[str, Value]:
    """Measures how samples compare with real examples.

    Args:
      metrics: to measure.
      real: the reference.
      fakes: repetitions of the samples, from other seeds.
      test: real examples that were not trained on, if there are any.
      **offered: further fields of `Comparison`.

    Returns:
      The values by their names. The standard error is over repetitions if there are
      several, else the metric's own.

    Raises:
      UserError: a metric lacks what it needs.
    """
    values = {}
    for metric in metrics:
        found = [
            metric.measure(comparison(real, fake, test, **offered)) for fake in fakes
        ]
        for name in found[0]:
            if name in values:
                raise UserError(f"two metrics are called {name!r}")
            values[name] = mean_of([one[name] for one in found])
    return values


def note(metrics: Sequence[Metric], num: int, features: int) -> str:
    """Returns what to know of a Fréchet distance of so few examples; '' of enough."""
    if num > features or all(metric.name != "fd" for metric in metrics):
        return ""
    return (
        f"fd of {num:,} examples with {features:,} features: the covariance is "
        "singular and the bias large, so compare only values of equally many examples"
    )


def mean_of(values: Sequence[Value]) -> Value:
    """Returns the mean of repetitions, and its standard error; of one, its own."""
    if len(values) == 1:
        return values[0]
    numbers = np.array([value for value, _ in values])
    error = numbers.std(ddof=1) / np.sqrt(len(numbers))
    return Value(float(numbers.mean()), float(error))


def floors(
    metrics: Sequence[Metric], real: Side, test: Side | None = None, **offered: Any
) -> dict[str, float]:
    """Returns what each distance is between real examples, by its name.

    Between the reference and examples that were not trained on, or else between two
    halves of the reference.
    """
    pair = (real, test) if test is not None else halves(real)
    both = comparison(*pair, **offered)
    distances = [metric for metric in metrics if metric.distance]
    found = [metric.measure(both) for metric in distances]
    return {name: one[name].value for one in found for name in one}


def comparison(
    real: Side, fake: Side, test: Side | None = None, **offered: Any
) -> Comparison:
    """Returns what metrics of two sides may ask for."""
    fields = {"real_logits": real.outputs.logits, "fake_logits": fake.outputs.logits}
    for kind, one in (("real", real), ("fake", fake), ("test", test)):
        if one is not None:
            fields |= {f"{kind}_examples": one.examples, f"{kind}_labels": one.labels}
            fields[kind] = one.outputs.features
    fields |= {"real_conditions": real.conditions, "fake_conditions": fake.conditions}
    return Comparison(**fields, extractor=fake.extractor, **offered)


def halves(whole: Side) -> tuple[Side, Side]:
    """Splits a set into two at random, always in the same way."""
    order = np.random.default_rng(0).permutation(len(whole.outputs.features))

    def part(at: np.ndarray) -> Side:
        arrays = jax.tree.map(lambda x: x[at], tuple(whole[1:-1]))
        return Side(whole.name, *arrays, extractor=whole.extractor)

    first, second = np.array_split(order, 2)
    return part(first), part(second)
