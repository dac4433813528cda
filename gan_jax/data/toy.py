"""Points in the plane from known densities, drawn in the compiled step.

The mixtures are those of Metz et al. 2017 (arXiv:1611.02163) and Lin et al. 2018
(arXiv:1712.04086), on which mode collapse is usually measured.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes, Points
from gan_jax.data.source import Info
from gan_jax.errors import unknown


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Mixture:
    """Gaussians of equal weight and width.

    Attributes:
      name: of the density.
      centres: means of the modes, `((x, y), ...)`.
      scale: standard deviation of each mode in each coordinate.
    """

    name: str
    centres: tuple[tuple[float, float], ...]
    scale: float

    @property
    def info(self) -> Info:
        """The description: one class per mode."""
        return _info(self, len(self.centres))

    def sample(self, key: Array, n: int) -> dict[str, Array]:
        """Draws `n` points; the condition of each is its mode."""
        which, where = jax.random.split(key)
        label = jax.random.randint(which, (n,), 0, len(self.centres))
        noise = jax.random.normal(where, (n, 2))
        point = jnp.array(self.centres)[label] + self.scale * noise
        return {"example": point, "condition": label}


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class SwissRoll:
    """An Archimedean spiral of one and a half turns, about 2 in radius.

    Attributes:
      name: of the density.
      scale: standard deviation of the noise around the spiral.
    """

    name: str = "swiss_roll"
    scale: float = 0.05

    @property
    def info(self) -> Info:
        """The description: there are no classes."""
        return _info(self, 0)

    def sample(self, key: Array, n: int) -> dict[str, Array]:
        """Draws `n` points."""
        along, off = jax.random.split(key)
        angle = 1.5 * jnp.pi * (1 + 2 * jax.random.uniform(along, (n,)))
        spiral = jnp.stack([angle * jnp.cos(angle), angle * jnp.sin(angle)], -1)
        point = spiral / (2.25 * jnp.pi) + self.scale * jax.random.normal(off, (n, 2))
        return {"example": point}


def ring(modes: int = 8, radius: float = 2.0, scale: float = 0.02) -> Mixture:
    """Returns Gaussians evenly spaced on a circle."""
    angles = [2 * math.pi * i / modes for i in range(modes)]
    centres = [(radius * math.cos(a), radius * math.sin(a)) for a in angles]
    return Mixture("ring", tuple(centres), scale)


def grid(side: int = 5, spacing: float = 2.0, scale: float = 0.05) -> Mixture:
    """Returns `side * side` Gaussians on a square grid around the origin.

    By default the 2D-grid of PacGAN's code (arXiv:1712.04086, section 4.1).
    """
    line = [spacing * (i - (side - 1) / 2) for i in range(side)]
    return Mixture("grid", tuple((x, y) for x in line for y in line), scale)


DENSITIES = {"ring": ring, "grid": grid, "swiss_roll": SwissRoll}


def load(config: ConfigDict) -> Mixture | SwissRoll:
    """Returns the density that `config.data.name` names.

    Raises:
      UserError: there is no density of that name.
    """
    if config.data.name not in DENSITIES:
        raise unknown("toy density", config.data.name, DENSITIES)
    return DENSITIES[config.data.name]()


def _info(density, num_classes: int) -> Info:
    return Info(
        name=f"toy:{density.name}",
        example=Points((2,)),
        condition=Classes(num_classes) if num_classes else None,
        num_examples=0,
        fingerprint=repr(density),
    )
