"""Compiles the configs for GPUs and TPUs that are not here, for docs/scaling.md.

    python scripts/targets.py --targets=h100,h100x8
    python scripts/targets.py --targets=v5e:2x4 --configs=mnist,resnet32

Each row is `python -m gan_jax.compile` of a config for a target, once with the row's
batch on each device and once with twice as much, or 16: the line through both memories
gives the batch that fits. Results stay in --out, and are not compiled again. The tables
between the marks in docs/scaling.md are those of all results there.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from absl import flags
from tables import put
from target_tables import ROWS, Row, tables

from gan_jax import cli
from gan_jax.errors import UserError, unknown
from gan_jax.run.files import write_file
from gan_jax.targets.target import find

ROOT = Path(__file__).parents[1]
_SECOND = 16  # so many examples, at least, that not the parameters are what is held
PAGE = ROOT / "docs/scaling.md"


TARGETS = flags.DEFINE_list("targets", ["h100"], "What to compile for.")
CONFIGS = flags.DEFINE_list("configs", ["all"], "Rows of the table, or all.")
SLICES = flags.DEFINE_integer("slices", 1, "TPU slices.", lower_bound=1)
OUT = flags.DEFINE_string("out", "runs/targets", "The folder of the results.")
WRITE = flags.DEFINE_bool("write", True, "Write the tables into docs/scaling.md.")


def main() -> int:
    """Runs the command; the exit status is 1 if something was not compiled."""
    status = 0
    names = list(ROWS) if CONFIGS.value == ["all"] else CONFIGS.value
    for name in names:
        if name not in ROWS:
            raise unknown("row", name, ROWS)
    for target in TARGETS.value:
        size = find(target, SLICES.value).size
        for name in names:
            least = ROWS[name].batch
            for batch in (least, max(2 * least, _SECOND)):
                try:
                    about = compiled(ROWS[name], target, size * batch)
                except UserError as error:  # such as a batch larger than the replay
                    status = 1
                    print(error, file=sys.stderr, flush=True)
                else:
                    print(name, target, json.dumps(about), flush=True)
    if WRITE.value:
        put(PAGE, "scripts/targets.py", "\n\n".join(tables(Path(OUT.value))))
    return status


def compiled(row: Row, target: str, batch: int) -> dict[str, Any]:
    """Returns what `gan_jax.compile` finds, from the folder of results if it is there.

    What does not fit has the key `error`, what it needs.

    Raises:
      UserError: it fails for another reason.
    """
    slices = f"-{SLICES.value}slices" if SLICES.value > 1 else ""
    name = "-".join([row.config, target, *row.flags[1:], str(batch)])
    file = Path(OUT.value) / f"{name.replace(':', '_').replace('=', '_')}{slices}.json"
    if file.exists():
        return json.loads(file.read_text("utf-8"))
    config, _, variant = row.config.partition(":")
    path = ROOT / f"configs/{config}.py"
    command = [
        *(sys.executable, "-m", "gan_jax.compile", "--json", "--programs=train"),
        f"--config={path}{':' if variant else ''}{variant}",
        *(f"--target={target}", f"--slices={SLICES.value}", f"--batch={batch}"),
        *row.flags,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    pattern = "^error: .* does not fit into .*: it needs (.*?);"
    needs = re.search(pattern, done.stderr, re.M)
    if done.returncode and not needs:
        raise UserError(f"{' '.join(command)} failed: {done.stderr[-1000:]}")
    about = {"error": needs[1]} if done.returncode else json.loads(done.stdout)
    about |= {"row": row.config, "target": target, "slices": SLICES.value}
    about |= {"batch_size": batch, "precision": _precision(row)}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, json.dumps(about).encode())
    return about


def _precision(row: Row) -> str:
    return "bfloat16" if "--precision=bfloat16" in row.flags else "float32"


if __name__ == "__main__":
    cli.run(main)
