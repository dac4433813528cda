"""How smoothly samples change with the latents."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.algorithm.latents import Latent
from gan_jax.errors import UserError

_GREAT_ARC = Latent(prior="normal").interpolate


def squared_distance(x: Array, y: Array) -> Array:
    """Returns the squared Euclidean distances of examples `[n, ...]`, `[n]`."""
    return jnp.square(x - y).reshape(len(x), -1).sum(1)


def perceptual_path_length(
    features: Callable[[Array], Array],
    start: Array,
    end: Array,
    *,
    epsilon: float = 1e-4,
    at: Array | None = None,
    path: Callable[[Array, Array, Array], Array] = _GREAT_ARC,
    distance: Callable[[Array, Array], Array] = squared_distance,
    keep: tuple[float, float] = (1.0, 99.0),
    batch: int = 64,
) -> tuple[float, float]:
    r"""Returns the perceptual path length, and its standard error.

    $E[d(G(z_t), G(z_{t+\epsilon})) / \epsilon^2]$ on paths between latents (Karras et
    al. 2019, arXiv:1812.04948, section 4.1). A reference value needs their distance,
    LPIPS on VGG; in another space it compares only with itself.

    Args:
      features: what is measured of the samples: latents `[batch, size]` to anything of
        `batch` rows, features or images, in one jitted function. Images must be floats:
        a step of epsilon is lost where they are rounded to 256 levels.
      start: latents `[n, size]`, where paths begin.
      end: latents `[n, size]`, where they lead to.
      epsilon: the step along the path, as a part of it.
      at: where on each path the step is made, `[n]` in [0, 1 - epsilon]; without it at
        the start, as torch-fidelity and torchmetrics have it. Uniform numbers give what
        the paper calls full paths.
      path: `(start, end, t [n]) -> [n, size]`; great arcs by default. That of a GAN is
        `gan.latent.interpolate`.
      distance: of two outputs of `features`, `[batch]`; quadratic for small ones.
      keep: percentiles; values outside are left out.
      batch: paths at once.

    Raises:
      UserError: latents of different shapes, or values that are not finite.
    """
    start, end = jnp.asarray(start), jnp.asarray(end)
    if start.shape != end.shape or start.ndim != 2 or len(start) < 2:
        raise UserError(
            f"latents of shapes {start.shape} and {end.shape}: paths need two or more "
            "starts [n, size] and as many ends"
        )
    at = jnp.zeros(len(start)) if at is None else jnp.asarray(at)
    near, far = path(start, end, at), path(start, end, at + epsilon)
    found = []
    for first in range(0, len(start), batch):
        rows = np.arange(first, first + batch) % len(start)  # of one shape
        found.append(distance(features(near[rows]), features(far[rows])))
    values = np.concatenate(found)[: len(start)].astype(np.float64) / epsilon**2
    if not np.isfinite(values).all():
        raise UserError("path lengths are not finite: the samples hold NaN or inf")
    return _trimmed(values, *keep)


def _trimmed(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Returns mean and standard error without the tails; as StyleGAN cuts them."""
    least = np.percentile(values, low, method="lower")
    most = np.percentile(values, high, method="higher")
    kept = values[(least <= values) & (values <= most)]
    return float(kept.mean()), float(kept.std(ddof=1) / np.sqrt(len(kept)))
