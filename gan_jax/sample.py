"""Draws from a run: `python -m gan_jax.sample --workdir=DIR --out=grid.png`.

Draws a grid of examples, of chosen classes (`--labels=3,7`), of conditions in a file
(`--condition=FILE.npy`), of a truncated prior (`--truncation=0.7`), or a grid of
interpolations (`--interpolate`), from the averaged generator of any checkpoint
(`--step`) and replica (`--replica`). Exit status: 0 done, 2 bad input.

The workdir may come from elsewhere: no code that its config names is run, unless it is
named here too (`--model=FILE`).
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags

from gan_jax import cli
from gan_jax import config as config_lib
from gan_jax.algorithm.players import draw
from gan_jax.data.source import MAX_PIXELS
from gan_jax.errors import UserError
from gan_jax.run import pictures, sampling, workdir
from gan_jax.run.restore import load

WORKDIR = cli.workdir_flag()
NUM = flags.DEFINE_integer("num", 64, "How many examples.")
OUT = flags.DEFINE_string("out", "grid.png", "The PNG file to write.")
SEED = flags.DEFINE_integer("seed", 0, "Of the latents.")
REPLICA = flags.DEFINE_integer("replica", 0, "Which of a run's replicas, from 0 on.")
STEP = flags.DEFINE_integer("step", None, "Which checkpoint; by default the newest.")
LABELS = flags.DEFINE_list("labels", [], "Classes, a row each, e.g. 3,7.")
CONDITION = flags.DEFINE_string(
    "condition",
    None,
    "Conditions that are no classes: an .npy file of stored values, used in turn.",
)
INTERPOLATE = flags.DEFINE_bool("interpolate", False, "Rows between two latents each.")
TRUNCATION = flags.DEFINE_float(
    "truncation", 1.0, "Central mass of the prior to draw from, in (0, 1]."
)
MODEL = flags.DEFINE_string(
    "model",
    None,
    "The run's model where that is your own file; it is loaded from here.",
)
OPTIMIZER = flags.DEFINE_list(
    "optimizer", [], "Likewise its optimizers, where they are not optax's own."
)


def main() -> None:
    """Runs the command."""
    _check_flags()
    gan, state = load(
        Path(WORKDIR.value), STEP.value, REPLICA.value, MODEL.value, OPTIMIZER.value
    )
    pixels = NUM.value * pictures.num_pixels(gan.example)
    if pixels > MAX_PIXELS:
        raise UserError(f"--num={NUM.value}: the grid would be {pixels} pixels large")
    if INTERPOLATE.value:
        sampling.check_interpolation(gan)
    condition, columns = sampling.layout(
        gan, NUM.value, LABELS.value, INTERPOLATE.value, CONDITION.value
    )
    draw_grid = sampling.interpolations if INTERPOLATE.value else draw
    key = jax.random.key(SEED.value)
    examples = jax.jit(draw_grid, static_argnums=(3, 5))(
        gan, state, key, NUM.value, condition, TRUNCATION.value
    )
    pictures.save(Path(OUT.value), gan.example, np.asarray(examples)[None], columns)


def _check_flags() -> None:
    """Checks the flags' values, before anything is read.

    Raises:
      UserError: one is out of its range, or the file cannot be written.
    """
    if not WORKDIR.value:
        raise UserError("give a run: --workdir=DIR")
    if NUM.value < 1:
        raise UserError(f"--num={NUM.value}: it must be at least 1")
    if not 0 < TRUNCATION.value <= 1:
        raise UserError(f"--truncation={TRUNCATION.value}: it must lie in (0, 1]")
    if not OUT.value.endswith(".png"):
        raise UserError(f"--out={OUT.value}: the file is a PNG, name it *.png")
    config_lib.check_seed("--seed", SEED.value)
    path = Path(OUT.value)
    if path.is_dir():
        raise UserError(f"--out={path}: it is a folder")
    workdir.check(path.parent, "--out")


if __name__ == "__main__":
    cli.run(main)
