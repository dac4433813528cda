"""Finds the volumes of a folder, splits them by patient, and cuts them into slices."""

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Images
from gan_jax.build.names import accepted, one_call
from gan_jax.data.folder import directory
from gan_jax.data.image import Encoded, channels_of
from gan_jax.data.source import Info, InMemory, check_pixels, fingerprint
from gan_jax.data.volumes import dicom, nifti
from gan_jax.data.volumes.scan import Scan
from gan_jax.data.volumes.slices import View, images
from gan_jax.errors import UserError, printable, unknown

SPLITS = ("train", "test")
_WHAT = (
    ", a folder of NIfTI files or DICOM series (python scripts/prepare_mri.py says "
    "where some are)"
)
_HELD_OUT = 5  # one in so many patients is in the test split
_AT_ONCE = 4  # volumes that are in memory


def load(config: ConfigDict) -> InMemory | Encoded:
    """Opens the slices of all volumes of a split in the folder `config.data.data_dir`.

    `config.data.name` is 'volumes', with the settings of `View`, such as
    'volumes(axis="coronal", window=[40, 400])'.

    Raises:
      UserError: there is no such folder, setting or split, a package is missing, or a
        volume cannot be used.
    """
    data, size = config.data, config.image_size
    view, root = _view(data.name), directory("volumes", data.data_dir, _WHAT)
    try:
        check_pixels(size, size)
    except ValueError as error:
        raise UserError(f"image_size is {size}: {error}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of readers, about files that they can read
        scans, note = split(root, data.split)
        slices = _slices(scans, view, size)
    channels = channels_of(config, own=1)
    info = Info(
        name=f"volumes:{printable(root.name)}[{data.split}]",
        example=Images((size, size, channels)),
        condition=None,
        num_examples=len(slices),
        fingerprint=fingerprint(slices),
        note=f"{len(slices):,} slices of {note}",
    )
    slices = np.repeat(slices[..., None], channels, axis=-1)
    if slices.nbytes <= data.resident_mb << 20:
        return InMemory(info, slices)
    return Encoded(info, [(one, 0) for one in slices], _as_it_is)


def split(root: Path, name: str) -> tuple[list[Scan], str]:
    """Returns the volumes of a split, 'train' or 'test', and a note on them.

    The splits are the folders of these names if both are there. Else the test split has
    one in five patients, at least one: those whose names have the least SHA-256.

    Raises:
      UserError: there is no such split, there are no volumes in it, or one patient is
        in both.
    """
    if name not in SPLITS:
        raise unknown("split of volumes", name, SPLITS)
    if all((root / one).is_dir() for one in SPLITS):
        both = {one: find(root / one) for one in SPLITS}
        _check_apart(root, *both.values())
        return both[name], _about(both[name])
    scans = find(root)
    patients = sorted({scan.patient for scan in scans}, key=_digest)
    if len(patients) == 1:
        if name == "test":
            raise UserError(f"{root} has {_about(scans)}: there is no test split")
        return scans, _about(scans, ", so there is no test split")
    held_out = max(1, round(len(patients) / _HELD_OUT))
    chosen = set(patients[:held_out] if name == "test" else patients[held_out:])
    found = [scan for scan in scans if scan.patient in chosen]
    return found, _about(found)


def _check_apart(root: Path, train: list[Scan], test: list[Scan]) -> None:
    ours = {scan.patient: scan.title for scan in train}
    for scan in test:
        if scan.patient in ours:
            raise UserError(
                f"{root}: train/{ours[scan.patient]} and test/{scan.title} are of one "
                "patient: move one of them"
            )


def find(root: Path) -> list[Scan]:
    """Lists the volumes in a folder and its sub-folders, in a fixed order.

    Raises:
      UserError: there are none, or a file cannot be read.
    """
    files = []
    for home, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(home, name) for name in sorted(names) if name[0] != "."]
    others = [path for path in files if not nifti.is_one(path)]
    scans = nifti.scans(filter(nifti.is_one, files), root)
    scans += dicom.scans(filter(dicom.is_one, others), root)
    if not scans:
        raise UserError(
            f"{root} holds no volumes ({', '.join(nifti.SUFFIXES)}, or DICOM files)"
        )
    return scans


def _view(name: str) -> View:
    form = "volumes(axis=..., window=..., ...)"
    kind, settings = one_call("data.name", name, form)
    if kind != "volumes":
        raise UserError(f"data.name is {name!r}: the source volumes needs {form}")
    accepted(View, settings, "volumes")
    return View(**settings)


def _digest(patient: str) -> str:
    return hashlib.sha256(patient.encode()).hexdigest()


def _slices(scans: list[Scan], view: View, size: int) -> np.ndarray:
    """Reads all volumes, `[n, size, size]`."""

    def read(scan: Scan) -> np.ndarray:
        return images(scan.title, scan.read(), view, size)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return np.concatenate(list(pool.map(read, scans)))


def _about(scans: list[Scan], then: str = "") -> str:
    patients = len({scan.patient for scan in scans})
    volumes = "1 volume" if len(scans) == 1 else f"{len(scans):,} volumes"
    whose = "1 patient" if patients == 1 else f"{patients:,} patients"
    return f"{volumes} of {whose}{then}"


def _as_it_is(image: Any, size: int, channels: int) -> np.ndarray:
    return image
