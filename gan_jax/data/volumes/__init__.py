"""Slices of medical volumes: the data source `volumes`.

`nifti.py` and `dicom.py` read a volume of their format as an image of nibabel, with its
affine from voxels to millimetres; `slices.py` turns any such image into 8-bit slices;
`source.py` finds the volumes of a folder, and splits them by patient. A new format is a
file with `is_one(path)` and `scans(files, root)`, and gets a line in `source.find`.
"""

from gan_jax.data.volumes.source import load

__all__ = ["load"]
