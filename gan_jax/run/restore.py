"""Opens a run that was trained before, or an exported generator, to draw from it.

Either may come from elsewhere: no code that its config names is loaded, unless the
caller names it too.
"""

import contextlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_jax import config as config_lib
from gan_jax.algorithm import replicas
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.state import TrainState
from gan_jax.build import names
from gan_jax.build.builder import from_config
from gan_jax.build.preflight import check_generator, check_optimizers
from gan_jax.data.source import MAX_PIXELS
from gan_jax.devices import mesh as devices
from gan_jax.errors import UserError, one_line
from gan_jax.run import exported, workdir
from gan_jax.run.checkpoint import BEST, Checkpoints
from gan_jax.run.exported import ExportedGenerator
from gan_jax.run.files import answering, as_path


def load(
    path: Path | str,
    step: int | Literal["best"] | None = None,
    replica: int = 0,
    model: str | None = None,
    optimizers: Sequence[str] = (),
) -> tuple[GAN, TrainState]:
    """Opens a run, or a folder that the command `export` wrote, to draw from it.

    No code that the run's config names is loaded, unless it is named here too. The
    user's own loss and terms do not matter to samples: the defaults replace them.

    Args:
      path: the folder.
      step: of the checkpoint, 'best' for the best by `eval.best`, None for the newest.
      replica: which of its replicas.
      model: the file or dotted path of the run's model, if that is no module of
        gan_jax.models. It may be elsewhere than when the run was made.
      optimizers: the files or dotted paths of the run's optimizers that are not
        optax's own.

    Returns:
      Its GAN, and the state of that replica alone. Of an exported generator the state
      has the averaged generator, the step and the key; the players are None.

    Raises:
      UserError: it is neither, has no such checkpoint or replica, is damaged, or names
        code that is not named here.
    """
    path = as_path(path)
    if exported.is_one(path):
        return _exported(path, step, replica, model)
    run = workdir.read(path)
    gan, shapes = _described(path / "config.json", run, model, optimizers)
    num = len(shapes.step)
    folder = _checkpoints(path, step)
    if not 0 <= replica < num:
        valid = f"replicas 0 ... {num - 1}" if num > 1 else "only replica 0"
        raise UserError(f"--replica={replica}: the run {path} has {valid}")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = devices.placed(shapes, jax.tree.map(lambda _: device, shapes))
    like = like.replace(memory=None)  # that of terms which are not loaded is there too
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        number = checkpoints.latest() if step == "best" else step
        state = checkpoints.restore(like, number).state
    return gan, replicas.replica(state, replica)


def _checkpoints(path: Path, step: int | str | None) -> Path:
    """Returns the folder that a checkpoint of a run is in.

    Raises:
      UserError: there is none.
    """
    if step == "best":
        folder, lacks = path / BEST, "best checkpoint: it is kept if eval.best is set"
    else:
        folder, lacks = path / "checkpoints", "checkpoint yet"
    with answering(folder):
        if not folder.exists():
            raise UserError(f"the run {path} has no {lacks}")
    return folder


def load_generator(path: Path | str, model: str | None = None) -> ExportedGenerator:
    """Opens a generator that the command `export` wrote.

    Args:
      path: the folder.
      model: as for `load`.

    Raises:
      UserError: the folder holds none, it is damaged, or it names code that is not
        named here.
    """
    path = as_path(path)
    if not exported.is_one(path):
        raise UserError(
            f"{path} holds no exported generator: there is no {exported.ABOUT}; write "
            "one with python -m gan_jax.export --workdir=RUN --out=DIR"
        )
    return ExportedGenerator(*load(path, model=model))


def _exported(
    path: Path, step: int | str | None, replica: int, model: str | None
) -> tuple[GAN, TrainState]:
    about = exported.read(path)
    if step not in (None, about["step"]):
        raise UserError(f"--step={step}: {path} is a generator of step {about['step']}")
    if replica not in (0, about["replica"]):
        raise UserError(f"--replica={replica}: {path} is one generator, not a run")
    gan, shapes = _described(path / exported.ABOUT, about, model)
    like = jax.eval_shape(lambda tree: replicas.replica(tree, 0), shapes.ema)
    state = TrainState(
        step=jnp.int32(about["step"]),
        key=replicas.root_keys(about["seed"], 1)[0],
        g=None,
        d=None,
        ema=exported.variables(path, about, like),
        memory=None,
    )
    return gan, state


def _described(
    file: Path, run: dict, model: str | None, optimizers: Sequence[str] | None = None
) -> tuple[GAN, TrainState]:
    """Returns a GAN, and the shapes of its state, with the axis of replicas.

    Args:
      file: what describes it.
      run: the content of the file, which may hold anything.
      model: as for `load`.
      optimizers: likewise; None if they do not matter.

    Raises:
      UserError: it describes no GAN.
    """
    try:
        return _built(run, model, optimizers)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{file} describes no run ({one_line(error)})") from error


def _built(
    run: dict, model: str | None, optimizers: Sequence[str] | None
) -> tuple[GAN, TrainState]:
    config = config_lib.default()
    config.update(run["config"])  # of the defaults' types, or it raises
    config_lib.validate(config)
    example, condition = workdir.spaces(run["data"])
    for space in (example, condition):
        if space is not None and math.prod(space.shape) > 4 * MAX_PIXELS:
            raise ValueError(f"shape {space.shape} is too large")
    gan = from_config(_without_code(config, model, optimizers), example, condition)
    check_generator(gan, 1)
    check_optimizers(gan)  # their states are in the checkpoint

    def init():
        return replicas.init_state(gan, replicas.root_keys(0, config.replicas))

    return gan, jax.eval_shape(init)


def _without_code(
    config: ConfigDict, model: str | None, optimizers: Sequence[str] | None
) -> ConfigDict:
    """Returns the config without any code but what the caller names.

    Raises:
      UserError: there is other code that samples depend on.
    """
    for key in ("loss", "step"):
        if any(names.is_code(name) for name, _ in names.parse_calls(config[key])):
            config[key] = config_lib.default()[key]
    for key in ("penalties", "augment"):
        config[key] = names.without_code(config[key])
    if model and not names.is_code(config.model):
        raise UserError(f"--model={model}: the run's model is {config.model}")
    config.model = allowed("model", config.model, [model] if model else [])
    for key in ("optimizer", "d_optimizer"):
        if optimizers is None:
            config[key] = config_lib.default()[key]
            continue
        for name, _ in names.parse_calls(config[key]):
            mine = allowed("optimizer", name, optimizers)
            config[key] = config[key].replace(name, mine, 1)
    return config


def allowed(kind: str, name: str, codes: Sequence[str]) -> str:
    """Returns which of the `codes` stands for a name, or the name if it is no code.

    Args:
      kind: what the name is of, and the flag that names code of that kind.
      name: in the run's config.
      codes: that the caller trusts.

    Raises:
      UserError: the name is code, and none of these.
    """
    if not names.is_code(name):
        return name
    for code in codes:
        if os.path.basename(code) == os.path.basename(name):
            return code
    raise UserError(
        f"the run's {kind} is {name}, code from outside of gan_jax: if you trust "
        f"it, give --{kind}={name}, or the path of your copy"
    )
