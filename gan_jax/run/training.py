"""Trains the experiment that a config describes, from the first step or a checkpoint.

`train` checks everything before it writes anything; then `Loop` trains, and a guard may
send it back to an earlier checkpoint.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as config_lib
from gan_jax import data
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.algorithm.state import TrainState
from gan_jax.build import names
from gan_jax.build.builder import from_config
from gan_jax.build.preflight import check
from gan_jax.data import download
from gan_jax.data.feed import open_feed
from gan_jax.devices import hosts
from gan_jax.devices import mesh as devices
from gan_jax.diagnostics import advice
from gan_jax.errors import RollBack, Stopped, one_line
from gan_jax.run import grids, pictures, programs, workdir
from gan_jax.run import start as run_start
from gan_jax.run.alarms import Alarms
from gan_jax.run.best import Best
from gan_jax.run.checkpoint import BEST, Checkpoints, Saved
from gan_jax.run.dumps import Dumper
from gan_jax.run.evaluator import Evaluator
from gan_jax.run.files import answering, as_path
from gan_jax.run.loop import Loop, Saver
from gan_jax.run.progress import ProgressLine
from gan_jax.run.records import Records
from gan_jax.run.signals import stop_signals
from gan_jax.run.writers import (
    Board,
    EvaluationsFile,
    MetricsFile,
    SampleFiles,
    Writers,
    check_records,
    drop_records,
)

# Sources of images.
_IMAGES = ("archive", "folder", "hf", "packaged", "stacked_mnist", "tfds")


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same while a run trains, also when it rolls back.

    Attributes:
      config: the experiment.
      path: the run's folder.
      source: of the data.
      gan: the static half.
      mesh: all devices.
      evaluator: measures the samples; None if the config asks for no evaluations.
    """

    config: ConfigDict
    path: Path
    source: Any
    gan: GAN
    mesh: jax.sharding.Mesh
    evaluator: Evaluator | None = None

    @property
    def description(self) -> dict:
        """The content of `config.json`."""
        return workdir.describe(self.config, self.source.info)


def train(config: ConfigDict, path: Path | str, override: bool = False) -> TrainState:
    """Trains the experiment that a config describes, or resumes it.

    Args:
      config: the experiment.
      path: the run's folder.
      override: resume in a folder although it holds another config.

    Returns:
      The last state, leaves `[replicas, ...]`.

    Raises:
      UserError: the config, the data or the folder cannot be used; nothing is written.
      Stopped: a guard, a signal or a full disk ended the run early.
    """
    run = hosts.all_do(lambda: prepare(config, as_path(path), override))
    config, path = run.config, run.path
    use_compilation_cache()
    with contextlib.ExitStack() as stack:
        hosts.check_same(run.description)
        hosts.first_does(lambda: stack.enter_context(workdir.locked(path)))
        if not override:  # another process may have been faster
            workdir.check_same(path, config, run.source.info)
        stack.enter_context(jax.set_mesh(run.mesh))
        checkpoints = Checkpoints(path / "checkpoints", config.keep_checkpoints)
        stack.callback(checkpoints.close)
        stack.enter_context(hosts.failing_fast())
        saved = start(run, checkpoints)
        if override:  # before all else, so that a kill leaves nothing of the other
            _drop_after(path, saved.step)
        about = run_start.describe(saved.step)
        hosts.first_does(lambda: workdir.record(path, run.description, about))
        announce(run, saved)
        warn(run, saved.state)
        if override or not saved.step:
            draw_real(run)
        stops = stack.enter_context(stop_signals())
        return _train_with_rollbacks(run, checkpoints, saved, stops)


def prepare(config: ConfigDict, path: Path, override: bool = False) -> Run:
    """Checks the config, the folder and the data, and writes nothing.

    Args:
      config: the experiment.
      path: the run's folder.
      override: as for `train`.

    Raises:
      UserError: the config, the data or the folder cannot be used.
    """
    config_lib.validate(config)
    config = names.with_absolute_files(config)
    workdir.check(path)
    check_records(path)
    if not override:
        workdir.check_same(path, config)
    mesh = devices.make_mesh(replicas=config.replicas)
    source, gan = assembled(config, mesh)
    if not override:
        workdir.check_same(path, config, source.info)
    evaluator = Evaluator(config, gan, source) if config.eval.every else None
    return Run(config, path, source, gan, mesh, evaluator)


def assembled(
    config: ConfigDict, mesh: jax.sharding.Mesh, source: Any = None
) -> tuple[Any, GAN]:
    """Opens the data, and builds and checks the GAN of them.

    Args:
      config: the experiment.
      mesh: the devices that it is trained on.
      source: the data, if they are open.

    Raises:
      UserError: the data or the names in the config cannot be used, or do not fit.
    """
    # Names first: preparing data may take minutes.
    if source is None and config.data.source in _IMAGES:
        image = Images((config.image_size, config.image_size, 1))
        check(from_config(config, image, Classes(2)), config.batch_size, mesh)
    source = data.load(config) if source is None else source
    gan = from_config(config, source.info.example, source.info.condition)
    check(gan, config.batch_size, mesh)
    return source, gan


def start(run: Run, checkpoints: Checkpoints) -> Saved:
    """Returns the newest sound checkpoint, or the state before the first step."""
    config = run.config
    init, seed = programs.init_state(run.gan, config), np.uint32(config.seed)
    shapes = jax.eval_shape(init, seed)
    shardings = devices.shardings(shapes, run.mesh, config.sharding)
    if checkpoints.latest() is not None:
        return checkpoints.resume(devices.placed(shapes, shardings))
    # It runs once, so compiling it must be quick rather than running it.
    quick = {"xla_backend_optimization_level": 0}
    options = quick if jax.default_backend() == "cpu" else None
    init = jax.jit(init, out_shardings=shardings, compiler_options=options)
    return Saved(0, init(seed), {})


def announce(run: Run, saved: Saved) -> None:
    """Prints where the run is, and what runs."""
    lines = run_start.summary(run.config, run.source.info, saved.state, saved.step)
    hosts.say("\n".join([f"workdir: {run.path}", *lines]))


def draw_real(run: Run) -> None:
    """Writes `real.png`: real examples, laid out as the samples of one seed are."""
    gan, (num, columns) = run.gan, grids.grid_size(run.gan, replicas=1)
    try:
        examples = grids.fixed_values(run.source, "example", num)[None]
        left = grids.beside(gan, grids.fixed_conditions(gan, run.source, num))
        if hosts.is_first():
            file = run.path / "real.png"
            pictures.save(file, gan.example, examples, columns, left)
    except Exception as error:  # no picture is worth the run
        hosts.say(f"cannot draw real.png ({one_line(error)})")


def warn(run: Run, state: TrainState) -> None:
    """Prints what is known to be wrong with the experiment."""
    own_loss = any(names.is_code(n) for n, _ in names.parse_calls(run.config.loss))
    found = advice.warnings(run.gan, state.d.stats, own_loss)
    points = grids.fixed_points(run.gan, run.source)
    for line in found + ([] if points is None else advice.of_points(points)):
        hosts.say(f"warning: {line}")


def use_compilation_cache() -> None:
    """Keeps compiled programs from one run to the next, in the user's cache folder."""
    if not jax.config.jax_compilation_cache_dir:
        folder = download.cache_folder("jax")
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _train_with_rollbacks(
    run: Run, checkpoints: Checkpoints, saved: Saved, stops: Sequence[int]
) -> TrainState:
    """Trains to the end, from an earlier checkpoint each time a guard asks for it.

    Raises:
      Stopped: a guard, a signal or a full disk ended the run early.
    """
    stream = saved.carried.get("noise_stream", 0)
    while True:
        gan = dataclasses.replace(run.gan, noise_stream=stream)
        try:
            return _train_on(run, gan, checkpoints, saved, stops)
        except RollBack as why:
            back = why.with_traceback(None)  # which would keep the old state alive
        if stream >= run.config.guard.rollbacks:
            raise Stopped(3, f"{back}; rolled back {stream} times")
        if not checkpoints.roll_back(back.good):
            raise Stopped(3, f"{back}; no checkpoint from before that is kept")
        stream, saved = stream + 1, start(run, checkpoints)
        _drop_after(run.path, saved.step)
        hosts.say(f"{back}; rolling back to step {saved.step}")


def _drop_after(path: Path, step: int) -> None:
    """Drops what is kept of later steps, made by another config or with other noise."""
    hosts.first_does(functools.partial(drop_records, path, step))
    with contextlib.closing(Checkpoints(path / BEST, keep=1)) as best:
        best.drop(lambda other: other > step)


def _train_on(
    run: Run, gan: GAN, checkpoints: Checkpoints, saved: Saved, stops: Sequence[int]
) -> TrainState:
    """Trains from a saved state on.

    Raises:
      Stopped: a guard, a signal or a full disk ended the run early.
      RollBack: a guard asks for an earlier checkpoint.
    """
    config, source, carried = run.config, run.source, saved.carried
    # A copy of the keys, since the state's own arrays are donated to the steps.
    keys = devices.copy_of_key(saved.state.key)
    feed = open_feed(source, config, keys, saved.step, run.mesh)
    num, columns = grids.grid_size(gan, config.replicas)
    conditions = grids.fixed_conditions(gan, source, num)
    alarms = Alarms(config, source, carried.get("counts"))
    dumper = Dumper(run.path / "guard", run.description, config.replicas)
    outputs = hosts.all_do(lambda: _outputs(run, saved.step))
    data = grids.shown_with(gan, source, conditions)
    criterion = run.evaluator.criterion if run.evaluator else None
    with (
        contextlib.closing(Writers(outputs, gan.example, columns, data)) as writers,
        # A state more must fit, since the run needs the room for its next checkpoint.
        contextlib.closing(Checkpoints(run.path / BEST, keep=1, spare=1)) as folder,
    ):
        records = Records(
            config, writers, alarms, source.info.name, carried.get("window")
        )
        saver = Saver(checkpoints, records)
        how = {"conditions": conditions, "evaluator": run.evaluator}
        how["best"] = Best(folder, criterion) if criterion else None
        loop = Loop(gan, config, feed, saver, records, dumper, **how)
        return loop.run(saved, stops)


def _outputs(run: Run, step: int) -> list:
    """Opens what the first host writes."""
    if not hosts.is_first():
        return []
    with answering(run.path):
        return [
            MetricsFile(run.path / "metrics.jsonl"),
            EvaluationsFile(run.path / "evaluations.jsonl"),
            SampleFiles(run.path),
            Board(run.path, step),
            ProgressLine(run.config.num_steps, step),
        ]
