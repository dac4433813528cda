"""SIGTERM and SIGINT: the first one asks the run to save and stop, the second kills."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yields a list that grows by the number of each signal that asks to stop.

    A second signal ends the process at once. A separate thread receives them, since
    the main thread may be busy compiling for a long time.
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
    while number := int.from_bytes(os.read(reader, 1), "big"):
        if number not in _NUMBERS:
            continue
        received.append(number)
        second = len(received) > 1
        text = "stopped" if second else "saving after this chunk; once more to stop"
        with contextlib.suppress(OSError):  # stderr may be closed
            os.write(2, f"{text} at once\n".encode())
        if second:
            os._exit(128 + number)
