"""A generator without its run: the folder that `python -m gan_jax.export` writes.

    generator.json         the config and the data of its run, as its config.json has
                           them; the step, the seed and the replica; a checksum of each
                           of the other files; what the program takes and returns
    generator.safetensors  the averaged generator's variables, named by their paths:
                           params/Dense_0/kernel
    generator.stablehlo    the generator as a program of `jax.export`

The folder may come from elsewhere: nothing that is read here runs code.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import Array

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.latents import Latent
from gan_jax.algorithm.players import draw, render
from gan_jax.algorithm.spaces import Space
from gan_jax.algorithm.spaces import describe as describe_space
from gan_jax.algorithm.state import TrainState
from gan_jax.errors import UserError, one_line
from gan_jax.run import workdir
from gan_jax.run.files import answering, write_new_folder

FORMAT = 1
ABOUT, WEIGHTS, PROGRAM = (
    f"generator.{ending}" for ending in ("json", "safetensors", "stablehlo")
)
PLATFORMS = ("cpu", "cuda", "tpu")
_HEADER = 1000  # bytes that a file of weights takes for each array, at most


@dataclasses.dataclass(frozen=True)
class ExportedGenerator:
    """The averaged generator of a run.

    Attributes:
      gan: the static half, of which samples need the generator, the prior and the
        spaces; the objective and the optimizers are the defaults.
      state: the averaged generator's variables, and the step.
    """

    gan: GAN
    state: TrainState

    @property
    def latent(self) -> Latent:
        """The prior over latents."""
        return self.gan.latent

    @property
    def example(self) -> Space:
        """The space of what it makes."""
        return self.gan.example

    @property
    def condition(self) -> Space | None:
        """The space of what it is told; None if it is told nothing."""
        return self.gan.condition

    def sample(
        self,
        key: Array,
        num: int,
        condition: Array | None = None,
        truncation: float = 1.0,
    ) -> Array:
        """Draws examples `[num, *shape]` as they are stored, uint8 for images.

        The same key gives what `gan_jax.draw` gives for the run, bit for bit; see there
        for the arguments.
        """
        return draw(self.gan, self.state, key, num, condition, truncation)

    def generate(
        self, latents: Array, condition: Array | None = None, key: Array | None = None
    ) -> Array:
        """Makes examples of given latents, as the exported program does.

        Args:
          latents: `[num, latent.size]`.
          condition: `[num, ...]` for a conditional GAN, as it is stored.
          key: for the network's random streams, if it has any; by default they are
            always the same.

        Returns:
          `[num, *shape]`, stored values.
        """
        key = jax.random.key(0) if key is None else key
        return render(self.gan, self.state, latents, condition, key)


# --- Writing ------------------------------------------------------------------------


def write(
    folder: Path, gan: GAN, state: TrainState, run: dict, replica: int
) -> dict[str, int]:
    """Writes the averaged generator of a run to a new folder.

    Args:
      folder: is not there, or empty.
      gan: the static half.
      state: of that replica alone.
      run: the content of the run's config.json.
      replica: which of its replicas.

    Returns:
      The size of each file, in bytes.

    Raises:
      UserError: the generator cannot be traced for batches of any size.
    """
    files = {WEIGHTS: _weights(state.ema), PROGRAM: program(gan, state)}
    about = {
        **{"format": FORMAT, "step": int(state.step)},
        **{"seed": run["config"]["seed"] + replica, "replica": replica},
        "program": {
            "platforms": PLATFORMS,
            "latent": dataclasses.asdict(gan.latent),
            "condition": describe_space(gan.condition),
            "example": describe_space(gan.example),
        },
        "sha256": {name: _sha256(content) for name, content in files.items()},
        **{key: run[key] for key in ("config", "data")},
        "versions": workdir.versions(),
    }
    files[ABOUT] = json.dumps(about, indent=2).encode() + b"\n"
    write_new_folder(folder, files)
    return {name: len(content) for name, content in files.items()}


def program(gan: GAN, state: TrainState) -> bytes:
    """Returns the generator as a program that needs neither this package nor Flax.

    It maps latents `[n, size]`, and stored conditions `[n, ...]` if there are any, to
    stored examples `[n, *shape]`, for any n and on all `PLATFORMS`.

    Args:
      gan: the static half.
      state: the array half.

    Raises:
      UserError: the generator cannot be traced for batches of any size.
    """
    (n,) = jax.export.symbolic_shape("n")
    inputs = [jax.ShapeDtypeStruct((n, gan.latent.size), jnp.float32)]
    if (space := gan.condition) is not None:
        inputs.append(jax.ShapeDtypeStruct((n, *space.shape), space.stored_dtype))
    function = jax.jit(ExportedGenerator(gan, state).generate)
    try:
        exported = jax.export.export(function, platforms=PLATFORMS)(*inputs)
    except Exception as error:  # of a model of the user's own
        raise UserError(
            "the generator cannot be exported: it must take batches of any size and "
            f"run on {', '.join(PLATFORMS)} ({one_line(error)})"
        ) from error
    return bytes(exported.serialize())


def _weights(variables: Any) -> bytes:
    arrays = {name: np.asarray(leaf) for name, leaf in _named(variables).items()}
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, jnp.floating):  # bfloat16 is exact in float32
            arrays[name] = array.astype(np.float32)
    return safetensors.numpy.save(arrays)


def _named(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by their paths, such as `params/Dense_0/kernel`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- Reading ------------------------------------------------------------------------


def is_one(path: Path) -> bool:
    """Tells whether a folder holds an exported generator."""
    with answering(path):
        return (path / ABOUT).is_file()


def read(path: Path) -> dict[str, Any]:
    """Reads generator.json: 'config' and 'data' as config.json has them, and more.

    Args:
      path: the folder.

    Raises:
      UserError: it is damaged, or of another version.
    """
    file = path / ABOUT
    try:
        about = json.loads(file.read_bytes())
        found = about["format"]
        if found == FORMAT:
            config, data, sha256 = (about[k] for k in ("config", "data", "sha256"))
            fits = isinstance(config, dict) and {"name", "fingerprint"} <= data.keys()
            for key, bits in (("step", 31), ("seed", 32), ("replica", 31)):
                number = about[key]
                fits &= isinstance(number, int) and 0 <= number < 2**bits
            if fits and isinstance(sha256[WEIGHTS], str):
                return about
    except OSError as error:
        why = error.strerror or one_line(error)
        raise UserError(f"{file} cannot be read: {why}") from error
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        found = FORMAT
    if found != FORMAT:
        raise UserError(
            f"{file} is of format {found!r}, and this version of gan_jax reads {FORMAT}"
        )
    raise UserError(f"{file} is damaged: it does not describe a generator")


def variables(path: Path, about: dict[str, Any], like: Any) -> Any:
    """Reads the averaged generator's variables.

    Args:
      path: the folder.
      about: the content of its generator.json.
      like: a tree of the same structure, with the shapes and types of its leaves.

    Returns:
      The tree.

    Raises:
      UserError: the file is damaged, or of another generator.
    """
    file, wanted = path / WEIGHTS, _named(like)
    arrays = _arrays(file, about["sha256"][WEIGHTS], wanted)
    for name in wanted.keys() ^ arrays.keys():
        what = "lacks" if name in wanted else "has an unknown array"
        raise UserError(f"{file} is of another generator: it {what} {name}")
    for name, leaf in wanted.items():
        floats = jnp.issubdtype(leaf.dtype, jnp.floating)
        dtype = np.dtype(np.float32 if floats else leaf.dtype)
        found, array = (leaf.shape, dtype), arrays[name]
        if (array.shape, array.dtype) != found:
            raise UserError(
                f"{file} is of another generator: {name} is {array.dtype} "
                f"{list(array.shape)}, and must be {dtype} {list(leaf.shape)}"
            )
    leaves = [jnp.asarray(arrays[name], leaf.dtype) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _arrays(file: Path, sha256: str, wanted: dict[str, Any]) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise UserError(f"there is no {file}")
    most = sum(4 * leaf.size + _HEADER for leaf in wanted.values()) + _HEADER
    with file.open("rb") as opened:
        content = opened.read(most + 1)  # not all of it: it may be of any size
    if len(content) > most:
        raise UserError(f"{file} is of another generator: it is too large for this one")
    if _sha256(content) != sha256:
        raise UserError(
            f"{file} is damaged, or of another export: its SHA-256 is not that in "
            f"{ABOUT}"
        )
    try:
        return safetensors.numpy.load(content)
    except Exception as error:
        raise UserError(f"{file} is damaged ({one_line(error)})") from error
