"""Checks a loss on sight: `python -m gan_jax.check LOSS`.

LOSS is one of gan_jax.objective.losses by name, with its settings and what changes it,
or your own `my_file.py:name`: as a config's `loss`. A table says of each check whether
it has passed, and the number found. No network is trained: the checks are of the game
at its equilibrium, see gan_jax.diagnostics.game. Exit status: 0 all have passed, 1 one
has failed, 2 bad input.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gan_jax import cli
from gan_jax.build.objectives import build_loss
from gan_jax.diagnostics import game
from gan_jax.diagnostics.game import FixedPoint
from gan_jax.errors import one_line, printable
from gan_jax.objective.losses import Loss

GAMMA = 1.0  # the weight of R1
SURE = 10.0  # how far from the fixed point the logits of a D that is sure lie
SATURATING = 0.1  # of G's gradient at the fixed point: less is left where D is sure
ROUNDING = 1e-4


class Verdict(NamedTuple):
    """What a check has found."""

    passed: bool
    found: str


def main(loss: str) -> int:
    """Runs the command."""
    verdicts = examine(build_loss(loss))
    table = Table("check", "", "found", box=SIMPLE)
    for name, verdict in verdicts.items():
        passed = Text("passed", "green") if verdict.passed else Text("failed", "red")
        table.add_row(name, passed, Text(printable(verdict.found)))
    Console(highlight=False).print(table)
    return 0 if all(verdict.passed for verdict in verdicts.values()) else 1


def examine(loss: Loss) -> dict[str, Verdict]:
    """Makes all checks of a loss, and returns what each has found by its name."""
    point = _tried(game.fixed_point, loss)
    at = point.logit if isinstance(point, FixedPoint) else 0.0
    checks = {
        "shapes": lambda: _shapes(loss),
        "finite at logits 0, ±1e4": lambda: _finite(loss),
        "D's gradient": lambda: _d_gradient(loss, at),
        "fixed point of D": lambda: _fixed_point(loss, point),
        "equilibrium": lambda: _equilibrium(loss, at),
        "G's gradient": lambda: _g_gradient(loss, at),
        "Dirac-GAN": lambda: _dirac(loss, at, 0.0),
        f"Dirac-GAN, R1({GAMMA:g})": lambda: _dirac(loss, at, GAMMA),
    }
    return {name: _verdict(check) for name, check in checks.items()}


def _verdict(check: Callable[[], Verdict]) -> Verdict:
    found = _tried(check)
    return Verdict(False, one_line(found)) if isinstance(found, Exception) else found


def _tried(function: Callable, *args) -> Any:
    """Returns what a function returns or raises."""
    try:
        return function(*args)
    except Exception as error:
        return error


def _shapes(loss: Loss) -> Verdict:
    for size in (1, 2, 5):
        logits = jax.ShapeDtypeStruct((size,), jnp.float32)
        for name, function in _functions(loss):
            got = jax.eval_shape(function, logits, logits)
            got = getattr(got, "shape", got)
            if got != (size,):
                found = f"{name} returns {got} for a batch of {size}, not ({size},)"
                return Verdict(False, found)
    return Verdict(True, "[batch] for [batch]")


def _functions(loss: Loss) -> Iterator[tuple[str, Callable]]:
    yield from (("d", loss.d), ("g", loss.g))
    if loss.drawn:
        drawn = loss.draw(jax.random.key(0))
        yield from (("d as drawn", drawn.d), ("g as drawn", drawn.g))


def _finite(loss: Loss) -> Verdict:
    made = [loss, loss.draw(jax.random.key(0))] if loss.drawn else [loss]
    found = jax.jit(lambda: [game.extremes(each) for each in made])()
    pairs = [(real, fake) for real in (-1e4, 0, 1e4) for fake in (-1e4, 0, 1e4)]
    for name, values in (item for each in found for item in each.items()):
        for value, (real, fake) in zip(np.ravel(values), pairs, strict=False):
            if not np.isfinite(value):
                where = f"at real {_short(real)}, fake {_short(fake)}"
                return Verdict(False, f"{name} is {value} {where}")
    return Verdict(True, "values and gradients")


def _d_gradient(loss: Loss, at: float) -> Verdict:
    slopes = jax.jit(lambda *logits: game.d_slopes(loss, *logits))
    by_real, by_fake = (x.item() for x in slopes(*np.full((2, 1), at, np.float32)))
    found = f"{_short(by_real)} by real logits, {_short(by_fake)} by fake"
    if not by_real < 0 < by_fake:
        return Verdict(False, f"{found}: they must be below and above 0")
    reals, fakes = jax.vmap(slopes)(*(at + 0.1 * _normal(2, 64, 1)))
    wrong = int(((reals > ROUNDING) | (fakes < -ROUNDING)).sum())
    if wrong:
        return Verdict(False, f"{found}; of a wrong sign at {wrong} of 64 logits near")
    return Verdict(True, found)


def _fixed_point(loss: Loss, point: FixedPoint | Exception | None) -> Verdict:
    if isinstance(point, Exception):
        raise point
    if point is None:
        return Verdict(False, "none: D gains from one and the same logit for all")
    logits = jnp.full(1, point.logit)
    mean, probability = loss.d(logits, logits).mean(), jax.nn.sigmoid(point.logit)
    found = (
        f"l* = {_short(point.logit)}, sigma(l*) = {_short(probability)}, "
        f"D's loss {_short(mean)}"
    )
    if np.isinf(point.low):
        found += "; every constant is stationary"
    elif point.low < point.high:
        ends = f"{_short(point.low)} to {_short(point.high)}"
        found += f"; every constant from {ends} is stationary"
    return Verdict(bool(np.isfinite(mean)), found)


def _equilibrium(loss: Loss, at: float) -> Verdict:
    h = _normal(4, 8)
    h = (h - h.mean(1, keepdims=True)) / h.std(1, keepdims=True)
    h[0] = 1.0  # the same for all: it may be stationary and no minimum
    slopes, curvatures = jax.jit(jax.vmap(lambda h: game.perturbed(loss, at, h)))(h)
    slope, curvature = float(abs(slopes).max()), float(curvatures[1:].min())
    found = f"slope {_short(slope)}, curvature {_short(curvature)} as D begins to tell"
    if curvatures[0] < -ROUNDING:
        return Verdict(False, f"{found}; l* is no minimum among constants")
    return Verdict(slope <= ROUNDING and curvature >= -ROUNDING, found)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _g_gradient(loss: Loss, at: float) -> Verdict:
    slopes = jax.jit(lambda *logits: game.g_slopes(loss, *logits))
    here, sure = (
        slopes(*jnp.array([[at - lead], [at + lead]])).item() for lead in (0.0, SURE)
    )
    found = f"{_short(here)} at l*, {_short(sure)} where D is sure"
    if here > ROUNDING or (here > -ROUNDING and sure > -ROUNDING):
        return Verdict(False, f"{found}: G must push fake logits up")
    if sure > ROUNDING:
        return Verdict(True, f"{found}, which pushes fake logits down")
    saturates = abs(sure) < SATURATING * abs(here)
    return Verdict(True, f"{found}: {'' if saturates else 'non-'}saturating")


def _dirac(loss: Loss, at: float, gamma: float) -> Verdict:
    eigenvalues = game.dirac_eigenvalues(loss, at, gamma)
    found, largest = _pair(eigenvalues), eigenvalues.real.max()
    if not largest <= ROUNDING:
        return Verdict(False, f"{found}: unstable")
    if gamma == 0:
        return Verdict(True, found)
    # Where the gradient of G vanishes, the linear part leaves the answer open.
    return Verdict(True, f"{found}: {'stable' if largest < -ROUNDING else 'open'}")


def _pair(eigenvalues: np.ndarray) -> str:
    """Writes two eigenvalues, of which complex ones are each other's conjugates."""
    first, second = eigenvalues
    if abs(first - second.conjugate()) > ROUNDING:
        return f"{_short(first.real)}, {_short(second.real)}"
    real = _short(first.real) if abs(first.real) > ROUNDING else ""
    return f"{real}±{_short(abs(first.imag))}i"


def _short(number: float) -> str:
    return f"{round(float(number), 6) + 0.0:.4g}"


if __name__ == "__main__":
    cli.run(main)
