"""Small samples of images that are part of the package: no download, no preparation."""

import math
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data import idx
from gan_jax.data.image import channels_of, fit
from gan_jax.data.source import Info, InMemory, fingerprint
from gan_jax.errors import UserError, one_line, unknown

SPLITS = ("train", "test")
_MAX_BYTES = 2**32  # of the enlarged images
_HOME = Path(__file__).parent


def names() -> list[str]:
    """Lists the sets of images that have a packaged sample."""
    return [name for name in sorted(idx.NAMES) if path(name).exists()]


def path(name: str) -> Path:
    """Returns the file with the sample of the set `name`."""
    return _HOME / f"{name}_sample" / f"{name}_sample.npz"


def load(config: ConfigDict) -> InMemory:
    """Opens the packaged sample of `config.data.name`.

    Raises:
      UserError: there is no sample of that name, or no such split in it; the file is
        damaged, or the images would be too large.
    """
    name, split = config.data.name, config.data.split
    if name not in names():
        raise unknown("packaged data set", name, names())
    if split not in SPLITS:
        raise unknown(f"split of the packaged {name}", split, SPLITS)
    try:
        with np.load(path(name), allow_pickle=False) as arrays:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    except Exception as error:  # NumPy raises many types
        raise UserError(f"cannot read {path(name)} ({one_line(error)})") from error
    images = _resize(images, config.image_size, channels_of(config, own=1))
    info = Info(
        name=f"packaged:{name}[{split}]",
        example=Images(images.shape[1:]),
        condition=Classes(10, idx.NAMES[name]),
        num_examples=len(images),
        fingerprint=fingerprint(images, labels),
    )
    return InMemory(info, images, labels)


def _resize(images: np.ndarray, size: int, channels: int) -> np.ndarray:
    if (*images.shape[1:], 1) == (size, size, channels):
        return images[..., None]
    if len(images) * size**2 * channels > _MAX_BYTES:
        most = math.isqrt(_MAX_BYTES // (channels * len(images)))
        raise UserError(
            f"image_size is {size}: the packaged sample can be enlarged to {most}"
        )
    return np.stack([fit(image, size, channels) for image in images])
