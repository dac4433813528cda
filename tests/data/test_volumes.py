"""Slices of medical volumes, NIfTI and DICOM, written here and of pydicom's tests."""

import itertools
import pickle
import shutil

import numpy as np
import pytest
from volume_files import (
    PYDICOMS,
    RNG,
    WHOLE,
    load,
    nibabel,
    pydicom,
    ramp,
    slices,
    write,
    write_series,
)

from gan_jax.algorithm.spaces import Images
from gan_jax.data.image import Encoded
from gan_jax.data.volumes import nifti, source
from gan_jax.data.volumes.slices import fit
from gan_jax.errors import UserError

# --- Orientation --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "view"),
    [
        # From the top left: right to left and front to back, then right to left and
        # top to bottom, then front to back and top to bottom.
        ("axial", lambda v: [v[::-1, ::-1, k].T for k in range(8)]),
        ("coronal", lambda v: [v[::-1, k, ::-1].T for k in range(8)]),
        ("sagittal", lambda v: [v[k, ::-1, ::-1].T for k in range(8)]),
    ],
)
def test_slices_are_seen_as_documented(tmp_path, axis, view):
    voxels = ramp(8, 8, 8)  # to the right, the front and the top
    write(tmp_path / "a.nii", voxels)
    found = slices(tmp_path, f"axis={axis!r}, {WHOLE}")
    np.testing.assert_array_equal(found, np.round(view(voxels)))


def turned(voxels, affine, order, signs):
    """Returns the same volume, its axes in another order and direction."""
    now = nibabel.orientations.io_orientation(affine)
    other = np.array(list(zip(order, signs, strict=True)))
    change = nibabel.orientations.ornt_transform(now, other)
    moved = nibabel.orientations.apply_orientation(voxels, change)
    back = nibabel.orientations.inv_ornt_aff(change, voxels.shape)
    return moved, affine @ back


ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def test_a_volume_is_the_same_in_all_48_orientations(tmp_path):
    voxels, affine = ramp(5, 6, 7), np.diag([1.5, 2, 3, 1])
    affine[:3, :3] += 0.1  # oblique
    settings = f'axis="coronal", {WHOLE}'
    wanted = slices(write(tmp_path / "0" / "a.nii", voxels, affine).parent, settings)
    assert len(wanted) == 6
    for i, (order, signs) in enumerate(ORIENTATIONS):
        moved, other = turned(voxels, affine, order, signs)
        where = np.linalg.inv(other) @ affine @ [1, 2, 3, 1]
        assert moved[tuple(np.round(where[:3]).astype(int))] == voxels[1, 2, 3]
        file = write(tmp_path / f"{i + 1}" / "a.nii.gz", moved, other)
        np.testing.assert_array_equal(slices(file.parent, settings), wanted)


@pytest.mark.parametrize(
    "axes",
    [
        ((1, 0, 0), (0, 1, 0)),  # axial: rows to the left, columns to the back
        ((1, 0, 0), (0, 0, -1)),  # coronal
        ((0, 1, 0), (0, 0, -1)),  # sagittal
        ((-1, 0, 0), (0, 1, 0)),
        ((0.6, 0.8, 0), (-0.8, 0.6, 0)),  # oblique
    ],
)
def test_a_series_equals_its_nifti_file(tmp_path, axes):
    """The affine is computed from DICOM's definition, pixel by pixel."""
    voxels = np.round(ramp(5, 6, 4))
    (right, down), step = np.array(axes, float), 2.5
    folder = write_series(tmp_path / "dicom", voxels, axes, step)
    normal = np.cross(right, down)

    def place(row, column, k):
        left, back, up = 10 + column * right + row * down + k * step * normal
        return np.array([-left, -back, up])

    origin = place(0, 0, 0)
    affine = np.eye(4)
    affine[:3, 3] = origin
    for i, at in enumerate(np.eye(3)):
        affine[:3, i] = place(*at) - origin
    file = write(tmp_path / "nifti" / "a.nii", voxels, affine)
    for axis in ("axial", "coronal", "sagittal"):
        settings = f"axis={axis!r}, {WHOLE}"
        np.testing.assert_array_equal(
            slices(folder, settings), slices(file.parent, settings)
        )


# --- Intensity ----------------------------------------------------------------------


def test_a_window_keeps_intensities_to_half_a_step(tmp_path):
    level, width = 40, 400
    voxels = np.linspace(-1000, 1000, 512).reshape(8, 8, 8)
    write(tmp_path / "a.nii", voxels)
    found = slices(tmp_path, f"window=[{level}, {width}], content=0")
    back = found / 255 * width + level - width / 2
    wanted = voxels[::-1, ::-1].transpose(2, 1, 0)
    inside = abs(wanted - level) < width / 2
    assert abs(back - wanted)[inside].max() <= width / 510 + 1e-3
    assert set(found[wanted < level - width / 2]) == {0}
    assert set(found[wanted > level + width / 2]) == {255}


def test_percentiles_are_of_the_volume(tmp_path):
    voxels = RNG.permutation(np.arange(1000)).reshape(10, 10, 10)
    write(tmp_path / "a.nii", voxels)
    found = slices(tmp_path, "percentiles=(10, 90), content=0", size=10)
    low, high = np.percentile(voxels, [10, 90])
    wanted = np.clip((voxels[::-1, ::-1].transpose(2, 1, 0) - low) / (high - low), 0, 1)
    np.testing.assert_allclose(found, 255 * wanted, atol=0.51)


def test_hounsfield_units_are_rescaled(tmp_path):
    stored = np.arange(512).reshape(8, 8, 8)
    plain = write_series(tmp_path / "a", 2.0 * stored - 1024)
    scaled = write_series(
        tmp_path / "b", stored, RescaleSlope=2, RescaleIntercept=-1024
    )
    settings = "window=[-500, 700], content=0"
    np.testing.assert_array_equal(slices(plain, settings), slices(scaled, settings))


# --- Size ---------------------------------------------------------------------------


def box(shape, spacing, sides):
    """Returns a bright box of some mm in the middle of a dark volume."""
    places = np.meshgrid(
        *[
            (np.arange(n) - (n - 1) / 2) * s
            for n, s in zip(shape, spacing, strict=True)
        ],
        indexing="ij",
    )
    inside = [abs(p) < side / 2 for p, side in zip(places, sides, strict=True)]
    return np.all(inside, axis=0)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((32, 32, 32), (2, 2, 2)), ((64, 32, 16), (1, 2, 4)), ((26, 60, 32), (2, 1, 2))],
)
@pytest.mark.parametrize(
    ("axis", "wanted"),
    [("axial", (24, 40)), ("coronal", (16, 40)), ("sagittal", (16, 24))],
)
def test_aspect_is_that_of_the_body(tmp_path, shape, spacing, axis, wanted):
    """A box of 40 x 24 x 16 mm, 64 mm around it, one pixel a mm."""
    voxels = box(shape, spacing, (40, 24, 16))
    write(tmp_path / "a.nii", voxels, np.diag([*spacing, 1]))
    found = slices(
        tmp_path, f"axis={axis!r}, {WHOLE}, field=64, part=(0.49, 0.51)", size=64
    )
    middle = found[len(found) // 2] > 127
    assert (middle.any(1).sum(), middle.any(0).sum()) == wanted
    np.testing.assert_array_equal(middle, middle[::-1, ::-1])


def test_the_longer_side_fills_the_image(tmp_path):
    voxels = np.ones((20, 10, 4)) + np.arange(4)
    write(tmp_path / "a.nii", voxels, np.diag([1, 3, 1, 1]))
    (first, *_) = slices(tmp_path, "window=[0, 0.2], content=0", size=30)
    assert (first[:, 5:25] == 255).all()
    assert (first[:, [0, 1, 2, 27, 28, 29]] == 0).all()


def test_fit_cuts_and_pads():
    plane = np.arange(16, dtype=np.float32).reshape(4, 4) / 255
    np.testing.assert_array_equal(fit(plane, (4, 4), 4), np.round(plane * 255))
    np.testing.assert_array_equal(fit(plane, (2, 2), 2), [[5, 6], [9, 10]])
    padded = np.zeros((6, 6))
    padded[1:5, 1:5] = np.round(plane * 255)
    np.testing.assert_array_equal(fit(plane, (6, 6), 6), padded)


# --- Which slices -------------------------------------------------------------------


def test_nearly_empty_slices_are_left_out(tmp_path):
    """Slice k has k of 10 rows that are just above a tenth of the range."""
    voxels = np.zeros((10, 10, 10))
    for k in range(10):
        voxels[:, :k, k] = 27 / 255
    write(tmp_path / "a.nii", voxels)
    found = slices(tmp_path, "window=[0.5, 1], content=0.3", size=10)
    assert [(x > 0).sum() for x in found] == [10 * k for k in range(3, 10)]
    write(tmp_path / "a.nii", np.where(voxels > 0, 25 / 255, 0))
    with pytest.raises(
        UserError, match=r"no axial slice of a.nii has 10% of its pixels"
    ):
        load(tmp_path, "window=[0.5, 1]", size=10)


def test_part_of_a_volume(tmp_path):
    voxels = np.broadcast_to(np.arange(1.0, 13), (4, 4, 12))
    write(tmp_path / "a.nii", voxels)
    found = slices(
        tmp_path, "window=[127.5, 255], part=(0.25, 0.75), content=0", size=4
    )
    assert found[:, 0, 0].tolist() == [4, 5, 6, 7, 8, 9]


# --- Splits -------------------------------------------------------------------------


def patients_of(root, split):
    scans, _ = source.split(root, split)
    return {scan.patient for scan in scans}


def test_no_patient_is_in_both_splits(tmp_path):
    for i in range(12):
        for session in "ab":
            write(tmp_path / f"sub-{i:02d}" / f"{session}.nii.gz", ramp(2, 2, 2))
    train, test = patients_of(tmp_path, "train"), patients_of(tmp_path, "test")
    assert (len(train), len(test)) == (10, 2)
    assert train | test == {f"sub-{i:02d}" for i in range(12)}
    (tmp_path / "sub-07" / "c.nii").write_bytes(b"")  # is of no one else
    assert patients_of(tmp_path, "test") == test


def test_two_patients_have_a_test_split(tmp_path):
    for name in ("a", "b"):
        write_series(tmp_path / name, ramp(4, 4, 3))
    info = [load(tmp_path, WHOLE, split=split).info for split in ("train", "test")]
    assert [x.note for x in info] == ["3 slices of 1 volume of 1 patient"] * 2
    assert info[0].fingerprint != info[1].fingerprint
    assert info[1].name == f"volumes:{tmp_path.name}[test]"


def test_one_patient_has_no_test_split(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"sub-1_{name}.nii", ramp(4, 4, 4))
    note = "8 slices of 2 volumes of 1 patient, so there is no test split"
    assert load(tmp_path, WHOLE).info.note == note
    with pytest.raises(UserError, match="2 volumes of 1 patient: there is no test spl"):
        load(tmp_path, split="test")


def test_folders_are_splits(tmp_path):
    for name in ("train/a.nii", "train/b.nii", "test/c.nii"):
        write(tmp_path / name, ramp(4, 4, 4))
    assert patients_of(tmp_path, "train") == {"a", "b"}
    assert patients_of(tmp_path, "test") == {"c"}
    shutil.copy(tmp_path / "train/b.nii", tmp_path / "test/b.nii")
    with pytest.raises(
        UserError, match=r"train/b.nii and test/b.nii are of one patien"
    ):
        source.split(tmp_path, "train")


@pytest.mark.parametrize(
    ("path", "patient"),
    [
        ("a.nii", "a"),
        ("a.b.NII.GZ", "a.b"),
        ("x/a.nii", "x"),
        ("x/y/a.nii", "x"),
        ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01"),
        ("sub-01_ses-2_T1w.nii", "sub-01"),
        ("study/sub-A7/t.nii", "sub-A7"),
        ("mysub-1.nii", "mysub-1"),
    ],
)
def test_whose_a_nifti_file_is(path, patient):
    assert nifti.patient(path) == patient


# --- The source ---------------------------------------------------------------------


def test_what_is_found(tmp_path):
    write(tmp_path / "deep" / "er" / "a.NII.gz", ramp(4, 4, 4))
    write(tmp_path / ".hidden" / "b.nii", ramp(4, 4, 4))
    write_series(tmp_path / "series", ramp(4, 4, 3))
    (tmp_path / "README.txt").write_text("no volume")
    shutil.copy(PYDICOMS / "dicomdirtests" / "DICOMDIR", tmp_path / "series")
    titles = [scan.title for scan in source.find(tmp_path)]
    assert titles == ["deep/er/a.NII.gz", "series/IM000 (one of 3 slices)"]


@pytest.mark.parametrize("channels", ["auto", "rgb"])
def test_streamed_equals_resident(tmp_path, channels):
    write(tmp_path / "a.nii", ramp(4, 4, 4))
    whole = load(tmp_path, WHOLE, channels=channels)
    lazy = load(tmp_path, WHOLE, channels=channels, resident_mb=0)
    assert isinstance(lazy, Encoded)
    assert lazy.info == whole.info
    assert lazy.info.example == Images((8, 8, 1 if channels == "auto" else 3))
    for a, b in zip(pickle.loads(pickle.dumps(lazy)), whole, strict=True):
        np.testing.assert_array_equal(a["example"], b["example"])


def test_files_of_pydicom(tmp_path):
    """A CT of five slices, whose names are in the reverse order."""
    folder = PYDICOMS / "dicomdirtests" / "98892001" / "CT5N"
    shutil.copytree(folder, tmp_path / "ct")
    found = slices(tmp_path, "window=[0, 4000], content=0", size=16)
    names = ["3353", "3023", "2693", "2392", "2062"]
    wanted = np.stack([pydicom.dcmread(folder / n).pixel_array - 1024.0 for n in names])
    wanted = np.round(np.clip((wanted + 2000) / 4000, 0, 1) * 255)
    np.testing.assert_array_equal(found, wanted)


def test_slices_without_spacing_of_their_own(tmp_path):
    shutil.copy(PYDICOMS / "MR_small.dcm", tmp_path)
    found = slices(tmp_path, "percentiles=(0, 100), content=0", size=64)
    pixels = pydicom.dcmread(tmp_path / "MR_small.dcm").pixel_array.astype(float)
    wanted = (pixels - pixels.min()) / np.ptp(pixels) * 255
    np.testing.assert_allclose(found[0], wanted, atol=0.51)
