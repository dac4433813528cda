"""Volumes in DICOM series: one file a slice."""

import functools
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gan_jax.data.volumes.scan import Scan, check_size, library
from gan_jax.errors import UserError, one_line

_TO_RAS = np.diag([-1.0, -1, 1, 1])  # DICOM's axes go left, back and up
_NEEDS = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
_UNEVEN = 0.1  # of the usual gap, by which others may differ
_DECODERS = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"


class _Slice(NamedTuple):
    """One file of a series.

    Attributes:
      title: its path in the folder of the data.
      data: its dataset.
      axes: the directions of a row and of a column, `[2, 3]`.
      position: of the centre of the first pixel, in mm.
    """

    title: str
    data: Any
    axes: np.ndarray
    position: np.ndarray

    @property
    def grid(self) -> tuple:
        """What all slices of a volume share, besides their axes."""
        spacing = tuple(round(float(x), 4) for x in self.data.PixelSpacing)
        return int(self.data.Rows), int(self.data.Columns), *spacing

    @property
    def height(self) -> float:
        """The position along the normal, in mm."""
        return float(np.cross(*self.axes) @ self.position)


def is_one(path: Path) -> bool:
    """Tells whether a file is a DICOM file, whatever its name."""
    if not path.is_file():  # a pipe would block
        return False
    with path.open("rb") as file:
        return path.suffix.lower() == ".dcm" or file.read(132)[128:] == b"DICM"


def scans(files: Iterable[Path], root: Path) -> list[Scan]:
    """Groups files into series by SeriesInstanceUID; each is a volume.

    Files without an image, such as DICOMDIR and reports, are no part of any.

    Raises:
      UserError: a file cannot be read.
    """
    series: dict[str, list[tuple[Path, str]]] = {}
    for path in files:
        header = _read(path, path.relative_to(root), stop_before_pixels=True)
        if "Rows" in header:
            found = path, str(header.get("PatientID", ""))
            series.setdefault(str(header.get("SeriesInstanceUID")), []).append(found)
    return [
        Scan(
            title=f"{found[0][0].relative_to(root)} (one of {len(found)} slices)",
            patient=found[0][1],
            read=functools.partial(read, [path for path, _ in found], root),
        )
        for found in series.values()
    ]


def read(files: Sequence[Path], root: Path) -> Any:
    """Reads a series as one volume, ordered along the normal of its slices.

    Values are those of the modality, such as Hounsfield units: RescaleSlope and
    RescaleIntercept are applied.

    Raises:
      UserError: a file cannot be read or decoded; the slices are not parallel or of
        one size, or their distances are not equal.
    """
    slices = [_slice(path, str(path.relative_to(root))) for path in files]
    _check_grid(slices)
    slices.sort(key=lambda one: one.height)
    step = _step(slices)
    first = slices[0]
    check_size(first.title, len(slices) * first.grid[0] * first.grid[1])
    voxels = np.stack([_pixels(one) for one in slices], axis=-1)
    return library("nibabel").Nifti1Image(voxels, _TO_RAS @ _affine(first, step))


def _read(path: Path, title: str | Path, **options: Any) -> Any:
    pydicom = library("pydicom")
    try:
        return pydicom.dcmread(path, **options)
    except Exception as error:  # a damaged file raises anything
        raise UserError(f"cannot read {title} ({one_line(error)})") from error


def _slice(path: Path, title: str) -> _Slice:
    data = _read(path, title)
    if int(data.get("NumberOfFrames") or 1) > 1:
        raise UserError(
            f"{title} holds {data.NumberOfFrames} frames: write it as one file a slice "
            "or as NIfTI (dcm2niix does)"
        )
    if (colour := data.get("PhotometricInterpretation")) != "MONOCHROME2":
        raise UserError(f"{title} is {colour}: only MONOCHROME2 is read")
    if missing := [name for name in _NEEDS if not data.get(name)]:
        raise UserError(f"{title} is no slice of a volume: it has no {missing[0]}")
    try:
        axes = np.array(data.ImageOrientationPatient, float).reshape(2, 3)
        position = np.array(data.ImagePositionPatient, float).reshape(3)
        found = _Slice(title, data, axes, position)
        valid = np.allclose(axes @ axes.T, np.eye(2), atol=1e-2)
        valid &= np.isfinite(position).all() and min(found.grid[2:]) > 0
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise UserError(f"{title} has an impossible orientation, position or spacing")
    return found


def _check_grid(slices: Sequence[_Slice]) -> None:
    """Checks that all slices are parallel and cover as many pixels of one size."""
    first = slices[0]
    for one in slices[1:]:
        if not np.allclose(first.axes, one.axes, atol=1e-3):
            raise UserError(
                f"a series mixes orientations: those of {first.title} and {one.title} "
                "differ"
            )
        if first.grid != one.grid:
            raise UserError(
                f"a series mixes sizes: {first.title} has {_grid(first)}, and "
                f"{one.title} {_grid(one)}"
            )


def _grid(one: _Slice) -> str:
    rows, columns, *spacing = one.grid
    return f"{rows}x{columns} pixels of {spacing[0]:g} x {spacing[1]:g} mm"


def _step(slices: Sequence[_Slice]) -> np.ndarray:
    """Returns the way from one slice to the next, in mm.

    Raises:
      UserError: two slices are at one place, or the gaps are uneven, as they are if
        slices are missing.
    """
    if len(slices) == 1:
        thickness = float(slices[0].data.get("SliceThickness") or 1)
        return np.cross(*slices[0].axes) * thickness
    gaps = np.diff([one.height for one in slices])
    usual = float(np.median(gaps))
    for gap, (one, other) in zip(gaps, itertools.pairwise(slices), strict=True):
        if gap < 1e-3:
            raise UserError(
                f"a series has two slices at one place, {one.title} and {other.title}: "
                "put each volume into a series of its own"
            )
        if abs(gap - usual) > _UNEVEN * usual:
            raise UserError(
                f"slices of a series are missing or uneven: from {one.title} to "
                f"{other.title} it is {gap:g} mm, and {usual:g} mm elsewhere"
            )
    return (slices[-1].position - slices[0].position) / len(gaps)


def _affine(first: _Slice, step: np.ndarray) -> np.ndarray:
    """Maps (row, column, slice) to DICOM's mm (PS3.3, section C.7.6.2.1.1)."""
    across, down = first.axes
    affine = np.eye(4)
    affine[:3, 0] = down * float(first.data.PixelSpacing[0])
    affine[:3, 1] = across * float(first.data.PixelSpacing[1])
    affine[:3, 2], affine[:3, 3] = step, first.position
    return affine


def _pixels(one: _Slice) -> np.ndarray:
    pixels, data = library("pydicom.pixels"), one.data
    syntax = data.file_meta.TransferSyntaxUID
    try:
        if syntax.is_compressed and not pixels.get_decoder(syntax).is_available:
            raise UserError(
                f"{one.title} is compressed ({syntax.name}) and no decoder for it is "
                f"installed: {_DECODERS}"
            )
        values = pixels.apply_modality_lut(data.pixel_array, data)
        return values.astype(np.float32)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"cannot read {one.title} ({one_line(error)})") from error
