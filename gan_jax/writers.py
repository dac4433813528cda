"""What a run writes for people to read: metrics, pictures, the progress line."""

import io
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

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
      examples: uint8 `[num, height, width, channels]` (1, 3 or 4 channels), or points
        `[num, 2]`.
      columns: images in a row.
    """
    buffer = io.BytesIO()
    if examples.ndim == 2:
        _scatter(buffer, examples)
    else:
        sheet = tile(examples, columns)
        sheet = sheet[..., 0] if sheet.shape[-1] == 1 else sheet
        Image.fromarray(sheet).save(buffer, "png", optimize=True)
    write_file(path, buffer.getvalue())


def _scatter(buffer: io.BytesIO, points: np.ndarray) -> None:
    from matplotlib.figure import Figure

    axes = Figure(figsize=(4, 4), layout="constrained").add_subplot(aspect="equal")
    axes.scatter(*points.T, s=2, alpha=0.4, linewidths=0)
    axes.set(xlim=(-3, 3), ylim=(-3, 3))
    axes.figure.savefig(buffer, format="png", dpi=120)


class MetricsFile:
    """`metrics.jsonl`: one object a line, appended, no step twice.

    Args:
      path: the file; what a killed run left of a line is cut off.
    """

    def __init__(self, path: Path):
        self._last = -1
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            write_file(path, whole)
        if whole:
            self._last = json.loads(whole.splitlines()[-1])["step"]
        self._file = path.open("a")

    def write(self, record: dict) -> None:
        """Appends a record unless its step is there already."""
        if record["step"] > self._last:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            self._last = record["step"]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class ProgressLine:
    """Where the run stands: a bar on a terminal, else a line for each record.

    Args:
      num_steps: of the whole run.
      step: where it starts.
      data: what it trains on, shown in each line.
    """

    def __init__(self, num_steps: int, step: int, data: str):
        self._console = Console(stderr=True, soft_wrap=True)
        self._data, self._num_steps = data, num_steps
        self._bar = None
        if self._console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console)
            self._task = self._bar.add_task("compiling", total=num_steps)
            self._bar.update(self._task, completed=step)
            self._bar.start()

    def write(self, record: dict) -> None:
        """Shows a record."""
        step = record["step"]
        values = [f"{name} {record[key]:.3f}" for key, name in PROGRESS.items()]
        text = f"{step}/{self._num_steps}  {record['images_per_sec']:.0f} images/s  "
        text += f"{'  '.join(values)}  {self._data}"
        if self._bar:
            self._bar.update(self._task, completed=step, description=text)
            return
        images_left = record["images"] / step * (self._num_steps - step)
        left = math.ceil(images_left / record["images_per_sec"])
        print(f"{text}  {left // 60}:{left % 60:02d} left", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the line as it stands."""
        if self._bar:
            self._bar.stop()


class Writers:
    """Everything that a run writes while it trains, opened together.

    Args:
      workdir: the run's folder.
      num_steps: of the whole run.
      step: where it starts.
      data: what it trains on.
    """

    def __init__(self, workdir: Path, num_steps: int, step: int, data: str):
        from tensorboardX import SummaryWriter

        self._workdir, self._data = workdir, data
        self._metrics = MetricsFile(workdir / "metrics.jsonl")
        self._board = SummaryWriter(str(workdir), purge_step=step + 1)
        self._progress = ProgressLine(num_steps, step, data)

    def metrics(self, record: dict) -> None:
        """Writes one record everywhere; it has `step` and the metrics."""
        self._metrics.write({**record, "data": self._data})
        for key, value in record.items():
            if key != "step":
                self._board.add_scalar(key, value, record["step"])
        self._progress.write(record)

    def samples(self, step: int, examples: np.ndarray, columns: int) -> None:
        """Writes the samples of a step."""
        path = self._workdir / "samples" / f"{step:06d}.png"
        save_examples(path, examples, columns)
        sheet = np.asarray(Image.open(path).convert("RGB"))
        self._board.add_image("samples", sheet, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes them all."""
        self._metrics.close()
        self._board.close()
        self._progress.close()
