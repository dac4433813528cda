"""The noise that a generator starts from: priors, interpolation, truncation."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.stats import norm

PRIORS = ("normal", "uniform")


@dataclasses.dataclass(frozen=True)
class Latent:
    """A prior over latents.

    Attributes:
      size: the number of coordinates.
      prior: 'normal' for N(0, I), 'uniform' for U(-1, 1) in each coordinate.
    """

    size: int = 100
    prior: str = "normal"

    def sample(self, key: Array, num: int, truncation: float = 1.0) -> Array:
        """Draws `[num, size]` latents.

        Args:
          key: a PRNG key.
          num: how many.
          truncation: the central probability mass, in (0, 1], that each coordinate
            is confined to; 1 is the whole prior. For the normal prior this is the
            truncated normal of BigGAN (arXiv:1809.11096, section 3.1) with its
            threshold given as a probability. Less of it trades variety for fidelity.
        """
        shape = (num, self.size)
        if self.prior == "uniform":
            return jax.random.uniform(key, shape, minval=-truncation, maxval=truncation)
        if truncation == 1.0:
            return jax.random.normal(key, shape)
        bound = norm.ppf(0.5 + 0.5 * truncation)
        return jax.random.truncated_normal(key, -bound, bound, shape)

    def interpolate(self, start: Array, end: Array, t: Array) -> Array:
        """Returns latents on the path from `start` to `end`.

        Great arcs for the normal prior, whose mass lies near a sphere (White 2016,
        arXiv:1609.04468); straight lines for the uniform one.

        Args:
          start: `[..., size]`.
          end: `[..., size]`.
          t: `[...]` in [0, 1], 0 at `start`.
        """
        path = slerp if self.prior == "normal" else lerp
        return path(start, end, t[..., None])


def lerp(start: Array, end: Array, t: Array) -> Array:
    """Interpolates along the straight line."""
    return (1 - t) * start + t * end


def slerp(start: Array, end: Array, t: Array) -> Array:
    """Interpolates along the great arc (Shoemake 1985)."""
    cosine = (start * end).sum(-1, keepdims=True) / (
        jnp.linalg.norm(start, axis=-1, keepdims=True)
        * jnp.linalg.norm(end, axis=-1, keepdims=True)
    )
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    sine = jnp.sin(angle)
    degenerate = sine < 1e-4
    sine = jnp.where(degenerate, 1.0, sine)
    arc = (jnp.sin((1 - t) * angle) * start + jnp.sin(t * angle) * end) / sine
    return jnp.where(degenerate, lerp(start, end, t), arc)
