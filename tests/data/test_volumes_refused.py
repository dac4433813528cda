"""What the source of medical volumes refuses, in one line that names the file."""
# ruff: noqa: E501 (a row is a line)

import gzip
import os
import shutil
import sys

import numpy as np
import pytest
from volume_files import PYDICOMS, load, pydicom, ramp, write, write_series

from gan_jax import data
from gan_jax.config import default
from gan_jax.errors import UserError


def edit(path, **tags):
    """Changes tags of a DICOM file; None deletes one."""
    one = pydicom.dcmread(path)
    for key, value in tags.items():
        if value is None:
            delattr(one, key)
        else:
            setattr(one, key, value)
    one.save_as(path)


def ordered(folder):
    """Returns the files of a series from the lowest slice on."""
    files = folder.iterdir()
    return sorted(files, key=lambda f: pydicom.dcmread(f).ImagePositionPatient[2])


def nan(root):
    voxels = ramp(4, 4, 4)
    voxels[1, 2, 3] = np.nan
    write(root / "a.nii", voxels)


def cut(root):
    file = write(root / "a.nii.gz", ramp(9, 9, 9))
    file.write_bytes(file.read_bytes()[:-200])


def header(start, *values):
    """Makes a volume whose header has other numbers from some byte on."""

    def make(root):
        file = write(root / "a.nii", ramp(2, 2, 2))
        content, other = bytearray(file.read_bytes()), np.array(values).tobytes()
        content[start : start + len(other)] = other
        (root / "a.nii.gz").write_bytes(gzip.compress(bytes(content)))
        file.unlink()

    return make


def missing_slice(root):
    ordered(write_series(root / "s", ramp(4, 4, 6), step=2.5))[2].unlink()


def series(**tags):
    """Makes a series in which one file is changed."""

    def make(root):
        edit(ordered(write_series(root / "s", ramp(4, 4, 4)))[1], **tags)

    return make


def of_pydicom(*names):
    def make(root):
        for name in names:
            shutil.copy(PYDICOMS / name, root)

    return make


def folder_of_pydicom(name):
    return lambda root: shutil.copytree(PYDICOMS / "dicomdirtests" / name, root / "s")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, r"holds no volumes \(\.nii, \.nii\.gz, or DICOM files\)$"),
        (lambda root: root.rmdir(), "data.data_dir: there is no folder /"),
        (nan, "^a.nii has 1 voxels that are NaN or inf$"),
        (cut, r"^cannot read a.nii.gz \(EOFError: "),
        (header(42, *np.int16([32767] * 3)), "^a.nii.gz has 35,181,150,961,663 voxels: it may have from 1 to 536,8"),
        (lambda root: (root / "a.nii").write_bytes(b"x"), "^cannot read a.nii .ImageFil"),
        (lambda root: (root / "a.dcm").write_bytes(b"x"), "^cannot read a.dcm .InvalidD"),
        (lambda root: write(root / "a.nii", ramp(4, 4, 4, 2)), "a.nii has the axes 4x4x4x2: write each volume"),
        (lambda root: write(root / "a.nii", ramp(4, 4)), "a.nii has the axes 4x4: write"),
        (lambda root: write(root / "a.nii", np.ones((4, 4, 4))), "a.nii: its percentiles .0.5, 99.5. are both 1, so that nothing"),
        (header(252, *np.int16([0, 0])), "a.nii.gz does not say how it is oriented"),
        (header(280, *np.float32([0, 0])), "a.nii.gz has an affine that cannot be inverted"),
        (missing_slice, r"missing or uneven: from s/IM\d+ to s/IM\d+ it is 5 mm, and 2.5 mm elsewhere"),
        (series(ImagePositionPatient=[10, 10, 10]), "two slices at one place, s/IM"),
        (series(ImageOrientationPatient=[0, 1, 0, 1, 0, 0]), "a series mixes orientations: those of s/IM"),
        (series(PixelSpacing=[1, 2]), r"a series mixes sizes: s/IM\d+ has 4x4 pixels of 1 x \d mm, and"),
        (series(PixelSpacing=None), r"s/IM\d+ is no slice of a volume: it has no PixelSpacing"),
        (series(PixelSpacing=[0, 1]), r"s/IM\d+ has an impossible orientation, position or spacing"),
        (series(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "has an impossible orientation"),
        (series(NumberOfFrames=7), r"s/IM\d+ holds 7 frames: write it as one file a slice or as NIfTI"),
        (series(PhotometricInterpretation="RGB"), r"s/IM\d+ is RGB: only MONOCHROME2"),
        (series(PixelData=bytes(20)), r"^cannot read s/IM\d+ \(ValueError: "),
        (of_pydicom("MR_truncated.dcm"), r"^cannot read MR_truncated.dcm \(ValueError"),
        (of_pydicom("rtplan.dcm"), "holds no volumes"),
        (folder_of_pydicom("77654033/CT2"), "from s/17106 to s/17136 it is 202.5 mm, and 1.25 mm elsewhere"),
        (folder_of_pydicom("98892003/MR700"), r"a series mixes orientations: those of s/4467 and s/4528 differ"),
    ],
)  # fmt: skip
def test_refuses(tmp_path, make, message):
    root = tmp_path / "volumes"
    root.mkdir()
    make(root)
    with pytest.raises(UserError, match=message) as caught:
        load(root)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist", r"'mnist': the source volumes needs volumes\(axis=..., window=..."),
        ("volumes, volumes", "write one volumes"),
        ("volumes(axes=1)", r"unknown option of volumes 'axes'; did you mean 'axis'\?"),
        ("volumes(axis='axail')", r"unknown axis .* 'axail'; did you mean 'axial'\?"),
        (
            "volumes(axis=2)",
            r"unknown axis of volumes '2' \(valid: axial, coronal, sag",
        ),
        ("volumes(window=[40])", r"window=\[40\]: give a level and a width above 0"),
        ("volumes(window=[40, 0])", "give a level and a width above 0"),
        ("volumes(window=3)", "window=3: give a level and a width above 0"),
        ("volumes(percentiles=(5, 5))", "give two that rise, from 0 to 100"),
        ("volumes(part=(0.5, 1.5))", "give two shares that rise, from 0 to 1"),
        ("volumes(field=-1)", "field=-1: give a length in mm"),
        ("volumes(content=2)", "content=2: give a share from 0 to 1"),
    ],
)
def test_refuses_settings(tmp_path, name, message):
    config = default()
    config.data.update(source="volumes", data_dir=str(tmp_path), name=name)
    with pytest.raises(UserError, match=message):
        data.load(config)


@pytest.mark.parametrize("package", ["nibabel", "pydicom"])
def test_needs_a_package(tmp_path, monkeypatch, package):
    write(tmp_path / "n" / "a.nii", ramp(4, 4, 4))
    write_series(tmp_path / "d" / "s", ramp(4, 4, 4))
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"needs {package}: pip install 'gan_jax\[medical\]'"
    with pytest.raises(UserError, match=message):
        load(tmp_path / ("n" if package == "nibabel" else "d"))


def test_other_requests_are_refused(tmp_path):
    with pytest.raises(
        UserError, match="unknown split of volumes 'trian'; did you mea"
    ):
        load(tmp_path, split="trian")
    with pytest.raises(
        UserError, match=r"needs --config\.data\.data_dir=DIR, a folder"
    ):
        load("")
    with pytest.raises(UserError, match="image_size is 100000"):
        load(tmp_path, size=100_000)


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "x.dcm")
    os.mkfifo(tmp_path / "x.nii")
    with pytest.raises(UserError, match="holds no volumes"):
        load(tmp_path)


def test_a_decoder_that_is_missing_is_named(tmp_path, monkeypatch):
    shutil.copy(PYDICOMS / "MR_small_jpeg_ls_lossless.dcm", tmp_path)
    absent = type("Decoder", (), {"is_available": False})
    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda syntax: absent)
    message = (
        r"^MR_small_jpeg_ls_lossless.dcm is compressed \(JPEG-LS Lossless Image "
        r"Compression\) and no decoder for it is installed: pip install pylibjpeg "
    )
    with pytest.raises(UserError, match=message):
        load(tmp_path)
