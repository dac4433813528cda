"""Guards against NaN and infinity: rejected steps are diagnosed, dumped and replayed.

A step that produces NaN or infinity is rejected, so the state before it still exists.
It is dumped with the batch, the config and the reason;
`python -m gan_jax.train --replay=DIR/guard/STEP` replays that one step.
"""

import contextlib
import dataclasses
import io
import json
import shlex
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as config_lib
from gan_jax.algorithm import steps
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.state import TrainState
from gan_jax.build import names
from gan_jax.build.builder import from_config
from gan_jax.devices import hosts
from gan_jax.devices import mesh as devices
from gan_jax.errors import UserError, one_line, summary
from gan_jax.run import workdir
from gan_jax.run.checkpoint import named_leaves
from gan_jax.run.files import write_new_folder

PLAYERS = {"d": "discriminator", "g": "generator"}


def first_not_finite(
    step: int, metrics: dict[str, np.ndarray]
) -> dict[int, tuple[int, str]]:
    """Finds the first metric of each replica that is NaN or infinite.

    Args:
      step: the last one of the metrics.
      metrics: each `[n, replicas]`.

    Returns:
      The step and the name of the metric, for each replica that has one.
    """

    def rank(name):  # D's come first in a step, and losses say the most
        return name.startswith("g_"), not name.endswith("loss"), name.startswith("d_")

    keys = sorted(metrics, key=rank)
    finite = np.isfinite(np.stack([metrics[key] for key in keys], -1))
    found = {}
    for replica in np.flatnonzero(~finite.all((0, 2))):
        at, which = np.argwhere(~finite[:, replica])[0]
        found[int(replica)] = int(at) + step - len(finite) + 1, keys[which]
    return found


def diagnose(gan: GAN, state: TrainState, batch: dict) -> str:
    """Makes a step that is rejected, and tells which player it breaks, and where.

    Args:
      gan: the static half.
      state: before that step.
      batch: of that step.
    """
    after, metrics = jax.jit(steps.train_step)(gan, state, batch)
    bad = [name for name, x in metrics.items() if not np.isfinite(devices.fetch(x))]
    arrays = {
        key: [
            f"{key}/{name}"
            for name, leaf in named_leaves(getattr(after, key)).items()
            if name.startswith("params/") and not np.isfinite(devices.fetch(leaf)).all()
        ]
        for key in PLAYERS
    }
    of_d = arrays["d"] or any(not name.startswith("g_") for name in bad)
    player = "d" if of_d else "g"
    broken, total = arrays[player], len(jax.tree.leaves(getattr(after, player).params))
    if not broken:
        return f"the {PLAYERS[player]}'s parameters are not affected yet"
    more = f", one of {len(broken)} of its {total} arrays" if len(broken) > 1 else ""
    return (
        f"the {PLAYERS[player]}'s update would put NaN or infinity into "
        f"{broken[0]}{more}"
    )


# --- Dumps --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Dumper:
    """Dumps rejected steps of a run, for a replay.

    Attributes:
      folder: the run's `guard`.
      description: the content of the run's `config.json`.
      replicas: how many the run has.
    """

    folder: Path
    description: dict
    replicas: int = 1

    def dump(
        self, gan: GAN, state: TrainState, batch: dict, step: int, replica: int = 0
    ) -> str:
        """Dumps a step, in a folder that appears whole.

        Args:
          gan: the static half.
          state: before that step, of one replica.
          batch: of that step, of one replica.
          step: its number, from 1 on.
          replica: which it is.

        Returns:
          What `diagnose` finds, where the dump is, and how to replay it.
        """
        why = diagnose(gan, state, batch)
        arrays = {f"state/{name}": leaf for name, leaf in named_leaves(state).items()}
        arrays |= {f"batch/{name}": leaf for name, leaf in batch.items()}
        arrays = {name: devices.fetch(leaf) for name, leaf in arrays.items()}
        about = {"step": step, "why": why, "noise_stream": gan.noise_stream}
        suffix = f"-{replica}" if self.replicas > 1 else ""
        folder = self.folder / f"{step:06d}{suffix}"
        if hosts.is_first():
            try:
                _write(folder, arrays, self.description | about)
            except OSError as error:
                return f"{why} (it could not be dumped: {error})"
        own_code = names.user_code(self.description["config"])
        # A replay loads such code only if the command names it.
        command = "the same command with" if own_code else "python -m gan_jax.train"
        return f"{why} (replay it: {command} --replay={shlex.quote(str(folder))})"


def _write(folder: Path, arrays: dict[str, np.ndarray], about: dict) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    text = json.dumps(about, indent=2) + "\n"
    files = {"arrays.npz": buffer.getbuffer(), "config.json": text.encode()}
    write_new_folder(folder, files, replace=True)  # that of the same step


# --- Replays ------------------------------------------------------------------------


def replay(folder: Path, config: ConfigDict | None = None) -> int:
    """Replays the step of a dump, and prints where the first NaN or infinity arises.

    Args:
      folder: of the dump.
      config: of the run; needed if it names the user's own code, of which none is
        loaded otherwise.

    Returns:
      The exit status: 3 if the step is rejected again, else 0.

    Raises:
      UserError: the dump is damaged, its config is another one, or it names code that
        may not be loaded.
    """
    about = workdir.read(folder)
    with _damaged(folder):
        dumped = config_lib.default()
        dumped.update(about["config"])
        code, step = names.user_code(dumped), int(about["step"])
    if config:
        _check_same(folder, about["config"], config)
    elif code:
        raise UserError(
            f"the run of {folder} uses its own code ({', '.join(code)}): to load that, "
            "give its --config too"
        )
    with _damaged(folder):
        gan, state, batch = load(folder, dumped)
    print(f"step {step}: {diagnose(gan, state, batch)}", file=sys.stderr)
    _, metrics = jax.jit(steps.train_step)(gan, state, batch)
    for name, value in metrics.items():
        print(f"{name} {float(value):.6g}")
    if np.isfinite([*metrics.values()]).all():
        return 0
    if place := _where_it_arises(gan, state, batch):
        print(f"it arises here: {place}", file=sys.stderr)
    return 3


@contextlib.contextmanager
def _damaged(folder: Path) -> Iterator[None]:
    """Turns whatever a damaged dump raises into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        why = one_line(error)
        raise UserError(f"the dump {folder} is damaged ({why})") from error


def _check_same(folder: Path, dumped: dict, config: ConfigDict) -> None:
    config_lib.validate(config)
    config = names.with_absolute_files(config)
    differing = config_lib.differences(dumped, config.to_dict())
    if differing:
        raise UserError(
            f"{folder} is of a run with another config ({'; '.join(differing)})"
        )


def load(folder: Path, config: ConfigDict) -> tuple[GAN, TrainState, dict]:
    """Reads a dump: the GAN of its config, the state before the step, and its batch."""
    about = workdir.read(folder)
    gan = from_config(config, *workdir.spaces(about["data"]))
    gan = dataclasses.replace(gan, noise_stream=about["noise_stream"])
    shapes = jax.eval_shape(steps.init_state, gan, jax.eval_shape(jax.random.key, 0))
    with (
        (folder / "arrays.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        leaves = [
            _leaf(arrays[f"state/{name}"], leaf)
            for name, leaf in named_leaves(shapes).items()
        ]
        batch = {
            name.removeprefix("batch/"): jnp.asarray(arrays[name])
            for name in arrays.files
            if name.startswith("batch/")
        }
    return gan, jax.tree.unflatten(jax.tree.structure(shapes), leaves), batch


def _leaf(array: np.ndarray, like: jax.ShapeDtypeStruct) -> jax.Array:
    is_key = jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(array) if is_key else jnp.asarray(array)


def _where_it_arises(gan: GAN, state: TrainState, batch: dict) -> str | None:
    """Returns the line of code where a step first makes NaN, or else infinity."""
    for debug in (jax.debug_nans, jax.debug_infs):
        try:
            with debug(True), jax.disable_jit():
                steps.train_step(gan, state, batch)
        except FloatingPointError as error:
            return _where(error)
    return None


def _where(error: FloatingPointError) -> str:
    """Returns the message, and the last line of code that is not a library's."""
    here = Path(__file__)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and Path(frame.filename) != here
    ]
    last = frames[-1] if frames else None
    place = f"{last.filename}:{last.lineno}: {last.line}: " if last else ""
    return place + summary(error)
