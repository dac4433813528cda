"""SIGTERM and SIGINT: the first one asks the run to save and stop, the second kills."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

_NUMBERS = (signal.SIGTERM, signal.SIGINT)
# A shell or a launcher passes the signal on that its group has received already: what
# comes so soon after the first is the same signal.
_SAME_SECONDS = 1.0
_AFTER_BAR = "\x1b[?25h\n"  # shows the cursor, which the progress bar hides


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yields a list that grows by the number of each signal that asks to stop.

    A second signal ends the process at once, unless it comes within a second of the
    first. A separate thread receives them, since the main thread may be busy compiling
    for a long time.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # Python lets only the main thread handle signals
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread = threading.Thread(target=_receive, args=(reader, received), daemon=True)
    thread.start()
    old_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    old = {n: signal.signal(n, lambda number, frame: None) for n in _NUMBERS}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_fd)
        os.write(writer, b"\0")  # ends the thread
        thread.join()
        os.close(reader)
        os.close(writer)


def _receive(reader: int, received: list[int]) -> None:
    """Appends the signals that Python writes to a pipe, until it reads a zero."""
    first = 0.0
    while number := int.from_bytes(os.read(reader, 1), "big"):
        if number not in _NUMBERS:
            continue
        if not received:
            first = time.monotonic()
            received.append(number)
            _say("saving after this chunk, then stopping; a second one stops at once")
        elif time.monotonic() - first >= _SAME_SECONDS:
            start = _AFTER_BAR if os.isatty(2) else ""
            with contextlib.suppress(OSError):
                os.write(2, f"{start}stopped at once\n".encode())
            os._exit(128 + number)


def _say(text: str) -> None:
    """Prints a line above the progress bar, which stands in for stderr."""
    with contextlib.suppress(OSError, ValueError, SystemExit):  # it may be closed
        print(text, file=sys.stderr, flush=True)
