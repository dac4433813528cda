"""What a run writes while it trains: metrics, sample grids, TensorBoard."""

import contextlib
import io
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.algorithm.spaces import Space
from gan_jax.devices import hosts
from gan_jax.errors import UserError, one_line
from gan_jax.run import pictures
from gan_jax.run.files import answering, as_path, growing, held, in_bucket, write_file


class Output:
    """One place that a run writes to; by default it ignores everything."""

    def write(self, record: dict) -> None:
        """Writes a record.

        Args:
          record: `step`, the metrics, a number or a list with one of each replica, and
            `data`, a name.
        """

    def samples(self, step: int, files: dict[str, bytes]) -> None:
        """Writes a sample grid, the `pictures.files` of one."""

    def evaluation(self, record: dict) -> None:
        """Writes what was measured of the samples of a step."""

    def sync(self) -> None:
        """Waits until the records of earlier steps are on the disk."""

    def close(self) -> None:
        """Closes its files."""


class Writers:
    """All outputs of a run.

    What an output cannot write, because the disk is full, is kept and tried again.

    Args:
      outputs: none on the hosts that write nothing.
      space: of the examples.
      columns: examples in a row of a sample grid.
      data: what the examples are shown with, see `pictures.files`.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        space: Space,
        columns: int,
        data: np.ndarray | None = None,
    ):
        self._space, self._columns, self._data = space, columns, data
        self._due: dict[Output, deque[Callable[[], None]]] = {
            output: deque() for output in outputs
        }

    def metrics(self, record: dict) -> None:
        """Writes a record.

        Args:
          record: `step`, the metrics, each a list with one number of each replica, and
            `data`, a name.
        """
        record = {key: squeezed(value) for key, value in record.items()}
        for output, due in self._due.items():
            due.append(partial(output.write, record))
        self._try("metrics", record["step"])

    def samples(self, step: int, examples: np.ndarray) -> None:
        """Writes the sample grid of a step.

        Args:
          step: its number.
          examples: `[replicas, num, *shape]`, stored values.
        """
        if not self._due:
            return
        try:
            files = pictures.files(self._space, examples, self._columns, self._data)
        except Exception as error:  # a run is worth more than a picture
            hosts.say(
                f"cannot draw the samples of step {step} ({one_line(error)}); "
                "training goes on"
            )
            return
        for output, due in self._due.items():
            due.append(partial(output.samples, step, files))
        self._try("samples", step)

    def evaluation(self, record: dict) -> None:
        """Writes an evaluation: `step`, and each metric as a list like metrics."""
        record = {key: squeezed(value) for key, value in record.items()}
        for output, due in self._due.items():
            due.append(partial(output.evaluation, record))
        self._try("evaluation", record["step"])

    def save(self) -> None:
        """Writes what is due.

        Raises:
          OSError: some of it cannot be written; it stays due.
        """
        errors = []
        for due in self._due.values():
            try:
                while due:
                    due[0]()
                    due.popleft()
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def sync(self) -> None:
        """Waits until all records are on the disk.

        A machine that loses power, or a mounted bucket, may hold them only then.

        Raises:
          OSError: some cannot be written.
        """
        self.save()
        for output in self._due:
            output.sync()

    def close(self) -> None:
        """Closes all outputs."""
        with contextlib.suppress(OSError):  # it has been reported
            self.save()
        for output in self._due:
            with contextlib.suppress(OSError):
                output.close()

    def _try(self, what: str, step: int) -> None:
        try:
            self.save()
        except OSError as error:
            hosts.say(
                f"cannot write the {what} of step {step} ({error}); kept, and tried "
                "again with the next"
            )


def squeezed(values: Any) -> Any:
    """Returns the one number of a list with one, and all else as it is."""
    one = isinstance(values, list) and len(values) == 1
    return values[0] if one else values


def mean_and_error(values: float | list[float]) -> tuple[float, float | None]:
    """Returns a metric's mean over the replicas that still train, and its error.

    The standard error is s / sqrt(n), with the unbiased s; None if under two train.
    """
    finite = np.ravel(values)[np.isfinite(np.ravel(values))]
    if len(finite) < 2:
        return float(finite.mean()), None
    return float(finite.mean()), float(finite.std(ddof=1) / math.sqrt(len(finite)))


class MetricsFile(Output):
    """`metrics.jsonl`: one object a line, appended, each step once.

    Args:
      path: the file; an incomplete last line, of a killed run, is cut off.
      until: the last step whose record is kept; None keeps all.

    Raises:
      UserError: the file is damaged.
    """

    def __init__(self, path: Path, until: int | None = None):
        before = held(path)
        lines = list(_whole_lines(before))
        steps = [_step(path, number, line) for number, line in enumerate(lines, 1)]
        kept = len(lines) if until is None else sum(step <= until for step in steps)
        content = b"".join(lines[:kept])
        if before != content:
            write_file(path, content)
        self._last = steps[kept - 1] if kept else -1
        self._file = growing(path)

    def write(self, record: dict) -> None:
        """Appends a record unless its step is in the file already; NaN becomes null.

        Raises:
          OSError: it cannot be written; the file is as it was, or in a bucket, is
            written with the next record.
        """
        if record["step"] <= self._last:
            return
        valid = {key: _json(value) for key, value in record.items()}
        self._file.write(json.dumps(valid).encode() + b"\n")
        self._last = record["step"]
        self._file.flush()

    def sync(self) -> None:
        """Waits until the file is on the disk, or in the bucket."""
        self._file.sync()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class EvaluationsFile(Output):
    """`evaluations.jsonl`: one object a line for each evaluation, from the first on.

    Args:
      path: the file.

    Raises:
      UserError: the file is damaged.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file = MetricsFile(path) if path.exists() else None

    def evaluation(self, record: dict) -> None:
        """Appends an evaluation, as `MetricsFile` does a record."""
        self._file = self._file or MetricsFile(self._path)
        self._file.write(record)

    def sync(self) -> None:
        """Waits until the file is on the disk."""
        if self._file:
            self._file.sync()

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            self._file.close()


RECORDS = ("metrics.jsonl", "evaluations.jsonl")


def check_records(folder: Path) -> None:
    """Checks the records of a run that resumes, and writes nothing.

    Raises:
      UserError: a file is damaged.
    """
    for path in (folder / name for name in RECORDS):
        with answering(path):
            for number, line in enumerate(_whole_lines(held(path)), 1):
                _step(path, number, line)


def drop_records(folder: Path, step: int) -> None:
    """Drops the records of later steps, left by another config or other noise."""
    for path in (folder / name for name in RECORDS):
        with answering(path):
            if path.exists():
                MetricsFile(path, step).close()


def _whole_lines(content: bytes) -> Iterator[bytes]:
    """Yields the lines up to the first that a crash has cut off or left empty."""
    for line in content.splitlines(True):
        if not line.endswith(b"\n") or not line.strip(b"\0\n"):
            return
        yield line


def _step(path: Path, number: int, line: bytes) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} is damaged: line {number} is no record of a step; repair or "
            "remove that line"
        ) from None


def _json(value):
    if isinstance(value, list):
        return [_json(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class SampleFiles(Output):
    """`samples/STEP.png`, and the other files of a sample grid if there are any.

    Args:
      folder: of the run.
    """

    def __init__(self, folder: Path):
        self._folder = folder / "samples"

    def samples(self, step: int, files: dict[str, bytes]) -> None:
        """Writes a sample grid."""
        for suffix, content in files.items():
            write_file(self._folder / f"{step:06d}{suffix}", content)


_EVENTS = 2**24  # bytes after which an event file in a bucket is followed by another


class _Objects:
    """Opens event files in buckets, as tensorboardX asks for them.

    Attributes:
      last: the one that was opened last.
    """

    last: Any = None

    def open(self, path: str) -> Any:
        """Opens a file."""
        self.last = growing(as_path(path))
        return self.last


class Board(Output):
    """TensorBoard's event file, opened at the first record.

    tensorboardX's `SummaryWriter` hands events to a thread that dies when the disk is
    full, and what it was given is lost; this one writes at once, or raises.

    Args:
      folder: of the run.
      step: the first one; what an earlier start left of later steps is hidden.
    """

    def __init__(self, folder: Path, step: int):
        self._folder, self._step = folder, step
        self._file, self._objects, self._size = None, _Objects(), 0

    def write(self, record: dict) -> None:
        """Writes the numbers of a record; of replicas, their mean and its error."""
        from tensorboardX import summary

        scalars = {}
        for key, value in record.items():
            # The events have their own time.
            if key not in ("step", "data", "alarms", "wall_time"):
                mean, error = mean_and_error(value)
                scalars |= {key: mean}
                scalars |= {} if error is None else {f"{key}_stderr": error}
        summaries = [summary.scalar(*item) for item in scalars.items()]
        self._add(record["step"], summaries)

    def samples(self, step: int, files: dict[str, bytes]) -> None:
        """Writes the pictures of a sample grid, which TensorBoard shows as they are."""
        from PIL import Image
        from tensorboardX.proto.summary_pb2 import Summary

        tags, summaries = {".png": "samples", ".gif": "clips"}, []
        for suffix in tags.keys() & files.keys():
            width, height = Image.open(io.BytesIO(files[suffix])).size
            size = {"height": height, "width": width, "colorspace": 3}
            image = Summary.Image(encoded_image_string=files[suffix], **size)
            value = Summary.Value(tag=tags[suffix], image=image)
            summaries.append(Summary(value=[value]))
        self._add(step, summaries)

    def sync(self) -> None:
        """Uploads the file if it is in a bucket."""
        if self._objects.last:
            self._objects.last.sync()

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            self._file.close()

    def _add(self, step: int, summaries: list) -> None:
        from tensorboardX.proto.event_pb2 import Event

        now, remote = time.time(), in_bucket(self._folder)
        if remote and self._size > _EVENTS:  # since it is uploaded anew each time
            self._file.close()
            self._file, self._size = None, 0
        try:
            self._file = self._file or self._opened()
            for summary in summaries:
                event = Event(wall_time=now, step=step, summary=summary)
                self._file.write_event(event)
                self._size += event.ByteSize()
            # In a bucket, what cannot be uploaded now is uploaded later.
            with contextlib.suppress(*([OSError] if remote else [])):
                self._file.flush()
        except OSError:
            self._file = None  # it may end in a part of an event
            raise

    def _opened(self):
        # Imported at the first record, while the device is busy: it imports PyTorch
        # too if that is installed, which takes seconds.
        from tensorboardX import record_writer
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        # Its own writer for buckets uploads the whole file at each record.
        record_writer.register_writer_factory("gs", self._objects)

        suffix = f".{os.getpid()}.{time.monotonic_ns()}"
        file = EventsWriter(str(self._folder / "events"), suffix)
        start = SessionLog(status=SessionLog.START)
        step = self._step + 1
        file.write_event(Event(wall_time=time.time(), step=step, session_log=start))
        return file
