"""From a volume to slices: orientation, intensity, and size.

Voxel i of an image lies at A (i, 1) mm, with A its affine; the axes of that space go to
the patient's right, front and top (RAS+).
"""

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from gan_jax.data.volumes.scan import library
from gan_jax.errors import UserError, unknown

AXES = ("sagittal", "coronal", "axial")  # the planes across x, y and z
_DARK = 0.1  # of the range of intensities, below which a pixel counts as empty
_MEANT = {
    "window": "a level and a width above 0",
    "percentiles": "two that rise, from 0 to 100",
    "field": "a length in mm",
    "part": "two shares that rise, from 0 to 1",
    "content": "a share from 0 to 1",
}


@dataclasses.dataclass(frozen=True)
class View:
    """How volumes are shown: the settings of `data.name`.

    Attributes:
      axis: which slices, 'axial', 'coronal' or 'sagittal'.
      window: level and width of the intensities that are kept, e.g. of Hounsfield
        units; None to use the percentiles.
      percentiles: of a volume's voxels, between which intensities are kept.
      field: side of the square that is shown, in mm; None for the longer side of each
        volume's slices.
      part: the slices that are used, from the low end: (0.25, 0.75) is the middle half.
      content: the least share of pixels that are brighter than a tenth of the range;
        a slice with less is left out.
    """

    axis: str = "axial"
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] = (0.5, 99.5)
    field: float | None = None
    part: tuple[float, float] = (0.0, 1.0)
    content: float = 0.1

    def __post_init__(self):
        if self.axis not in AXES:
            raise unknown("axis of volumes", str(self.axis), AXES)
        window, field = self.window or (0, 1), self.field or 1
        valid = {
            "window": _pair(window) and window[1] > 0,
            "percentiles": _rising(self.percentiles, 100),
            "field": _number(field) and field > 0,
            "part": _rising(self.part, 1),
            "content": _number(self.content) and 0 <= self.content <= 1,
        }
        for name, one in valid.items():
            if not one:
                raise UserError(
                    f"data.name: {name}={getattr(self, name)}: give {_MEANT[name]}"
                )


def images(title: str, volume: Any, view: View, size: int) -> np.ndarray:
    """Returns the slices of a volume, and leaves out those that are nearly empty.

    They are seen as radiologists do: rows run from the patient's front or head on,
    columns from the right or front on.

    Args:
      title: of the volume, for messages.
      volume: an image of nibabel with three axes.
      view: which slices, and of which intensities.
      size: height and width of the result.

    Returns:
      `[n, size, size]`, uint8, from the patient's left, back or feet on.

    Raises:
      UserError: a voxel is NaN or inf, all are equal, or no slice has content.
    """
    nibabel = library("nibabel")
    canonical = nibabel.as_closest_canonical(volume)
    voxels = canonical.get_fdata(dtype=np.float32)
    spacing = nibabel.affines.voxel_sizes(canonical.affine)
    axis = AXES.index(view.axis)
    number = voxels.shape[axis]
    first = min(round(view.part[0] * number), number - 1)
    last = max(round(view.part[1] * number), first + 1)
    planes = np.moveaxis(_scaled(title, voxels, view), axis, 0)[first:last]
    rows, columns = np.delete(spacing, axis)[::-1]
    side = view.field or max(planes.shape[2] * rows, planes.shape[1] * columns)
    found = [
        fit(plane.T[::-1, ::-1], (side / rows, side / columns), size)
        for plane in planes
    ]
    kept = [x for x in found if (x > _DARK * 255).mean() >= view.content]
    if not kept:
        raise UserError(
            f"no {view.axis} slice of {title} has {view.content:.0%} of its pixels "
            "above a tenth of the range: lower content, or choose another window"
        )
    return np.stack(kept)


def _scaled(title: str, voxels: np.ndarray, view: View) -> np.ndarray:
    """Maps intensities to [0, 1]; those outside of the range get its ends."""
    if bad := voxels.size - int(np.isfinite(voxels).sum()):
        raise UserError(f"{title} has {bad:,} voxels that are NaN or inf")
    if view.window:
        level, width = view.window
        low, high = level - width / 2, level + width / 2
    else:
        low, high = map(float, np.percentile(voxels, view.percentiles))
    if not low < high:
        raise UserError(
            f"{title}: its percentiles {view.percentiles} are both {low:g}, so that "
            "nothing can be seen: choose others, or a window"
        )
    return np.clip((voxels - low) / np.float32(high - low), 0, 1)


def fit(plane: np.ndarray, shown: tuple[float, float], size: int) -> np.ndarray:
    """Brings a plane to a square image, with its centre in the middle.

    The filter is that of the other image sources, Lanczos with antialiasing.

    Args:
      plane: `[height, width]`, in [0, 1].
      shown: how many of its pixels make the sides of the square, in each direction.
        What is outside of the plane is 0.
      size: height and width of the result.

    Returns:
      `[size, size]`, uint8.
    """
    halves = np.array(shown) / 2
    margins = [
        max(0, int(np.ceil(half - side / 2)))
        for half, side in zip(halves, plane.shape, strict=True)
    ]
    padded = np.pad(plane, [(margin, margin) for margin in margins])
    (top, left), (bottom, right) = (
        np.array(padded.shape) / 2 + sign * halves for sign in (-1, 1)
    )
    image = Image.fromarray(np.ascontiguousarray(padded, np.float32))
    box = (left, top, right, bottom)
    image = image.resize((size, size), Image.Resampling.LANCZOS, box=box)
    return np.round(255 * np.clip(np.asarray(image), 0, 1)).astype(np.uint8)


def _number(x: Any) -> bool:
    return type(x) in (int, float) and bool(np.isfinite(x))


def _pair(x: Any) -> bool:
    return isinstance(x, tuple | list) and len(x) == 2 and all(map(_number, x))


def _rising(x: Any, most: float) -> bool:
    return _pair(x) and 0 <= x[0] < x[1] <= most
