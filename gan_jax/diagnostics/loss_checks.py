"""Checks of a loss: shapes, finite values, gradients, and the game at its equilibrium.

No network is trained: the checks are of the logits alone, and of the game of
gan_jax.diagnostics.game.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.diagnostics import game
from gan_jax.diagnostics.game import FixedPoint
from gan_jax.diagnostics.verdicts import (
    ROUNDING,
    Verdict,
    pair,
    short,
    stability,
    tried,
    verdict,
)
from gan_jax.objective.losses import Loss

GAMMA = 1.0  # the weight of R1
SURE = 10.0  # the distance from l* of the logits of a confident D
SATURATING = 0.1  # G saturates if D, once confident, leaves less of G's gradient
STABLE = f"Dirac-GAN, R1({GAMMA:g})"
# The checks that a check builds on: a player without a gradient plays no game, which
# is at rest at any point.
RESTS_ON = {
    "equilibrium": ("D's gradient",),
    "Dirac-GAN": ("D's gradient", "G's gradient"),
    STABLE: ("D's gradient", "G's gradient"),
}


def examine(loss: Loss) -> dict[str, Verdict]:
    """Checks a loss.

    Args:
      loss: of the game.

    Returns:
      The verdicts by the names of the checks. A check that raises has failed, with the
      exception as its reason. A check also fails if one that it rests on has failed.
    """
    point = tried(game.fixed_point, loss)
    logit = point.logit if isinstance(point, FixedPoint) else 0.0
    checks = {
        "shapes": lambda: _shapes(loss),
        "finite at logits 0, ±1e4": lambda: _finite(loss),
        "D's gradient": lambda: _d_gradient(loss, logit),
        "fixed point of D": lambda: _fixed_point(loss, point),
        "equilibrium": lambda: _equilibrium(loss, logit),
        "G's gradient": lambda: _g_gradient(loss, logit),
        "Dirac-GAN": lambda: _dirac(loss, logit, 0.0),
        STABLE: lambda: _dirac(loss, logit, GAMMA),
    }
    verdicts = {name: verdict(check) for name, check in checks.items()}
    return {name: _rested(name, verdicts) for name in verdicts}


def _rested(name: str, verdicts: dict[str, Verdict]) -> Verdict:
    """Returns a verdict, failed if a check that it rests on has failed."""
    passed, found = verdicts[name]
    bad = [other for other in RESTS_ON.get(name, ()) if not verdicts[other].passed]
    if passed and bad:
        return Verdict(False, f"{found}: not valid, as {' and '.join(bad)} failed")
    return verdicts[name]


def _shapes(loss: Loss) -> Verdict:
    for size in (1, 2, 5):
        logits = jax.ShapeDtypeStruct((size,), jnp.float32)
        for (name, made), player in itertools.product(_variants(loss).items(), "dg"):

            def values(*logits, made=made, player=player):
                return getattr(made(), player)(*logits)

            shape = jax.eval_shape(values, logits, logits)
            shape = getattr(shape, "shape", shape)
            if shape != (size,):
                found = f"{player}{name} returns {shape} for a batch of {size}"
                hint = ": drop .mean()" if shape == () else ""
                return Verdict(False, f"{found}, not ({size},){hint}")
    return Verdict(True, "[batch] for [batch]")


def _variants(loss: Loss) -> dict[str, Callable[[], Loss]]:
    """Returns functions that make the loss, and that of an update if it is random."""
    if loss.target is None:
        return {"": lambda: loss}
    return {"": lambda: loss, " as drawn": lambda: loss.draw(jax.random.key(0))}


def _finite(loss: Loss) -> Verdict:
    variants = _variants(loss).values()
    found = jax.jit(lambda: [game.extremes(made()) for made in variants])()
    pairs = [(real, fake) for real in (-1e4, 0, 1e4) for fake in (-1e4, 0, 1e4)]
    for name, values in (item for each in found for item in each.items()):
        for value, (real, fake) in zip(np.ravel(values), pairs, strict=False):
            if not np.isfinite(value):
                where = f"at real {short(real)}, fake {short(fake)}"
                return Verdict(False, f"{name} is {value} {where}")
    return Verdict(True, "all values and gradients")


def _d_gradient(loss: Loss, logit: float) -> Verdict:
    slopes = jax.jit(jax.vmap(lambda *logits: game.d_slopes(loss, *logits)))
    near = logit + 0.1 * _normal(2, 65, 1)
    near[:, 0] = logit
    reals, fakes = (np.ravel(x) for x in slopes(*near))
    found = f"{short(reals[0])} by real logits, {short(fakes[0])} by fake"
    if not reals[0] < 0 < fakes[0]:
        why = "the first must be < 0, the second > 0; d takes (real, fake)"
        return Verdict(False, f"{found}: {why}")
    wrong = int(((reals > ROUNDING) | (fakes < -ROUNDING)).sum())
    if wrong:
        return Verdict(False, f"{found}; wrong sign at {wrong} of 64 nearby logits")
    return Verdict(True, found)


def _fixed_point(loss: Loss, point: FixedPoint | Exception | None) -> Verdict:
    if isinstance(point, Exception):
        raise point
    if point is None:
        return Verdict(False, "none: no constant logit in [-30, 30] is stationary")
    logits = np.full(1, point.logit, np.float32)
    mean = float(jax.jit(lambda *logits: loss.d(*logits).mean())(logits, logits))
    probability = 1 / (1 + np.exp(-point.logit))
    found = (
        f"l* = {short(point.logit)}, sigma(l*) = {short(probability)}, "
        f"D's loss {short(mean)}"
    )
    if np.isinf(point.low):
        found += "; every constant is stationary"
    elif point.low < point.high:
        ends = f"{short(point.low)} to {short(point.high)}"
        found += f"; every constant from {ends} is stationary"
    return Verdict(bool(np.isfinite(mean)), found)


def _equilibrium(loss: Loss, logit: float) -> Verdict:
    h = _normal(4, 8)
    h = (h - h.mean(1, keepdims=True)) / h.std(1, keepdims=True)
    h[0] = 1.0  # the same for all: it may be stationary and no minimum
    perturbed = jax.jit(jax.vmap(lambda h: game.perturbed(loss, logit, h)))
    slopes, curvatures = map(np.asarray, perturbed(h))
    slope, curvature = np.abs(slopes).max(), curvatures[1:].min()
    found = f"D's loss has slope {short(slope)}, curvature {short(curvature)}"
    if curvatures[0] < -ROUNDING:
        return Verdict(False, f"{found}; a constant near l* has a lower loss")
    return Verdict(bool(slope <= ROUNDING and curvature >= -ROUNDING), found)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _g_gradient(loss: Loss, logit: float) -> Verdict:
    lead = np.array([[0.0], [SURE]], np.float32)
    slopes = jax.jit(jax.vmap(lambda *logits: game.g_slopes(loss, *logits)))
    here, sure = np.ravel(slopes(logit - lead, logit + lead)).tolist()
    found = f"{short(here)} at l*, {short(sure)} if D is confident"
    if here > ROUNDING or (here > -ROUNDING and sure > -ROUNDING):
        why = "G must push fake logits up; g takes (fake, real)"
        return Verdict(False, f"{found}: {why}")
    if sure > ROUNDING:
        return Verdict(True, f"{found}, which pushes fake logits down")
    saturates = abs(sure) < SATURATING * abs(here)
    return Verdict(True, f"{found}: {'' if saturates else 'non-'}saturating")


def _dirac(loss: Loss, logit: float, gamma: float) -> Verdict:
    eigenvalues = game.dirac_eigenvalues(loss, logit, gamma)
    found, how = pair(eigenvalues), stability(eigenvalues)
    if how == "unstable":
        return Verdict(False, f"{found}: unstable")
    return Verdict(True, found if gamma == 0 else f"{found}: {how}")
