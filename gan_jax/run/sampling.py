"""What the command `sample` draws: latents, conditions, and what G makes of them."""

import functools
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.latents import Latent
from gan_jax.algorithm.players import render
from gan_jax.algorithm.spaces import Classes, Images, Points, Space
from gan_jax.algorithm.state import TrainState
from gan_jax.errors import UserError, one_line, unknown
from gan_jax.run.files import write_file
from gan_jax.run.pictures import columns_of, save, square_grid

MOST = 1_000_000  # examples that one command draws
BATCH = 128  # examples that G makes at once


# --- Conditions ---------------------------------------------------------------------


def conditions(gan: GAN, labels: Sequence[str], file: str | None) -> np.ndarray | None:
    """Returns the conditions that examples take in turn, None without a condition.

    Args:
      gan: the static half.
      labels: classes as the user wrote them, by name or number; empty for all.
      file: of the conditions, for a GAN whose condition is no class.

    Returns:
      `[num, ...]`, stored values.

    Raises:
      UserError: the run has no such classes, or the conditions do not fit it.
    """
    classes = isinstance(gan.condition, Classes)
    if labels and not classes:
        raise UserError("--labels needs a conditional run; this one has no classes")
    if file and (gan.condition is None or classes):
        kind = "classes: use --labels" if gan.condition else "no condition"
        raise UserError(f"--condition={file}: this run has {kind}")
    if gan.condition is None:
        return None
    if classes:
        valid = range(gan.condition.num_classes)
        numbers = [_number(gan.condition, label) for label in labels] or valid
        return np.array(numbers, np.int32)
    return read_conditions(file, gan)


def _number(classes: Classes, label: str) -> int:
    """Returns the number of a class that is given by its name or its number."""
    numbers = [str(number) for number in range(classes.num_classes)]
    for valid in (classes.names, numbers):  # a name may be another class's number
        if label in valid:
            return valid.index(label)
    if classes.names:
        raise unknown("class in --labels:", label, classes.names)
    raise UserError(f"--labels: {label!r} is none of 0 ... {numbers[-1]}")


def read_conditions(file: str | None, gan: GAN) -> np.ndarray:
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
    return np.asarray(stored, space.stored_dtype)


def captions(classes: Classes, labels: np.ndarray) -> list[str]:
    """Returns what each label is called: by its name, or its number without one."""
    names = dict(enumerate(classes.names))
    return [names.get(label, str(label)) for label in labels.tolist()]


# --- The layout of a grid -----------------------------------------------------------


def layout(
    size: tuple[int, int],
    num: int | None,
    classes: int = 0,
    rows: bool = False,
    about: int = 64,
) -> tuple[np.ndarray, int]:
    """Returns which class each image of a grid takes, and how many are in a row.

    The grid is nearly square. If that leaves enough room, a column is of one class.

    Args:
      size: height and width of an image.
      num: how many images; None for about as many as `about`.
      classes: how many there are to take in turn; 0 for none.
      rows: whether a row is of one class instead of a column.
      about: see `pictures.square_grid`.

    Returns:
      Integers `[num]`, of which only the remainder by `classes` matters; and the number
      of columns.
    """
    size = size[::-1] if rows else size
    chosen, columns = square_grid(size, classes, about)
    if num is not None:
        chosen, columns = num, columns_of(num, size, classes)
    if not rows:
        return np.arange(chosen), columns
    rows, columns = columns, -(-chosen // columns)  # of the grid, which lay on its side
    if rows % classes:
        return np.arange(chosen), columns
    return np.arange(chosen) // columns // (rows // classes), columns


# --- Latents ------------------------------------------------------------------------


def parse_seeds(text: str) -> np.ndarray:
    """Returns the seeds that a text such as '3,7,10-20' lists.

    Raises:
      UserError: it lists none, too many, or none that is below 2**32.
    """
    ranges = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < 2**32:
            raise UserError(
                f"--seeds={text}: give numbers below 2**32 and ranges of them, such as "
                "0-99 or 3,7,10-20"
            )
        ranges.append(range(first, last + 1))
    if sum(map(len, ranges)) > MOST:
        raise UserError(f"--seeds={text}: they are more than {MOST}")
    return np.concatenate([np.array(each, np.uint32) for each in ranges])


def of_seeds(
    latent: Latent, seeds: np.ndarray, truncation: float
) -> tuple[Array, Array]:
    """Returns a latent and a key for each seed, a function of that seed alone."""
    keys = jax.vmap(jax.random.key)(seeds)
    return jax.vmap(lambda key: latent.sample(key, 1, truncation)[0])(keys), keys


def interpolated(
    latent: Latent, key: Array, num: int, columns: int, truncation: float
) -> Array:
    """Returns latents of a grid: each row goes from one latent to another.

    Args:
      latent: the prior.
      key: a PRNG key.
      num: how many.
      columns: of the grid.
      truncation: of the prior, see `Latent.sample`.

    Returns:
      `[num, size]`.
    """
    start, end = (
        latent.sample(end_key, -(-num // columns), truncation)[:, None]
        for end_key in jax.random.split(key)
    )
    path = latent.interpolate(start, end, jnp.linspace(0, 1, columns)[None])
    return path.reshape(-1, latent.size)[:num]


def loop(latent: Latent, stops: Array, frames: int) -> Array:
    """Returns latents on closed paths through some stops, at equal times.

    Args:
      latent: the prior.
      stops: `[num, stops, size]`, those of each path.
      frames: how many.

    Returns:
      `[frames, num, size]`: the first is the first stop, and the last comes just before
      it again.
    """
    time = np.arange(frames) * stops.shape[1] / frames
    start, ahead = stops, jnp.roll(stops, -1, axis=1)
    at = np.floor(time).astype(int)
    paths = latent.interpolate(start[:, at], ahead[:, at], jnp.float32(time - at)[None])
    return paths.swapaxes(0, 1)


# --- Examples -----------------------------------------------------------------------


def drawn(
    gan: GAN,
    state: TrainState,
    latents: Array,
    condition: np.ndarray | None,
    keys: Array,
    batch: int = BATCH,
) -> Iterator[np.ndarray]:
    """Yields what the averaged generator makes, a batch at a time.

    Each example is a function of its own latent, condition and key.

    Args:
      gan: the static half.
      state: the array half.
      latents: `[num, size]`.
      condition: `[num, ...]` stored values, or what gives those at indices `[batch]`;
        None without a condition.
      keys: `[num]`, for the generator's random streams.
      batch: how many are made at once.

    Yields:
      `[batch, *shape]`, stored values.
    """
    num, size = len(latents), min(len(latents), batch)
    for start in range(0, num, size):  # the last is filled up, for the same program
        at = np.minimum(np.arange(start, start + size), num - 1)
        parts = jax.tree.map(lambda a, at=at: a[at], (latents, condition, keys))
        yield np.asarray(_each(gan, state, *parts))[: num - start]


@functools.partial(jax.jit, static_argnums=0)
def _each(
    gan: GAN, state: TrainState, latents: Array, conditions: Array | None, keys: Array
) -> Array:
    """Runs the averaged generator on each latent with a key of its own."""

    def one(latent, condition, key):
        given = None if condition is None else condition[None]
        return render(gan, state, latent[None], given, key)[0]

    return jax.vmap(one)(latents, conditions, keys)


def write_folder(
    folder: Path,
    space: Space,
    examples: np.ndarray,
    labels: np.ndarray | None,
    numbers: Sequence[int],
) -> None:
    """Writes examples for other tools: `samples.npz`, and the `pictures.files` of each.

    The file holds the stored values, `images` (uint8 `[num, height, width, channels]`
    for most runs), `points`, or `examples` of another kind; and `labels`, if any.

    Args:
      folder: made if it is not there.
      space: of the examples.
      examples: `[num, *shape]`, stored values.
      labels: `[num]` of a run on classes.
      numbers: the name of each one's files.
    """
    kinds = {Images: "images", Points: "points", Space: "examples"}
    key = next(name for kind, name in kinds.items() if isinstance(space, kind))
    arrays = {key: examples} | ({} if labels is None else {"labels": labels})
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_file(folder / "samples.npz", buffer.getvalue())
    if isinstance(space, Points):
        return
    for number, example in zip(numbers, examples, strict=True):
        save(folder / f"{number:06d}.png", space, example[None, None], 1)
