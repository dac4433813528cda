"""Lists runs, the newest last: `python -m gan_jax.runs [DIR]`.

DIR is a folder of runs, by default `runs`, or one run. Each run is a row: its config,
the keys that its command changed, how far it is, whether it is `running`, `done` or
`stopped`, its last metrics (of replicas, mean ± standard error), the step of its best
checkpoint, the active alarms and the steps that a guard has rejected.
`--json` prints one JSON object a line. It reads files only, and runs no code that they
name. Exit status: 0 done, 2 there is no such folder.
"""

import datetime
import json
import math
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gan_jax import cli
from gan_jax import config as config_lib
from gan_jax.errors import UserError, printable
from gan_jax.run import progress, workdir, writers
from gan_jax.run.checkpoint import BEST
from gan_jax.run.files import as_path, in_bucket

JSON = cli.json_flag()

# What tells which of two runs is better; the losses, which do not, come last.
_METRICS = ("d_real", "d_fake", "critic_real", "critic_fake", "modes", "quality")
_METRICS += ("classes", "diversity", "d_loss", "g_loss")
_TAIL = 2**20  # bytes of metrics.jsonl: the last lines are in it
_WIDE = 160  # columns, where the output is no terminal


def main(dir: str = "runs") -> None:
    """Runs the command."""
    folder = as_path(dir)
    workdir.check_readable(folder, "the folder")
    if not folder.is_dir():
        raise UserError(f"there is no folder {dir}: give the folder of your runs")
    found, skipped = [], []
    for path in _folders(folder):
        try:
            found.append(describe(path))
        except Exception as error:  # the folder may come from anywhere
            known = isinstance(error, UserError)
            skipped.append(str(error) if known else f"{path} is damaged")
    found.sort(key=lambda run: datetime.datetime.fromisoformat(run["started"]))
    if JSON.value:
        for run in found:
            print(json.dumps(run))
    elif found:
        _print_table(found)
    for why in skipped or ([] if found else [f"there are no runs in {dir}"]):
        print(printable(f"skipped: {why}" if skipped else why), file=sys.stderr)


def _folders(folder: Path) -> Iterator[Path]:
    if (folder / "config.json").exists():
        yield folder
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith("."):
            yield path


def describe(path: Path) -> dict[str, Any]:
    """Returns what is known of a run from its files.

    Args:
      path: the run's folder.

    Raises:
      UserError: it is no run.
      Exception: any; its files may hold anything.
    """
    content = workdir.read(path)
    values, record = flatten_dict(content["config"], sep="."), last_record(path)
    step, num_steps = record.get("step", 0), values["num_steps"]
    stopped = "done" if step >= num_steps else "stopped"
    name, changed = _experiment(content.get("start") or {}, values)
    measured = [key for key in record if key.startswith("eval_")]
    shown = [key for key in (*measured, *_METRICS) if key in record]
    metrics = {key: _measured(record[key]) for key in shown}
    dumps = sorted((path / "guard").glob("[0-9]*"))
    rejected = [f"rejected step {dump.name}" for dump in dumps]
    return {
        "run": str(path),
        "config": name,
        "changed": changed,
        "step": step,
        "num_steps": num_steps,
        "best": best_step(path),
        "status": "running" if workdir.is_locked(path) else stopped,
        "metrics": {key: mean for key, (mean, _) in metrics.items()},
        "stderr": {key: x for key, (_, x) in metrics.items() if x is not None},
        "alarms": [*_names(record.get("alarms", [])), *rejected],
        "started": _started(path, content),
    }


def best_step(path: Path) -> int | None:
    """Returns the step of the best checkpoint of a run, None if none is kept."""
    steps = [x for x in (path / BEST).glob("*") if x.name.isdecimal()]
    if in_bucket(path):  # where only this object tells that it is whole
        steps = [x for x in steps if (x / "commit_success.txt").exists()]
    return max((int(x.name) for x in steps), default=None)


def last_record(path: Path) -> dict[str, Any]:
    """Returns the last record of `metrics.jsonl`, empty if there is none.

    What only some records have, such as the diversity, is from the last that has it.

    Args:
      path: the run's folder.
    """
    file, last = path / "metrics.jsonl", {}
    if not file.exists():
        return last
    with file.open("rb") as lines:
        lines.seek(0, os.SEEK_END)
        lines.seek(max(0, lines.tell() - _TAIL))
        for line in lines.read(_TAIL).splitlines():
            try:
                record = json.loads(line)
                is_one = isinstance(record["step"], int)
            except (ValueError, LookupError, TypeError, RecursionError):
                continue  # a part of a line, at either end
            if is_one:
                last = last | {"alarms": []} | record
    return last


def _experiment(start: dict, values: dict) -> tuple[str, dict[str, Any]]:
    """Returns the config's name and the keys that were changed, of a run's command.

    A run that no command has started, but a program, shows what differs from the
    defaults of all configs.
    """
    words, path, keys = shlex.split(start.get("command", "")), "", []
    for word, following in zip(words, [*words[1:], ""], strict=False):
        flag, equals, value = word.partition("=")
        name, _, key = flag.lstrip("-").partition(".")
        if flag.startswith("-") and name == "config":
            keys.append(key)
            path = path if key else (value if equals else following)
    if not path:
        default = flatten_dict(config_lib.default().to_dict(), sep=".")
        return "", {k: v for k, v in values.items() if v != default.get(k)}
    file, _, variant = path.partition(":")
    name = Path(file).stem + (f":{variant}" if variant else "")
    return name, {key: values[key] for key in keys if key in values}


def _measured(value: Any) -> tuple[float | None, float | None]:
    """Returns a metric's mean over its finite values, and the standard error."""
    values = value if isinstance(value, list) else [value]
    finite = [x for x in values if isinstance(x, int | float) and math.isfinite(x)]
    return writers.mean_and_error(finite) if finite else (None, None)


def _names(alarms: list) -> list[str]:
    """Returns the alarms of a run, or of any of its replicas."""
    names = [each if isinstance(each, list) else [each] for each in alarms]
    return sorted({str(name) for each in names for name in each})


def _started(path: Path, content: dict) -> str:
    """Returns the time of the first start; of an old run, that of its config.json."""
    starts = [*content.get("history", []), content.get("start", {})]
    if time := starts[0].get("time"):
        return time
    seconds = (path / "config.json").stat().st_mtime
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat()


# --- The table ----------------------------------------------------------------------


def _print_table(found: list[dict]) -> None:
    table = Table(box=None, padding=(0, 2, 1, 0), pad_edge=False)
    for title, how in (
        ("run", {"overflow": "fold", "ratio": 3}),
        ("config", {"overflow": "fold", "ratio": 3}),
        ("step", {"no_wrap": True}),
        ("status", {"overflow": "fold", "ratio": 1}),
        ("last metrics", {"no_wrap": True}),
    ):
        table.add_column(title, **how)
    for run in found:
        changed = (f"{key}={value}" for key, value in run["changed"].items())
        cells = [
            Path(run["run"]).name,
            " ".join([run["config"], *changed]),
            f"{run['step']}/{run['num_steps']}",
            ", ".join([run["status"], *run["alarms"]]),
        ]
        metrics = Text("\n".join(_lines(run)))
        table.add_row(*(Text(printable(cell)) for cell in cells), metrics)
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)


def _lines(run: dict) -> Iterator[str]:
    """Returns a line for each metric, with the names of the line of progress.

    The last is of the best checkpoint, if there is one.
    """
    for key, mean in run["metrics"].items():
        error = f" ± {run['stderr'][key]:.2g}" if key in run["stderr"] else ""
        shown = "-" if mean is None else f"{mean:.3g}"
        name = progress.PROGRESS.get(key, key.removeprefix("eval_"))
        yield f"{name} {shown}{error}"
    if run["best"] is not None:
        yield f"best: step {run['best']}"


if __name__ == "__main__":
    cli.run(main)
