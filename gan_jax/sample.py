"""Draws from a run: `python -m gan_jax.sample --workdir=DIR --out=grid.png`.

Makes a grid of examples, of chosen classes (`--labels=3,7`), of a truncated prior
(`--truncation=0.7`), or a sheet of interpolations (`--interpolate`), from the averaged
generator of any checkpoint (`--step`) and replica (`--replica`). Exit status: 0 done,
2 bad input.
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array
from ml_collections import ConfigDict

from gan_jax import cli, replicas, steps, workdir
from gan_jax import config as config_lib
from gan_jax.checkpoint import Checkpoints
from gan_jax.errors import UserError
from gan_jax.gan import GAN, from_config
from gan_jax.sharding import placed
from gan_jax.state import TrainState
from gan_jax.steps import draw, render
from gan_jax.writers import save_examples

WORKDIR = cli.workdir_flag()
NUM = flags.DEFINE_integer("num", 64, "How many examples.")
OUT = flags.DEFINE_string("out", "grid.png", "The PNG file to write.")
SEED = flags.DEFINE_integer("seed", 0, "Of the latents.")
REPLICA = flags.DEFINE_integer("replica", 0, "Which of a run's replicas, from 0 on.")
STEP = flags.DEFINE_integer("step", None, "Which checkpoint; by default the newest.")
LABELS = flags.DEFINE_list("labels", [], "Classes, a row each, e.g. 3,7.")
INTERPOLATE = flags.DEFINE_bool("interpolate", False, "Rows between two latents each.")
TRUNCATION = flags.DEFINE_float(
    "truncation", 1.0, "Central mass of the prior to draw from, in (0, 1]."
)


def main() -> None:
    """Runs the command."""
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

    gan, state = load(Path(WORKDIR.value), STEP.value, REPLICA.value)
    if INTERPOLATE.value and not gan.range:
        raise UserError("--interpolate makes sheets of images; this run makes points")
    labels, columns = layout(gan, NUM.value, LABELS.value, INTERPOLATE.value)
    how = (NUM.value, labels, TRUNCATION.value)
    sheet = jax.jit(
        interpolations if INTERPOLATE.value else draw, static_argnums=(3, 5)
    )
    examples = sheet(gan, state, jax.random.key(SEED.value), *how)
    save_examples(path, np.asarray(examples), columns)


def load(
    path: Path, step: int | None = None, replica: int = 0
) -> tuple[GAN, TrainState]:
    """Opens a run.

    Args:
      path: its folder.
      step: which checkpoint, None for the newest.
      replica: which of its replicas.

    Returns:
      Its GAN, and the state of that replica alone.

    Raises:
      UserError: it is no run, or has no such checkpoint or replica.
    """
    run = workdir.read(path)
    shape, num_classes = tuple(run["data"]["shape"]), run["data"]["num_classes"]
    gan = from_config(ConfigDict(run["config"]), shape, num_classes)
    if not (path / "checkpoints").is_dir():
        raise UserError(f"the run {path} has no checkpoint yet")
    num = run["config"].get("replicas", 1)
    if not 0 <= replica < num:
        there = f"replicas 0 ... {num - 1}" if num > 1 else "replica 0 alone"
        raise UserError(f"--replica={replica}: the run {path} has {there}")
    algorithm = steps if num == 1 else replicas
    shapes = jax.eval_shape(algorithm.init_state, gan, replicas.root_key(0, num))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = placed(shapes, jax.tree.map(lambda _: device, shapes))
    checkpoints = Checkpoints(path / "checkpoints")
    state = checkpoints.restore(like, step).state
    checkpoints.close()
    return gan, jax.tree.map(lambda x: x[replica], state) if num > 1 else state


def layout(
    gan: GAN, num: int, classes: list[str], interpolate: bool
) -> tuple[Array | None, int]:
    """Returns the label of each of `num` examples, and how many are in a row.

    Args:
      gan: the static half.
      num: how many examples.
      classes: as the user wrote them, a row each; empty for all.
      interpolate: whether the examples of a row must share their class.

    Raises:
      UserError: the run has no such classes.
    """
    square = math.ceil(math.sqrt(num))
    if not gan.num_classes:
        if classes:
            raise UserError("--labels needs a conditional run; this one has no classes")
        return None, square
    valid = [str(label) for label in range(gan.num_classes)]
    for label in classes:
        if label not in valid:
            raise UserError(f"--labels: {label!r} is none of 0 ... {valid[-1]}")
    if not classes and not interpolate:
        columns = gan.num_classes if gan.num_classes <= 16 else square
        return jnp.arange(num) % gan.num_classes, columns
    columns = square if interpolate else math.ceil(num / len(classes))
    each = jnp.array([int(label) for label in classes or valid])
    return each[jnp.arange(num) // columns % len(each)], columns


def interpolations(
    gan: GAN, state: TrainState, key: Array, num: int, labels, truncation: float
) -> Array:
    """Draws rows of examples along paths from one latent to another.

    Args:
      gan: the static half.
      state: the array half.
      key: a PRNG key.
      num: how many examples; a row holds the square root of it, rounded up.
      labels: `[num]` for a conditional GAN.
      truncation: of the prior, see `Latent.sample`.

    Returns:
      `[num, *shape]`, uint8.
    """
    columns = math.ceil(math.sqrt(num))
    rows = math.ceil(num / columns)
    start, end = (
        gan.latent.sample(end_key, rows, truncation)[:, None]
        for end_key in jax.random.split(key)
    )
    t = jnp.linspace(0, 1, columns)[None]
    latents = gan.latent.interpolate(start, end, t)
    return render(gan, state, latents.reshape(-1, gan.latent.size)[:num], labels)


if __name__ == "__main__":
    cli.run(main)
