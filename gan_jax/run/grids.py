"""The sample grids of a run: what they show, and how they are laid out."""

import functools
from typing import Any

import jax
import numpy as np

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.spaces import Classes, Points
from gan_jax.run.pictures import POINTS, as_images, image_size, square_grid


def fixed_values(source: Any, key: str, num: int) -> np.ndarray:
    """Returns the same `num` examples, or conditions, of a source at each call.

    They are spread evenly over the source; if it has fewer than `num`, some repeat.

    Args:
      source: random access to examples, or a density with `sample`.
      key: "example" or "condition".
      num: how many.

    Returns:
      `[num, *shape]`, stored values.
    """
    if hasattr(source, "sample"):
        return np.asarray(_of_density(source, num)[key])
    indices = np.linspace(0, len(source) - 1, num).astype(int)
    return np.stack([source[int(i)][key] for i in indices])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _of_density(source: Any, num: int) -> dict[str, jax.Array]:
    return source.sample(jax.random.key(0), num)


def fixed_points(gan: GAN, source: Any) -> np.ndarray | None:
    """Returns the data that a run's points are drawn over; None of other examples."""
    if not isinstance(gan.example, Points):
        return None
    return fixed_values(source, "example", POINTS)


def fixed_conditions(gan: GAN, source: Any, num: int) -> np.ndarray | None:
    """Returns the conditions of a sample grid, the same throughout a run.

    Args:
      gan: the static half.
      source: of the data.
      num: how many.

    Returns:
      `[num, *shape]`, stored values; None for a GAN that needs none or that draws
      each class in turn.
    """
    if gan.condition is None or isinstance(gan.condition, Classes):
        return None
    return fixed_values(source, "condition", num)


def grid_size(gan: GAN, replicas: int) -> tuple[int, int]:
    """Returns how many examples of each replica a run's grid shows, and in a row."""
    if isinstance(gan.example, Points):
        return POINTS, 1
    num_classes = gan.condition.num_classes if isinstance(gan.condition, Classes) else 0
    num, columns = square_grid(cell_size(gan), num_classes)
    return num if replicas == 1 else columns, columns


# --- Conditions beside the examples -------------------------------------------------


def stands_beside(gan: GAN) -> bool:
    """Tells if a condition is shown to the left of its example: G translates it.

    It is where the pictures of both are equally high.
    """
    if isinstance(gan.condition, Classes | None) or isinstance(gan.example, Points):
        return False
    return image_size(gan.condition)[0] == image_size(gan.example)[0]


def beside(gan: GAN, conditions: np.ndarray | None) -> np.ndarray | None:
    """Returns the pictures of conditions that stand beside examples.

    Args:
      gan: the static half.
      conditions: `[num, *shape]`, stored values; None for a GAN that needs none.

    Returns:
      `[num, height, width, channels]`, uint8; None if none stand there.
    """
    return as_images(gan.condition, conditions) if stands_beside(gan) else None


def shown_with(
    gan: GAN, source: Any, conditions: np.ndarray | None
) -> np.ndarray | None:
    """Returns what a run's samples are shown with, the `data` of `pictures.files`."""
    points = fixed_points(gan, source)
    return beside(gan, conditions) if points is None else points


def cell_size(gan: GAN, captions: bool = False) -> tuple[int, int]:
    """Returns the height and the width of what a grid shows of one example.

    Args:
      gan: the static half.
      captions: whether it has a caption.
    """
    height, width = image_size(gan.example, captions)
    return height, width + (image_size(gan.condition)[1] if stands_beside(gan) else 0)
