"""What is shown on the terminal while a run trains, or draws examples."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from gan_jax.run.writers import Output, mean_and_error

# What the progress line shows of a record: D(x), D(G(z)) and V, or of a critic, whose
# logits are not log-odds, its mean values.
PROGRESS = {"d_real": "D(x)", "d_fake": "D(G(z))"}
PROGRESS |= {"critic_real": "C(x)", "critic_fake": "C(G(z))"}
PROGRESS |= {"d_loss": "d_loss", "g_loss": "g_loss", "value": "V"}
# Where a sample grid was drawn.
PROGRESS |= {"modes": "modes", "quality": "quality", "classes": "classes"}
_COLUMNS, _BAR = 80, 12  # of a line of progress, and of the bar
_BESIDE_BAR = _COLUMNS - _BAR - 1


class ProgressLine(Output):
    """The progress of the run: a bar on a terminal, else a line for each record.

    Args:
      num_steps: of the whole run.
      step: the first one.
      console: where to show it, by default stderr.
    """

    def __init__(self, num_steps: int, step: int, console: Console | None = None):
        self._console = console or Console(stderr=True, soft_wrap=True)
        self._num_steps, self._bar = num_steps, None
        if self._console.is_terminal:
            text = TextColumn("{task.description}", markup=False, table_column=Column())
            self._bar = Progress(BarColumn(bar_width=_BAR), text, console=self._console)
            self._task = self._bar.add_task(
                "compiling", completed=step, total=num_steps
            )
            self._bar.start()

    def write(self, record: dict) -> None:
        """Shows a record."""
        with contextlib.suppress(OSError, SystemExit):  # rich, if stderr is closed
            self._show(record)

    def close(self) -> None:
        """Leaves the line as it is."""
        if self._bar:
            self._bar.stop()

    def _show(self, record: dict) -> None:
        pace = (
            f"{record['step']}/{self._num_steps}",
            f"{_duration(record['seconds_left'])} left",
            f"{record['images_per_sec']:,.0f} images/s",
        )
        names = PROGRESS | {
            key: key.removeprefix("eval_") for key in record if key.startswith("eval_")
        }
        values = (
            f"{name} {_shown(record[key])}"
            for key, name in names.items()
            if key in record
        )
        if self._bar:
            text = "\n".join([*_lines(pace, _BESIDE_BAR), *_lines(values, _BESIDE_BAR)])
            self._bar.update(self._task, completed=record["step"], description=text)
        else:
            indented = [f"  {line}" for line in _lines(values, _COLUMNS - 2)]
            text = "\n".join([*_lines(pace, _COLUMNS), *indented])
            self._console.print(text, markup=False, highlight=False)


class _Speed(ProgressColumn):
    """Examples a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} examples/s")


@contextlib.contextmanager
def examples_bar(title: str, num: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar on a terminal; yields what moves it to a number of examples."""
    columns = TextColumn("{task.description}"), BarColumn(), _Speed()
    hidden = not sys.stderr.isatty()
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=hidden
    ) as bar:
        task = bar.add_task(title, total=num)
        yield lambda done: bar.update(task, completed=done)


def _lines(parts: Iterable[str], width: int) -> list[str]:
    """Joins parts to as few lines of at most `width` characters as they fit into."""
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}  {part}" if lines[-1] else part
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _duration(seconds: float) -> str:
    """Returns a time as 1:02:03, or as 2:03 if it is under an hour."""
    minutes, seconds = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    )


def _shown(values: float | list[float]) -> str:
    mean, error = mean_and_error(values)
    return f"{mean:.3f}" if error is None else f"{mean:.3f} ± {error:.3f}"
