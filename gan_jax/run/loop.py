"""The training loop: chunk after chunk, and what is due between them."""

import dataclasses
import functools
import signal
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from gan_jax.algorithm import replicas
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.state import TrainState
from gan_jax.devices import hosts
from gan_jax.errors import RollBack, Stopped, one_line
from gan_jax.run import grids, programs
from gan_jax.run.best import Best
from gan_jax.run.checkpoint import Checkpoints, Saved
from gan_jax.run.dumps import Dumper
from gan_jax.run.evaluator import Evaluator
from gan_jax.run.records import Records

_TRIES = 3  # to save, before a run gives up


@dataclasses.dataclass
class Loop:
    """Trains until `config.num_steps`.

    Attributes:
      gan: the static half.
      config: the experiment.
      feed: its `at(step, n)` is the feed of the next `n` steps.
      saver: saves the states.
      records: takes what the steps leave.
      dumper: dumps a step that was rejected.
      conditions: of the sample grids, `[num, *shape]`; None without a condition, or
        for each class in turn.
      evaluator: measures the samples; None if the config asks for no evaluations.
      best: keeps the best state that was evaluated; None if the config does not ask.
    """

    gan: GAN
    config: ConfigDict
    feed: object
    saver: "Saver"
    records: Records
    dumper: Dumper
    conditions: np.ndarray | None = None
    evaluator: Evaluator | None = None
    best: Best | None = None
    _compiled: dict = dataclasses.field(default_factory=dict, init=False)

    def run(self, saved: Saved, stop_signals: Sequence[int] = ()) -> TrainState:
        """Trains from a saved state on, whose arrays are donated.

        Args:
          saved: where to start.
          stop_signals: grows by the signals that ask to stop.

        Returns:
          The last state.

        Raises:
          Stopped: a guard, a signal or a full disk ended the run.
          RollBack: a guard asks for an earlier checkpoint.
        """
        config, state, step = self.config, saved.state, saved.step
        train_chunk, sample_grid, evaluate = self._programs(state)
        clock = self.records.clock
        self.records.frozen = replicas.frozen(state, step)
        vote = hosts.Vote(jax.tree.leaves(state)[0].sharding.mesh)
        while step < config.num_steps:
            n = programs.chunk_length(config, step)
            with clock.reading():
                drawn = self.feed.at(step, n)
            state, metrics = train_chunk(
                self.gan, state, drawn, n=n, step=np.int32(step)
            )
            clock.dispatched(metrics)
            step += n
            last = step == config.num_steps
            sample = last or step % config.sample_every == 0
            self._flush(state, step)
            grid = sample_grid(state) if sample else None
            is_due = self._is_evaluated(step)
            evaluated = evaluate(state, step) if is_due else None
            self.records.take(step, metrics, grid, evaluated)
            if self.best and is_due:
                self._flush(state, step)  # a guard may reject the state
                training = set(range(config.replicas)) - self.records.frozen
                self.best.offer(state, step, evaluated, training, self._carried)
            number = vote.cast(stop_signals[0] if stop_signals else 0)
            if last or number or step % config.checkpoint_every == 0:
                self._flush(state, step)
                self.saver.save(state, step, self._carried, wait=bool(last or number))
            if number and not last:
                name = signal.Signals(number).name
                raise Stopped(128 + number, f"saved at step {step}, on {name}")
        return state

    def _programs(self, state: TrainState) -> tuple[Callable, Callable, Callable]:
        """Returns the compiled chunk, and what draws and what evaluates a state."""
        shardings = jax.tree.map(lambda x: x.sharding, state)
        mesh = jax.tree.leaves(shardings)[0].mesh
        train_chunk = self._compiling(programs.train_chunk(shardings), "n")
        sample_grid = self._compiling(programs.sample_grid(mesh), "num")
        num, _ = grids.grid_size(self.gan, self.config.replicas)

        def draw(state: TrainState) -> Array:
            return sample_grid(self.gan, state, num=num, condition=self.conditions)

        evaluate = functools.partial(self._evaluate, programs.render(mesh))
        return train_chunk, draw, evaluate

    def _is_evaluated(self, step: int) -> bool:
        every, last = self.config.eval.every, step == self.config.num_steps
        return self.evaluator is not None and (last or step % every == 0)

    def _evaluate(self, render: Callable, state: TrainState, step: int) -> dict | None:
        """Returns what the evaluation of a step found, None if it failed.

        It waits for the device: its time does not count as that of training.
        """
        jax.block_until_ready(state)  # so that it times itself alone
        with self.records.clock.compiling():
            try:
                return self.evaluator.measure(
                    functools.partial(render, self.gan, state)
                )
            except Exception as error:  # a run is worth more than a number
                why = one_line(error)
                hosts.say(f"cannot evaluate step {step} ({why}); training goes on")
                return None

    def _compiling(self, jitted: jax.stages.Wrapped, static: str) -> Callable:
        """Returns a function whose programs are compiled apart from the calls.

        So the clock can tell compiling from running.

        Args:
          jitted: to be compiled, once for each value of its static argument.
          static: the name of that argument; it is passed by name.
        """

        def call(*args, **kwargs):
            key = jitted, kwargs[static]
            if key not in self._compiled:
                with self.records.clock.compiling():
                    self._compiled[key] = jitted.lower(*args, **kwargs).compile()
            del kwargs[static]
            return self._compiled[key](*args, **kwargs)

        return call

    def _carried(self) -> dict:
        """Returns what a checkpoint carries beside the state."""
        return self.records.carried() | {"noise_stream": self.gan.noise_stream}

    def _flush(self, state: TrainState, step: int) -> None:
        """Writes what the last chunk left, and obeys the guards.

        Raises:
          Stopped: a guard ends the run.
          RollBack: a guard asks for an earlier checkpoint.
        """
        self._guard(state, self.records.flush())
        self.records.alarm(step)

    def _guard(self, state: TrainState, broken: dict[int, tuple[int, str]]) -> None:
        """Dumps the replicas that were frozen; stops if none is left.

        Raises:
          Stopped: none is left.
          RollBack: none is left, and the config says to roll back.
        """
        if not broken:
            return
        whys = [self._dump(state, i, *where) for i, where in broken.items()]
        if len(self.records.frozen) < self.config.replicas:
            for why in whys:
                hosts.say(f"{why}; frozen, the others go on")
        elif self.config.guard.action == "rollback":
            raise RollBack("; ".join(whys))
        else:
            advice = "a smaller learning rate or a penalty such as r1 often helps"
            raise Stopped(3, f"{'; '.join(whys)}; {advice}")

    def _dump(self, state: TrainState, i: int, step: int, metric: str) -> str:
        """Dumps the `step` of replica `i`, and returns what was wrong with it."""
        before = step - 1
        batches = replicas.batches(
            self.feed.at(before, 1), before, self.config.replicas
        )
        state, batch = replicas.replica((state, batches), i)
        why = self.dumper.dump(self.gan, state, batch, step, i)
        seed = self.config.seed + i
        who = f"replica {i} (seed {seed}): " if self.config.replicas > 1 else ""
        return f"{who}{metric} is not finite at step {step}: {why}"


class Saver:
    """Saves checkpoints, and tries again where the disk refuses.

    Args:
      checkpoints: of the run.
      records: what they have not written yet is written before a state is saved.
    """

    def __init__(self, checkpoints: Checkpoints, records: Records):
        self._checkpoints, self._records = checkpoints, records
        self._failed, self._pending = 0, None

    def save(
        self, state: TrainState, step: int, carried: Callable[[], dict], wait: bool
    ) -> None:
        """Saves a state, and before it the records up to its step.

        Args:
          state: of the run.
          step: its number.
          carried: returns what the checkpoint carries besides.
          wait: until it is on disk; then it is tried again at once.

        Raises:
          Stopped: three attempts in a row have failed.
        """
        self._finish()
        while True:
            try:
                hosts.all_do(self._records.save)
                self._checkpoints.save(state, step, carried())
                self._pending = step
            except OSError as error:
                self._fail(step, error)
            if not wait or self._finish():
                return
            time.sleep(1)

    def _finish(self) -> bool:
        """Waits for the save under way; tells whether it has succeeded.

        Raises:
          Stopped: three attempts in a row have failed.
        """
        step, self._pending = self._pending, None
        if step is None:
            return False
        try:
            self._checkpoints.wait()
        except OSError as error:
            self._fail(step, error)
            return False
        self._failed = 0
        return True

    def _fail(self, step: int, error: OSError) -> None:
        self._failed += 1
        why = f"cannot save step {step} ({error})"
        if self._failed == _TRIES:
            why += f", {_TRIES} times in a row; the last good checkpoint is kept"
            raise Stopped(4, why)
        hosts.say(f"{why}; training goes on, and the next save is tried")
