"""Times what the device has done, not what it was given to do."""

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax


class Lap(NamedTuple):
    """The time of one chunk.

    Attributes:
      seconds: from the end of the chunk before to the end of this one, without
        compilation and evaluations.
      stalled: the part of it in which the device waited for data.
    """

    seconds: float
    stalled: float


class Clock:
    """Times chunks by when they are done; dispatching them does not wait for that.

    What the host does before it dispatches a chunk holds the device up only from when
    the chunk before is done: reading data or compiling while the device computes costs
    nothing. Of the first chunk, which has none before it, only the computation counts.
    """

    def __init__(self):
        # JAX calls nobody back, and asking `is_ready` afterwards tells that a chunk is
        # done but not since when.
        self._watch = ThreadPoolExecutor(1)
        self._reading: list[tuple[float, float]] = []  # before the next chunk
        self._compiling: list[tuple[float, float]] = []
        self._chunks: deque[tuple[list, list, Future]] = deque()
        self._done: float | None = None  # when the last chunk was that `lap` returned

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Marks that the host reads the data of the next chunk."""
        with _marked(self._reading):
            yield

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Marks what is no training: compilation, or an evaluation."""
        with _marked(self._compiling):
            yield

    def dispatched(self, running: Any) -> None:
        """Starts to wait, in another thread, for the end of a chunk.

        Args:
          running: arrays that it computes.
        """
        done = self._watch.submit(_time_done, running)
        self._chunks.append((self._reading, self._compiling, done))
        self._reading, self._compiling = [], []

    def lap(self) -> Lap:
        """Returns the time of the next chunk dispatched, once that is done."""
        reading, compiling, future = self._chunks.popleft()
        start, self._done = self._done, future.result()
        if start is None:
            start = max(end for _, end in [*reading, *compiling])
        stalled, compiled = _after(start, reading), _after(start, compiling)
        return Lap(self._done - start - compiled, stalled)


def _time_done(running: Any) -> float:
    jax.block_until_ready(running)
    return time.monotonic()


@contextlib.contextmanager
def _marked(intervals: list[tuple[float, float]]) -> Iterator[None]:
    start = time.monotonic()
    yield
    intervals.append((start, time.monotonic()))


def _after(start: float, intervals: list[tuple[float, float]]) -> float:
    """Returns how much of the intervals lies after a time."""
    return sum(max(0.0, end - max(start, begin)) for begin, end in intervals)
