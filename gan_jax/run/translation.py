"""Images of a folder as conditions: what the command `translate` gives to G."""

import dataclasses
from pathlib import Path

import numpy as np

from gan_jax.algorithm.spaces import Images, Space
from gan_jax.data import collection, folder
from gan_jax.data.image import flatten, image_channels, opened, square
from gan_jax.errors import UserError, one_line, printable

_KINDS = {1: "grey", 3: "colour"}
_SHOWN = 3  # images that a message names


class Inputs:
    """The images of a folder, decoded where they are asked for.

    Args:
      root: the folder.
      space: of what a generator takes, images.
      resize: whether images of another size or other channels are converted.

    Raises:
      UserError: there are no images, or some do not fit; names them.
    """

    def __init__(self, root: Path, space: Space, resize: bool = False):
        _check_space(space, resize)
        self._space, self._resize = space, resize
        self._root, self.paths = root, folder.images_below(root)
        self._check()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Decodes some of them, uint8 `[n, height, width, channels]`."""
        return np.stack([self._decoded(self.paths[i]) for i in indices])

    def outputs(self) -> list[Path]:
        """Returns the names of their translations, relative to a new folder.

        Raises:
          UserError: two would have one name.
        """
        found = {}
        for path in self.paths:
            name = path.relative_to(self._root).with_suffix(".png")
            if name in found:
                both = f"{found[name].name} and {path.name}"
                raise UserError(f"{path.parent}: {printable(both)} have one name")
            found[name] = path
        return list(found)

    def _decoded(self, path: Path) -> np.ndarray:
        _, width, channels = self._space.shape
        with opened(str(path)) as image:
            if self._resize:
                return square(image, width, channels)
            self._check_fit(image.size, image_channels(image))
            return np.asarray(flatten(image, channels)).reshape(self._space.shape)

    def _check_fit(self, size: tuple[int, int], channels: int) -> None:
        height, width, wanted = self._space.shape
        if size != (width, height):
            raise UserError("{}x{} pixels".format(*size))
        if channels > wanted:  # grey becomes colour without loss, as in training
            raise UserError(_KINDS[channels])

    def _check(self) -> None:
        """Decodes each image once, so that nothing is translated if one cannot be."""
        if not self.paths:
            kinds = ", ".join(folder.SUFFIXES)
            raise UserError(f"--input={self._root}: it has no images ({kinds})")
        height, width, channels = self._space.shape
        each = collection.in_order(self._attempt, len(self), height * width * channels)
        failed = [
            (printable(str(path.relative_to(self._root))), error)
            for path, error in zip(self.paths, each, strict=True)
            if error
        ]
        unfit = any(isinstance(error, UserError) for _, error in failed)
        if failed:
            shown = [f"{name}: {printable(one_line(e))}" for name, e in failed[:_SHOWN]]
            which = "; ".join(shown) + ("; ..." if failed[_SHOWN:] else "")
            takes = (
                f"the run takes {_KINDS[channels]} images of {width}x{height} pixels"
            )
            hint = f"; {takes}, to which --resize converts them" if unfit else ""
            raise UserError(
                f"{len(failed)} of the {len(self):,} images in {self._root} cannot be "
                f"translated ({which}){hint}"
            )

    def _attempt(self, index: int) -> Exception | None:
        try:
            self._decoded(self.paths[index])
        except Exception as error:  # damaged files raise anything
            return error
        return None


@dataclasses.dataclass(frozen=True)
class Twice:
    """Inputs as pairs of an image and itself, of which a generator translates both.

    Attributes:
      inputs: the images.
    """

    inputs: Inputs

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Decodes some of them, uint8 `[n, 2, height, width, channels]`."""
        images = self.inputs[indices]
        return np.stack([images, images], 1)


def _check_space(space: Space, resize: bool) -> None:
    height, width, channels = (*space.shape, 0, 0, 0)[:3]
    if not isinstance(space, Images) or channels not in _KINDS:
        raise UserError(f"this run takes conditions of shape {space.shape}: no images")
    if resize and height != width:
        raise UserError(f"--resize makes squares, and this run takes {width}x{height}")
