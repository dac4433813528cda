"""The loop: chunk after chunk, with what is due in between."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm import chunks, players, replicas
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.state import TrainState
from gan_jax.devices import hosts
from gan_jax.devices import mesh as sharding
from gan_jax.errors import Stopped
from gan_jax.run.checkpoint import Checkpoints, Saved
from gan_jax.run.dumps import RollBack
from gan_jax.run.records import Report

_TRIES = 3  # to save, before a run gives up


class Loop:
    """Trains until `config.num_steps`.

    Args:
      gan: the static half.
      config: the experiment.
      feed: its `at(step, n)` is the feed of the next `n` steps.
      checkpoints: where states are saved.
      report: takes what the steps leave.
      dump: called with the state before a step that is not sound, its batch, its number
        and the replica; returns what was wrong with it.
    """

    def __init__(
        self,
        gan: GAN,
        config: ConfigDict,
        feed,
        checkpoints: Checkpoints,
        report: Report,
        dump: Callable[[TrainState, dict, int, int], str],
    ):
        self._gan, self._config, self._feed = gan, config, feed
        self._checkpoints, self._report, self._dump = checkpoints, report, dump
        self._single = config.replicas == 1
        self._failed, self._pending = 0, None

    def run(self, saved: Saved, came: Sequence[int] = ()) -> TrainState:
        """Trains from a saved state on, whose arrays are given up.

        Args:
          saved: where to start.
          came: grows by the signals that ask to stop, see `signals`.

        Returns:
          The last state.

        Raises:
          Stopped: a guard, a signal or a full disk ended the run.
          RollBack: a guard asks to go on from an earlier checkpoint.
        """
        config, state, step = self._config, saved.state, saved.step
        chunk, picture = self._programs(state)
        if not self._single:
            self._report.frozen = replicas.frozen(state, step)
        stall, metrics = self._report.stall, None
        vote = hosts.Vote(jax.tree.leaves(state)[0].sharding.mesh)
        while step < config.num_steps:
            n = chunk_length(config, step)
            drawn = stall.read(self._feed, step, n, metrics)
            state, metrics = chunk(self._gan, state, drawn, n, np.int32(step))
            step += n
            last = step == config.num_steps
            due = last or step % config.sample_every == 0
            self._flush(state, step)
            self._report.take(step, metrics, picture(state) if due else None)
            number = vote.cast(came[0] if came else 0)
            if last or number or step % config.checkpoint_every == 0:
                self._flush(state, step)
                self._save(state, step, wait=bool(last or number))
            if number and not last:
                name = signal.Signals(number).name
                raise Stopped(128 + number, f"saved at step {step}, on {name}")
        return state

    def _programs(self, state: TrainState) -> tuple[Callable, Callable]:
        """Returns the compiled chunk, and what draws the sheet of a state."""
        many = not self._single
        lies = jax.tree.map(lambda x: x.sharding, state)
        everywhere = sharding.replicated(jax.tree.leaves(lies)[0].mesh)
        chunk = jax.jit(
            (replicas if many else chunks).train_chunk,
            static_argnums=3,
            donate_argnums=1,
            out_shardings=(lies, everywhere),
        )
        sheet = jax.jit(
            (replicas if many else players).sheet,
            static_argnames="num",
            out_shardings=everywhere,
        )
        num, _ = sheet_size(self._gan, self._config.replicas)
        return chunk, lambda state: sheet(self._gan, state, num)

    def _flush(self, state: TrainState, step: int) -> None:
        """Writes what the chunk before has left, and heeds the guards.

        Raises:
          Stopped: a guard ends the run.
          RollBack: a guard asks to go on from an earlier checkpoint.
        """
        self._guard(state, self._report.flush())
        self._report.alarm(step)

    def _guard(self, state: TrainState, broken: dict[int, tuple[int, str]]) -> None:
        """Dumps the replicas that have come to be frozen; stops if none is left.

        Raises:
          Stopped: none is left.
          RollBack: none is left, and the config says so.
        """
        if not broken:
            return
        whys = [self._dumped(state, i, *where) for i, where in broken.items()]
        if len(self._report.frozen) < self._config.replicas:
            for why in whys:
                hosts.say(f"{why}; frozen, the others go on")
        elif self._config.guard.action == "rollback":
            raise RollBack("; ".join(whys))
        else:
            raise Stopped(3, f"{'; '.join(whys)}; nothing saved since")

    def _dumped(self, state: TrainState, replica: int, at: int, name: str) -> str:
        """Dumps the step `at` of a replica, and returns what was wrong with it."""
        num, before = self._config.replicas, at - 1
        batches = replicas.batches(self._feed.at(before, 1), before, num)
        batch = jax.tree.map(lambda x: x[replica], batches)
        if num > 1:
            state = jax.tree.map(lambda x: x[replica], state)
        why = self._dump(state, batch, at, replica)
        seed = self._config.seed + replica
        who = f"replica {replica} (seed {seed}): " if num > 1 else ""
        return f"{who}{name} is not finite at step {at}: {why}"

    def _save(self, state: TrainState, step: int, wait: bool) -> None:
        """Saves what has come together; keeps trying where it must be now.

        Raises:
          Stopped: three attempts in a row have failed.
        """
        self._settled()
        while True:
            try:
                hosts.all_do(self._report.save)
                carried = self._report.carried()
                carried["noise_stream"] = self._gan.noise_stream
                self._checkpoints.save(state, step, carried)
                self._pending = step
            except OSError as error:
                self._failing(step, error)
            if not wait or self._settled():
                return
            time.sleep(1)

    def _settled(self) -> bool:
        """Waits for what is being saved; tells whether it has come to be on disk.

        Raises:
          Stopped: three attempts in a row have failed.
        """
        step, self._pending = self._pending, None
        if step is None:
            return False
        try:
            self._checkpoints.wait()
        except OSError as error:
            self._failing(step, error)
            return False
        self._failed = 0
        return True

    def _failing(self, step: int, error: OSError) -> None:
        self._failed += 1
        why = f"cannot save step {step} ({error})"
        if self._failed == _TRIES:
            why += f", {_TRIES} times in a row; the last good checkpoint is kept"
            raise Stopped(4, why)
        hosts.say(f"{why}; going on, the next save is tried")


def chunk_length(config: ConfigDict, step: int) -> int:
    """Returns how many steps the next chunk makes: at most up to the next log line.

    All are of one length, a divisor of `log_every`, so that one program is compiled,
    but for the first after a stop and the last.
    """
    most = min(config.chunk or config.log_every, config.log_every)
    length = next(n for n in range(most, 0, -1) if config.log_every % n == 0)
    to_next = length - step % length
    return min(to_next, config.num_steps - step)


def sheet_size(gan: GAN, replicas: int) -> tuple[int, int]:
    """Returns how many examples of a run a sheet shows, and how many are in a row."""
    if not gan.range:
        return 2000, 1
    columns = min(gan.num_classes, 16) or 8
    return columns * (8 if replicas == 1 else 1), columns


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Yields a list to which SIGTERM and SIGINT are added; a second one ends it all.

    A thread of its own receives them, for the main one may be compiling for a while.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came  # the main thread alone may handle signals
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch():
        while number := int.from_bytes(os.read(reader, 1), "big"):
            if number not in numbers:
                continue
            came.append(number)
            once = len(came) > 1
            say = "stopped" if once else "saving after this chunk; once more to stop"
            with contextlib.suppress(OSError):  # nobody may listen any more
                os.write(2, f"{say} at once\n".encode())
            if once:
                os._exit(128 + number)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    old = {n: signal.signal(n, lambda number, frame: None) for n in numbers}
    try:
        yield came
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.write(writer, b"\0")
        thread.join()
        os.close(reader)
        os.close(writer)
