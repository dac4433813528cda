"""Checkpoints of a run, by Orbax: asynchronous, committed whole, the last few kept."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from gan_jax.errors import UserError
from gan_jax.resolve import one_line
from gan_jax.state import TrainState


class Checkpoints:
    """The checkpoints in a folder.

    Args:
      folder: made where it is missing.
      keep: how many are kept, the latest ones; None keeps all.
    """

    def __init__(self, folder: Path, keep: int | None = None):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=options,
            item_handlers=ocp.StandardCheckpointHandler(),
        )

    def save(self, state: TrainState, step: int) -> None:
        """Copies a state off the device, and writes it in the background."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """Reads a checkpoint.

        Args:
          like: a state of the same shapes, as `jax.eval_shape` gives it, with the
            placement that the arrays shall have.
          step: which, None for the newest.

        Raises:
          UserError: there is none of that step, or it holds another kind of state.
        """
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
            return self._manager.restore(step, args=ocp.args.StandardRestore(like))
        except UserError:
            raise
        except Exception as error:  # Orbax has no one type for what may be wrong
            raise UserError(f"{where} is damaged ({one_line(error)})") from error

    def close(self) -> None:
        """Waits until all is on disk."""
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
