"""Trains every loss on the ring, and writes which modes it covers.

    python scripts/table.py

The table is put between its marks in docs/objectives.md; README.md shows three of its
rows, which are copied by hand. Each row is a run of configs/ring.py, at a learning rate
of 1e-3, with three seeds in one program, alone and with R1. Some rows change the
dynamics instead of the loss. The runs stay in --runs: finished ones are not repeated,
and stopped ones resume. Coverage is that of arXiv:1712.04086, section 4.1, of 2,500
samples of each seed.
"""

import re
from pathlib import Path

import jax
import numpy as np
from absl import flags

from gan_jax import cli, draw
from gan_jax.build.names import user_object
from gan_jax.data import toy
from gan_jax.errors import Stopped
from gan_jax.metrics.modes import coverage
from gan_jax.run.restore import load
from gan_jax.run.training import train

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/objectives.md"
START, END = "<!-- scripts/table.py: start -->", "<!-- scripts/table.py: end -->"

SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each row.")
STEPS = flags.DEFINE_integer("num_steps", 3_000, "Generator updates of a run.")
RUNS = flags.DEFINE_string("runs", "runs/table", "The folder of the runs.")
WRITE = flags.DEFINE_bool("write", True, "Write the table into docs/objectives.md.")

LOSSES = (
    "non_saturating",
    "minimax",
    "hinge",
    "least_squares",
    "wasserstein",
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
PENALTIES = ("", "r1(weight=0.1)")
OPTIMIZER = "adam(learning_rate=1e-3, b1=0.5, b2=0.999)"
# G looks through D's optimizer, which has a derivative everywhere only with eps_root.
UNROLLED = {
    "loss": "non_saturating",
    "step": "unrolled(k=5)",
    "d_optimizer": OPTIMIZER.replace(")", ", eps_root=1e-8)"),
}
NUM = 2500  # samples that modes are counted in


def main() -> None:
    """Runs the command."""
    rows = [
        "| `--config.loss=` | alone: modes of 8 | % within 3σ | with `"
        + PENALTIES[1]
        + "`: modes of 8 | % within 3σ |",
        "|---|---|---|---|---|",
    ]
    for keys in (*({"loss": loss} for loss in LOSSES), UNROLLED):
        cells = [cell for penalty in PENALTIES for cell in measure(keys, penalty)]
        step = f", `step={keys['step']}`" if "step" in keys else ""
        rows.append(f"| `{keys['loss']}`{step} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    if WRITE.value:
        write("\n".join(rows))


def measure(keys: dict[str, str], penalties: str) -> tuple[str, str]:
    """Trains a row, and returns its modes and its share of good samples, as text.

    Args:
      keys: what the row sets in the config.
      penalties: of the run.
    """
    config = user_object("config", str(ROOT / "configs/ring.py:get_config"))()
    config.update(optimizer=OPTIMIZER, replicas=SEEDS.value, num_steps=STEPS.value)
    config.update(penalties=penalties, sample_every=STEPS.value, **keys)
    config.update(checkpoint_every=STEPS.value, log_every=STEPS.value // 10)
    name = re.sub(
        r"\W+", "-", "+".join([keys["loss"], keys.get("step", ""), penalties])
    ).strip("-")
    path = Path(RUNS.value) / name
    try:
        train(config, path)
    except Stopped as stop:
        print(f"{name}: {stop}", flush=True)
        return "not finite", "–"
    ring, found = toy.ring(), []
    for replica in range(SEEDS.value):
        gan, state = load(path, replica=replica)
        if int(state.step) < STEPS.value:
            return f"seed {replica} not finite at {int(state.step)}", "–"
        samples = np.asarray(draw(gan, state, jax.random.key(0), NUM))
        found.append(coverage(samples, ring.centres, ring.scale))
    modes, quality = np.array(found).T
    return spread(modes), spread(100 * quality)


def spread(values: np.ndarray) -> str:
    """Returns the mean ± the standard error."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{values.mean():.1f} ± {error:.1f}"


def write(table: str) -> None:
    """Puts the table between its marks in docs/objectives.md."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{START}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
