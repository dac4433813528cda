r"""The gradient of a term with memory, against finite differences.

A term's values depend on the parameters $p$, and on the memory $m$ that it was given:
$f(p, m)$. What it remembers next is $M(p, m)$. A moving average takes the values of its
own update in, and is a constant to the gradient: the gradient then is the derivative of
$f$ along $M = \mathrm{const}$, which differences show if $m$ changes with $p$ so that
$M$ stays.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Fourth-order central differences, with steps of two sizes. In float32 a value is exact
# to about 1e-7 of it, which the larger step makes little of; the smaller one crosses
# fewer kinks, such as those of an absolute value.
STEPS = 0.05, 0.002
_POINTS = np.array([-2.0, -1.0, 1.0, 2.0], np.float32)
_WEIGHTS = np.array([1.0, -8.0, 8.0, -1.0], np.float32) / 12


class Differences(NamedTuple):
    """Derivatives of a term's mean along some directions.

    Attributes:
      whole: `[directions]`, with the memory that it is given held.
      by_memory: `[n]`, of the mean by each number of the given memory.
      moved: `[directions, n]`, of the memory that it returns.
      kept: `[n, n]`, of the memory that it returns (rows) by the given one.
    """

    whole: Array
    by_memory: Array
    moved: Array
    kept: Array

    def held(self) -> np.ndarray:
        """Returns the derivatives with the memory that it returns held."""
        kept, moved = (np.asarray(x, np.float64) for x in (self.kept, self.moved))
        if not kept.size:
            return np.asarray(self.whole)
        shift = -np.linalg.lstsq(kept, moved.T)[0]
        return np.asarray(self.whole) + np.asarray(self.by_memory) @ shift


def differences(
    term: Callable[[Array, Array], tuple[Array, Array]],
    params: Array,
    memory: Array,
    directions: Array,
    step: Array | float = STEPS[0],
) -> Differences:
    """Measures a term, under `jit`.

    Args:
      term: `(params, memory) -> (mean, new memory)`.
      params: `[size]`.
      memory: `[n]`; n may be 0.
      directions: `[directions, size]`.
      step: along them, and relative to each number of the memory.
    """

    def along(direction):
        points = params + step * _POINTS[:, None] * direction
        means, memories = jax.vmap(term, (0, None))(points, memory)
        return _WEIGHTS @ means / step, _WEIGHTS @ memories / step

    whole, moved = jax.vmap(along)(directions)
    steps = step * (jnp.abs(memory) + 0.1)
    shifts = jnp.diag(steps)
    up, down = (
        jax.vmap(term, (None, 0))(params, memory + s) for s in (shifts, -shifts)
    )
    by_memory, kept = ((a - b).T / (2 * steps) for a, b in zip(up, down, strict=True))
    return Differences(whole, by_memory, moved, kept)
