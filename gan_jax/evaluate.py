"""Measures samples: `python -m gan_jax.evaluate --workdir=DIR`.

Draws samples from the averaged generator of a run (`--step`, `--replica`; by default
the newest checkpoint of each replica) or of an exported folder, and compares them with
the data that it was trained on. Or compares two sets, `--real=PATH --fake=PATH`:
folders of images, or npz files with `images` or `features`. `--metrics` names what is
measured, and `--features` the network whose features are compared; docs/metrics.md
explains them. Prints a table, or one JSON object (`--json`). Exit status: 0 done, 2 bad
input.

The workdir may come from elsewhere: no code that its config names is run, unless it is
named here too (`--model=FILE`, `--source=FILE`).
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from gan_jax import cli, data
from gan_jax import config as config_lib
from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.errors import UserError, one_line
from gan_jax.metrics.features.extractor import Extractor, Outputs, load_extractor
from gan_jax.metrics.metric import Metric, Value
from gan_jax.run import evaluation, exported, image_sets, workdir
from gan_jax.run.evaluation import Side
from gan_jax.run.restore import allowed, load

WORKDIR, STEP, REPLICA, NUM, SEED, MODEL, OPTIMIZER = cli.run_flags()
REAL = flags.DEFINE_string("real", None, "A folder of real images, or an npz file.")
FAKE = flags.DEFINE_string("fake", None, "A folder of samples, or an npz file.")
METRICS = flags.DEFINE_string(
    "metrics", "fd, kid, prdc", "What to measure, such as 'fd, kid(subsets=50)'."
)
FEATURES = flags.DEFINE_string(
    "features",
    "",
    "Whose features to compare: inception, efficientnet_lite0, mnist_lenet, pixels, "
    "identity, or your FILE.py:NAME; by default what suits the examples.",
)
WEIGHTS = flags.DEFINE_string("weights", None, "The file of the features' weights.")
REPEATS = flags.DEFINE_integer("repeats", 1, "Sets of samples, from as many seeds.")
JSON = cli.json_flag()
SOURCE = flags.DEFINE_string(
    "source", None, "The file of the run's data source, if your own."
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data are, if elsewhere.")
MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", None, "The folder of original files, if elsewhere."
)


def main() -> None:
    """Runs the command."""
    _check_flags()
    start = time.perf_counter()
    metrics = evaluation.build_metrics(METRICS.value)
    measure = _of_run if WORKDIR.value else _of_sets
    found = measure(metrics)
    found["seconds"] = round(time.perf_counter() - start, 1)
    if JSON.value:
        print(json.dumps(found))
    else:
        _print(found)


def _check_flags() -> None:
    """Checks what can be checked before anything is loaded.

    Raises:
      UserError: a flag, or a combination of flags, makes no sense.
    """
    sets = REAL.value is not None, FAKE.value is not None
    if bool(WORKDIR.value) == any(sets) or sets[0] != sets[1]:
        raise UserError("give --workdir=DIR, or --real=PATH and --fake=PATH")
    if any(sets):
        of_run = (NUM, REPEATS, SEED, STEP, REPLICA, MODEL, SOURCE, OPTIMIZER)
        for flag in (*of_run, DATA_DIR, MANUAL_DIR):
            if cli.is_given(flag):
                raise UserError(
                    f"--{flag.name} is for a run, not for --real and --fake"
                )
    if NUM.value is not None and not 2 <= NUM.value <= 10_000_000:
        raise UserError(f"--num={NUM.value}: it must be from 2 to 10,000,000")
    if not 1 <= REPEATS.value <= 1000:
        raise UserError(f"--repeats={REPEATS.value}: it must be from 1 to 1000")
    config_lib.check_seed("--seed", SEED.value)


# --- A run --------------------------------------------------------------------------


def _of_run(metrics: tuple[Metric, ...]) -> dict[str, Any]:
    config, about = _config()
    space, _ = workdir.spaces(about)
    name = FEATURES.value or evaluation.default_extractor(space)
    extractor = load_extractor(name, WEIGHTS.value)
    source = data.load(config)
    num = NUM.value or min(source.info.num_examples or 10_000, evaluation.MOST)
    real, conditions = _reference(extractor, source, num)
    test = _test_side(extractor, config, source.info.fingerprint, num)
    each = range(config.replicas) if REPLICA.value is None else [REPLICA.value]
    other = about["fingerprint"] != source.info.fingerprint
    found = []
    for replica in each:
        gan, state = load(
            WORKDIR.value, STEP.value, replica, MODEL.value, OPTIMIZER.value
        )
        told = evaluation.conditions_of(gan, num, conditions)
        labels = told if isinstance(gan.condition, Classes) else None
        fakes = []
        for seed in range(SEED.value, SEED.value + REPEATS.value):
            with _progress(f"replica {replica}, seed {seed}", num) as advance:
                drawn = evaluation.samples(gan, state, num, seed, told)
                what = f"step {state.step}, replica {replica}, seed {seed}"
                fakes.append(evaluation.side(extractor, what, drawn, labels, advance))
        offered = {
            **{"source": source, "latent": gan.latent, "seed": SEED.value},
            "traverse": evaluation.traverse(extractor, gan, state),
        }
        found.append(evaluation.compare(metrics, real, fakes, test, **offered))
    floors = evaluation.floors(metrics, real, test, source=source, seed=SEED.value)
    return {
        **_joined(found, floors, len(real.outputs.features), num),
        "features": _about(extractor),
        "protocol": {
            "workdir": WORKDIR.value,
            "step": int(state.step),
            "replicas": list(each),
            "generator": "averaged",
            "seeds": list(range(SEED.value, SEED.value + REPEATS.value)),
            "reference": source.info.name,
            "trained_on": about["name"] if other else None,
            "test": test.name if test else None,
        },
    }


def _config() -> tuple[ConfigDict, dict]:
    """Returns the run's config, with the data where the flags say, and what they were.

    Raises:
      UserError: the workdir holds no run, or its data come from code that is not named.
    """
    path, config = Path(WORKDIR.value), config_lib.default()
    is_exported = exported.is_one(path)
    content = (exported if is_exported else workdir).read(path)
    try:
        config.update(content["config"])
        workdir.spaces(content["data"])
    except Exception as error:
        what = f"the files of {path} describe no run ({one_line(error)})"
        raise UserError(what) from error
    if is_exported:  # one generator, whatever the run had
        config.replicas = 1
    trusted = [SOURCE.value] if SOURCE.value else []
    config.data.source = allowed("source", config.data.source, trusted)
    for flag in (DATA_DIR, MANUAL_DIR):
        if flag.value is not None:
            config.data[flag.name] = flag.value
    return config, content["data"]


def _reference(
    extractor: Extractor, source: Any, num: int
) -> tuple[Side, np.ndarray | None]:
    with _progress(source.info.name, num) as advance:
        return evaluation.reference(extractor, source, num, advance)


def _test_side(
    extractor: Extractor, config: ConfigDict, trained_on: str, num: int
) -> Side | None:
    """Returns examples of the test split, None if the data have none."""
    if config.data.split != "train" or config.data.source == "toy":
        return None
    held_out = config.copy_and_resolve_references()
    held_out.data.split = "test"
    try:
        source = data.load(held_out)
    except UserError:
        return None
    if source.info.fingerprint == trained_on:
        return None  # the source knows no splits
    return _reference(extractor, source, num)[0]


def _joined(
    found: list[dict[str, Value]], floors: dict[str, float], n_real: int, n_fake: int
) -> dict[str, dict[str, Any]]:
    """Returns the values over all replicas, as JSON has them."""
    joined = {}
    for name in found[0]:
        values = [one[name] for one in found]
        joined[name] = {
            **evaluation.mean_of(values)._asdict(),
            **{"n_real": n_real, "n_fake": n_fake, "floor": floors.get(name)},
        }
        if len(values) > 1:
            joined[name]["replicas"] = [value for value, _ in values]
    return joined


# --- Two sets -----------------------------------------------------------------------


def _of_sets(metrics: tuple[Metric, ...]) -> dict[str, Any]:
    sets = [image_sets.open_set(path) for path in (REAL.value, FAKE.value)]
    with_features = [one.has_features for one in sets]
    if any(with_features) != all(with_features):
        raise UserError("give images on both sides, or features on both")
    if all(with_features):
        extractor = None
        real, fake = (
            Side(
                one.name,
                Outputs(one.arrays["features"], one.arrays.get("logits")),
                labels=one.arrays.get("labels"),
            )
            for one in sets
        )
        if sets[0].shape != sets[1].shape:
            raise UserError(
                f"{sets[0].name} has {sets[0].shape[0]} features and {sets[1].name} "
                f"{sets[1].shape[0]}"
            )
    else:
        extractor, real, fake = _extracted(sets)
    found = evaluation.compare(metrics, real, [fake])
    floors = evaluation.floors(metrics, real)
    return {
        **_joined([found], floors, sets[0].num, sets[1].num),
        "features": _about(extractor),
        "protocol": {"real": sets[0].name, "fake": sets[1].name},
    }


def _extracted(sets: list[image_sets.ExampleSet]) -> tuple[Extractor, Side, Side]:
    shapes = [one.shape for one in sets]
    if shapes[0][:2] != shapes[1][:2]:
        raise UserError(
            f"the images have different sizes: {shapes[0][0]}x{shapes[0][1]} in "
            f"{sets[0].name}, {shapes[1][0]}x{shapes[1][1]} in {sets[1].name}"
        )
    channels = max(shape[2] for shape in shapes)
    if shapes[0][2] != shapes[1][2]:
        grey_one = sets[0] if shapes[0][2] == 1 else sets[1]
        print(f"{grey_one.name} is grey: repeated to 3 channels", file=sys.stderr)
    images = Images((*shapes[0][:2], channels))
    name = FEATURES.value or evaluation.default_extractor(images)
    extractor, sides = load_extractor(name, WEIGHTS.value), []
    for one in sets:
        with _progress(one.name, one.num) as advance:
            labels = one.arrays.get("labels")
            batches = one.batches(channels)
            sides.append(evaluation.side(extractor, one.name, batches, labels, advance))
    return extractor, *sides


# --- What is printed ----------------------------------------------------------------


def _about(extractor: Extractor | None) -> dict[str, str]:
    if extractor is None:
        return {"name": "given", "version": "", "checksum": "", "distance": "FD"}
    names = ("name", "version", "checksum", "distance")
    return {name: getattr(extractor, name) for name in names}


class _Speed(ProgressColumn):
    """Examples a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} examples/s")


@contextlib.contextmanager
def _progress(title: str, num: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar on a terminal; yields what moves it by a number of examples."""
    columns = TextColumn("{task.description}"), BarColumn(), _Speed()
    hidden = not sys.stderr.isatty()
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=hidden
    ) as bar:
        task = bar.add_task(title, total=num)
        yield lambda done: bar.update(task, completed=done)


def _print(found: dict[str, Any]) -> None:
    features, protocol = found.pop("features"), found.pop("protocol")
    seconds = found.pop("seconds")
    table = Table("metric", "value", "±", "floor", "real", "samples", box=SIMPLE)
    for name, result in found.items():
        title = f"{name} ({features['distance']})" if name == "fd" else name
        numbers = [result["value"], result["stderr"], result["floor"]]
        cells = ["" if x is None else f"{x:.4g}" for x in numbers]
        table.add_row(title, *cells, f"{result['n_real']:,}", f"{result['n_fake']:,}")
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(f"features: {' '.join(filter(None, list(features.values())[:2]))}")
    for name, value in protocol.items():
        if value is not None:
            console.print(f"{name}: {value}")
    console.print(f"{seconds} s")


if __name__ == "__main__":
    cli.run(main)
