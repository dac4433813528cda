"""What one example is, or one condition: its shape and the range of its values.

A game is on pairs (x, c) of an example and what both players are told of it. Each is
described by a space, so that no other module asks for the rank of an array.
"""

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.errors import UserError

# The range of a generator's values by its field `output`.
OUTPUTS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "linear": None}


@dataclasses.dataclass(frozen=True)
class Space:
    """The examples of a data set, or its conditions.

    Attributes:
      shape: of one of them.
      bounds: the least and the greatest value that a network sees. What has bounds is
        stored as uint8, 0 for the least value and 255 for the greatest; what has none
        is stored as float32, as it is.

    Raises:
      UserError: the shape has other axes than this kind of space.
    """

    shape: tuple[int, ...]
    bounds: tuple[float, float] | None = None

    axes: ClassVar[tuple[str, ...] | None] = None  # names of the shape's; None: any
    is_image: ClassVar[bool] = False  # one example is one image, [height, width, c]
    is_pair: ClassVar[bool] = False  # one example is two of them

    def __post_init__(self):
        """Checks the shape."""
        object.__setattr__(self, "shape", tuple(map(int, self.shape)))
        fits = self.axes is None or len(self.axes) == len(self.shape)
        if not fits or min(self.shape, default=1) < 1:
            axes = f" ({', '.join(self.axes)})" if self.axes else ""
            raise UserError(
                f"{type(self).__name__}{axes} cannot have shape {self.shape}"
            )

    @property
    def stored_dtype(self) -> np.dtype:
        """The type of stored values."""
        return np.dtype(np.float32 if self.bounds is None else np.uint8)

    def encode(self, stored: Array) -> Array:
        """Brings stored values to what a network sees; floats pass as they are.

        Args:
          stored: uint8 where the space has bounds. Floats are taken for what a network
            sees, values within the bounds: they are not rescaled.

        Raises:
          UserError: the space has bounds, and these are other integers.
        """
        if self.bounds is None or jnp.issubdtype(stored.dtype, jnp.floating):
            return stored
        low, high = self.bounds
        if stored.dtype != jnp.uint8:
            raise UserError(
                f"{type(self).__name__} of type {stored.dtype}: give them as uint8, 0 "
                f"to 255, or as floats from {low:g} to {high:g}"
            )
        return low + (high - low) / 255 * stored.astype(jnp.float32)

    def decode(self, x: Array) -> Array:
        """Brings what a network makes to stored values, the inverse of `encode`."""
        if self.bounds is None:
            return x
        low, high = self.bounds
        levels = jnp.round(255 * (x - low) / (high - low))
        return jnp.clip(levels, 0, 255).astype(jnp.uint8)

    def zeros(self, batch: int) -> Array:
        """Returns `[batch, *shape]` zeros, of the type that a network sees."""
        return jnp.zeros((batch, *self.shape))


@dataclasses.dataclass(frozen=True)
class Points(Space):
    """Vectors: `(coordinates,)`."""

    axes = ("coordinates",)


@dataclasses.dataclass(frozen=True)
class Images(Space):
    """Images: `(height, width, channels)`."""

    bounds: tuple[float, float] | None = (-1.0, 1.0)

    axes = ("height", "width", "channels")
    is_image = True


@dataclasses.dataclass(frozen=True)
class Pair(Space):
    """Two images of one size: `(2, height, width, channels)`."""

    bounds: tuple[float, float] | None = (-1.0, 1.0)

    axes = ("image", "height", "width", "channels")
    is_pair = True


@dataclasses.dataclass(frozen=True)
class Video(Space):
    """Clips: `(time, height, width, channels)`."""

    bounds: tuple[float, float] | None = (-1.0, 1.0)

    axes = ("time", "height", "width", "channels")


@dataclasses.dataclass(frozen=True)
class PianoRoll(Space):
    """Music: `(time, pitch, voice)`, from silence, the least value, to sound.

    Attributes:
      lowest: the first pitch, as MIDI numbers it; 60 is middle C.
      beat: steps of time in a quarter note.

    Raises:
      UserError: it has other axes, or pitches that MIDI has not.
    """

    bounds: tuple[float, float] | None = (-1.0, 1.0)
    lowest: int = 36
    beat: int = 4

    axes = ("time", "pitch", "voice")

    def __post_init__(self):
        """Checks the shape, and that MIDI has such pitches."""
        super().__post_init__()
        if self.beat < 1 or not 0 <= self.lowest <= 128 - self.shape[1]:
            raise UserError(
                f"{self}: beat must be at least 1, and pitches must lie in [0, 127]"
            )


@dataclasses.dataclass(frozen=True)
class Classes(Space):
    """Class labels, int32 scalars from 0 to `num_classes - 1`.

    Attributes:
      num_classes: how many there are.
      names: what they are called, in their order; empty if they have no names. Classes
        that differ in their names alone are equal.
    """

    shape: tuple[int, ...] = dataclasses.field(default=(), init=False)
    bounds: None = dataclasses.field(default=None, init=False)
    num_classes: int = 0
    names: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    axes = ()

    @property
    def stored_dtype(self) -> np.dtype:
        """The type of stored values."""
        return np.dtype(np.int32)

    def zeros(self, batch: int) -> Array:
        """Returns `[batch]` labels, all of the first class."""
        return jnp.zeros(batch, jnp.int32)


KINDS = {
    kind.__name__: kind
    for kind in (Space, Points, Images, Pair, Video, PianoRoll, Classes)
}


def describe(space: Space | None) -> dict[str, Any] | None:
    """Returns a space as what JSON holds."""
    if space is None:
        return None
    return {"kind": type(space).__name__, **dataclasses.asdict(space)}


def from_description(about: dict[str, Any] | None) -> Space | None:
    """Returns the space of a description; a kind that is not ours is a plain `Space`.

    Raises:
      UserError: the description is of no space.
    """
    if about is None:
        return None
    kind = KINDS.get(about["kind"], Space)
    if kind is Classes:
        names = tuple(map(str, about.get("names", ())))  # older descriptions lack them
        return Classes(int(about["num_classes"]), names)
    bounds = about["bounds"]
    own = [x.name for x in dataclasses.fields(kind)[2:] if x.name in about]
    return kind(
        tuple(about["shape"]),
        None if bounds is None else tuple(bounds),
        **{name: int(about[name]) for name in own},
    )
