"""Checks a loss without training: `python -m gan_jax.check LOSS`.

LOSS is one of gan_jax.objective.losses by name, with its settings and transforms, or
your own `my_file.py:name`: the same text as a config's `loss`. A table shows for each
check whether it passed, and the number found. The checks are of the game at its
equilibrium, see gan_jax.diagnostics.loss_checks. Exit status: 0 all passed, 1 one
failed, 2 bad input.
"""

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gan_jax import cli
from gan_jax.build.objectives import build_loss
from gan_jax.diagnostics.loss_checks import examine
from gan_jax.errors import printable


def main(loss: str) -> int:
    """Runs the command."""
    verdicts = examine(build_loss(loss))
    table = Table("check", "", "found", box=SIMPLE)
    for name, verdict in verdicts.items():
        passed = Text("passed", "green") if verdict.passed else Text("failed", "red")
        table.add_row(name, passed, Text(printable(verdict.found)))
    Console(highlight=False).print(table)
    return 0 if all(verdict.passed for verdict in verdicts.values()) else 1


if __name__ == "__main__":
    cli.run(main)
