"""Checks of a penalty: shapes, finite values, its gradient, and the Dirac-GAN with it.

A penalty is called as in training, by `d_gradient` and `g_gradient`, in a game of small
networks whose losses are zero: the gradients are its own. Nothing is trained.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from gan_jax.algorithm.gradients import d_gradient, g_gradient
from gan_jax.algorithm.spaces import Points
from gan_jax.algorithm.steps import init_state
from gan_jax.build.builder import build
from gan_jax.diagnostics import game
from gan_jax.diagnostics.differences import STEPS, Differences, differences
from gan_jax.diagnostics.toys import Linear
from gan_jax.diagnostics.trials import BATCH, Trial, fitting, with_players
from gan_jax.diagnostics.verdicts import (
    ROUNDING,
    Verdict,
    pair,
    stability,
    tried,
    verdict,
)
from gan_jax.errors import one_line
from gan_jax.objective.losses import Loss, non_saturating
from gan_jax.objective.terms import Constraint, Penalty

LARGE = 1e4  # the size of logits, or of parameters
# Differences of float32 numbers agree to about 1e-3; what stops a part of the gradient,
# or has a wrong factor, is off by more.
TOLERANCE = 0.02
CLEAR = 1e-3
DIRECTIONS = 6
SCALES = 1.0, 3.0  # of both players' parameters
UPDATES = 50  # of the memory before the gradient is measured
LATE = 1_000_000  # a step after whatever starts with a delay
FINITE = "finite at logits 0, ±1e4"


def examine(
    term: Penalty | Constraint, loss: Loss = non_saturating
) -> dict[str, Verdict]:
    """Checks a penalty, or a constraint.

    Args:
      term: with its settings. Its weight matters to the Dirac-GAN alone, and how often
        it is applied to nothing.
      loss: of the Dirac-GAN.

    Returns:
      The verdicts by the names of the checks. A check that raises has failed, with the
      exception as its reason. If the shapes are wrong, there is no other check.
    """
    once = dataclasses.replace(term, every=1)
    trial = tried(fitting, once)
    if isinstance(trial, Exception):
        return {"shapes": Verdict(False, one_line(trial))}
    checks = {"shapes": lambda: _shapes(trial)}
    if isinstance(term, Constraint):
        checks |= {
            "finite at parameters 0, 1e4": lambda: _finite_projection(trial),
            "projection": lambda: _projection(trial),
        }
    else:
        checks |= {FINITE: lambda: _finite(trial)}
        for player in once.players:
            name = f"{player.upper()}'s gradient"
            checks[name] = functools.partial(_gradient, trial, player)
        checks["Dirac-GAN"] = lambda: _dirac(once, loss, trial)
    return {name: verdict(check) for name, check in checks.items()}


# --- The checks -----------------------------------------------------------------------


def _shapes(trial: Trial) -> Verdict:
    """Says what was found when the trial was traced."""
    gan = trial.gan
    if gan.constraints:
        return Verdict(True, "those of the parameters")
    of = type(gan.example).__name__.lower()
    if gan.condition is not None:
        of += f" with {type(gan.condition).__name__.lower()}"
    memory = trial.state.memory
    kept = (
        f"; memory keeps its {len(jax.tree.leaves(memory))} array(s)" if memory else ""
    )
    return Verdict(True, f"one value each of {of}{kept}")


def _finite(trial: Trial) -> Verdict:
    """Evaluates two updates of each player where penalties often fail."""
    g, d = trial.state.g.params, trial.state.d.params
    nothing = functools.partial(jax.tree.map, jnp.zeros_like)
    cases = {
        "in general position": (g, d),
        "where D is constant": (g, nothing(d)),
        f"at logits of {LARGE:g}": (g, d | {"logit": _scaled(d["logit"], LARGE)}),
        "where all samples are equal": (nothing(g), d),
    }

    def twice(player, g, d):
        first = trial.evaluate(player, with_players(trial.state, g=g, d=d))
        later = with_players(trial.state, first[2], g=g, d=d)
        found = first, trial.evaluate(player, later)
        names = "value", "gradient", "memory"
        return dict(zip(names, map(_all_finite, zip(*found, strict=True)), strict=True))

    (penalty,) = trial.gan.penalties
    points = jax.tree.map(lambda *x: jnp.stack(x), *cases.values())
    for player in penalty.players:
        finite = jax.jit(jax.vmap(functools.partial(twice, player)))(*points)
        for name, of_cases in finite.items():
            for case, is_finite in zip(cases, of_cases, strict=True):
                if not is_finite:
                    found = f"{player.upper()}'s {name} is NaN or inf {case}"
                    return Verdict(False, found)
    return Verdict(True, "values, gradients and memory")


def _scaled(tree: Any, factor: float) -> Any:
    return jax.tree.map(lambda x: factor * x, tree)


def _gradient(trial: Trial, player: str) -> Verdict:
    """Compares the gradient by a player's parameters with finite differences.

    A penalty may be zero where D is flat, or before or after some step: it must have a
    gradient somewhere.
    """
    errors = []
    for step in (0, LATE):
        measure = functools.partial(_slopes, trial, player, step=jnp.int32(step))
        found = jax.jit(jax.vmap(measure))(jnp.array(SCALES))
        # Kinks and rounding are as large where the gradient happens to be small.
        size = np.median(np.abs(found[1]), axis=1).max()
        errors += [
            _error(
                *(jax.tree.map(lambda x, i=i: x[i], part) for part in found[1:]), size
            )
            for i in range(len(SCALES))
            if found[0][i] > 0
        ]
    if not errors:
        name = player.upper()
        return Verdict(False, f"no gradient by {name}'s parameters: they do not matter")
    error, held = max(errors)
    text = f"relative difference {error:.2g} to finite differences"
    if not error <= TOLERANCE:
        why = "a part of it is stopped, or has a rule of its own that is wrong"
        return Verdict(False, f"{text}: {why}")
    return Verdict(True, text + (", its memory held" if held else ""))


def _error(along: Array, found: Differences, size: float) -> tuple[float, bool]:
    """Returns the error in terms of `size`, and whether it is with the memory held.

    It is the lesser of those of both sizes of steps, each the median over directions: a
    kink in the way says nothing of the gradient.
    """

    def least(slopes):
        off = np.median(np.abs(np.array(slopes) - along), axis=1).min()
        return float(off / size)

    sizes = [jax.tree.map(lambda x, i=i: x[i], found) for i in range(len(STEPS))]
    whole, held = least(found.whole), least([size.held() for size in sizes])
    return (held, True) if held < whole > CLEAR else (whole, False)


def _slopes(
    trial: Trial, player: str, scale: Array, step: Array
) -> tuple[Array, Array, Differences]:
    """Returns the gradient's size, its slopes along directions, and their differences.

    Args:
      trial: the game.
      player: 'd' or 'g'.
      scale: of the parameters of both players.
      step: the number of steps so far.
    """
    start = trial.state.replace(step=jnp.int32(step))
    params = {"g": _scaled(start.g.params, scale), "d": _scaled(start.d.params, scale)}
    flat, unravel = ravel_pytree(params[player])

    def at(vector, memory):
        chosen = params | {player: unravel(vector)}
        return trial.evaluate(player, with_players(start, memory, **chosen))

    def remember(_, memory):  # at other parameters, so that averages are not the means
        return at(0.8 * flat, memory)[2]

    (penalty,) = trial.gan.penalties
    memory = start.memory.get(penalty.name)
    memory = jax.lax.fori_loop(0, UPDATES, remember, memory)
    remembered, unravel_memory = ravel_pytree(memory)

    def term(vector, remembered):
        mean, _, memory = at(vector, unravel_memory(remembered))
        return mean, ravel_pytree(memory)[0]

    gradient = ravel_pytree(at(flat, memory)[1])[0]
    directions = jax.random.normal(jax.random.key(2), (DIRECTIONS, flat.size))
    directions /= np.sqrt(flat.size)
    measure = functools.partial(differences, term, flat, remembered, directions)
    found = jax.vmap(measure)(jnp.array(STEPS))
    return jnp.abs(gradient).max(), directions @ gradient, found


def _finite_projection(trial: Trial) -> Verdict:
    params = trial.state.d.params
    for size in (0.0, 1.0, LARGE):
        if not _all_finite(_projected(trial, _scaled(params, size))):
            return Verdict(False, f"NaN or inf where parameters have size {size:g}")
    return Verdict(True, "all parameters")


def _projection(trial: Trial) -> Verdict:
    """Checks that parameters that satisfy the constraint are not changed."""
    once = _projected(trial, trial.state.d.params)
    twice = _projected(trial, once)
    flat, again = (ravel_pytree(params)[0] for params in (once, twice))
    move = float(jnp.abs(flat - again).max())
    text = f"applied twice, it moves a parameter by another {move:.1e}"
    return Verdict(move <= ROUNDING, text)


def _projected(trial: Trial, params: Any) -> Any:
    (constraint,) = trial.gan.constraints
    return constraint(params)


def _all_finite(tree: Any) -> Array:
    return jnp.isfinite(ravel_pytree(tree)[0]).all()


# --- The Dirac-GAN --------------------------------------------------------------------


def _dirac(penalty: Penalty, loss: Loss, trial: Trial) -> Verdict:
    if not isinstance(trial.gan.example, Points) or trial.gan.condition is not None:
        return Verdict(True, "not defined: the penalty is not one of points alone")
    point = game.fixed_point(loss)
    logit = point.logit if point else 0.0
    without = game.dirac_eigenvalues(loss, logit)
    jacobian = dirac_jacobian(loss, logit, penalty)
    if np.isnan(jacobian).any():
        why = "no eigenvalues: the penalty's gradient jumps where D is constant"
        return Verdict(True, f"{why} ({pair(without)} without it)")
    found = np.sort_complex(np.linalg.eigvals(jacobian.astype(np.float64)))
    how = stability(found)
    if np.allclose(found, without, atol=ROUNDING):
        how = "unchanged in first order"
    text = f"{pair(found)}: {how} ({pair(without)} without it)"
    worst = max(without.real.max(), 0.0) + ROUNDING
    return Verdict(bool(found.real.max() <= worst), text)


def dirac_jacobian(loss: Loss, logit: float, penalty: Penalty) -> np.ndarray:
    r"""Returns the Jacobian of `game.dirac_jacobian` with a penalty, as it is trained.

    Args:
      loss: of the game.
      logit: the constant in D.
      penalty: with its weight.

    Returns:
      `[2, 2]`, by $(\psi, \theta)$ at (0, 0); NaN where the penalty's gradient jumps
      there, as that of WGAN-GP does.

    Raises:
      FloatingPointError: the field is not finite.
    """
    field = _dirac_field(loss, logit, penalty)

    def central(step):
        ends = jax.vmap(field)(step * jnp.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]]))
        return (ends[:2] - ends[2:]).T / (2 * step)

    exact, *near = jax.jit(
        lambda: (jax.jacrev(field)(jnp.zeros(2)), central(1e-2), central(1e-3))
    )()
    if not np.isfinite(near).all():
        raise FloatingPointError("a gradient is NaN or inf near the equilibrium")
    smooth = (np.allclose(exact, other, rtol=0.1, atol=0.01) for other in near)
    return np.asarray(exact) if all(smooth) else np.full((2, 2), np.nan)


def _dirac_field(loss: Loss, logit: float, penalty: Penalty) -> Callable:
    """Returns the field of both players' gradients, from their points to its values.

    What the penalty remembers is what it does after some updates at the equilibrium.
    """
    how = {"latent_size": 1, "optimizer": "sgd(learning_rate=1.0)", "loss": loss}
    how |= {"model": Linear, "discriminator": f"constant={float(logit)!r}"}
    gan = dataclasses.replace(build(Points((1,)), **how), penalties=(penalty,))
    batch = {"example": jnp.zeros((BATCH, 1))}

    def gradients(point, memory):
        psi, theta = point
        state = init_state(gan, jax.random.key(0))
        state = state.replace(memory=memory or state.memory)
        state = with_players(state, g={"theta": theta[None]}, d={"psi": psi[None]})
        d = d_gradient(gan, state, batch)
        g = g_gradient(gan, state.replace(memory=d.memory), batch)
        return -jnp.array([d.grads["psi"][0], g.grads["theta"][0]]), g.memory

    def field(point):
        rest, memory = jnp.zeros(2), None
        for _ in range(2):
            memory = gradients(rest, memory)[1]
        return gradients(point, memory)[0]

    return field
