"""What a run writes for people to read: metrics, pictures, the progress line."""

import contextlib
import errno
import io
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from gan_jax.devices import hosts
from gan_jax.errors import UserError

PROGRESS = {"d_real": "D(x)", "d_fake": "D(G(z))", "d_loss": "d_loss"}
PROGRESS |= {"g_loss": "g_loss", "value": "V"}


def write_file(path: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.rename(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Lays images out in rows.

    Args:
      images: `[num, height, width, channels]`; the last row may stay unfilled.
      columns: images in a row.

    Returns:
      `[rows * height, columns * width, channels]`.
    """
    num, height, width, channels = images.shape
    rows = -(-num // columns)
    missing = np.zeros((rows * columns - num, *images.shape[1:]), images.dtype)
    grid = np.concatenate([images, missing])
    grid = grid.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)


def sheet(examples: np.ndarray, columns: int) -> bytes:
    """Returns images as one PNG sheet, or points as one PNG scatter plot.

    Args:
      examples: uint8 `[..., num, height, width, channels]` (1, 3 or 4 channels), or
        points `[..., num, 2]`, a panel for each `[num, 2]` of them.
      columns: images in a row.
    """
    from PIL import Image

    buffer = io.BytesIO()
    if examples.ndim < 4:
        _scatter(buffer, examples.reshape(-1, *examples.shape[-2:]))
    else:
        image = tile(examples.reshape(-1, *examples.shape[-3:]), columns)
        image = image[..., 0] if image.shape[-1] == 1 else image
        Image.fromarray(image).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def save_examples(path: Path, examples: np.ndarray, columns: int) -> None:
    """Writes the `sheet` of examples to a PNG file."""
    write_file(path, sheet(examples, columns))


def _scatter(buffer: io.BytesIO, panels: np.ndarray) -> None:
    from matplotlib.figure import Figure

    columns = math.ceil(math.sqrt(len(panels)))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns, 4 * rows), layout="constrained")
    for i, points in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1, aspect="equal")
        axes.scatter(*points.T, s=2, alpha=0.4, linewidths=0)
        axes.set(xlim=(-3, 3), ylim=(-3, 3))
        if len(panels) > 1:
            axes.set_title(f"replica {i}")
    figure.savefig(buffer, format="png", dpi=120)


def mean_and_error(values: float | list[float]) -> tuple[float, float | None]:
    """Returns a metric's mean over the replicas that go on, and its standard error.

    The error is s / sqrt(n) with the unbiased s; None where fewer than two go on.
    """
    finite = np.ravel(values)[np.isfinite(np.ravel(values))]
    if len(finite) < 2:
        return float(finite.mean()), None
    return float(finite.mean()), float(finite.std(ddof=1) / math.sqrt(len(finite)))


class MetricsFile:
    """`metrics.jsonl`: one object a line, appended, no step twice.

    Args:
      path: the file; what a killed run left of a line is cut off.
      until: the last step whose record is kept; None keeps all.

    Raises:
      UserError: the file is damaged.
    """

    def __init__(self, path: Path, until: int | None = None):
        lines = list(_whole_lines(path))
        steps = [_step(path, number, line) for number, line in enumerate(lines, 1)]
        kept = len(lines) if until is None else sum(step <= until for step in steps)
        content = b"".join(lines[:kept])
        if path.exists() and path.stat().st_size != len(content):
            write_file(path, content)
        self._last = steps[kept - 1] if kept else -1
        self._file = path.open("ab", buffering=0)
        self._size = len(content)

    def write(self, record: dict) -> None:
        """Appends a record unless its step is there already; NaN becomes null.

        Raises:
          OSError: it cannot be written; the file is as it was.
        """
        if record["step"] <= self._last:
            return
        valid = {key: _json(value) for key, value in record.items()}
        line = json.dumps(valid).encode() + b"\n"
        if self._file.write(line) != len(line):  # there was room for a part of it
            self._file.truncate(self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._last, self._size = record["step"], self._size + len(line)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def check_records(folder: Path) -> None:
    """Checks the `metrics.jsonl` that a run goes on with, and writes nothing.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / "metrics.jsonl"
    for number, line in enumerate(_whole_lines(path), 1):
        _step(path, number, line)


def drop_records(folder: Path, step: int) -> None:
    """Drops the records of later steps, which another config or other noise left."""
    MetricsFile(folder / "metrics.jsonl", step).close()


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yields the lines up to the first that a crash has cut off or left empty."""
    for line in path.read_bytes().splitlines(True) if path.exists() else ():
        if not line.endswith(b"\n") or not line.strip(b"\0\n"):
            return
        yield line


def _step(path: Path, number: int, line: bytes) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} is damaged: line {number} is no record of a step; mend or remove "
            "that line"
        ) from None


def _json(value):
    if isinstance(value, list):
        return [_json(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class ProgressLine:
    """Where the run stands: a bar on a terminal, else a line for each record.

    Args:
      num_steps: of the whole run.
      step: where it starts.
      console: where to show it, by default stderr.
    """

    def __init__(self, num_steps: int, step: int, console: Console | None = None):
        self._console = console or Console(stderr=True, soft_wrap=True)
        self._num_steps, self._bar = num_steps, None
        if self._console.is_terminal:
            text = TextColumn("{task.description}", markup=False, table_column=Column())
            self._bar = Progress(BarColumn(bar_width=12), text, console=self._console)
            self._task = self._bar.add_task(
                "compiling", completed=step, total=num_steps
            )
            self._bar.start()

    def write(self, record: dict) -> None:
        """Shows a record."""
        step = record["step"]
        images_per_step = record["images"] / step * np.size(record["value"])
        steps_per_sec = record["images_per_sec"] / images_per_step
        left = math.ceil((self._num_steps - step) / steps_per_sec)
        values = (f"{name} {_shown(record[key])}" for key, name in PROGRESS.items())
        lines = (
            f"{step}/{self._num_steps}  {left // 60}:{left % 60:02d} left  "
            f"{record['images_per_sec']:.0f} images/s  {record['data']}",
            "  ".join(values),
        )
        if self._bar:
            text = "\n".join(lines)
            self._bar.update(self._task, completed=step, description=text)
        else:
            self._console.print("  ".join(lines), markup=False, highlight=False)

    def close(self) -> None:
        """Leaves the line as it stands."""
        if self._bar:
            self._bar.stop()


def _shown(values: float | list[float]) -> str:
    mean, error = mean_and_error(values)
    return f"{mean:.3f}" if error is None else f"{mean:.3f} ± {error:.3f}"


class Board:
    """TensorBoard's event file.

    tensorboardX's own writer hands events to a thread, which does not live through a
    full disk; this one writes at once.

    Args:
      folder: of the run.
      step: where it starts; what an earlier start left of later steps is hidden.
    """

    def __init__(self, folder: Path, step: int):
        # At the first record, when the device has work to do: it imports PyTorch too
        # where that is installed, which takes seconds.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        suffix = f".{os.getpid()}.{time.monotonic_ns()}"
        self._events = EventsWriter(str(folder / "events"), suffix)
        self._event = Event
        self._add(step + 1, session_log=SessionLog(status=SessionLog.START))

    def record(self, record: dict) -> None:
        """Writes the numbers of a record; of replicas, their mean and its error."""
        from tensorboardX import summary

        for key, value in record.items():
            if key not in ("step", "data"):
                mean, error = mean_and_error(value)
                scalars = {key: mean, f"{key}_stderr": error}
                for name, scalar in scalars.items():
                    if scalar is not None:
                        self._add(record["step"], summary=summary.scalar(name, scalar))
        self._events.flush()

    def samples(self, step: int, png: bytes) -> None:
        """Writes a sheet."""
        from PIL import Image
        from tensorboardX import summary

        sheet = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        image = summary.image("samples", sheet, dataformats="HWC")
        self._add(step, summary=image)
        self._events.flush()

    def close(self) -> None:
        """Closes the file."""
        self._events.close()

    def _add(self, step: int, **what) -> None:
        self._events.write_event(self._event(wall_time=time.time(), step=step, **what))


class Writers:
    """Everything that a run writes while it trains, opened together.

    What cannot be written, for the disk is full, is kept and tried again.

    Args:
      workdir: the run's folder.
      num_steps: of the whole run.
      step: where it starts.
    """

    def __init__(self, workdir: Path, num_steps: int, step: int):
        self._workdir, self._step = workdir, step
        self._metrics = MetricsFile(workdir / "metrics.jsonl")
        self._progress = ProgressLine(num_steps, step)
        self._board: Board | None = None
        self._due: deque[Callable[[], None]] = deque()

    def metrics(self, record: dict) -> None:
        """Writes one record everywhere.

        Args:
          record: `step`, the metrics, a number or a list with one for each replica,
            and `data`, a name.
        """
        self._due.append(lambda: self._metrics.write(record))
        self._due.append(lambda: self._on_board(lambda board: board.record(record)))
        with contextlib.suppress(OSError, SystemExit):  # rich, where nobody listens
            self._progress.write(record)
        self._try("metrics", record["step"])

    def samples(self, step: int, examples: np.ndarray, columns: int) -> None:
        """Writes the samples of a step."""
        path, png = (
            self._workdir / "samples" / f"{step:06d}.png",
            sheet(examples, columns),
        )
        self._due.append(lambda: write_file(path, png))
        self._due.append(lambda: self._on_board(lambda board: board.samples(step, png)))
        self._try("samples", step)

    def save(self) -> None:
        """Writes what is due.

        Raises:
          OSError: it cannot be written; it stays due.
        """
        while self._due:
            self._due[0]()
            self._due.popleft()

    def close(self) -> None:
        """Closes all files."""
        with contextlib.suppress(OSError):  # it has been said
            self.save()
        self._metrics.close()
        if self._board:
            with contextlib.suppress(OSError):
                self._board.close()
        self._progress.close()

    def _try(self, what: str, step: int) -> None:
        try:
            self.save()
        except OSError as error:
            hosts.say(
                f"cannot write the {what} of step {step} ({error}); kept, and tried "
                "again with the next"
            )

    def _on_board(self, write: Callable[[Board], None]) -> None:
        try:
            self._board = self._board or Board(self._workdir, self._step)
            write(self._board)
        except OSError:
            self._board = None  # what is in that file may end in a part of an event
            raise


class Silent:
    """Stands for `Writers` on the hosts that write nothing."""

    def metrics(self, record: dict) -> None:
        """Writes nothing."""

    def samples(self, step: int, examples: np.ndarray, columns: int) -> None:
        """Writes nothing."""

    def save(self) -> None:
        """Writes nothing."""

    def close(self) -> None:
        """Closes nothing."""
