"""Checkpoints of a run, by Orbax: asynchronous, committed whole, the last few kept."""

import functools
from pathlib import Path

import jax

from gan_jax.errors import UserError
from gan_jax.resolve import one_line
from gan_jax.state import TrainState


class Checkpoints:
    """The checkpoints in a folder.

    Orbax is imported when there is something to read or to save: it takes a quarter of
    a second, and no run has to wait for it before its first step.

    Args:
      folder: made at the first save where it is missing.
      keep: how many are kept, the latest ones; None keeps all.
    """

    def __init__(self, folder: Path, keep: int | None = None):
        self._folder, self._keep = folder.absolute(), keep

    @functools.cached_property
    def _manager(self):
        import orbax.checkpoint as ocp

        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(max_to_keep=self._keep),
            item_handlers=ocp.StandardCheckpointHandler(),
        )

    def save(self, state: TrainState, step: int) -> None:
        """Copies a state off the device, and writes it in the background."""
        from orbax.checkpoint import args

        if step not in self._manager.all_steps():
            self._manager.save(step, args=args.StandardSave(state))

    def wait(self) -> None:
        """Waits until what was saved is on disk."""
        self._manager.wait_until_finished()

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step() if self._folder.exists() else None

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """Reads a checkpoint.

        Args:
          like: a state of the same shapes, as `jax.eval_shape` gives it, with the
            placement that the arrays shall have.
          step: which, None for the newest.

        Raises:
          UserError: there is none of that step, or it holds another kind of state.
        """
        from orbax.checkpoint import args

        steps = sorted(self._manager.all_steps())
        if step is None and steps:
            step = steps[-1]
        if step not in steps:
            there = ", ".join(map(str, steps)) or "none yet"
            wanted = "" if step is None else f" of step {step}"
            raise UserError(
                f"no checkpoint{wanted} in {self._manager.directory} (there: {there})"
            )
        where = f"the checkpoint of step {step} in {self._manager.directory}"
        try:
            _check_same(
                _shapes(self._manager.item_metadata(step)), _shapes(like), where
            )
            return self._manager.restore(step, args=args.StandardRestore(like))
        except UserError:
            raise
        except Exception as error:  # Orbax has no one type for what may be wrong
            raise UserError(f"{where} is damaged ({one_line(error)})") from error

    def close(self) -> None:
        """Waits until all is on disk."""
        if "_manager" in vars(self):
            self._manager.close()


def placed(shapes, sharding: jax.sharding.Sharding):
    """Gives every leaf of an abstract state its placement."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes
    )


def _check_same(stored: dict, wanted: dict, where: str) -> None:
    for name in sorted(stored.keys() | wanted.keys()):
        there, here = stored.get(name, "absent"), wanted.get(name, "absent")
        if there != here:
            raise UserError(
                f"{where} does not fit this config: {name} is {there} there and "
                f"{here} here"
            )


def _shapes(tree) -> dict[str, tuple[int, ...]]:
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    del leaves["key"]  # on disk it has the shape of its data
    return leaves
