"""Moving digits: clips of MNIST's digits that bounce off the walls of the frame.

The set of Srivastava et al. 2015 (arXiv:1502.04681, section 4): each digit starts
anywhere and keeps a velocity of uniformly random direction and speed, until it is
reflected. It is drawn in the compiled step. Digits take 28 of 64 pixels, as there.
Unlike there they stand between pixels where their place is: a digit's centre of mass
moves by the law, exactly.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Video
from gan_jax.build import names
from gan_jax.data import tfds
from gan_jax.data.source import Info
from gan_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Moving:
    """Clips of digits.

    The images of digits are a constant of the programs that draw from them.

    Attributes:
      info: the description, which tells two such sets apart.
      images: of the digits, `[num, size, size]`, uint8.
      digits: in a clip.
      speed: the least and the greatest, in a frame, as a share of the way between
        opposite walls.
    """

    info: Info
    images: np.ndarray = dataclasses.field(compare=False, repr=False)
    digits: int = 2
    speed: tuple[float, float] = (0.05, 0.1)

    def sample(self, key: Array, n: int) -> dict[str, Array]:
        """Draws `n` clips."""
        which, where = jax.random.split(key)
        chosen = jax.random.randint(which, (n, self.digits), 0, len(self.images))
        frames, side, *_ = self.info.example.shape
        paths = trajectories(where, (n, self.digits), frames, self.speed)
        places = (side - self.images.shape[-1]) * paths
        return {"example": drawn(jnp.asarray(self.images)[chosen], places, side)}


def trajectories(
    key: Array, shape: tuple[int, ...], frames: int, speed: tuple[float, float]
) -> Array:
    """Draws paths in the unit square: from a uniform start, at a constant velocity.

    Args:
      key: a PRNG key.
      shape: of the array of paths.
      frames: places of each.
      speed: the least and the greatest, uniform between them.

    Returns:
      `[*shape, frames, 2]`, in [0, 1].
    """
    start, turn, pace = jax.random.split(key, 3)
    angle = jax.random.uniform(turn, shape, maxval=2 * jnp.pi)
    low, high = speed
    length = jax.random.uniform(pace, shape, minval=low, maxval=high)
    velocity = length[..., None] * jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1)
    first = jax.random.uniform(start, (*shape, 2))
    steps = jnp.arange(frames)[:, None]
    return reflected(first[..., None, :] + steps * velocity[..., None, :])


def reflected(place: Array) -> Array:
    """Folds a free path into [0, 1], as if walls at 0 and 1 reflected it."""
    return 1 - jnp.abs(place % 2 - 1)


def drawn(images: Array, places: Array, side: int) -> Array:
    """Draws clips: each frame is the maximum over its digits.

    Args:
      images: of the digits, `[n, digits, size, size]`, uint8.
      places: of their upper left corners, `[n, digits, frames, 2]`, in pixels.
      side: of a frame.

    Returns:
      `[n, frames, side, side, 1]`, uint8.
    """
    # Between pixels by linear interpolation, which is a product with a matrix an axis.
    offsets = jnp.arange(side)[:, None] - jnp.arange(images.shape[-1])
    shift = jax.nn.relu(1 - jnp.abs(offsets - places[..., None, None]))
    rows, columns = shift[..., 0, :, :], shift[..., 1, :, :]
    images = images.astype(jnp.float32)
    moved = jnp.einsum("ndtyi,ndij,ndtxj->ndtyx", rows, images, columns)
    return jnp.round(moved.max(1)).astype(jnp.uint8)[..., None]


def load(config: ConfigDict) -> Moving:
    """Opens the set that `config.data.name` names, with its settings.

    The name is that of a set of digits, found as by `data.source=tfds`: 'mnist', or
    'mnist(frames=16, digits=2, speed=(0.05, 0.1))'.

    Raises:
      UserError: there is no such set or setting, or the frames are too small.
    """
    form = "NAME or NAME(frames=16, digits=2, speed=(0.05, 0.1))"
    name, settings = names.one_call("moving digits", config.data.name, form)
    names.accepted(_checked, settings, f"moving digits {name!r}")
    frames, digits, speed = _checked(**settings)
    side, still = config.image_size, config.copy_and_resolve_references()
    still.data.update(name=name, channels="grey", resident_mb=2**20)  # in memory
    still.image_size = size = 7 * side // 16
    if not size:
        raise UserError(f"image_size is {side}: moving digits need at least 3 pixels")
    found = tfds.load(still)
    how = f"moving_mnist(frames={frames}, digits={digits}, speed={speed})"
    info = dataclasses.replace(
        found.info,
        name=f"{how}:{found.info.name}",
        example=Video((frames, side, side, 1)),
        condition=None,
        num_examples=0,
        fingerprint=f"{how} {found.info.fingerprint}",
    )
    return Moving(info, found.examples[..., 0], digits, speed)


def _checked(
    frames: int = 16, digits: int = 2, speed: tuple[float, float] = (0.05, 0.1)
) -> tuple[int, int, tuple[float, float]]:
    for key, value in (("frames", frames), ("digits", digits)):
        if type(value) is not int or value < 1:
            raise UserError(f"moving digits: {key} is {value!r}: it is a number from 1")
    try:
        low, high = map(float, speed)
        fits = 0 <= low <= high <= 1
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise UserError(
            f"moving digits: speed is {speed!r}: it is a pair (least, greatest) of "
            "shares of the way between the walls, 0 to 1"
        )
    return frames, digits, (low, high)
