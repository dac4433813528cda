"""Trains a GAN: `python -m gan_jax.train --config=configs/mnist.py`.

A run leaves its config, metrics, samples and checkpoints in `--workdir`, and goes on
there, to the bit, when the same command is given again. With no `--workdir` it makes
`runs/<config>-<time>`. Exit status: 0 done, 2 bad input, 3 stopped because a metric was
not finite, 143 saved after SIGTERM (130 after SIGINT).
"""

import functools
import os
import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from gan_jax import cli, data, loop, sharding, workdir
from gan_jax import config as config_lib
from gan_jax.check import check
from gan_jax.checkpoint import Checkpoints, placed
from gan_jax.data.feed import open_feed
from gan_jax.gan import from_config
from gan_jax.state import TrainState
from gan_jax.steps import init_state
from gan_jax.writers import Writers

CONFIG = cli.config_flag()
WORKDIR = cli.workdir_flag()
OVERRIDE = flags.DEFINE_bool(
    "override_config", False, "Go on in a workdir although its config differs."
)


def main() -> int:
    """Runs the command."""
    config = cli.config_of(CONFIG)
    path = Path(WORKDIR.value or workdir.name(cli.config_path(CONFIG)))
    try:
        train(config, path, override=OVERRIDE.value)
    except loop.Stopped as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        return stop.status
    print(f"done: {path}", file=sys.stderr)
    return 0


def train(config: ConfigDict, path: Path, override: bool = False) -> TrainState:
    """Trains the experiment that a config describes, or goes on with it.

    Args:
      config: the experiment.
      path: the run's folder.
      override: go on in a folder although it holds another config.

    Returns:
      The last state.

    Raises:
      UserError: the config, the data or the folder cannot be used; nothing is written.
      Stopped: a metric was not finite, or a signal came.
    """
    config_lib.validate(config)
    workdir.check(path)
    source = data.load(config)
    gan = from_config(config, source.info.shape, source.info.num_classes)
    check(gan, config.batch_size)
    workdir.claim(path, config, source.info, override)
    print(f"workdir: {path}", f"data: {source.info.name}", sep="\n", file=sys.stderr)
    if source.info.note:
        print(f"note: {source.info.note}", file=sys.stderr)

    use_compilation_cache()
    mesh = sharding.make_mesh()
    with jax.set_mesh(mesh):
        checkpoints = Checkpoints(path / "checkpoints", config.keep_checkpoints)
        key = jax.random.key(config.seed)
        state = start(gan, key, checkpoints, sharding.replicated(mesh))
        step = int(state.step)
        feed = open_feed(source, config, key, step, mesh)
        writers = Writers(path, config.num_steps, step, source.info.name)
        try:
            return loop.run(gan, state, feed, config, checkpoints, writers)
        finally:
            writers.close()
            checkpoints.close()


def start(gan, key: jax.Array, checkpoints: Checkpoints, sharding) -> TrainState:
    """Returns the newest checkpoint's state, or that before the first step."""
    init = jax.jit(functools.partial(init_state, gan), out_shardings=sharding)
    if checkpoints.latest() is None:
        return init(key)
    return checkpoints.restore(placed(jax.eval_shape(init, key), sharding))


def use_compilation_cache() -> None:
    """Keeps compiled programs from one run to the next, in the user's cache folder."""
    if not jax.config.jax_compilation_cache_dir:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "gan_jax" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


if __name__ == "__main__":
    cli.run(main)
