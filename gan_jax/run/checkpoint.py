"""Checkpoints of a run, by Orbax: asynchronous, committed whole, the last few kept.

Beside the state a checkpoint carries what a run needs to go on as if it had not been
stopped, the number of its format, and a checksum of each array: what a disk or a copy
has changed is found out, and the checkpoint before it is used.
"""

import contextlib
import errno
import functools
import gc
import json
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from gan_jax.algorithm.state import TrainState
from gan_jax.devices import hosts
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError, one_line

FORMAT = 1
_MARGIN = 2**18  # bytes that a checkpoint takes besides its arrays, at the most
SET_ASIDE = "damaged"  # beside the folder of the checkpoints


class NotSaved(OSError):
    """A checkpoint could not be written; those before it are as they were."""


class Damaged(Exception):
    """A checkpoint does not hold what was saved; says why."""


class Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      step: chunks have been made up to it.
      state: of the run.
      carried: what else the run needs, see `Checkpoints.save`.
    """

    step: int
    state: TrainState
    carried: dict


class Checkpoints:
    """The checkpoints in a folder.

    Orbax is imported when there is something to read or to save: it takes a quarter of
    a second, and no run has to wait for it before its first step.

    Args:
      folder: made at the first save where it is missing.
      keep: how many are kept, the latest ones; None keeps all, and only reads.
    """

    def __init__(self, folder: Path, keep: int | None = None):
        self._folder, self._keep = folder.absolute(), keep

    @functools.cached_property
    def _manager(self):
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep,
            cleanup_tmp_directories=self._keep is not None,
        )
        return ocp.CheckpointManager(
            self._folder,
            options=options,
            item_handlers=ocp.StandardCheckpointHandler(),
        )

    def save(self, state: TrainState, step: int, carried: dict) -> None:
        """Copies a state off the device, and writes it in the background.

        Args:
          state: of the run.
          step: chunks have been made up to it.
          carried: what else must be there when the run goes on; of what JSON holds.

        Raises:
          NotSaved: it could not be written, or the one before it could not.
        """
        from orbax.checkpoint import args

        self.wait()
        try:
            steps = self._manager.all_steps()  # makes the folder, on every host at once
        except OSError as error:
            raise self._failed(error) from error
        if step in steps:
            return
        hosts.all_do(lambda: self._check_room(state))
        arrays = {name: [*leaf] for name, leaf in _describe(state).items()}
        text = json.dumps({"format": FORMAT, "carried": carried, "arrays": arrays})
        about = {"text": text, "checksum": zlib.crc32(text.encode())}
        try:
            self._manager.save(
                step, args=args.StandardSave(state), custom_metadata=about
            )
        except Exception as error:  # Orbax has no one type for what may be wrong
            raise self._failed(error) from error

    def wait(self) -> None:
        """Waits until what was saved is on disk.

        Raises:
          NotSaved: it could not be written.
        """
        try:
            if "_manager" in vars(self):
                self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, None where there is none."""
        return max(self._steps(), default=None)

    def restore(self, like: TrainState, step: int | None = None) -> Saved:
        """Reads a checkpoint, and leaves the folder as it is.

        Args:
          like: a state of the same shapes, as `jax.eval_shape` gives it, with the
            placement that the arrays shall have; its memory may be None, for whatever
            is there.
          step: which, None for the newest that is sound.

        Raises:
          UserError: there is none of that step, it is damaged, or it holds another
            kind of state.
        """
        steps = sorted(self._steps(), reverse=True)
        if not steps or step not in (None, *steps):
            there = ", ".join(map(str, reversed(steps))) or "none yet"
            wanted = "" if step is None else f" of step {step}"
            raise UserError(f"no checkpoint{wanted} in {self._folder} (there: {there})")
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
        """Reads the newest checkpoint that is sound, and sets newer ones aside.

        Args:
          like: as for `restore`.

        Raises:
          UserError: as `restore`; then nothing has been moved.
        """
        steps = self._steps()  # before any host sets some aside
        saved = self.restore(like)
        if damaged := [step for step in steps if step > saved.step]:
            if hosts.is_first():
                for step in sorted(damaged):
                    self._set_aside(step)
            hosts.wait_for_all("set aside")
            self._close()  # Orbax looks at the folder once
        return saved

    def roll_back(self, good: Callable[[dict], bool]) -> bool:
        """Removes the checkpoints after the newest one that is good.

        Args:
          good: tells it of what a checkpoint carries.

        Returns:
          Whether there is a good one, or none at all; if not, all are left.

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
        hosts.wait_for_all("roll back")  # all have looked before any removes
        for step in late:
            self._manager.delete(step)
        self._close()
        return True

    def close(self) -> None:
        """Waits until all is on disk; says so if it could not be written."""
        try:
            self.wait()
        except NotSaved as error:
            hosts.say(f"the last checkpoint is not saved ({error})")
        self._close()

    def _steps(self) -> list[int]:
        return list(self._manager.all_steps()) if self._folder.exists() else []

    def _check_room(self, state: TrainState) -> None:
        """Finds out before Orbax's threads do, each of which would print a traceback.

        Raises:
          NotSaved: the disk is full.
        """
        room = shutil.disk_usage(self._folder).free
        if room < sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _MARGIN:
            raise NotSaved(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _name(self, step: int) -> str:
        return f"the checkpoint of step {step} in {self._folder}"

    def _read(self, like: TrainState, step: int) -> Saved:
        """Reads one checkpoint.

        Raises:
          Damaged: it does not hold what was saved.
          UserError: it is of another format, or holds another kind of state.
        """
        from orbax.checkpoint import args

        about = self._about(step)
        arrays = {name: tuple(leaf) for name, leaf in about["arrays"].items()}
        if like.memory is None:
            like = like.replace(memory=_memory(arrays, like.step.sharding))
        _check_same(
            {name: tuple(shape) for name, (shape, _) in arrays.items()},
            {name: leaf.shape for name, leaf in named_leaves(like).items()},
            self._name(step),
        )
        why, state = "", None
        with _silent_threads():
            try:
                state = self._manager.restore(step, args=args.StandardRestore(like))
            except Exception as error:  # Orbax has no one type for what may be wrong
                why = one_line(error)
            if why:  # the reads that it left behind hang on the exception
                gc.collect()
                time.sleep(0.5)

        def check_read():
            if state is None:
                raise OSError(why)

        try:
            hosts.all_do(check_read)
        except OSError as error:
            raise Damaged(str(error)) from None
        found = _describe(state)
        for name, (_, checksum) in arrays.items():
            if found[name][1] != checksum:
                raise Damaged(f"{name} is not what was saved")
        return Saved(step, state, about["carried"])

    def _about(self, step: int) -> dict:
        """Reads what a checkpoint says of itself.

        Raises:
          Damaged: it says nothing, or not what was saved.
          UserError: it is of another format.
        """
        # Orbax's own function reads every array's description besides.
        file = self._folder / str(step) / "_CHECKPOINT_METADATA"
        try:
            about = json.loads(file.read_text())["custom_metadata"]
            text, checksum = about["text"], about["checksum"]
        except Exception as error:
            raise Damaged(
                f"it does not say what it holds: {one_line(error)}"
            ) from error
        if zlib.crc32(text.encode()) != checksum:
            raise Damaged("what it says of itself is not what was saved")
        about = json.loads(text)
        if (number := about["format"]) != FORMAT:
            raise UserError(
                f"{self._name(step)} is of format {number}, and this version reads "
                f"{FORMAT}: use the gan_jax that wrote it (its version is in "
                "config.json)"
            )
        return about

    def _set_aside(self, step: int) -> None:
        home = self._folder.with_name(SET_ASIDE)
        home.mkdir(exist_ok=True)
        num = 0
        while (there := home / f"{step}.{num}").exists():
            num += 1
        (self._folder / str(step)).rename(there)
        hosts.say(f"moved {self._name(step)} to {there}")

    def _failed(self, error: Exception) -> NotSaved:
        self._close()
        return NotSaved(one_line(error))

    def _close(self) -> None:
        manager = vars(self).pop("_manager", None)
        with contextlib.suppress(Exception):  # it has been said by then
            if manager is not None:
                manager.close()


@contextlib.contextmanager
def _silent_threads() -> Iterator[None]:
    """Keeps the reads that one which fails leaves behind from printing tracebacks."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # they do not print by way of Python's own stderr
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def named_leaves(tree) -> dict[str, jax.Array]:
    """Returns the leaves by their names, as `g/params/Dense_0/kernel`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _memory(arrays: dict, where: jax.sharding.Sharding) -> dict:
    """Returns the shapes of a checkpoint's memory, which is dictionaries of float32."""
    memory = {}
    for name, (shape, _) in arrays.items():
        if name.startswith("memory/"):
            _, *path, last = name.split("/")
            home = functools.reduce(
                lambda at, key: at.setdefault(key, {}), path, memory
            )
            home[last] = jax.ShapeDtypeStruct(shape, "float32", sharding=where)
    return memory


def _check_same(stored: dict, wanted: dict, where: str) -> None:
    for name in sorted(stored.keys() | wanted.keys()):
        there, here = stored.get(name, "absent"), wanted.get(name, "absent")
        if there != here:
            raise UserError(
                f"{where} does not fit this config: {name} is {there} there and "
                f"{here} here"
            )


def _describe(state: TrainState) -> dict[str, tuple[tuple[int, ...], int]]:
    """Returns the shape and the CRC-32 of each array, by its name."""
    return {
        name: (leaf.shape, zlib.crc32(np.ascontiguousarray(sharding.fetch(leaf))))
        for name, leaf in named_leaves(state).items()
    }
