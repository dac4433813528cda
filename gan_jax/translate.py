"""Translates images: `python -m gan_jax.translate --workdir=DIR --input=DIR --out=DIR`.

Gives each image of a folder to the averaged generator of a run whose condition is an
image (`--step`, `--replica`; by default the newest checkpoint of the first replica), or
of a folder that the command `export` wrote, and writes what it makes to a new folder,
as PNG files of the same names. `--direction` is for runs on two domains, such as
CycleGAN's, which translate both ways. `--resize` scales, crops and converts images that
are not as the run takes them; `--seed` chooses the noise of the generator. Prints what
it wrote. Exit status: 0 done, 2 bad input.

The workdir may come from elsewhere: no code that its config names is run, unless it is
named here too (`--model=FILE`).
"""

from pathlib import Path

import jax
from absl import flags

from gan_jax import cli
from gan_jax import config as config_lib
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.spaces import Images
from gan_jax.data.pairs import DIRECTIONS
from gan_jax.errors import UserError, unknown
from gan_jax.run import exported, pictures, sampling, workdir
from gan_jax.run.files import as_path, holds_files
from gan_jax.run.progress import examples_bar
from gan_jax.run.restore import load
from gan_jax.run.translation import Inputs, Twice

WORKDIR, STEP, REPLICA, NUM, SEED, MODEL, OPTIMIZER = cli.run_flags()
OUT = cli.out_flag()
INPUT = flags.DEFINE_string("input", None, "The folder of images to translate.")
RESIZE = flags.DEFINE_bool(
    "resize", False, "Scale, crop and convert images to those that the run takes."
)
DIRECTION = flags.DEFINE_string(
    "direction", None, "AtoB or BtoA, for a run that translates both ways."
)

_BATCH = 32  # images that are translated at once


def main() -> None:
    """Runs the command."""
    folder, out = _folders()
    replica = REPLICA.value or 0
    gan, state = load(WORKDIR.value, STEP.value, replica, MODEL.value, OPTIMIZER.value)
    side = _side(gan)
    space = gan.example if side is None else Images(gan.example.shape[1:])
    inputs = Inputs(folder, gan.condition if side is None else space, RESIZE.value)
    told = inputs if side is None else Twice(inputs)
    names, num = inputs.outputs(), len(inputs)
    key = jax.random.key(SEED.value)
    latents, keys = gan.latent.sample(key, num), jax.random.split(key, num)
    done = 0
    with examples_bar("translating", num) as advance:
        for batch in sampling.drawn(gan, state, latents, told, keys, _BATCH):
            for example in batch if side is None else batch[:, side]:
                pictures.save(out / names[done], space, example[None, None], 1)
                done += 1
            advance(done)
    one = exported.is_one(as_path(WORKDIR.value))
    of = f"step {state.step}" if one else f"step {state.step}, replica {replica}"
    print(f"{OUT.value}: {num} image{'s' * (num != 1)} translated, {of}")


def _folders() -> tuple[Path, Path]:
    """Checks the flags, and returns the folders to read and to write.

    Raises:
      UserError: a flag is missing or of another command, or a folder cannot be used.
    """
    for flag, what in ((WORKDIR, "a run"), (INPUT, "images"), (OUT, "a new folder")):
        if not flag.value:
            raise UserError(f"give {what}: --{flag.name}=DIR")
    if cli.is_given(NUM):
        raise UserError("--num is of samples: every image of --input is translated")
    config_lib.check_seed("--seed", SEED.value)
    folder, out = Path(INPUT.value).expanduser(), as_path(OUT.value)
    if not folder.is_dir():
        raise UserError(f"--input={INPUT.value}: there is no such folder")
    workdir.check(out, "--out")
    if holds_files(out):
        raise UserError(f"--out={out}: it is not empty; give a new folder")
    return folder, out


def _side(gan: GAN) -> int | None:
    """Returns which image of the pair that a run makes is wanted; None if it makes one.

    Raises:
      UserError: it makes no images from images, or the direction is missing or wrong.
    """
    spaces, direction = (gan.condition, gan.example), DIRECTION.value
    if all(space is not None and space.is_image for space in spaces):
        if direction:
            raise UserError(
                f"--direction={direction}: {WORKDIR.value} translates in one direction"
            )
        return None
    if not all(space is not None and space.is_pair for space in spaces):
        told = type(gan.condition).__name__ if gan.condition else "no condition"
        raise UserError(
            f"{WORKDIR.value} does not translate images: it makes "
            f"{type(gan.example).__name__} from {told}"
        )
    if not direction:
        raise UserError(
            f"{WORKDIR.value} translates both ways: give --direction=AtoB or BtoA"
        )
    if direction not in DIRECTIONS:
        raise unknown("direction", direction, DIRECTIONS)
    return DIRECTIONS[direction][1]


if __name__ == "__main__":
    cli.run(main)
