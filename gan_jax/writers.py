"""What a run writes for people to read: metrics, pictures, the progress line."""

import functools
import io
import json
import math
import os
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

PROGRESS = {"d_real": "D(x)", "d_fake": "D(G(z))", "d_loss": "d_loss"}
PROGRESS |= {"g_loss": "g_loss", "value": "V"}


def write_file(path: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.rename(path)


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


def save_examples(path: Path, examples: np.ndarray, columns: int) -> None:
    """Writes images as one PNG sheet, or points as one PNG scatter plot.

    Args:
      path: the PNG file.
      examples: uint8 `[..., num, height, width, channels]` (1, 3 or 4 channels), or
        points `[..., num, 2]`, a panel for each `[num, 2]` of them.
      columns: images in a row.
    """
    from PIL import Image

    buffer = io.BytesIO()
    if examples.ndim < 4:
        _scatter(buffer, examples.reshape(-1, *examples.shape[-2:]))
    else:
        sheet = tile(examples.reshape(-1, *examples.shape[-3:]), columns)
        sheet = sheet[..., 0] if sheet.shape[-1] == 1 else sheet
        Image.fromarray(sheet).save(buffer, "png", optimize=True)
    write_file(path, buffer.getvalue())


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
    """

    def __init__(self, path: Path, until: int | None = None):
        text = path.read_text() if path.exists() else ""
        lines = [line for line in text.splitlines(True) if line.endswith("\n")]
        if until is not None:
            lines = [line for line in lines if json.loads(line)["step"] <= until]
        if "".join(lines) != text:
            write_file(path, "".join(lines).encode())
        self._last = json.loads(lines[-1])["step"] if lines else -1
        self._file = path.open("a")

    def write(self, record: dict) -> None:
        """Appends a record unless its step is there already; NaN becomes null."""
        if record["step"] > self._last:
            valid = {key: _json(value) for key, value in record.items()}
            self._file.write(json.dumps(valid) + "\n")
            self._file.flush()
            self._last = record["step"]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


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


class Writers:
    """Everything that a run writes while it trains, opened together.

    Args:
      workdir: the run's folder.
      num_steps: of the whole run.
      step: where it starts.
      rewrite: whether records of later steps, which another config left, are dropped.
    """

    def __init__(self, workdir: Path, num_steps: int, step: int, rewrite: bool = False):
        self._workdir, self._step = workdir, step
        until = step if rewrite else None
        self._metrics = MetricsFile(workdir / "metrics.jsonl", until)
        self._progress = ProgressLine(num_steps, step)

    @functools.cached_property
    def _board(self):
        # At the first record, when the device has work to do: it imports PyTorch too
        # where that is installed, which takes seconds.
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(self._workdir), purge_step=self._step + 1)

    def metrics(self, record: dict) -> None:
        """Writes one record everywhere.

        Args:
          record: `step`, the metrics, a number or a list with one for each replica,
            and `data`, a name.
        """
        self._metrics.write(record)
        for key, value in record.items():
            if key not in ("step", "data"):
                mean, error = mean_and_error(value)
                self._board.add_scalar(key, mean, record["step"])
                if error is not None:
                    self._board.add_scalar(f"{key}_stderr", error, record["step"])
        self._progress.write(record)

    def samples(self, step: int, examples: np.ndarray, columns: int) -> None:
        """Writes the samples of a step."""
        from PIL import Image

        path = self._workdir / "samples" / f"{step:06d}.png"
        save_examples(path, examples, columns)
        sheet = np.asarray(Image.open(path).convert("RGB"))
        self._board.add_image("samples", sheet, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes them all."""
        self._metrics.close()
        if "_board" in vars(self):
            self._board.close()
        self._progress.close()
