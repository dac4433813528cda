"""The speed of a run: of what the device has done, without compilation."""

import threading

import pytest

from gan_jax.run import clock as clock_lib
from gan_jax.run.clock import Clock


class Hands:
    """A clock that is set by hand, and a device that is done when it says so."""

    def __init__(self):
        self.now, self._seen = 0.0, threading.Event()

    def monotonic(self):
        if threading.current_thread() is not threading.main_thread():
            self._seen.set()
        return self.now

    def done(self, chunk, at):
        """Ends a chunk, and returns when the thread that watches it has noticed."""
        self.now = at
        self._seen.clear()
        chunk.set()
        assert self._seen.wait(10)


class Chunk(threading.Event):
    """Stands for the arrays of a chunk."""

    def block_until_ready(self):
        assert self.wait(10)


@pytest.fixture
def hands(monkeypatch):
    hands = Hands()
    monkeypatch.setattr(clock_lib, "time", hands)
    return hands


def test_only_the_device_is_timed(hands):
    clock, first, second, third = Clock(), Chunk(), Chunk(), Chunk()
    with clock.reading():
        hands.now = 2
    with clock.compiling():
        hands.now = 30
    clock.dispatched(first)
    hands.now = 31
    with clock.compiling():  # the sample grid: one second of it while nothing runs
        hands.done(first, 33)
        hands.now = 34
    with clock.reading():  # three seconds in which nothing runs
        hands.now = 37
    clock.dispatched(second)
    with clock.reading():  # while the second chunk runs
        hands.now = 40
    clock.dispatched(third)
    hands.done(second, 41)
    hands.done(third, 45)
    assert clock.lap() == (3, 0)  # 30 to 33
    assert clock.lap() == (7, 3)  # 33 to 41, less the second of compiling
    assert clock.lap() == (4, 0)  # 41 to 45


def test_dispatch_may_wait_for_the_end_of_the_chunk(hands):
    """As on a CPU, where some programs are run at once."""
    clock = Clock()
    for compiled, end in ((10, 12), (14, 17)):  # the last chunk has another length
        with clock.compiling():
            hands.now = compiled
        chunk = Chunk()
        hands.now = end
        clock.dispatched(chunk)
        hands.done(chunk, end)
        assert clock.lap().seconds == end - compiled
