"""Medical volumes for tests, NIfTI and DICOM, and a short way to open them."""

from pathlib import Path

import numpy as np
import pytest

from gan_jax import data
from gan_jax.config import default

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")
PYDICOMS = Path(pydicom.__file__).parent / "data" / "test_files"
RNG = np.random.default_rng(0)
WHOLE = "percentiles=(0, 100), content=0"


def load(root, settings="", size=8, **keys):
    config = default()
    config.update(image_size=size, batch_size=1)
    config.data.update(source="volumes", data_dir=str(root), **keys)
    config.data.name = f"volumes({settings})"
    return data.load(config)


def slices(*args, **keys):
    return load(*args, **keys).examples[..., 0]


def ramp(*shape):
    """Returns a volume without any symmetry, from 0 to 255."""
    return RNG.permutation(np.linspace(0, 255, np.prod(shape))).reshape(shape)


def write(path, voxels, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4) if affine is None else affine
    image = nibabel.Nifti1Image(np.asarray(voxels, np.float32), affine)
    nibabel.save(image, path)
    return path


def write_series(folder, voxels, axes=((1, 0, 0), (0, 1, 0)), step=1.0, **tags):
    """Writes voxels `[row, column, slice]`; names are in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = np.array(axes, float)
    normal = np.cross(*axes)
    uid = pydicom.uid.generate_uid()
    for i, name in enumerate(RNG.permutation(voxels.shape[-1])):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID
        one.SeriesInstanceUID, one.PatientID = uid, folder.name
        one.Rows, one.Columns = voxels.shape[:2]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.ImageOrientationPatient = list(axes.ravel())
        one.ImagePositionPatient = list(10.0 + normal * step * i)
        one.PixelSpacing = [1.0, 1.0]
        for key, value in tags.items():
            setattr(one, key, value)
        one.PixelData = np.int16(voxels[..., i]).tobytes()
        one.save_as(folder / f"IM{name:03d}", enforce_file_format=True)
    return folder
