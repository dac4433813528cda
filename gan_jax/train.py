"""Trains a GAN: `python -m gan_jax.train --config=configs/mnist.py`.

A run leaves its config, metrics, samples and checkpoints in `--workdir`, and goes on
there, to the bit, when the same command is given again. With no `--workdir` it makes
`runs/<config>-<time>`. `--config.replicas=N` trains N seeds at once. Exit status: 0
done, 2 bad input, 3 stopped because a metric was not finite (of every replica), 143
saved after SIGTERM (130 after SIGINT).
"""

import contextlib
import os
import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from gan_jax import cli, data, loop, replicas, sharding, steps, workdir
from gan_jax import config as config_lib
from gan_jax.check import check
from gan_jax.checkpoint import Checkpoints, placed
from gan_jax.data.feed import open_feed
from gan_jax.data.source import Info
from gan_jax.gan import GAN, from_config
from gan_jax.state import TrainState
from gan_jax.writers import Writers

IMAGES = ("folder", "packaged", "tfds")
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
      Stopped: a metric of every replica was not finite, or a signal came.
    """
    config_lib.validate(config)
    config = config_lib.with_absolute_files(config)
    workdir.check(path)
    if not override:
        workdir.check_same(path, config)
    if config.data.source in IMAGES:  # names first: preparing data may take minutes
        check(
            from_config(config, (config.image_size,) * 2 + (1,), 2), config.batch_size
        )
    source = data.load(config)
    gan = from_config(config, source.info.shape, source.info.num_classes)
    check(gan, config.batch_size)
    if not override:
        workdir.check_same(path, config, source.info)

    use_compilation_cache()
    mesh = sharding.make_mesh()
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        checkpoints = Checkpoints(path / "checkpoints", config.keep_checkpoints)
        stack.callback(checkpoints.close)
        state = start(gan, config, checkpoints, sharding.replicated(mesh))
        step = checkpoints.latest() or 0
        workdir.write(path, workdir.describe(config, source.info))
        announce(path, source.info)
        # A copy of the key, since the state's own arrays are given up to the steps.
        key = sharding.copy_of_key(state.key)
        feed = open_feed(source, config, key, step, mesh)
        writers = Writers(path, config.num_steps, step, rewrite=override)
        stack.callback(writers.close)
        return loop.run(
            gan, state, step, feed, config, checkpoints, writers, source.info.name
        )


def announce(path: Path, info: Info) -> None:
    """Says where the run is and what it trains on."""
    print(f"workdir: {path}", f"data: {info.name}", sep="\n", file=sys.stderr)
    if info.note:
        print(f"note: {info.note}", file=sys.stderr)


def start(
    gan: GAN, config: ConfigDict, checkpoints: Checkpoints, sharding
) -> TrainState:
    """Returns the newest checkpoint's state, or that before the first step."""
    algorithm = steps if config.replicas == 1 else replicas

    def init(seed):
        return algorithm.init_state(gan, replicas.root_key(seed, config.replicas))

    # It runs once, so compiling it must be quick rather than running it.
    quick = {"xla_backend_optimization_level": 0}
    init = jax.jit(
        init,
        out_shardings=sharding,
        compiler_options=quick if jax.default_backend() == "cpu" else None,
    )
    seed = np.uint32(config.seed)
    if checkpoints.latest() is None:
        return init(seed)
    return checkpoints.restore(placed(jax.eval_shape(init, seed), sharding))


def use_compilation_cache() -> None:
    """Keeps compiled programs from one run to the next, in the user's cache folder."""
    if not jax.config.jax_compilation_cache_dir:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "gan_jax" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


if __name__ == "__main__":
    cli.run(main)
