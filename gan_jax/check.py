"""Checks a loss, a penalty or a step without training: `python -m gan_jax.check NAME`.

NAME is what a config's `loss`, `penalties` or `step` takes, with its settings: a name
of ours, or your own `my_file.py:name`. A table shows for each check whether it passed,
and what was found. A loss is checked near its equilibrium, a penalty on small networks
and in the Dirac-GAN, a step in the bilinear game: see loss_checks, penalty_checks and
step_checks in gan_jax.diagnostics. Exit status: 0 all passed, 1 one failed, 2 bad
input.
"""

import inspect

from absl import flags
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gan_jax import cli
from gan_jax.build import names
from gan_jax.build.objectives import build_loss, build_penalties, build_step
from gan_jax.diagnostics import loss_checks, penalty_checks, step_checks
from gan_jax.diagnostics.verdicts import Verdict
from gan_jax.errors import UserError, place_of, printable
from gan_jax.objective.terms import Constraint

WITH = flags.DEFINE_string(
    "with",
    "",
    "What else is in the game. For a penalty, the loss of the Dirac-GAN: --with=hinge. "
    "For a step, the optimizer: --with='sgd(learning_rate=0.1)'.",
)


def main(name: str) -> int:
    """Runs the command."""
    verdicts = examine(name, WITH.value)
    table = Table("check", "", "found", box=SIMPLE)
    for row, verdict in verdicts.items():
        passed = Text("passed", "green") if verdict.passed else Text("failed", "red")
        table.add_row(row, passed, Text(printable(verdict.found)))
    Console(highlight=False).print(table)
    return 0 if all(verdict.passed for verdict in verdicts.values()) else 1


def examine(text: str, beside: str = "") -> dict[str, Verdict]:
    """Checks what a text names, by its kind.

    Args:
      text: of a loss, a penalty or a step, as in a config.
      beside: the text of what else is in the game: the loss for a penalty, the
        optimizer for a step.

    Returns:
      The verdicts by the names of the checks.

    Raises:
      UserError: a text makes no sense.
    """
    key = _key(text)
    if key == "step":
        optimizer = beside or step_checks.OPTIMIZER
        return step_checks.examine(build_step(text), optimizer)
    if key == "penalties":
        return _of_penalty(text, beside)
    if key == "loss" and not beside:
        return loss_checks.examine(build_loss(text))
    if key == "loss":
        raise UserError(f"--with={beside}: a loss is checked alone")
    raise UserError(f"{text!r} goes into --config.{key}, for which there is no check")


def _key(text: str) -> str:
    """Returns the key of a config that a text is for.

    A function of settings alone is a family of losses.

    Raises:
      UserError: there is no such name, or what it leads to does not show its kind.
    """
    calls = names.parse_calls(text)
    if not calls:
        known = "non_saturating, r1 or extragradient"
        raise UserError(f"there is nothing to check: give a name, such as {known}")
    (name, settings), *_ = calls
    found = names.any_object("loss, penalty or step", name)
    if key := names.key_of(found):
        return key
    if inspect.isfunction(found) and names.missing(found, settings) not in (
        [],
        ["loss"],
    ):
        raise UserError(
            f"{name!r} may be a loss, a penalty or a step: name a penalty's arguments "
            f"(critic, real, fake, key) and a step's (gan, state, batch)"
            f"{place_of(found)}"
        )
    return "loss"


def _of_penalty(text: str, loss: str) -> dict[str, Verdict]:
    penalties, constraints = build_penalties(text)
    if len(terms := (*penalties, *constraints)) != 1:
        raise UserError(f"{text!r} names several penalties: check one at a time")
    if isinstance(terms[0], Constraint) and loss:
        raise UserError(f"--with={loss}: a constraint is checked alone")
    return penalty_checks.examine(terms[0], build_loss(loss or "non_saturating"))


if __name__ == "__main__":
    cli.run(main)
