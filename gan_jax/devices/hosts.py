"""Several hosts that run one program: how they find each other and agree.

Each host starts the same command. Arrays are global, so the algorithm does not know of
hosts; the first of them alone writes what a run leaves for people to read.
"""

import json
import os
import sys
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan_jax.errors import UserError, one_line


def initialize(coordinator: str, num: int | None, index: int | None) -> None:
    """Joins the other hosts of the run, before any device is used.

    With no argument it asks the surroundings: Cloud TPU, Slurm, Open MPI and Kubernetes
    are recognised, and elsewhere the host is alone, as it is with `num` 1.

    Args:
      coordinator: HOST:PORT of the first host, '' to find out.
      num: how many hosts there are, None to find out.
      index: which of them this is, from 0 on, None to find out.

    Raises:
      UserError: the arguments do not go together, or the others are not reached.
    """
    if num == 1 and index in (None, 0):
        return
    given = bool(coordinator), num is not None, index is not None
    if any(given) and not all(given):
        raise UserError(
            "give all of --coordinator=HOST:PORT, --num_processes=N and "
            "--process_id=I, or none of them"
        )
    if all(given):
        _check(coordinator, num, index)
    # Its service would take SIGTERM for itself; `Vote` brings it to all hosts.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator or None, num, index)
    except Exception as error:
        if not any(given) and "coordinator_address should be" in str(error):
            return
        raise UserError(
            f"the hosts of the run do not come together ({one_line(error)}); give "
            "--coordinator, --num_processes and --process_id, or --num_processes=1 to "
            "run on this host alone"
        ) from error


def _check(coordinator: str, num: int, index: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"--coordinator={coordinator}: it must be HOST:PORT")
    if num < 1:
        raise UserError(f"--num_processes={num}: it must be at least 1")
    if not 0 <= index < num:
        raise UserError(
            f"--process_id={index}: it must lie in [0, {num}), of --num_processes={num}"
        )


def check_same(about: dict) -> None:
    """Checks that all hosts train the same.

    Raises:
      UserError: they do not, on every host.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        own = zlib.crc32(json.dumps(about, sort_keys=True).encode())
        found = multihost_utils.process_allgather(np.uint32(own))
        if (found != found[0]).any():
            raise UserError(
                "the hosts do not train the same: give all of them the same flags, "
                "files, libraries and data"
            )


def is_first() -> bool:
    """Tells whether this host writes what the run leaves."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns when every host has come to the point of that name."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def say(text: str) -> None:
    """Prints a line on the first host's stderr; a run goes on where nobody listens."""
    if not is_first():
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    except OSError:
        pass


def first_does(call: Callable[[], None]) -> None:
    """Has the first host do something; all go on if it went well.

    Raises:
      Exception: what went wrong; a UserError on the other hosts.
    """
    error = None
    if is_first():
        try:
            call()
        except Exception as why:
            error = why
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        failed = multihost_utils.broadcast_one_to_all(np.int32(error is not None))
        if failed and error is None:
            error = UserError("the first host refused to go on: see its message")
    if error is not None:
        raise error


def all_do(call: Callable[[], None]) -> None:
    """Has every host do something; all go on if it went well on all of them.

    Raises:
      OSError: it went wrong, on every host.
    """
    error = None
    try:
        call()
    except OSError as why:
        error = why
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        failed = multihost_utils.process_allgather(np.int32(error is not None))
        if failed.any() and error is None:
            error = OSError("another host could not")
    if error is not None:
        raise error


class Vote:
    """What any host has to say, told to all of them at the same step.

    An answer takes until it is asked for the next time, so that no device waits for it.

    Args:
      mesh: all devices of the run.
    """

    def __init__(self, mesh: Mesh):
        self._everywhere = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._size = mesh.size
        self._greatest = jax.jit(
            jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec())
        )
        self._last = None

    def cast(self, number: int) -> int:
        """Gives this host's number, and returns the greatest of the last time's."""
        if jax.process_count() == 1:
            return number
        before, here = self._last, np.full(self._size, number, np.int32)
        votes = jax.make_array_from_callback(
            here.shape, self._everywhere, lambda index: here[index]
        )
        self._last = self._greatest(votes)
        return 0 if before is None else int(before)
