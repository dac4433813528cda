"""Checkpoints of a run, by Orbax: asynchronous, committed whole, the last few kept.

Beside the state a checkpoint holds what a run needs to resume as if it had never
stopped, the number of its format, and a checksum of each array: a change by a disk or a
copy is detected, and the checkpoint before it is used. Every leaf of a state has the
axis `[replicas]`; on disk a run of one replica has no such axis.

Orbax writes; TensorStore, in whose format it writes, reads one array after the other.
Orbax starts all reads at once, and those that still run when the first one fails print
tracebacks from other threads.
"""

import contextlib
import errno
import functools
import itertools
import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from gan_jax.algorithm.state import TrainState
from gan_jax.devices import hosts
from gan_jax.devices import mesh as sharding
from gan_jax.devices.checksums import checksums
from gan_jax.errors import UserError, one_line
from gan_jax.run import buckets
from gan_jax.run.files import answering, in_bucket, kvstore, move_folder

FORMAT = 1
_MARGIN = 2**18  # bytes that a checkpoint takes besides its arrays, at most
SET_ASIDE = "damaged"  # a folder next to that of the checkpoints
BEST = "best"  # likewise; it holds the best one, see best.py


class NotSaved(OSError):
    """A checkpoint could not be written; the earlier ones are unchanged."""


class Damaged(Exception):
    """A checkpoint does not hold what was saved; the message says why."""


class Saved(NamedTuple):
    """The content of a checkpoint.

    Attributes:
      step: the number of steps trained, also where a replica is frozen.
      state: of the run, leaves `[replicas, ...]`.
      carried: what else the run needs, see `Checkpoints.save`.
    """

    step: int
    state: TrainState
    carried: dict


class Checkpoints:
    """The checkpoints in a folder.

    Orbax is imported at the first access to the folder, which takes a quarter of a
    second: no run waits for it before its first step.

    Args:
      folder: created by the first save.
      keep: how many of the latest are kept; None keeps all, and only reads.
      spare: nothing is saved unless the disk has room for so many states more.
    """

    def __init__(self, folder: Path, keep: int | None = None, spare: int = 0):
        self._folder = folder if in_bucket(folder) else folder.absolute()
        self._keep, self._spare = keep, spare

    @functools.cached_property
    def _manager(self):
        import orbax.checkpoint as ocp

        # Two folders may be written at once: the barriers of each have their own names.
        prefix = ocp.options.MultiprocessingOptions(
            barrier_sync_key_prefix=self._folder.name
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep,
            cleanup_tmp_directories=self._keep is not None,
            multiprocessing_options=prefix,
        )
        return ocp.CheckpointManager(
            self._folder,
            options=options,
            item_handlers=ocp.StandardCheckpointHandler(),
        )

    def save(self, state: TrainState, step: int, carried: dict) -> None:
        """Copies a state off the device, and writes it in the background.

        Args:
          state: of the run, leaves `[replicas, ...]`.
          step: the number of steps trained.
          carried: what else the run needs to resume, as JSON types.

        Raises:
          NotSaved: it could not be written, or the one before it could not.
        """
        from orbax.checkpoint import args

        self.wait()
        try:
            steps = self._manager.all_steps()  # creates the folder, on every host
        except Exception as error:  # Orbax raises errors of many types
            raise self._failed(error) from error
        if step in steps:
            return
        hosts.all_do(lambda: self._check_room(state))
        stored = sharding.without_axis(state) if _is_single(state) else state
        about = {"format": FORMAT, "carried": carried, "arrays": _describe(stored)}
        text = json.dumps(about)
        metadata = {"text": text, "checksum": zlib.crc32(text.encode())}
        try:
            self._manager.save(
                step, args=args.StandardSave(stored), custom_metadata=metadata
            )
        except Exception as error:
            raise self._failed(error) from error

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
          NotSaved: it could not be written.
        """
        try:
            if "_manager" in vars(self):
                self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, None without any."""
        return max(self._steps(), default=None)

    def restore(self, like: TrainState, step: int | None = None) -> Saved:
        """Reads a checkpoint; changes nothing in the folder.

        Args:
          like: the abstract state, leaves `[replicas, ...]` with the shardings that the
            arrays are to have; its memory may be None, for any memory.
          step: which, None for the newest that is not damaged.

        Raises:
          UserError: there is none of that step, it is damaged, or it holds another
            kind of state.
        """
        steps = sorted(self._steps(), reverse=True)
        if not steps or step not in (None, *steps):
            found = ", ".join(map(str, reversed(steps))) or "none yet"
            wanted = "" if step is None else f" of step {step}"
            raise UserError(f"no checkpoint{wanted} in {self._folder} (there: {found})")
        damaged = []
        for candidate in steps if step is None else [step]:
            try:
                saved = self._read(like, candidate)
            except Damaged as why:
                damaged.append(f"{self._name(candidate)} is damaged ({why})")
                continue
            for why in damaged:
                hosts.say(f"{why}: the one of step {candidate} is used")
            return saved
        hint = "" if step is None else "; choose another --step"
        raise UserError(f"{'; '.join(damaged)}{hint}")

    def resume(self, like: TrainState) -> Saved:
        """Reads the newest checkpoint that is not damaged, and moves newer ones away.

        Args:
          like: as for `restore`.

        Raises:
          UserError: as `restore`; then nothing has been moved.
        """
        steps = self._steps()  # before any host moves some
        saved = self.restore(like)
        self._set_aside([step for step in steps if step > saved.step])
        return saved

    def latest_carried(self) -> tuple[int, dict] | None:
        """Returns the step of the newest checkpoint, and what it carries.

        It reads no arrays. Those of which it cannot tell what they hold are moved away.

        Returns:
          None if there is no checkpoint.

        Raises:
          UserError: it is of another format.
        """
        damaged, found = [], None
        for step in sorted(self._steps(), reverse=True):
            try:
                found = step, self._about(step)["carried"]
                break
            except Damaged as why:
                hosts.say(f"{self._name(step)} is damaged ({why})")
                damaged.append(step)
        self._set_aside(damaged)
        return found

    def roll_back(self, good: Callable[[dict], bool]) -> bool:
        """Removes the checkpoints after the newest one that is good.

        Args:
          good: decides by what a checkpoint carries.

        Returns:
          Whether there is a good one, or no checkpoint at all; if not, all are kept.

        Raises:
          NotSaved: the last one could not be written.
        """
        self.wait()
        late = []
        for step in sorted(self._steps(), reverse=True):
            with contextlib.suppress(Damaged):
                if good(self._about(step)["carried"]):
                    break
            late.append(step)
        else:
            if late:
                return False
        self._delete(late)
        return True

    def drop(self, is_dropped: Callable[[int], bool]) -> None:
        """Removes the checkpoints of some steps."""
        self._delete([step for step in self._steps() if is_dropped(step)])

    def close(self) -> None:
        """Waits until all is on disk; prints a line if it could not be written."""
        try:
            self.wait()
        except NotSaved as error:
            hosts.say(f"the last checkpoint in {self._folder} is not saved ({error})")
        self._close()

    def _steps(self) -> list[int]:
        def is_there():
            with answering(self._folder):
                return self._folder.exists()

        if not hosts.all_do(is_there):
            return []
        with answering(self._folder):
            return list(self._manager.all_steps())

    def _check_room(self, state: TrainState) -> None:
        """Checks the disk before Orbax's threads, each of which prints a traceback.

        Raises:
          NotSaved: the disk is full.
        """
        if in_bucket(self._folder):
            buckets.check_held()
            return
        room = shutil.disk_usage(self._folder).free
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _MARGIN
        if room < size * (1 + self._spare):
            raise NotSaved(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _name(self, step: int) -> str:
        return f"the checkpoint of step {step} in {self._folder}"

    def _read(self, like: TrainState, step: int) -> Saved:
        """Reads one checkpoint.

        Raises:
          Damaged: it does not hold what was saved.
          UserError: it is of another format, or holds another kind of state.
        """
        about = self._about(step)
        single = _is_single(like)
        shapes = {name: tuple(shape) for name, (shape, _) in about["arrays"].items()}
        if like.memory is None:
            like = like.replace(memory=_memory(shapes, like.step, single))
        wanted = {name: x.shape[single:] for name, x in named_leaves(like).items()}
        _check_same(shapes, wanted, self._name(step))
        read = []

        def read_all():
            try:
                read.append(_read_arrays(self._folder / str(step), like, single))
            except Exception as error:  # TensorStore raises errors of many types
                why = one_line(error)
                if in_bucket(self._folder) and buckets.is_silent(error):
                    text = f"{self._name(step)} cannot be read now: {why}"
                    raise buckets.NoAnswer(text) from None
                raise OSError(why) from None

        try:
            hosts.all_do(read_all)
        except OSError as error:
            raise Damaged(str(error)) from None
        (state,) = read
        found = _describe(state)
        for name, (_, checksum) in about["arrays"].items():
            if found[name][1] != checksum:
                raise Damaged(f"{name} is not what was saved")
        return Saved(step, state, about["carried"])

    def _about(self, step: int) -> dict:
        """Reads the description of a checkpoint.

        Raises:
          Damaged: it is missing, or not what was saved.
          UserError: it is of another format.
        """
        # Orbax's own function also reads the description of every array.
        file = self._folder / str(step) / "_CHECKPOINT_METADATA"

        def read():
            with answering(file):
                return file.read_text()

        try:
            metadata = json.loads(hosts.all_do(read))["custom_metadata"]
            text, checksum = metadata["text"], metadata["checksum"]
        except UserError:
            raise
        except Exception as error:
            raise Damaged(
                f"it does not say what it holds: {one_line(error)}"
            ) from error
        if zlib.crc32(text.encode()) != checksum:
            raise Damaged("its description is not what was saved")
        about = json.loads(text)
        if (number := about["format"]) != FORMAT:
            raise UserError(
                f"{self._name(step)} is of format {number}, and this version reads "
                f"{FORMAT}: use the gan_jax that wrote it (its version is in "
                "config.json)"
            )
        return about

    def _set_aside(self, steps: Sequence[int]) -> None:
        if not steps:
            return
        hosts.wait_for_all("looked")  # before any is moved
        if hosts.is_first():
            for step in sorted(steps):
                self._move(step)
        hosts.wait_for_all("set aside")
        self._close()  # Orbax lists the folder only once

    def _move(self, step: int) -> None:
        home = self._folder.with_name(SET_ASIDE)
        free = (home / f"{step}.{number}" for number in itertools.count())
        target = next(path for path in free if not path.exists())
        move_folder(self._folder / str(step), target)
        hosts.say(f"moved {self._name(step)} to {target}")

    def _delete(self, steps: Sequence[int]) -> None:
        hosts.wait_for_all("delete")  # all have looked before any removes
        for step in steps:
            self._manager.delete(step)
        self._close()

    def _failed(self, error: Exception) -> NotSaved:
        self._close()
        return NotSaved(one_line(error))

    def _close(self) -> None:
        manager = vars(self).pop("_manager", None)
        with contextlib.suppress(Exception):  # `wait` has raised it before
            if manager is not None:
                manager.close()


def named_leaves(tree) -> dict[str, jax.Array]:
    """Returns the leaves by their names, as `g/params/Dense_0/kernel`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _is_single(state: TrainState) -> bool:
    return state.step.shape == (1,)


def _read_arrays(folder: Path, like: TrainState, single: bool) -> TrainState:
    """Reads the arrays of a checkpoint, each host those shards that it needs.

    Args:
      folder: of the checkpoint.
      like: the abstract state, with shardings.
      single: whether the arrays on disk have no axis of replicas.
    """
    import tensorstore

    def read(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        data = jax.eval_shape(jax.random.key_data, leaf) if is_key else leaf
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        base = kvstore(folder / "default")
        of_array = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
        spec = {"driver": "zarr", "kvstore": of_array}
        store = tensorstore.open(spec, open=True, read=True).result()

        @functools.cache  # devices may hold the same part
        def part(*bounds: tuple[int | None, int | None]) -> np.ndarray:
            index = tuple(itertools.starmap(slice, bounds[single:]))
            values = store[index].read().result()
            return values[None] if single else values

        array = jax.make_array_from_callback(
            data.shape,
            leaf.sharding,
            lambda index: part(*((s.start, s.stop) for s in index)),
        )
        return jax.random.wrap_key_data(array) if is_key else array

    return jax.tree_util.tree_map_with_path(read, like)


def _memory(shapes: dict, step: jax.ShapeDtypeStruct, single: bool) -> dict:
    """Returns the abstract memory of a checkpoint; its types are those on disk."""
    memory = {}
    for name, shape in shapes.items():
        if name.startswith("memory/"):
            _, *path, last = name.split("/")
            folder = functools.reduce(
                lambda tree, key: tree.setdefault(key, {}), path, memory
            )
            shape = (1, *shape) if single else shape
            where = step.sharding
            folder[last] = jax.ShapeDtypeStruct(shape, "float32", sharding=where)
    return memory


def _check_same(stored: dict, wanted: dict, checkpoint: str) -> None:
    for name in sorted(stored.keys() | wanted.keys()):
        old, new = stored.get(name, "absent"), wanted.get(name, "absent")
        if old != new:
            raise UserError(
                f"{checkpoint} does not fit this config: {name} is {old} there and "
                f"{new} here"
            )


def _describe(state: TrainState) -> dict[str, list]:
    """Returns the shape and the CRC-32 of each array, by its name."""
    leaves = named_leaves(state)
    sums = checksums([*leaves.values()])
    return {
        name: [list(leaf.shape), checksum]
        for (name, leaf), checksum in zip(leaves.items(), sums, strict=True)
    }
