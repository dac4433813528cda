"""Small samples that come with the package: no download, no preparation."""

import math
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from gan_jax.data.image import resize_and_crop
from gan_jax.data.source import Images, Info, fingerprint
from gan_jax.errors import UserError, one_line, unknown

SPLITS = ("train", "test")
_MAX_BYTES = 2**32  # of the images enlarged
_HOME = Path(__file__).parent


def names() -> list[str]:
    """Lists the sets of which a sample is packaged."""
    return sorted(p.name.removesuffix("_sample") for p in _HOME.glob("*_sample"))


def path(name: str) -> Path:
    """Returns where the sample of the set `name` lies."""
    return _HOME / f"{name}_sample" / f"{name}_sample.npz"


def load(config: ConfigDict) -> Images:
    """Opens the packaged sample of `config.data.name`.

    Raises:
      UserError: there is none of that name, or no such split in it; it is damaged, or
        would be too large.
    """
    name, split = config.data.name, config.data.split
    if name not in names():
        raise unknown("packaged data set", name, names())
    if split not in SPLITS:
        raise unknown(f"split of the packaged {name}", split, SPLITS)
    try:
        with np.load(path(name), allow_pickle=False) as arrays:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    except Exception as error:  # NumPy has no one type for what may be wrong
        raise UserError(f"cannot read {path(name)} ({one_line(error)})") from error
    images = _resize(images, config.image_size)
    info = Info(
        name=f"packaged:{name}[{split}]",
        shape=images.shape[1:],
        num_classes=int(labels.max()) + 1,
        num_examples=len(images),
        fingerprint=fingerprint(images, labels),
    )
    return Images(info, images, labels)


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    if images.shape[1:] == (size, size):
        return images[..., None]
    if len(images) * size**2 > _MAX_BYTES:
        most = math.isqrt(_MAX_BYTES // len(images))
        raise UserError(
            f"image_size is {size}: the packaged sample can be enlarged to {most}"
        )
    resized = [resize_and_crop(Image.fromarray(image), size) for image in images]
    return np.stack(resized)[..., None]
