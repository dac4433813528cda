"""Small files of MNIST's kind, made from the packaged sample."""

import functools
import gzip
import io
import struct

import numpy as np
from PIL import Image

from gan_jax.config import default
from gan_jax.data import packaged

COUNTS = {"train": 300, "test": 60}


def configure(**keys):
    config = default()
    config.batch_size = 1
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
    return np.ascontiguousarray(source.examples[chosen, ..., 0]), source.conditions[
        chosen
    ]


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


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def prepare(data_dir, name, features, splits, version="1.0.0"):
    """Prepares a set for TFDS, without TensorFlow.

    Args:
      data_dir: where.
      name: of the set.
      features: makes its features of `tfds.features`.
      splits: a list of examples for each.
      version: of the set.
    """
    import tensorflow_datasets as tfds

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=features(tfds.features))

    body = {
        "__module__": __name__,
        "name": name,
        "VERSION": tfds.core.Version(version),
        "_info": info,
        "_split_generators": lambda self, _: {
            split: enumerate(found) for split, found in splits.items()
        },
        "_generate_examples": lambda self: None,
    }
    cls = type(
        name.title(), (tfds.core.GeneratorBasedBuilder,), body, skip_registration=True
    )
    cls(data_dir=data_dir).download_and_prepare(file_format="array_record")
    return data_dir


def prepare_mnist(data_dir):
    """Prepares the small MNIST as TFDS does."""
    splits = {
        split: [
            {"image": png(image), "label": int(label)}
            for image, label in zip(*examples(split), strict=True)
        ]
        for split in COUNTS
    }

    def features(f):
        image, label = f.Image(shape=(28, 28, 1)), f.ClassLabel(num_classes=10)
        return f.FeaturesDict({"image": image, "label": label})

    return prepare(data_dir, "mnist", features, splits, "3.0.1")
