"""Draws from a run: `python -m gan_jax.sample --workdir=DIR`.

Draws from the averaged generator of any checkpoint (`--step`) and replica
(`--replica`): a grid of examples, of chosen classes (`--labels=relief,3`), of
conditions in a file (`--condition=FILE.npy`), of a truncated prior
(`--truncation=0.7`), of chosen seeds (`--seeds=0-99`), or of interpolations
(`--interpolate`). Writes it to `--out=FILE.png` (clips also to `--out=FILE.gif`, music
to `FILE.mid` or `FILE.wav`), by default one in WORKDIR/drawn; or writes each example
and an npz (`--outdir=DIR`), or a walk through the latents (`--video=FILE.webp`). The
workdir may also be a folder that the command `export` wrote. Prints what it wrote. Exit
status: 0 done, 2 bad input.

The workdir may come from elsewhere: no code that its config names is run, unless it is
named here too (`--model=FILE`).
"""

import re
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import Array

from gan_jax import cli
from gan_jax import config as config_lib
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.spaces import Classes, Points
from gan_jax.data.source import MAX_PIXELS
from gan_jax.errors import UserError
from gan_jax.run import exported, grids, pictures, sampling, workdir
from gan_jax.run.files import as_path, holds_files, write_file
from gan_jax.run.restore import load

WORKDIR, STEP, REPLICA, NUM, SEED, MODEL, OPTIMIZER = cli.run_flags()
OUT = cli.out_flag()
OUTDIR = flags.DEFINE_string(
    "outdir", None, "A new folder to write one PNG per example and samples.npz to."
)
VIDEO = flags.DEFINE_string(
    "video", None, "Write a walk through the latents to this FILE.webp or FILE.gif."
)
FRAMES = flags.DEFINE_integer(
    "frames", None, "Number of frames of the video; by default one second per latent."
)
FPS = flags.DEFINE_integer("fps", 25, "Frames per second of the video.")
SEEDS = flags.DEFINE_string(
    "seeds", None, "Draw one example for each of these seeds, e.g. 0-99 or 3,7,10-20."
)
LABELS = flags.DEFINE_list(
    "labels",
    [],
    "Classes to draw, by name or number, e.g. relief,3; each has its own rows.",
)
CAPTIONS = flags.DEFINE_bool("captions", False, "Name the class below each image.")
CONDITION = flags.DEFINE_string(
    "condition",
    None,
    "An .npy file with conditions other than classes, as stored; used in turn.",
)
INTERPOLATE = flags.DEFINE_bool(
    "interpolate", False, "Interpolate between two latents in each row."
)
TRUNCATION = flags.DEFINE_float(
    "truncation",
    1.0,
    "Draw latents from the central part of the prior with this probability.",
)

_EXCLUSIVE = (
    (OUT, OUTDIR),
    (OUT, VIDEO),
    (OUTDIR, VIDEO),
    (OUTDIR, CAPTIONS),
    (SEEDS, SEED),
    (SEEDS, NUM),
    (SEEDS, INTERPOLATE),
    (VIDEO, INTERPOLATE),
)
# What the name of the default file tells, where it is given.
_NAMED = (REPLICA, NUM, SEED, SEEDS, LABELS, INTERPOLATE, TRUNCATION, CAPTIONS)
_PATHS, _STOPS = 16, 4  # of a video, and how many latents each path goes through


def main() -> None:
    """Runs the command."""
    _check_flags()
    seeds = sampling.parse_seeds(SEEDS.value) if SEEDS.value is not None else None
    replica = REPLICA.value or 0
    gan, state = load(WORKDIR.value, STEP.value, replica, MODEL.value, OPTIMIZER.value)
    _check_run(gan)
    choices = sampling.conditions(gan, LABELS.value, CONDITION.value)
    frames = _frames(seeds)
    turns, columns = _layout(gan, choices, seeds)
    _check_size(gan, len(turns), frames)
    latents, keys = _latents(gan, len(turns), columns, frames, seeds)
    turns = np.tile(turns, frames)
    condition = None if choices is None else choices[turns % len(choices)]
    drawn = sampling.drawn(gan, state, latents, condition, keys)
    examples = np.concatenate(list(drawn))
    if OUTDIR.value:
        path, what = _write_folder(gan, examples, condition, seeds)
    else:
        captions = sampling.captions(gan.condition, condition) if CAPTIONS.value else ()
        shown = grids.beside(gan, condition), captions
        path, what = _write_file(gan, examples, columns, frames, shown, state.step)
    one = exported.is_one(as_path(WORKDIR.value))
    of = f"step {state.step}" if one else f"step {state.step}, replica {replica}"
    print(f"{path}: {what}, {of}")


# --- What is drawn ------------------------------------------------------------------


def _frames(seeds: np.ndarray | None) -> int:
    """Returns how many frames there are, 1 where no video is made."""
    if not VIDEO.value:
        return 1
    return FRAMES.value or FPS.value * (_STOPS if seeds is None else len(seeds))


def _layout(
    gan: GAN, choices: np.ndarray | None, seeds: np.ndarray | None
) -> tuple[np.ndarray, int]:
    """Returns which choice each example of a frame takes, and how many are in a row."""
    num, labels = NUM.value, LABELS.value
    if seeds is not None:
        num = max(1, len(labels)) if VIDEO.value else len(seeds)
    if isinstance(gan.example, Points):
        return np.arange(num or pictures.POINTS) if seeds is None else seeds, 1
    size = grids.cell_size(gan, CAPTIONS.value)
    if INTERPOLATE.value:  # the examples of a row share their condition
        turns, columns = sampling.layout(size, num)
        return turns // columns, columns
    classes = len(choices) if isinstance(gan.condition, Classes) else 0
    about = _PATHS if VIDEO.value else 64
    turns, columns = sampling.layout(size, num, classes, bool(labels), about)
    if seeds is None or VIDEO.value:
        return turns, columns
    return seeds, pictures.columns_of(num, size)


def _latents(
    gan: GAN, num: int, columns: int, frames: int, seeds: np.ndarray | None
) -> tuple[Array, Array]:
    """Returns the latents of all frames, and the keys for G's random streams."""
    latent, truncation, key = gan.latent, TRUNCATION.value, jax.random.key(SEED.value)
    keys = jax.random.split(key, num)
    if VIDEO.value:
        if seeds is None:
            stops = latent.sample(key, num * _STOPS, truncation)
            stops = stops.reshape(num, _STOPS, -1)
        else:
            stops, _ = sampling.of_seeds(latent, seeds, truncation)
            stops = jnp.broadcast_to(stops, (num, *stops.shape))
        latents = sampling.loop(latent, stops, frames)
        return latents.reshape(frames * num, -1), keys[np.tile(np.arange(num), frames)]
    if seeds is not None:
        return sampling.of_seeds(latent, seeds, truncation)
    if INTERPOLATE.value:
        return sampling.interpolated(latent, key, num, columns, truncation), keys
    return latent.sample(key, num, truncation), keys


# --- What is written ----------------------------------------------------------------


def _write_folder(
    gan: GAN,
    examples: np.ndarray,
    condition: np.ndarray | None,
    seeds: np.ndarray | None,
) -> tuple[Path, str]:
    path, num = as_path(OUTDIR.value), len(examples)
    labels = condition if isinstance(gan.condition, Classes) else None
    numbers = range(num) if seeds is None else seeds.tolist()
    sampling.write_folder(path, gan.example, examples, labels, numbers)
    single = "" if isinstance(gan.example, Points) else "one PNG each and "
    return path, f"{_count(num)}, {single}samples.npz"


def _write_file(
    gan: GAN,
    examples: np.ndarray,
    columns: int,
    frames: int,
    shown: tuple[np.ndarray | None, Sequence[str]],
    step: int,
) -> tuple[Path, str]:
    space, num = gan.example, len(examples) // frames
    if VIDEO.value:
        path = as_path(VIDEO.value)
        images = pictures.images_of(space, examples, *shown)
        images = images.reshape(frames, num, *images.shape[1:])
        kind = path.suffix[1:]
        write_file(path, pictures.animation(images, columns, kind, FPS.value))
        return path, f"{frames} frames of {_count(num)}"
    path = as_path(OUT.value or _default_out(step))
    found = pictures.files(space, examples[None], columns, *shown)
    write_file(path, found[path.suffix])
    return path, _count(num)


def _count(num: int) -> str:
    return "1 example" if num == 1 else f"{num} examples"


def _default_out(step: int) -> Path:
    """Returns a file in the workdir that is named after the flags that were given."""
    parts = [f"{step:06d}"]
    for flag in filter(cli.is_given, _NAMED):
        given = flags.FLAGS[flag.name]
        value = "" if flag.value is True else given.serialize().partition("=")[2]
        parts.append(flag.name + re.sub(r"[^\w.,-]+", "_", value)[:40])
    return as_path(WORKDIR.value) / "drawn" / f"{'-'.join(parts)}.png"


# --- Checks -------------------------------------------------------------------------


def _check_flags() -> None:
    """Checks the flags' values, before anything is read.

    Raises:
      UserError: one is out of its range, two exclude each other, or the file or folder
        cannot be written.
    """
    if not WORKDIR.value:
        raise UserError("give a run: --workdir=DIR")
    for one, other in _EXCLUSIVE:
        if cli.is_given(one) and cli.is_given(other):
            raise UserError(
                f"--{one.name} and --{other.name} exclude each other: give one of them"
            )
    for flag in (FRAMES, FPS):
        if cli.is_given(flag) and not VIDEO.value:
            raise UserError(f"--{flag.name} is of a video: give --video=FILE.webp too")
    for flag, most in ((NUM, sampling.MOST), (FRAMES, sampling.MOST), (FPS, 50)):
        if flag.value is not None and not 1 <= flag.value <= most:
            raise UserError(f"--{flag.name}={flag.value}: it must lie in [1, {most}]")
    if not 0 < TRUNCATION.value <= 1:
        raise UserError(f"--truncation={TRUNCATION.value}: it must lie in (0, 1]")
    config_lib.check_seed("--seed", SEED.value)
    _check_paths()


def _check_paths() -> None:
    """Checks that what is asked for can be written.

    Raises:
      UserError: it cannot; says why.
    """
    cli.check_file(OUT)
    cli.check_file(VIDEO, ".webp", ".gif")
    if OUTDIR.value:
        path = as_path(OUTDIR.value)
        workdir.check(path, "--outdir")
        if holds_files(path):  # other examples would mix with these
            raise UserError(f"--outdir={path}: it is not empty; give a new folder")
    if not (OUT.value or OUTDIR.value or VIDEO.value):
        path = as_path(WORKDIR.value)
        workdir.check_readable(path)
        workdir.check(path / "drawn", "give --out=FILE.png;")


def _check_run(gan: GAN) -> None:
    """Checks that what is asked for makes sense for this run.

    Raises:
      UserError: it does not.
    """
    if OUT.value:
        zeros = np.zeros((1, 1, *gan.example.shape), gan.example.stored_dtype)
        cli.check_file(OUT, *pictures.files(gan.example, zeros, 1))
    for flag in (INTERPOLATE, VIDEO, CAPTIONS):
        if flag.value and isinstance(gan.example, Points):
            raise UserError(f"--{flag.name} is of images; this run makes points")
    for flag in (INTERPOLATE, VIDEO):
        if flag.value and gan.latent.size == 0:
            raise UserError(f"--{flag.name} needs latents; this run has latent_size 0")
    if CAPTIONS.value and not isinstance(gan.condition, Classes):
        raise UserError("--captions names classes; this run has none")


def _check_size(gan: GAN, num: int, frames: int) -> None:
    """Checks that a picture is not too large to be made.

    Raises:
      UserError: it is.
    """
    if OUTDIR.value or isinstance(gan.example, Points):
        return
    height, width = grids.cell_size(gan, CAPTIONS.value)
    pixels, most = num * frames * height * width, MAX_PIXELS * (8 if frames > 1 else 1)
    if pixels > most:
        what = f"{frames} frames" if frames > 1 else "the grid"
        raise UserError(
            f"{num} examples: {what} would be {pixels} pixels, and may be {most}"
        )


if __name__ == "__main__":
    cli.run(main)
