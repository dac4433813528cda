"""Trains a GAN: `python -m gan_jax.train --config=configs/mnist.py`.

A run leaves its config, metrics, samples and checkpoints in `--workdir`, and goes on
there, to the bit, when the same command is given again. With no `--workdir` it makes
`runs/<config>-<time>`. `--config.replicas=N` trains N seeds at once; the same command
on several hosts makes one run of them. `--replay=DIR/guard/STEP` makes the step again
that a guard has stopped. Exit status: 0 done, 2 bad input, 3 stopped by a guard, 4 the
disk is full, 143 saved after SIGTERM (130 after SIGINT).
"""

import contextlib
import dataclasses
import functools
import os
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from gan_jax import cli, data
from gan_jax import config as config_lib
from gan_jax.algorithm import replicas, steps
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.state import TrainState
from gan_jax.build.builder import from_config
from gan_jax.build.preflight import check
from gan_jax.data.feed import open_feed
from gan_jax.data.source import Info
from gan_jax.devices import hosts
from gan_jax.devices import mesh as sharding
from gan_jax.errors import Stopped, UserError
from gan_jax.run import dumps as guard
from gan_jax.run import workdir
from gan_jax.run.checkpoint import Checkpoints, Saved
from gan_jax.run.loop import Loop, sheet_size, signals
from gan_jax.run.records import Report
from gan_jax.run.writers import Silent, Writers, check_records, drop_records

IMAGES = ("folder", "packaged", "tfds")
CONFIG = cli.config_flag()
WORKDIR = cli.workdir_flag()
OVERRIDE = flags.DEFINE_bool(
    "override_config", False, "Go on in a workdir although its config differs."
)
REPLAY = flags.DEFINE_string("replay", "", "A folder DIR/guard/STEP to make again.")
COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of the first host.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many hosts there are.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which this is, from 0 on.")


def main() -> int:
    """Runs the command."""
    if REPLAY.value:
        given = cli.config_of(CONFIG) if cli.is_given(CONFIG) else None
        folder = Path(REPLAY.value)
        return guard.replay(folder, workdir.read(folder), given)
    config = cli.config_of(CONFIG)
    hosts.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if not WORKDIR.value and jax.process_count() > 1:
        raise UserError("several hosts need --workdir=DIR, a folder that they share")
    path = Path(WORKDIR.value or workdir.name(cli.config_path(CONFIG)))
    try:
        train(config, path, override=OVERRIDE.value)
    except Stopped as stop:
        hosts.say(f"stopped: {stop}")
        return stop.status
    hosts.say(f"done: {path}")
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
      Stopped: a guard, a signal or a full disk ended the run early.
    """
    config, mesh, source, gan = prepare(config, path, override)
    about = workdir.describe(config, source.info)
    use_compilation_cache()
    with contextlib.ExitStack() as stack:
        hosts.check_same(about)
        hosts.first_does(lambda: stack.enter_context(workdir.locked(path)))
        if not override:  # another process may have come first
            workdir.check_same(path, config, source.info)
        stack.enter_context(jax.set_mesh(mesh))
        checkpoints = Checkpoints(path / "checkpoints", config.keep_checkpoints)
        stack.callback(checkpoints.close)
        saved = start(gan, config, checkpoints, mesh)
        if override:  # first of all, so that a kill leaves no records of the other
            hosts.first_does(lambda: drop_records(path, saved.step))
        hosts.first_does(lambda: workdir.write(path, about))
        announce(path, source.info)
        came = stack.enter_context(signals())
        stream = saved.carried.get("noise_stream", 0)
        while True:
            gan = dataclasses.replace(gan, noise_stream=stream)
            try:
                return go_on(gan, config, source, path, checkpoints, saved, about, came)
            except guard.RollBack as why:
                back = why.with_traceback(None)  # which would keep the old state
            if stream >= config.guard.rollbacks:
                raise Stopped(3, f"{back}; gone back {stream} times")
            if not checkpoints.roll_back(back.good):
                raise Stopped(3, f"{back}; no checkpoint from before that is kept")
            stream, saved = stream + 1, start(gan, config, checkpoints, mesh)
            hosts.first_does(functools.partial(drop_records, path, saved.step))
            hosts.say(f"{back}; going back to step {saved.step}")


def prepare(config: ConfigDict, path: Path, override: bool):
    """Checks all that is given before anything is written.

    Args:
      config: the experiment.
      path: the run's folder.
      override: as for `train`.

    Returns:
      The config with its files named from the root, the mesh of all devices, the source
      of the data, and the GAN.

    Raises:
      UserError: the config, the data or the folder cannot be used.
    """
    config_lib.validate(config)
    config = config_lib.with_absolute_files(config)
    workdir.check(path)
    check_records(path)
    if not override:
        workdir.check_same(path, config)
    mesh = sharding.make_mesh(replicas=config.replicas)
    if config.data.source in IMAGES:  # names first: preparing data may take minutes
        image = (config.image_size,) * 2 + (1,)
        check(from_config(config, image, 2), config.batch_size, mesh)
    source = data.load(config)
    gan = from_config(config, source.info.shape, source.info.num_classes)
    check(gan, config.batch_size, mesh)
    if not override:
        workdir.check_same(path, config, source.info)
    return config, mesh, source, gan


def go_on(
    gan: GAN,
    config: ConfigDict,
    source,
    path: Path,
    checkpoints: Checkpoints,
    saved: Saved,
    about: dict,
    came: list[int],
) -> TrainState:
    """Trains from a saved state on.

    Args:
      gan: the static half.
      config: the experiment.
      source: of the data.
      path: the run's folder.
      checkpoints: of the run.
      saved: where to start.
      about: the content of `config.json`.
      came: grows by the signals that ask to stop.

    Returns:
      The last state.

    Raises:
      Stopped: a guard, a signal or a full disk ended the run early.
      RollBack: a guard asks to go on from an earlier checkpoint.
    """
    carried, (_, columns) = saved.carried, sheet_size(gan, config.replicas)
    # A copy of the key, since the state's own arrays are given up to the steps.
    key = sharding.copy_of_key(saved.state.key)
    feed = open_feed(source, config, key, saved.step, jax.sharding.get_mesh())
    collapse = guard.Collapse(config.guard, source, carried.get("counts"))

    def dump(state: TrainState, batch: dict, step: int, replica: int) -> str:
        suffix = f"-{replica}" if config.replicas > 1 else ""
        folder = path / "guard" / f"{step:06d}{suffix}"
        return guard.dump(folder, about, gan, state, batch, step)

    with contextlib.ExitStack() as stack:
        writers = Silent()
        if hosts.is_first():
            writers = Writers(path, config.num_steps, saved.step)
        stack.callback(writers.close)
        name, window = source.info.name, carried.get("window")
        report = Report(config, writers, columns, name, collapse, window)
        return Loop(gan, config, feed, checkpoints, report, dump).run(saved, came)


def announce(path: Path, info: Info) -> None:
    """Says where the run is and what it trains on."""
    hosts.say(f"workdir: {path}\ndata: {info.name}")
    if info.note:
        hosts.say(f"note: {info.note}")


def start(gan: GAN, config: ConfigDict, checkpoints: Checkpoints, mesh) -> Saved:
    """Returns the newest checkpoint that is sound, or the state before the first step.

    Args:
      gan: the static half.
      config: the experiment.
      checkpoints: of the run.
      mesh: the devices that it is trained on.
    """
    algorithm = steps if config.replicas == 1 else replicas

    def init(seed):
        return algorithm.init_state(gan, replicas.root_key(seed, config.replicas))

    seed = np.uint32(config.seed)
    shapes = jax.eval_shape(init, seed)
    lies = sharding.placements(shapes, mesh, config.replicas, config.sharding)
    if checkpoints.latest() is not None:
        return checkpoints.resume(sharding.placed(shapes, lies))
    # It runs once, so compiling it must be quick rather than running it.
    quick = {"xla_backend_optimization_level": 0}
    on_cpu = jax.default_backend() == "cpu"
    init = jax.jit(init, out_shardings=lies, compiler_options=quick if on_cpu else None)
    return Saved(0, init(seed), {})


def use_compilation_cache() -> None:
    """Keeps compiled programs from one run to the next, in the user's cache folder."""
    if not jax.config.jax_compilation_cache_dir:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "gan_jax" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


if __name__ == "__main__":
    cli.run(main)
