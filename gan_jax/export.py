"""Exports the generator of a run: `python -m gan_jax.export --workdir=DIR --out=DIR`.

Writes the averaged generator of any checkpoint (`--step`) and replica (`--replica`) to
a new folder, without its discriminator, optimizers and data: its weights, what rebuilds
it, and a program that runs with JAX alone. `gan_jax.load_generator` opens the folder,
and `python -m gan_jax.sample` draws from it; docs/export.md describes the files.
Prints what it wrote. Exit status: 0 done, 2 bad input.

The workdir may come from elsewhere: no code that its config names is run, unless it is
named here too (`--model=FILE`).
"""

from pathlib import Path

import jax

from gan_jax import cli
from gan_jax.errors import UserError
from gan_jax.run import exported, workdir
from gan_jax.run.files import as_path, holds_files, in_bucket
from gan_jax.run.restore import load

WORKDIR, STEP, REPLICA, NUM, SEED, MODEL, OPTIMIZER = cli.run_flags()
OUT = cli.out_flag()


def main() -> None:
    """Runs the command."""
    out, replica = _out(), REPLICA.value or 0
    run = workdir.read(as_path(WORKDIR.value))
    # The program tells in which files its operations are: their names are enough.
    jax.config.update("jax_hlo_source_file_canonicalization_regex", ".*/")
    gan, state = load(WORKDIR.value, STEP.value, replica, MODEL.value, OPTIMIZER.value)
    sizes = exported.write(out, gan, state, run, replica)
    files = ", ".join(f"{name} ({_readable(size)})" for name, size in sizes.items())
    print(f"{OUT.value}: {files}, step {state.step}, replica {replica}")
    print(
        f"use it: gan_jax.load_generator({OUT.value!r}).sample(jax.random.key(0), 16)"
    )


def _out() -> Path:
    """Returns the folder to write, before anything is read.

    Raises:
      UserError: a flag is missing or of another command, or the folder cannot be
        written.
    """
    if not WORKDIR.value:
        raise UserError("give a run: --workdir=DIR")
    if not OUT.value:
        raise UserError("give the folder to write: --out=DIR")
    for flag in (NUM, SEED):
        if cli.is_given(flag):
            raise UserError(f"--{flag.name} is of samples: an export has none")
    path = as_path(OUT.value)
    workdir.check(path, "--out")
    path = path if in_bucket(path) else path.resolve()
    if holds_files(path):
        raise UserError(f"--out={OUT.value}: it is not empty; give a new folder")
    workdir.check(path.parent, "--out: its folder")  # where it is renamed
    return path


def _readable(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


if __name__ == "__main__":
    cli.run(main)
