"""Small idx files of MNIST's kind, made from the packaged sample."""

import functools
import gzip
import struct

import numpy as np

from gan_jax.config import default
from gan_jax.data import packaged

COUNTS = {"train": 300, "test": 60}


def configure(**keys):
    config = default()
    config.update_from_flattened_dict({f"data.{key}": keys[key] for key in keys})
    return config


def to_idx(array):
    """Encodes an array of bytes: magic number, sizes, data."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + bytes(
        array
    )


@functools.cache
def examples(split):
    source = packaged.load(configure(split=split))
    chosen = slice(COUNTS[split])
    return np.ascontiguousarray(source.images[chosen, ..., 0]), source.labels[chosen]


def write_idx(root, gz=True, dotted=False):
    root.mkdir(exist_ok=True)
    for stem, split in (("train", "train"), ("t10k", "test")):
        images, labels = examples(split)
        arrays = {"images-idx3": images, "labels-idx1": labels.astype(np.uint8)}
        for name, array in arrays.items():
            name = f"{stem}-{name}-ubyte"
            name = name.replace("-idx", ".idx") if dotted else name
            data = to_idx(array)
            path = root / (f"{name}.gz" if gz else name)
            path.write_bytes(gzip.compress(data) if gz else data)
    return root
