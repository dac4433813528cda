"""Measures samples: `python -m gan_jax.evaluate --workdir=DIR`.

Draws samples from the averaged generator of a run (`--step`, `--replica`; by default
the newest checkpoint of each replica) or of an exported folder, and compares them with
the data that it was trained on, or with another split of them (`--split=test`). Or
compares two sets, `--real=PATH --fake=PATH`: folders of images, or npz files with
`images` or `features`. `--metrics` names what is measured, and `--features` the network
whose features are compared; docs/metrics.md explains them. Prints a table, or one JSON
object (`--json`). `--pairs=FILE.png` draws the samples that are nearest to the training
set, each beside the training examples that it may be a copy of. Exit status: 0 done, 2
bad input.

The workdir may come from elsewhere: no code that its config names is run, unless it is
named here too (`--model=FILE`, `--source=FILE`).
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from gan_jax import cli, data
from gan_jax import config as config_lib
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.spaces import Images, Points, Space
from gan_jax.algorithm.state import TrainState
from gan_jax.build import names
from gan_jax.data.source import Info
from gan_jax.errors import UserError, one_line
from gan_jax.metrics.features.extractor import Extractor, Outputs, load_extractor
from gan_jax.metrics.memorisation import nearest_training
from gan_jax.metrics.metric import Metric, Value
from gan_jax.run import evaluation, exported, image_sets, pictures, workdir
from gan_jax.run.evaluation import Side
from gan_jax.run.files import as_path, write_file
from gan_jax.run.progress import examples_bar
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
    "identity, or your FILE.py:NAME; by default the run's eval.features, or what suits "
    "the examples.",
)
WEIGHTS = flags.DEFINE_string("weights", None, "The file of the features' weights.")
REPEATS = flags.DEFINE_integer("repeats", 1, "Sets of samples, from as many seeds.")
PAIRS = flags.DEFINE_string(
    "pairs", None, "Draw the samples nearest to the training set to this FILE.png."
)
JSON = cli.json_flag()
SOURCE = flags.DEFINE_string(
    "source", None, "The file of the run's data source, if your own."
)
SPLIT = flags.DEFINE_string(
    "split",
    None,
    "Compare with this split of the data, such as test; default: its own.",
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data are, if elsewhere.")
MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", None, "The folder of original files, if elsewhere."
)

_NEAREST = 5  # real examples beside each sample in the picture of pairs


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
        for flag in (*of_run, SPLIT, DATA_DIR, MANUAL_DIR):
            if cli.is_given(flag):
                raise UserError(
                    f"--{flag.name} is for a run, not for --real and --fake"
                )
    if NUM.value is not None and not 2 <= NUM.value <= 10_000_000:
        raise UserError(f"--num={NUM.value}: it must be from 2 to 10,000,000")
    if not 1 <= REPEATS.value <= 1000:
        raise UserError(f"--repeats={REPEATS.value}: it must be from 1 to 1000")
    config_lib.check_seed("--seed", SEED.value)
    cli.check_file(PAIRS, ".png")


# --- A run --------------------------------------------------------------------------


def _of_run(metrics: tuple[Metric, ...]) -> dict[str, Any]:
    config, about = _config()
    each = range(config.replicas) if REPLICA.value is None else [REPLICA.value]
    gan, states = _opened(each)
    _check_pairs(gan.example)
    extractor = _extractor(config, gan.example)
    source = data.load(config)
    held_out = _held_out(config, source.info.fingerprint)
    num = NUM.value or min(source.info.num_examples or 10_000, evaluation.MOST)

    def offered(state: TrainState) -> dict[str, Any]:
        traverse = evaluation.traverse(extractor, gan, state)
        return {"latent": gan.latent, "seed": SEED.value, "traverse": traverse}

    first = offered(states[0])
    evaluation.check_run(metrics, extractor, gan, source, num, held_out, **first)
    real, conditions = _reference(extractor, source, num)
    test = _reference(extractor, held_out, num)[0] if held_out else None
    told, found = evaluation.conditions_of(gan, num, conditions), []
    for replica, state in zip(each, states, strict=True):
        fakes = _fakes(extractor, gan, state, told, num, replica)
        if not found:
            _write_pairs(gan.example, real, fakes[0])
        also = {"source": source, **offered(state)}
        found.append(evaluation.compare(metrics, real, fakes, test, **also))
    floors = evaluation.floors(metrics, real, test, source=source, seed=SEED.value)
    return {
        **_joined(found, floors, len(real.outputs.features), num),
        "features": _about(extractor),
        "protocol": {
            **{"workdir": WORKDIR.value, "step": int(state.step)},
            **{"replicas": list(each), "generator": "averaged", "seeds": _seeds()},
            **_data_protocol(about, source.info, test),
            "pairs": PAIRS.value,
            "note": _note(metrics, real, fakes[0]),
        },
    }


def _note(metrics: tuple[Metric, ...], real: Side, fake: Side) -> str | None:
    (one, features), (other, _) = (x.outputs.features.shape for x in (real, fake))
    return evaluation.note(metrics, min(one, other), features) or None


def _opened(replicas: Sequence[int]) -> tuple[GAN, list[TrainState]]:
    """Opens replicas of the run; one GAN for all, so that it is compiled once."""
    how = MODEL.value, OPTIMIZER.value
    found = [load(WORKDIR.value, STEP.value, i, *how) for i in replicas]
    return found[0][0], [state for _, state in found]


def _extractor(config: ConfigDict, space: Space) -> Extractor:
    """Loads the extractor of the flag, else that of the run's own evaluations.

    Raises:
      UserError: it cannot be had, or is code that only the run names.
    """
    name = FEATURES.value or config.eval.features
    for called, _ in [] if FEATURES.value else names.parse_calls(name):
        allowed("features", called, [])
    name = name or evaluation.default_extractor(space)
    return load_extractor(name, WEIGHTS.value)


def _seeds() -> list[int]:
    return list(range(SEED.value, SEED.value + REPEATS.value))


def _fakes(
    extractor: Extractor,
    gan: GAN,
    state: TrainState,
    conditions: np.ndarray | None,
    num: int,
    replica: int,
) -> list[Side]:
    """Draws the samples of a replica, a set from each seed."""
    found = []
    for seed in _seeds():
        with examples_bar(f"replica {replica}, seed {seed}", num) as advance:
            drawn = evaluation.samples(gan, state, num, seed, conditions)
            what = f"step {state.step}, replica {replica}, seed {seed}"
            one = evaluation.side(extractor, what, drawn, progress=advance)
            found.append(one.told(gan.condition, conditions))
    return found


def _data_protocol(about: dict, info: Info, test: Side | None) -> dict[str, Any]:
    other = about["fingerprint"] != info.fingerprint
    return {
        "reference": info.name,
        "trained_on": about["name"] if other else None,
        "test": test.name if test else None,
    }


def _config() -> tuple[ConfigDict, dict]:
    """Returns the run's config, with the data where the flags say, and what they were.

    Raises:
      UserError: the workdir holds no run, or its data come from code that is not named.
    """
    path, config = as_path(WORKDIR.value), config_lib.default()
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
    for flag in (SPLIT, DATA_DIR, MANUAL_DIR):
        if flag.value is not None:
            config.data[flag.name] = flag.value
    return config, content["data"]


def _reference(
    extractor: Extractor, source: Any, num: int
) -> tuple[Side, np.ndarray | None]:
    with examples_bar(source.info.name, num) as advance:
        return evaluation.reference(extractor, source, num, advance)


def _held_out(config: ConfigDict, trained_on: str) -> Any | None:
    """Returns the source of the test split, None if the data have none."""
    if config.data.split != "train" or config.data.source == "toy":
        return None
    held_out = config.copy_and_resolve_references()
    held_out.data.split = "test"
    try:
        source = data.load(held_out)
    except UserError:
        return None
    # With the same fingerprint, the source knows no splits.
    return None if source.info.fingerprint == trained_on else source


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
        _check_pairs(None)
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
        extractor, real, fake = _extracted(metrics, sets)
    found = evaluation.compare(metrics, real, [fake])
    floors = evaluation.floors(metrics, real)
    return {
        **_joined([found], floors, sets[0].num, sets[1].num),
        "features": _about(extractor),
        "protocol": {
            **{"real": sets[0].name, "fake": sets[1].name},
            "pairs": PAIRS.value,
            "note": _note(metrics, real, fake),
        },
    }


def _extracted(
    metrics: tuple[Metric, ...], sets: list[image_sets.ExampleSet]
) -> tuple[Extractor, Side, Side]:
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
    planned = (
        evaluation.planned(extractor, images, one.num, "labels" in one.arrays)
        for one in sets
    )
    evaluation.check(metrics, *planned)
    for one in sets:
        with examples_bar(one.name, one.num) as advance:
            labels = one.arrays.get("labels")
            batches = one.batches(channels)
            sides.append(evaluation.side(extractor, one.name, batches, labels, advance))
    _write_pairs(images, *sides)
    return extractor, *sides


# --- The picture of pairs -----------------------------------------------------------


def _check_pairs(space: Space | None) -> None:
    """Checks that the picture can show the examples; None if there are none.

    Raises:
      UserError: it cannot.
    """
    if PAIRS.value and (space is None or isinstance(space, Points)):
        what = "features alone" if space is None else "points"
        raise UserError(f"--pairs shows images, and these are {what}")


def _write_pairs(space: Space, real: Side, fake: Side) -> None:
    """Writes the picture of samples and the real examples nearest to them."""
    if not PAIRS.value:
        return
    features = fake.outputs.features, real.outputs.features
    found = nearest_training(*features, min(_NEAREST, len(features[1])))
    content = pictures.pairs(space, fake.examples, real.examples, found)
    write_file(as_path(PAIRS.value), content)


# --- What is printed ----------------------------------------------------------------


def _about(extractor: Extractor | None) -> dict[str, str]:
    if extractor is None:
        return {"name": "given", "version": "", "checksum": "", "distance": "FD"}
    keys = ("name", "version", "checksum", "distance")
    return {key: getattr(extractor, key) for key in keys}


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
