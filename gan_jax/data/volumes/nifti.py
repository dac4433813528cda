"""Volumes in NIfTI files."""

import functools
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.data.volumes.scan import Scan, check_size, library
from gan_jax.errors import UserError, one_line

SUFFIXES = (".nii", ".nii.gz")
_SUBJECT = re.compile(r"(?:^|/)(sub-[0-9A-Za-z]+)")  # as BIDS names them


def is_one(path: Path) -> bool:
    """Tells whether a file is called as a NIfTI file is."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def scans(files: Iterable[Path], root: Path) -> list[Scan]:
    """Returns the volumes of NIfTI files, one each."""
    return [
        Scan(title, patient(title), functools.partial(read, path, title))
        for path in files
        for title in [path.relative_to(root).as_posix()]
    ]


def patient(title: str) -> str:
    """Returns whose volume a path in the folder of the data leads to.

    It is the `sub-LABEL` of BIDS if the path has one, else the first folder in it, else
    the name of the file.
    """
    if found := _SUBJECT.search(title):
        return found[1]
    folder, _, rest = title.partition("/")
    return folder if rest else re.sub(r"\.nii(\.gz)?$", "", title, flags=re.IGNORECASE)


def read(path: Path, title: str) -> Any:
    """Reads one volume.

    Raises:
      UserError: it cannot be read, has more than three axes or voxels that are no
        numbers, or does not say how it is oriented.
    """
    nibabel = library("nibabel")
    try:
        image = nibabel.load(path)
        _check(title, image)
        voxels = image.get_fdata(dtype=np.float32, caching="unchanged")
    except UserError:
        raise
    except Exception as error:  # a damaged file raises anything
        raise UserError(f"cannot read {title} ({one_line(error)})") from error
    return nibabel.Nifti1Image(voxels.reshape(voxels.shape[:3]), image.affine)


def _check(title: str, image: Any) -> None:
    kind, shape, header = image.get_data_dtype(), image.shape, image.header
    if kind.names or kind.kind == "c":
        raise UserError(f"{title} is in colour or complex: volumes are of one number")
    if len(shape) < 3 or math.prod(shape[3:]) > 1:
        raise UserError(
            f"{title} has the axes {'x'.join(map(str, shape))}: write each volume "
            "[x, y, z] into a file of its own"
        )
    check_size(title, math.prod(shape))
    if not header["sform_code"] and not header["qform_code"]:
        raise UserError(
            f"{title} does not say how it is oriented (its sform_code and qform_code "
            "are 0), so left and right are unknown: write an affine into it"
        )
    if not abs(np.linalg.det(image.affine[:3, :3])) > 0:  # nor NaN
        raise UserError(f"{title} has an affine that cannot be inverted")
