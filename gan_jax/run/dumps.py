"""Guards of a run: what is not finite, what has collapsed, and dumps to replay.

A step that would leave a metric that is not finite is not made, so the
state before it is at hand. It is dumped with the batch, the config and the reason;
`python -m gan_jax.train --replay=DIR/guard/STEP` makes that one step again.
"""

import dataclasses
import json
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as config_lib
from gan_jax.algorithm import steps
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.state import TrainState
from gan_jax.build import names as resolve
from gan_jax.build.builder import from_config
from gan_jax.devices import hosts
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError, one_line
from gan_jax.run.checkpoint import named_leaves

PLAYERS = {"d": "discriminator", "g": "generator"}
_SATURATED = 0.98  # of mean D(x) - mean D(G(z))


class RollBack(Exception):
    """The run shall go on from an earlier checkpoint, with other noise.

    Args:
      why: it shall.
      good: tells of what a checkpoint carries whether it is early enough.
    """

    def __init__(self, why: str, good: Callable[[dict], bool] = lambda carried: True):
        super().__init__(why)
        self.good = good


# --- What is not finite -------------------------------------------------------------


def not_finite(step: int, metrics: dict[str, np.ndarray]) -> dict[int, tuple[int, str]]:
    """Finds where metrics are not finite.

    Args:
      step: the last one that they are of.
      metrics: each `[n]`, or `[n, replicas]`.

    Returns:
      Of each replica that has such a metric, the first: its step and name.
    """

    def rank(name):  # what breaks first, and of that what says the most
        return name.startswith("g_"), not name.endswith("loss"), name.startswith("d_")

    names = sorted(metrics, key=rank)
    finite = [
        np.isfinite(metrics[name]).reshape(len(metrics[name]), -1) for name in names
    ]
    finite, found = np.stack(finite, -1), {}
    for replica in np.flatnonzero(~finite.all((0, 2))):
        at, which = np.argwhere(~finite[:, replica])[0]
        found[int(replica)] = int(at) + step - len(finite) + 1, names[which]
    return found


def diagnose(gan: GAN, state: TrainState, batch: dict) -> str:
    """Makes a step that is not sound, and says which player it breaks, and where.

    Args:
      gan: the static half.
      state: before that step.
      batch: of that step.
    """
    after, metrics = jax.jit(steps.train_step)(gan, state, batch)
    bad = [name for name, x in metrics.items() if not np.isfinite(sharding.fetch(x))]
    arrays = {
        key: [
            f"{key}/{name}"
            for name, leaf in named_leaves(getattr(after, key)).items()
            if name.startswith("params/")
            and not np.isfinite(sharding.fetch(leaf)).all()
        ]
        for key in PLAYERS
    }
    of_d = arrays["d"] or any(not name.startswith("g_") for name in bad)
    player = "d" if of_d else "g"
    broken, total = arrays[player], len(jax.tree.leaves(getattr(after, player).params))
    if not broken:
        return f"the {PLAYERS[player]}'s update would leave its arrays finite"
    more = f", of {len(broken)} of its {total} arrays" if len(broken) > 1 else ""
    return f"the {PLAYERS[player]}'s update would leave so {broken[0]}{more}"


def dump(
    folder: Path, about: dict, gan: GAN, state: TrainState, batch: dict, step: int
) -> str:
    """Leaves a step that is not sound for a replay.

    Args:
      folder: of the dump; it appears whole.
      about: the content of the run's `config.json`.
      gan: the static half.
      state: before that step, of one replica.
      batch: of that step.
      step: its number, from 1 on.

    Returns:
      What is not finite, as `diagnose` says it.
    """
    why = diagnose(gan, state, batch)
    arrays = {f"state/{name}": leaf for name, leaf in named_leaves(state).items()}
    arrays |= {f"batch/{name}": leaf for name, leaf in batch.items()}
    arrays = {name: sharding.fetch(leaf) for name, leaf in arrays.items()}
    found = {"step": step, "why": why, "noise_stream": gan.noise_stream}
    if hosts.is_first():
        try:
            _write(folder, arrays, about | found)
        except OSError as error:
            return f"{why} (it could not be dumped: {error})"
    return why


def _write(folder: Path, arrays: dict[str, np.ndarray], about: dict) -> None:
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    np.savez(partial / "arrays.npz", **arrays)
    (partial / "config.json").write_text(json.dumps(about, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def replay(folder: Path, about: dict, given: ConfigDict | None) -> int:
    """Makes the step of a dump again, and says where the first NaN or infinity arises.

    Args:
      folder: of the dump.
      about: its `config.json`.
      given: the config of the run, which may name the user's own code; without it none
        is loaded.

    Returns:
      The exit status: 3 where the step is not sound again, else 0.

    Raises:
      UserError: the dump is damaged, its config is not the one given, or it names code
        that may not be loaded.
    """
    try:
        config = config_lib.default()
        config.update(about["config"])
        own, step = resolve.user_code(config), int(about["step"])
    except UserError:
        raise
    except Exception as error:
        why = one_line(error)
        raise UserError(f"the dump {folder} is damaged ({why})") from error
    if given:
        config_lib.validate(given)
        given = config_lib.with_absolute_files(given)
        differing = config_lib.differences(about["config"], given.to_dict())
        if differing:
            raise UserError(
                f"{folder} is of a run with another config ({'; '.join(differing)})"
            )
    elif own:
        raise UserError(
            f"the run of {folder} uses its own code ({', '.join(own)}): to load that, "
            "give its --config too"
        )
    try:
        gan, state, batch = _load(folder, config, about)
    except UserError:
        raise
    except Exception as error:
        why = one_line(error)
        raise UserError(f"the dump {folder} is damaged ({why})") from error
    print(f"step {step}: {diagnose(gan, state, batch)}", file=sys.stderr)
    _, metrics = jax.jit(steps.train_step)(gan, state, batch)
    for name, value in metrics.items():
        print(f"{name} {float(value):.6g}")
    for watched in (jax.debug_nans, jax.debug_infs):
        try:
            with watched(True), jax.disable_jit():
                steps.train_step(gan, state, batch)
        except FloatingPointError as error:
            print(f"it arises here: {_where(error)}", file=sys.stderr)
            break
    return 0 if np.isfinite([*metrics.values()]).all() else 3


def _load(folder: Path, config: ConfigDict, about: dict):
    data = about["data"]
    gan = from_config(config, tuple(data["shape"]), data["num_classes"])
    gan = dataclasses.replace(gan, noise_stream=about["noise_stream"])
    shapes = jax.eval_shape(steps.init_state, gan, jax.eval_shape(jax.random.key, 0))
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        leaves = [
            jax.random.wrap_key_data(jnp.asarray(arrays[f"state/{name}"]))
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else jnp.asarray(arrays[f"state/{name}"])
            for name, leaf in named_leaves(shapes).items()
        ]
        batch = {
            name.removeprefix("batch/"): jnp.asarray(arrays[name])
            for name in arrays.files
            if name.startswith("batch/")
        }
    return gan, jax.tree.unflatten(jax.tree.structure(shapes), leaves), batch


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
    return place + one_line(error)


# --- What has collapsed -------------------------------------------------------------


def spread(examples: np.ndarray) -> float:
    """Returns the root mean square distance of two examples.

    Args:
      examples: `[num, ...]`.
    """
    flat = examples.reshape(len(examples), -1).astype(np.float64)
    return float(np.sqrt(2 * flat.var(0).sum()))


def spread_of_data(source, num: int = 256) -> float:
    """Returns the spread of the data.

    Args:
      source: a density, or random access to examples.
      num: how many examples to take.
    """
    if hasattr(source, "sample"):

        def reference():
            return source.sample(jax.random.key(0), num)["image"]

        return spread(np.asarray(jax.jit(reference)()))
    indices = np.linspace(0, len(source) - 1, min(num, len(source))).astype(int)
    return spread(np.stack([source[int(i)]["image"] for i in indices]))


class Collapse:
    """Watches whether samples lose their variety, or D its doubts.

    The diversity of samples is their spread as a share of the data's; a generator that
    has collapsed to one example has none. D is saturated when it takes every real
    example for real and no sample: G then learns little of it.

    Args:
      config: `config.guard`.
      source: of the data.
      counts: what `counts` was when the run was saved.
    """

    def __init__(self, config: ConfigDict, source, counts: dict | None = None):
        self._config, self._source = config, source
        self._of_data: float | None = None
        self.counts = counts or {"low": [], "saturated": []}

    def diversity(self, examples: np.ndarray) -> list[float]:
        """Returns the diversity of the samples of each replica, and counts the low.

        Args:
          examples: `[replicas, num, ...]`.
        """
        if self._of_data is None:
            self._of_data = spread_of_data(self._source)
        found = [spread(one) / max(self._of_data, 1e-12) for one in examples]
        self._count("low", [value < self._config.diversity for value in found])
        return found

    def see(self, record: dict) -> None:
        """Counts the log lines at which D is saturated."""
        gap = np.ravel(record["d_real"]) - np.ravel(record["d_fake"])
        self._count("saturated", (gap > _SATURATED).tolist())

    def alarms(self) -> dict[int, str]:
        """Returns the replicas that have collapsed, and why."""
        found, why = (
            {},
            {
                "low": "the samples of the last {} sheets had less than "
                f"{self._config.diversity:g} of the data's variety",
                "saturated": "D has had no doubt what is real for {} log lines",
            },
        )
        for name, limit in (
            ("saturated", self._config.saturation),
            ("low", self._config.patience),
        ):
            for replica, count in enumerate(self.counts[name]):
                if count >= limit:
                    found[replica] = why[name].format(count)
        return found

    def _count(self, name: str, now: list[bool]) -> None:
        before = self.counts[name] or [0] * len(now)
        counted = zip(before, now, strict=True)
        self.counts[name] = [n + 1 if bad else 0 for n, bad in counted]


def healthy(carried: dict) -> bool:
    """Tells of what a checkpoint carries that nothing was amiss when it was saved."""
    return not any(map(any, carried["counts"].values()))
