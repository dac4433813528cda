"""Trains losses side by side, and writes a table of what their samples are like.

    python scripts/table.py
    python scripts/table.py --table=mnist --manual_dir=FOLDER

The first trains every loss on configs/ring.py at a learning rate of 1e-3, and counts
the modes that 2,500 samples cover (arXiv:1712.04086, section 4.1). Some rows change the
dynamics instead of the loss. The second trains the five basic losses on
configs/mnist.py for 1,000 steps, and measures 10,000 samples in the features of
`mnist_lenet`.

Each row is trained alone and with R1, with three seeds in one program. The table is put
between its marks in docs/objectives.md; README.md shows some of its rows, which are
copied by hand. The runs stay in --runs: finished ones are not repeated, and stopped
ones resume.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from tables import put

from gan_jax import cli, data, draw
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.state import TrainState
from gan_jax.build.names import user_object
from gan_jax.data import toy
from gan_jax.errors import Stopped
from gan_jax.metrics.features.extractor import load_extractor
from gan_jax.metrics.modes import coverage
from gan_jax.run import evaluation
from gan_jax.run.restore import load
from gan_jax.run.training import train

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/objectives.md"

TABLE = flags.DEFINE_enum("table", "ring", ["ring", "mnist"], "Which table.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each row.")
STEPS = flags.DEFINE_integer(
    "num_steps", None, "Generator updates of a run; 3,000 or 1,000 by default."
)
RUNS = flags.DEFINE_string("runs", "runs/table", "The folder of the runs.")
MANUAL_DIR = flags.DEFINE_string("manual_dir", "", "The folder of MNIST's own files.")
WRITE = flags.DEFINE_bool("write", True, "Write the table into docs/objectives.md.")

BASIC = ("non_saturating", "minimax", "hinge", "least_squares", "wasserstein")
LOSSES = (
    *BASIC,
    "relativistic",
    'relativistic(f="hinge")',
    'relativistic(f="least_squares")',
    "relativistic_average",
    'relativistic_average(f="hinge")',
    'relativistic_average(f="least_squares")',
    'f_gan(divergence="kl")',
    'f_gan(divergence="reverse_kl")',
    'f_gan(divergence="pearson")',
    'f_gan(divergence="squared_hellinger")',
    'f_gan(divergence="jensen_shannon")',
    'f_gan(divergence="gan")',
    "dual_contrastive",
)
OPTIMIZER = "adam(learning_rate=1e-3, b1=0.5, b2=0.999)"
# G looks through D's optimizer, which has a derivative everywhere only with eps_root.
UNROLLED = {
    "loss": "non_saturating",
    "step": "unrolled(k=5)",
    "d_optimizer": OPTIMIZER.replace(")", ", eps_root=1e-8)"),
}
RING_PENALTIES = ("", "r1(weight=0.1)")
MNIST_PENALTIES = ("", "r1(weight=1)")
# Measures the generator of one replica.
Measure = Callable[[GAN, TrainState], list[float]]


def main() -> None:
    """Runs the command."""
    rows = []
    for row in {"ring": of_ring, "mnist": of_mnist}[TABLE.value]():
        rows.append(f"| {' | '.join(row)} |")
        print(rows[-1], flush=True)
    rows.insert(1, "|---" * rows[0].count(" | ") + "|---|")
    if WRITE.value:
        put(PAGE, f"scripts/table.py --table={TABLE.value}", "\n".join(rows))


def of_ring() -> Iterator[list[str]]:
    """Yields the header and the rows of the ring: modes of 8 and good samples."""
    head = ["modes of 8", "% within 3σ"]
    alone, with_r1 = "alone: ", f"with `{RING_PENALTIES[1]}`: "
    yield ["`--config.loss=`", alone + head[0], head[1], with_r1 + head[0], head[1]]

    config = user_object("config", str(ROOT / "configs/ring.py:get_config"))()
    config.optimizer, config.num_steps = OPTIMIZER, STEPS.value or 3_000
    ring = toy.ring()

    def modes(gan: GAN, state: TrainState) -> list[float]:
        samples = np.asarray(draw(gan, state, jax.random.key(0), 2500))
        found = coverage(samples, ring.centres, ring.scale)
        return [found.modes, 100 * found.quality]

    for keys in (*({"loss": loss} for loss in LOSSES), UNROLLED):
        cells = []
        for penalty in RING_PENALTIES:
            cells += measured(config, {**keys, "penalties": penalty}, modes, 2)
        step = f", `step={keys['step']}`" if "step" in keys else ""
        yield [f"`{keys['loss']}`{step}", *cells]


def of_mnist() -> Iterator[list[str]]:
    """Yields the header and the rows of MNIST: distance, fidelity and variety."""
    names = ["fd", "precision", "recall", "density", "coverage"]
    yield ["`--config.loss=`", "`--config.penalties=`", "FD-LeNet ↓"] + [
        f"{name} ↑" for name in names[1:]
    ]
    config = user_object("config", str(ROOT / "configs/mnist.py:get_config"))()
    config.data.manual_dir, config.data.fallback = MANUAL_DIR.value, False
    config.num_steps = STEPS.value or 1_000
    config.eval.every = 0
    extractor = load_extractor("mnist_lenet")
    metrics, num = evaluation.build_metrics("fd, prdc"), 10_000
    real, _ = evaluation.reference(extractor, data.load(config), num)

    def compared(gan: GAN, state: TrainState) -> list[float]:
        drawn = evaluation.samples(gan, state, num, 0, None)
        fake = evaluation.side(extractor, "samples", drawn)
        found = evaluation.compare(metrics, real, [fake])
        return [found[name].value for name in names]

    for loss in BASIC:
        for penalty in MNIST_PENALTIES:
            keys = {"loss": loss, "penalties": penalty}
            cells = measured(config, keys, compared, len(names))
            yield [f"`{loss}`", penalty and f"`{penalty}`", *cells]
    held_out = config.copy_and_resolve_references()
    held_out.data.split = "test"
    test, _ = evaluation.reference(extractor, data.load(held_out), num)
    found = evaluation.floors(metrics, real, test)
    yield ["real digits: the test split", "", *(number(found[name]) for name in names)]


def measured(
    config: ConfigDict, keys: dict[str, str], measure: Measure, width: int
) -> list[str]:
    """Trains a row, and returns the mean and the standard error of each number.

    Args:
      config: what all rows have.
      keys: what the row sets in it.
      measure: gives the numbers of a generator.
      width: how many numbers.
    """
    config = config.copy_and_resolve_references()
    config.update(replicas=SEEDS.value, **keys)
    steps = config.num_steps
    config.update(sample_every=steps, checkpoint_every=steps, log_every=steps // 10)
    name = re.sub(r"\W+", "-", "+".join([TABLE.value, *keys.values()])).strip("-")
    path, empty = Path(RUNS.value) / name, ["–"] * (width - 1)
    try:
        train(config, path)
    except Stopped as stop:
        if stop.status != 3:  # by a signal or a full disk, not by a guard
            raise
        print(f"{name}: {stop}", flush=True)
        return ["not finite", *empty]
    found = []
    for replica in range(SEEDS.value):
        gan, state = load(path, replica=replica)
        if int(state.step) < steps:
            return [f"seed {replica} not finite at {int(state.step)}", *empty]
        found.append(measure(gan, state))
    return [spread(np.array(values)) for values in zip(*found, strict=True)]


def spread(values: np.ndarray) -> str:
    """Returns the mean ± the standard error."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    mean = number(values.mean())
    return f"{mean} ± {error:.{len(mean.partition('.')[2])}f}"


def number(value: float) -> str:
    """Returns a number with the digits that its table shows."""
    small = TABLE.value == "mnist" and abs(value) < 2
    return f"{value:.3f}" if small else f"{value:.1f}"


if __name__ == "__main__":
    cli.run(main)
