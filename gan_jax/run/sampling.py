"""What the command `sample` draws: conditions of a grid, and interpolations."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.players import render
from gan_jax.algorithm.spaces import Classes, Points
from gan_jax.algorithm.state import TrainState
from gan_jax.errors import UserError, one_line


def layout(
    gan: GAN,
    num: int,
    classes: list[str],
    interpolate: bool = False,
    file: str | None = None,
) -> tuple[Array | None, int]:
    """Returns the condition of each of `num` examples, and how many are in a row.

    Args:
      gan: the static half.
      num: how many examples.
      classes: as the user wrote them, a row each; empty for all.
      interpolate: whether the examples of a row must share their class.
      file: of the conditions, for a GAN whose condition is no class.

    Returns:
      `[num, ...]`, stored values, None for an unconditional GAN; and the number of
      columns.

    Raises:
      UserError: the run has no such classes, or the conditions do not fit it.
    """
    square = math.ceil(math.sqrt(num))
    if classes and not isinstance(gan.condition, Classes):
        raise UserError("--labels needs a conditional run; this one has no classes")
    if file and (gan.condition is None or isinstance(gan.condition, Classes)):
        kind = "classes: use --labels" if gan.condition else "no condition"
        raise UserError(f"--condition={file}: this run has {kind}")
    if gan.condition is None:
        return None, square
    if isinstance(gan.condition, Classes):
        return _labels(gan.condition.num_classes, num, classes, interpolate)
    conditions = read_conditions(file, gan)
    if interpolate:  # a row each
        return conditions[np.arange(num) // square % len(conditions)], square
    return conditions[np.arange(num) % len(conditions)], square


def _labels(
    num_classes: int, num: int, classes: list[str], interpolate: bool
) -> tuple[Array, int]:
    square = math.ceil(math.sqrt(num))
    valid = [str(label) for label in range(num_classes)]
    for label in classes:
        if label not in valid:
            raise UserError(f"--labels: {label!r} is none of 0 ... {valid[-1]}")
    if not classes and not interpolate:
        columns = num_classes if num_classes <= 16 else square
        return jnp.arange(num) % num_classes, columns
    columns = square if interpolate else math.ceil(num / len(classes))
    each = jnp.array([int(label) for label in classes or valid])
    return each[jnp.arange(num) // columns % len(each)], columns


def read_conditions(file: str | None, gan: GAN) -> Array:
    """Reads the conditions to draw with, stored values.

    Args:
      file: an array `[n, *shape]`, as `np.save` writes it.
      gan: its condition has that shape.

    Raises:
      UserError: there is no such file, or it holds something else.
    """
    space = gan.condition
    wanted = f"{space.stored_dtype} [n, {', '.join(map(str, space.shape))}]"
    if not file:
        raise UserError(
            f"the run's generator needs conditions: give --condition=FILE.npy, {wanted}"
        )
    if not Path(file).is_file():
        raise UserError(f"--condition={file}: there is no such file")
    try:  # not read before its shape is known
        stored = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise UserError(f"--condition={file}: {one_line(error)}") from error
    fits = (
        isinstance(stored, np.ndarray)
        and stored.shape[1:] == space.shape
        and len(stored.shape) == 1 + len(space.shape)
        and len(stored) > 0
        and np.can_cast(stored.dtype, space.stored_dtype, "same_kind")
    )
    if not fits:
        shape, dtype = (getattr(stored, key, "?") for key in ("shape", "dtype"))
        found = f"{dtype} {list(shape)}" if shape != "?" else "several arrays"
        raise UserError(f"--condition={file} holds {found}; it must hold {wanted}")
    return jnp.asarray(np.asarray(stored, space.stored_dtype))


def check_interpolation(gan: GAN) -> None:
    """Checks that there is something to interpolate between.

    Raises:
      UserError: the run makes points, or its generator has no latents.
    """
    if isinstance(gan.example, Points):
        raise UserError("--interpolate makes grids of images; this run makes points")
    if gan.latent.size == 0:
        raise UserError("--interpolate needs latents; this run has latent_size 0")


def interpolations(
    gan: GAN,
    state: TrainState,
    key: Array,
    num: int,
    condition: Array | None,
    truncation: float,
) -> Array:
    """Draws rows of examples along paths from one latent to another.

    Args:
      gan: the static half.
      state: the array half.
      key: a PRNG key.
      num: how many examples; a row holds the square root of it, rounded up.
      condition: `[num, ...]` for a conditional GAN.
      truncation: of the prior, see `Latent.sample`.

    Returns:
      `[num, *shape]`, stored values.
    """
    columns = math.ceil(math.sqrt(num))
    rows = math.ceil(num / columns)
    start, end = (
        gan.latent.sample(end_key, rows, truncation)[:, None]
        for end_key in jax.random.split(key)
    )
    t = jnp.linspace(0, 1, columns)[None]
    latents = gan.latent.interpolate(start, end, t)
    latents = latents.reshape(-1, gan.latent.size)[:num]
    return render(gan, state, latents, condition, key)
