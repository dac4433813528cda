"""Several hosts that run one program: how they find each other and agree.

Each host starts the same command. Arrays are global, so the algorithm does not know of
hosts; only the first host writes the files that people read. Where one of them is gone,
the others end too: nothing can be computed without it.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gan_jax.errors import RollBack, Stopped, UserError, is_full, one_line

T = TypeVar("T")
LOST = 5  # the exit status of a host where another one is gone
SILENCE = 60  # seconds without a sign of life after which a host counts as gone
_missing = "a host"  # what is known of the one that is gone
_INT, _POINTER = ctypes.c_int, ctypes.c_void_p


def initialize(coordinator: str, num: int | None, index: int | None) -> None:
    """Joins the other hosts of the run, before any device is used.

    Without arguments it asks the environment: Cloud TPU, Slurm, Open MPI and Kubernetes
    are recognised; elsewhere, and with `num` 1, the host is alone.

    Args:
      coordinator: HOST:PORT of the first host, '' to detect it.
      num: number of hosts, None to detect it.
      index: of this host, from 0 on, None to detect it.

    Raises:
      UserError: the arguments do not go together, or the others cannot be reached.
    """
    if num == 1 and index in (None, 0):
        return
    is_set = bool(coordinator), num is not None, index is not None
    if any(is_set) and not all(is_set):
        raise UserError(
            "give all of --coordinator=HOST:PORT, --num_processes=N and "
            "--process_id=I, or none of them"
        )
    if all(is_set):
        _check(coordinator, num, index)
    with _clear_abort():
        _connect(coordinator, num, index)


def _connect(coordinator: str, num: int | None, index: int | None) -> None:
    # Its service would intercept SIGTERM, which `Vote` brings to all hosts.
    jax.config.update("jax_enable_preemption_service", False)
    limits = {"heartbeat_timeout_seconds": SILENCE, "shutdown_timeout_seconds": SILENCE}
    try:
        jax.distributed.initialize(coordinator or None, num, index, **limits)
    except Exception as error:
        if num is None and "coordinator_address should be" in str(error):
            return
        raise UserError(
            f"the hosts of the run cannot connect ({one_line(error)}); give "
            "--coordinator, --num_processes and --process_id, or --num_processes=1 to "
            "run on this host alone"
        ) from error


@contextlib.contextmanager
def _clear_abort() -> Iterator[None]:
    """Makes the end clear where JAX aborts; stays in force if there are several hosts.

    When a host is gone, or does not come, a thread of JAX logs what it knows and aborts
    the process. Python's own handlers would run in the main thread, which may wait for
    that host; this one runs in the thread that aborts.
    """
    global _missing
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes, set_handler.restype = (_INT, _POINTER), _POINTER
    old = set_handler(signal.SIGABRT, ctypes.cast(_on_abort, _POINTER))
    try:
        yield
    finally:
        if jax.process_count() == 1:
            set_handler(signal.SIGABRT, old)
        if jax.process_count() == 2:
            _missing = f"host {1 - jax.process_index()}"


@ctypes.CFUNCTYPE(None, _INT)
def _on_abort(number: int) -> None:
    text = (
        f"error: {_missing} of the run is gone or did not come, see what JAX says "
        "above of tasks; the same command on all hosts starts or resumes the run\n"
    )
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
    os._exit(LOST)


@contextlib.contextmanager
def failing_fast() -> Iterator[None]:
    """Ends a host that fails alone at once, as a kill would.

    What would close its files, or an exit handler, may wait for hosts that wait for
    this one. An error that all hosts raise passes.
    """
    try:
        yield
    except (UserError, Stopped, RollBack):
        raise
    except Exception as error:
        if jax.process_count() == 1 or is_full(error):
            raise
        text = traceback.format_exc()
        if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
            # Then another host is likely to be gone: JAX aborts once it is sure.
            why = f"no answer from the other hosts ({one_line(error)})"
            print(why, file=sys.stderr, flush=True)
            time.sleep(1.5 * SILENCE)
        print(text, file=sys.stderr, flush=True)
        os._exit(1)


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
    """Checks that all hosts train the same experiment.

    Raises:
      UserError: they do not, on every host.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        checksum = zlib.crc32(json.dumps(about, sort_keys=True).encode())
        found = multihost_utils.process_allgather(np.uint32(checksum))
        if (found != found[0]).any():
            raise UserError(
                "the hosts do not train the same: give all of them the same flags, "
                "files, libraries and data"
            )


def is_first() -> bool:
    """Returns whether this host writes the files of the run."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns when every host has reached the point of that name."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def say(text: str) -> None:
    """Prints a line on the first host's stderr; does nothing if that is closed."""
    if not is_first():
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    except OSError:
        pass


def first_does(call: Callable[[], None]) -> None:
    """Calls a function on the first host; returns on all if it succeeded.

    Raises:
      Exception: what the function raised; a UserError on the other hosts.
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
            error = UserError("the first host stopped: see its message")
    if error is not None:
        raise error


def of_first(flag: bool) -> bool:
    """Returns on every host what the first one passes."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.int32(flag)))


def all_do(call: Callable[[], T]) -> T:
    """Calls a function on every host; returns what it returned if all succeeded.

    Raises:
      OSError: it failed on some host; raised on every host.
      UserError: likewise.
    """
    error, result = None, None
    try:
        result = call()
    except (OSError, UserError) as why:
        error = why
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        kind = 0 if error is None else 2 if isinstance(error, UserError) else 1
        worst = multihost_utils.process_allgather(np.int32(kind)).max()
        if error is None and worst:
            elsewhere = "it failed on another host: see its message"
            error = UserError(elsewhere) if worst == 2 else OSError(elsewhere)
    if error is not None:
        raise error
    return result


class Vote:
    """Brings a number of any host to all of them, at the same step.

    The result of a vote is returned by the next one, so that no device waits for it.

    Args:
      mesh: all devices of the run.
    """

    def __init__(self, mesh: Mesh):
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._size = mesh.size
        self._maximum = jax.jit(
            jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec())
        )
        self._last = None

    def cast(self, number: int) -> int:
        """Votes with this host's number, and returns the maximum of the last vote."""
        if jax.process_count() == 1:
            return number
        last, local = self._last, np.full(self._size, number, np.int32)
        votes = jax.make_array_from_callback(
            local.shape, self._split, lambda index: local[index]
        )
        self._last = self._maximum(votes)
        return 0 if last is None else int(last)
