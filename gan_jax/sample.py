"""Draws from a run: `python -m gan_jax.sample --workdir=DIR --out=grid.png`.

Makes a grid of examples, of chosen classes (`--labels=3,7`), of a truncated prior
(`--truncation=0.7`), or a sheet of interpolations (`--interpolate`), from the averaged
generator of any checkpoint (`--step`) and replica (`--replica`). Exit status: 0 done,
2 bad input.

The workdir may come from elsewhere: no code that its config names is run, unless it is
given here too (`--model=FILE`).
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array
from ml_collections import ConfigDict

from gan_jax import cli
from gan_jax import config as config_lib
from gan_jax.algorithm import replicas, steps
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.players import draw, render
from gan_jax.algorithm.state import TrainState
from gan_jax.build import names as resolve
from gan_jax.build.builder import from_config
from gan_jax.build.preflight import check_generator, check_optimizers
from gan_jax.data.source import MAX_PIXELS
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError, one_line
from gan_jax.run import workdir
from gan_jax.run.checkpoint import Checkpoints
from gan_jax.run.writers import save_examples

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

    gan, state = load(
        Path(WORKDIR.value), STEP.value, REPLICA.value, MODEL.value, OPTIMIZER.value
    )
    pixels = NUM.value * math.prod(gan.shape[:2])
    if pixels > MAX_PIXELS:
        raise UserError(f"--num={NUM.value}: the sheet would be {pixels} pixels large")
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
    path: Path,
    step: int | None = None,
    replica: int = 0,
    model: str | None = None,
    optimizers: Sequence[str] = (),
) -> tuple[GAN, TrainState]:
    """Opens a run, to draw from it.

    No code that the run's config names is loaded, unless it is given here too. A loss
    and other terms of the user's own do not matter to samples: the defaults stand in.

    Args:
      path: its folder.
      step: which checkpoint, None for the newest.
      replica: which of its replicas.
      model: the file or dotted path of the run's model, where that is no model of
        gan_jax.models. It may lie elsewhere than it did when the run was made.
      optimizers: likewise those that are not optax's own.

    Returns:
      Its GAN, and the state of that replica alone.

    Raises:
      UserError: it is no run, has no such checkpoint or replica, or names code that is
        not given.
    """
    gan, shapes, num = _described(path, model, optimizers)
    if not (path / "checkpoints").is_dir():
        raise UserError(f"the run {path} has no checkpoint yet")
    if not 0 <= replica < num:
        there = f"replicas 0 ... {num - 1}" if num > 1 else "replica 0 alone"
        raise UserError(f"--replica={replica}: the run {path} has {there}")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = sharding.placed(shapes, jax.tree.map(lambda _: device, shapes))
    like = like.replace(memory=None)  # that of terms which are not loaded is there too
    checkpoints = Checkpoints(path / "checkpoints")
    state = checkpoints.restore(like, step).state
    checkpoints.close()
    return gan, jax.tree.map(lambda x: x[replica], state) if num > 1 else state


def _described(
    path: Path, model: str | None, optimizers: Sequence[str]
) -> tuple[GAN, TrainState, int]:
    """Returns a run's GAN, the shapes of its state, and how many replicas it has.

    Raises:
      UserError: its config.json, which may hold anything, describes no run.
    """
    try:
        return _built(workdir.read(path), model, optimizers)
    except UserError:
        raise
    except Exception as error:
        file = path / "config.json"
        raise UserError(f"{file} describes no run ({one_line(error)})") from error


def _built(
    run: dict, model: str | None, optimizers: Sequence[str]
) -> tuple[GAN, TrainState, int]:
    config = config_lib.default()
    config.update(run["config"])  # of the defaults' types, or it raises
    config_lib.validate(config)
    shape, num_classes = tuple(run["data"]["shape"]), run["data"]["num_classes"]
    images = len(shape) == 3 and shape[-1] in (1, 3, 4)
    if not (images or shape == (2,)) or math.prod(shape) > 4 * MAX_PIXELS:
        raise ValueError(f"there are no examples of shape {shape}")
    gan = from_config(_without_code(config, model, optimizers), shape, num_classes)
    check_generator(gan, 1)
    check_optimizers(gan)  # their states are in the checkpoint

    def init():
        key = replicas.root_key(0, config.replicas)
        return (steps if config.replicas == 1 else replicas).init_state(gan, key)

    return gan, jax.eval_shape(init), config.replicas


def _without_code(
    config: ConfigDict, model: str | None, optimizers: Sequence[str]
) -> ConfigDict:
    """Returns the config with no code in it but what the caller names.

    Raises:
      UserError: there is other code that samples depend on.
    """
    for key in ("loss", "step"):
        if any(resolve.is_code(name) for name, _ in resolve.parse_calls(config[key])):
            config[key] = config_lib.default()[key]
    for key in ("penalties", "augment"):
        config[key] = resolve.without_code(config[key])
    if model and not resolve.is_code(config.model):
        raise UserError(f"--model={model}: the run's model is {config.model}")
    config.model = _given("model", config.model, [model] if model else [])
    for key in ("optimizer", "d_optimizer"):
        for name, _ in resolve.parse_calls(config[key]):
            given = _given("optimizer", name, optimizers)
            config[key] = config[key].replace(name, given, 1)
    return config


def _given(kind: str, name: str, codes: Sequence[str]) -> str:
    """Returns which of the `codes` stands for a name, or the name if it is no code."""
    if not resolve.is_code(name):
        return name
    for code in codes:
        if os.path.basename(code) == os.path.basename(name):
            return code
    raise UserError(
        f"the run's {kind} is {name}, which is code of its own: give --{kind}={name}, "
        "or where you have it, if it may be run"
    )


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
    latents = latents.reshape(-1, gan.latent.size)[:num]
    return render(gan, state, latents, labels, key)


if __name__ == "__main__":
    cli.run(main)
