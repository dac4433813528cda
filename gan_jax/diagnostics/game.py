r"""The game that a loss sets up near its equilibrium, where no network is needed.

At the equilibrium both distributions are equal, and the best discriminator gives every
example the same logit $\ell^*$.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.objective.losses import Loss

_GRID = np.arange(-3000, 3001) / 100
_ROUNDING = 1e-5


class FixedPoint(NamedTuple):
    r"""Where a discriminator that gives every example one logit is stationary.

    Attributes:
      logit: $\ell^*$, the stationary one nearest to 0.
      low: the least end of the interval of stationary ones around it; -inf if all are
        stationary.
      high: the greatest.
    """

    logit: float
    low: float
    high: float


def d_slopes(loss: Loss, real: Array, fake: Array) -> tuple[Array, Array]:
    """Returns the derivatives of D's summed loss by the real and by the fake logits.

    Args:
      loss: of the game.
      real: logits `[batch]`.
      fake: logits `[batch]`.
    """
    return jax.grad(lambda *logits: loss.d(*logits).sum(), (0, 1))(real, fake)


def g_slopes(loss: Loss, fake: Array, real: Array) -> Array:
    """Returns the derivatives of G's summed loss by the fake logits, `[batch]`."""
    return jax.grad(lambda logits: loss.g(logits, real).sum())(fake)


def fixed_point(loss: Loss) -> FixedPoint | None:
    r"""Finds the constant logit of a discriminator that cannot discriminate.

    The root of $\partial_{\ell_x} L_D + \partial_{\ell_{G(z)}} L_D$ at
    $\ell_x = \ell_{G(z)} = \ell$, within [-30, 30].

    Args:
      loss: of the game.

    Returns:
      The fixed point, or None if there is no such logit.
    """

    @jax.jit
    @jax.vmap
    def slope(logit):
        real, fake = d_slopes(loss, logit[None], logit[None])
        return (real + fake)[0]

    def is_zero(logits):
        return np.abs(slope(logits)) <= _ROUNDING

    slopes, zero = np.asarray(slope(_GRID)), is_zero(_GRID)
    if zero.all():
        return FixedPoint(0.0, -np.inf, np.inf)
    rises = np.append((slopes[:-1] < 0) & (slopes[1:] > 0), False)
    found = np.flatnonzero(zero | rises)
    if not len(found):
        return None
    nearest = found[np.argmin(np.abs(_GRID[found]))]
    if not zero[nearest]:
        pair = _GRID[nearest : nearest + 2]
        root = _boundary(lambda logits: np.asarray(slope(logits)) < 0, *pair)
        return FixedPoint(root, root, root)
    low, high = (_end(is_zero, zero, nearest, step) for step in (-1, 1))
    return FixedPoint(float(_GRID[nearest]), low, high)


def _end(is_zero: Callable, zero: np.ndarray, start: int, step: int) -> float:
    """Returns the end of the interval of zeros from `start` in a direction."""
    at = start
    while 0 <= at + step < len(zero) and zero[at + step]:
        at += step
    if at == start or not 0 <= at + step < len(zero):
        return float(_GRID[at])
    return _boundary(is_zero, _GRID[at], _GRID[at + step])


def _boundary(holds: Callable, inside: float, outside: float) -> float:
    """Returns the point between two where a condition that holds `inside` ends."""
    for _ in range(2):
        points = np.linspace(inside, outside, len(_GRID))
        first = max(int(np.argmin(holds(points))), 1)
        inside, outside = points[first - 1], points[first]
    return float(0.5 * (inside + outside))


def perturbed(loss: Loss, logit: float, h: Array) -> tuple[Array, Array]:
    r"""Returns how D's loss changes as D begins to discriminate at the equilibrium.

    Its logits are $\ell + \epsilon h(x)$. Real and generated examples have the same
    distribution: every value of h is paired with each, by cyclic shifts.

    Args:
      loss: of the game.
      logit: $\ell$.
      h: `[size]`, the values that h(x) takes.

    Returns:
      The first and the second derivative by $\epsilon$ at 0. At an equilibrium the
      first is 0 and the second not negative.
    """
    shifted = h[(jnp.arange(len(h))[:, None] + jnp.arange(len(h))) % len(h)]

    def mean_loss(epsilon):
        real, fake = logit + epsilon * h, logit + epsilon * shifted
        return jax.vmap(loss.d, (None, 0))(real, fake).mean()

    # Reverse mode alone, as in training: a loss may have its own rule for it.
    return jax.value_and_grad(jax.grad(mean_loss))(0.0)


def dirac_jacobian(loss: Loss, logit: float, gamma: float = 0.0) -> Array:
    r"""Returns the Jacobian of the Dirac-GAN's gradient field at its equilibrium.

    Mescheder et al. 2018 (arXiv:1801.04406), definition 2.1: all data are 0, all
    samples $\theta$, and $D(x) = \psi x$, here plus a constant. Both players follow
    their gradients simultaneously: $v = (-\partial_\psi L_D, -\partial_\theta L_G)$.

    Args:
      loss: of the game.
      logit: the constant.
      gamma: weight of R1 (ibid., eq. 9), here $\frac\gamma2 \psi^2$.

    Returns:
      `[2, 2]`, by $(\psi, \theta)$ at (0, 0).
    """

    def logits(psi, theta):
        return logit + psi * jnp.zeros(1), logit + psi * theta[None]

    def d_loss(psi, theta):
        return loss.d(*logits(psi, theta)).mean() + 0.5 * gamma * psi**2

    def g_loss(psi, theta):
        return loss.g(*reversed(logits(psi, theta))).mean()

    def field(point):
        return -jnp.stack([jax.grad(d_loss)(*point), jax.grad(g_loss, 1)(*point)])

    return jax.jacrev(field)(jnp.zeros(2))


def dirac_eigenvalues(loss: Loss, logit: float, gamma: float = 0.0) -> np.ndarray:
    r"""Returns the two eigenvalues of `dirac_jacobian`.

    With $L_D' = \partial_{\ell_{G(z)}} L_D$ and $L_G' < 0$ at the equilibrium they are
    $-\frac\gamma2 \pm \sqrt{\frac{\gamma^2}4 + L_D' L_G'}$ (ibid., lemmas 2.3 and 4.1):
    without R1 the players circle it; with R1 they converge to it.
    """
    jacobian = jax.jit(dirac_jacobian, static_argnums=0)(loss, logit, gamma)
    return np.sort_complex(np.linalg.eigvals(np.asarray(jacobian, np.float64)))


def extremes(loss: Loss, size: float = 1e4) -> dict[str, Array]:
    """Returns the values and derivatives of both losses at logits of -size, 0 and size.

    Args:
      loss: of the game.
      size: of the logits.

    Returns:
      By name, `[9]` each: every real logit with every fake one, the fake ones changing
      first.
    """
    logits = jnp.array([-size, 0.0, size])
    real, fake = logits.repeat(3), jnp.tile(logits, 3)
    by_real, by_fake = d_slopes(loss, real, fake)
    return {
        "D's loss": loss.d(real, fake),
        "D's gradient by the real logit": by_real,
        "D's gradient by the fake logit": by_fake,
        "G's loss": loss.g(fake, real),
        "G's gradient": g_slopes(loss, fake, real),
    }
