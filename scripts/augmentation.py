"""Measures whether a GAN helps a classifier that has few real examples.

    python scripts/augmentation.py --manual_dir=FOLDER
    python scripts/augmentation.py --data=fashion_mnist --manual_dir=FOLDER

For each seed and number of real examples a class (scripts/few.py chooses them), a
conditional GAN is trained on those alone, with differentiable augmentation
(arXiv:2006.10738). The classifier of the metric `cas` then learns from

    reals      the real examples alone,
    classical  the same, each rotated, scaled and shifted at random in each batch,
    samples    the real examples and samples of the GAN, on average in halves,
    both       the same, all of them rotated, scaled and shifted,

always for the same number of steps, and is tested on the whole test split. With
`--split=validation` the 10,000 last training examples take the place of the test
split: settings are chosen there, with other seeds (`--first_seed=100`).

The table is put between its marks in docs/augmentation.md. The runs stay in --runs:
finished ones are not repeated, and stopped ones resume.
"""

import json
from pathlib import Path

import numpy as np
from absl import flags
from few import POOL
from ml_collections import ConfigDict
from tables import put, spread, versus

from gan_jax import cli, data
from gan_jax.build.names import user_object
from gan_jax.data import tfds
from gan_jax.metrics.classifier_score import Labelled, accuracy, moved
from gan_jax.run import evaluation
from gan_jax.run.files import write_file
from gan_jax.run.restore import load
from gan_jax.run.training import train

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/augmentation.md"

DATA = flags.DEFINE_enum("data", "mnist", ["mnist", "fashion_mnist"], "Which set.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "The folder of its own files.")
SIZES = flags.DEFINE_list("sizes", ["10", "30", "100", "1000"], "Reals of each class.")
SEEDS = flags.DEFINE_integer("seeds", 5, "Seeds of each row.", lower_bound=2)
FIRST_SEED = flags.DEFINE_integer("first_seed", 0, "The first of them.")
SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "validation"], "What the classifier is tested on."
)
STEPS = flags.DEFINE_integer("num_steps", 1_000, "Generator updates of a GAN.")
WIDTH = flags.DEFINE_integer("width", 16, "Channels of a GAN.")
AUGMENT = flags.DEFINE_string(
    "augment", "color, translation, cutout", "What its D sees examples through."
)
SAMPLES = flags.DEFINE_integer("samples", 10_000, "Samples of a GAN.")
CLASSIFIER_STEPS = flags.DEFINE_integer("classifier_steps", 500, "Of a classifier.")
RUNS = flags.DEFINE_string("runs", "runs/augmentation", "The folder of the runs.")
WRITE = flags.DEFINE_bool("write", True, "Write the table into docs/augmentation.md.")

METHODS = ("reals", "classical", "samples", "both")
BATCH = 64  # of GANs and classifiers


def main() -> None:
    """Runs the command."""
    rows = [
        "| reals of each class | samples per real | reals alone | + classical "
        "| + samples | + both | both − classical |",
        "|---" * 7 + "|",
    ]
    for num in SIZES.value:
        seeds = range(FIRST_SEED.value, FIRST_SEED.value + SEEDS.value)
        found = np.array([accuracies(config_of(num, seed)) for seed in seeds])
        rows.append(row(int(num), 100 * found))
        print(rows[-1], flush=True)
    if WRITE.value and SPLIT.value == "test":
        command = f"scripts/augmentation.py --data={DATA.value}"
        put(PAGE, command, "\n".join(rows))


def config_of(num: str, seed: int) -> ConfigDict:
    """Returns the config of the GAN of so many real examples of each class."""
    path = ROOT / f"configs/{DATA.value}.py:get_config"
    config = user_object("config", str(path))("conditional")
    config.data.source, config.data.split = str(ROOT / "scripts/few.py"), num
    config.data.manual_dir, config.data.fallback = MANUAL_DIR.value, False
    config.seed, config.num_steps, config.width = seed, STEPS.value, WIDTH.value
    config.batch_size, config.augment, config.eval.every = BATCH, AUGMENT.value, 0
    config.optimizer = "adam(learning_rate=2e-3, b1=0.0, b2=0.99)"
    config.penalties, config.discriminator = "r1(weight=1)", 'norm="none"'
    config.sample_every = config.checkpoint_every = STEPS.value
    config.log_every = STEPS.value // 10
    return config


def accuracies(config: ConfigDict) -> list[float]:
    """Returns the accuracy by each of `METHODS`, and keeps it beside the GAN's run."""
    path = Path(RUNS.value) / f"{DATA.value}-{config.data.split}-seed{config.seed}"
    names = ("num_steps", "width", "augment", "samples", "classifier_steps")
    settings = {name: flags.FLAGS[name].value for name in names}
    file = path / f"accuracy-{SPLIT.value}.json"
    if file.exists():
        kept = json.loads(file.read_text("utf-8"))
        if kept["settings"] == settings:
            return kept["accuracies"]
    train(config, path)
    real, fake, test = real_of(config), fake_of(path, config.seed), test_of(config)
    repeated = (np.resize(x, (SAMPLES.value, *x.shape[1:])) for x in real)
    mixed = Labelled(*map(np.concatenate, zip(repeated, fake, strict=True)))
    options = {"steps": CLASSIFIER_STEPS.value, "batch": BATCH, "seed": config.seed}
    found = [
        accuracy(one, test, augment=augment, **options)
        for one in (real, mixed)
        for augment in (None, moved)
    ]
    kept = {"settings": settings, "methods": METHODS, "accuracies": found}
    write_file(file, json.dumps(kept).encode())
    return found


def real_of(config: ConfigDict) -> Labelled:
    """Returns the real examples that a GAN is trained on."""
    source = data.load(config)
    return Labelled(source.examples, source.conditions)


def test_of(config: ConfigDict) -> Labelled:
    """Returns what classifiers are tested on."""
    config = config.copy_and_resolve_references()
    config.data.split = "test" if SPLIT.value == "test" else "train"
    source, first = tfds.load(config), 0 if SPLIT.value == "test" else POOL
    return Labelled(source.examples[first:], np.asarray(source.conditions)[first:])


def fake_of(path: Path, seed: int) -> Labelled:
    """Returns samples of a run, each class in turn."""
    gan, state = load(path)
    labels = evaluation.conditions_of(gan, SAMPLES.value, None)
    drawn = evaluation.samples(gan, state, SAMPLES.value, seed, labels)
    return Labelled(np.concatenate(list(drawn)), labels)


def row(num: int, found: np.ndarray) -> str:
    """Returns a row of the table, of accuracies in percent `[seeds, methods]`."""
    reals, classical, _, both = found.T
    cells = [f"{num:,}", f"{SAMPLES.value / (10 * num):.3g}", spread(reals)]
    cells += [f"{spread(one)} ({versus(one, reals)})" for one in found.T[1:]]
    return f"| {' | '.join([*cells, versus(both, classical)])} |"


if __name__ == "__main__":
    cli.run(main)
