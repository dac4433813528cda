"""Sets of small images that are read whole: MNIST, CIFAR and their kin."""

import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data.image import Encoded, channels_of, fit
from gan_jax.data.source import Info, InMemory, check_pixels, fingerprint
from gan_jax.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray]


def load(
    kind: str, splits: dict[str, Arrays], classes: Classes, config: ConfigDict
) -> InMemory | Encoded:
    """Makes a source of the split `config.data.split`.

    Args:
      kind: of the source, and the name of the set, e.g. `idx:mnist`.
      splits: for each split its images, uint8 `[n, side, side]` (grey) or
        `[n, side, side, 3]`, and its labels `[n]`.
      classes: what the labels stand for.
      config: its size and channels of images.

    Raises:
      UserError: there is no such split, or `config.image_size` is too large.
    """
    size, split = config.image_size, config.data.split
    try:
        check_pixels(size, size)
    except ValueError as error:
        raise UserError(f"image_size is {size}: {error}") from error
    pixels, labels = _select(kind.partition(":")[2], split, splits)
    channels = channels_of(config, own=3 if pixels.ndim == 4 else 1)
    info = Info(
        name=f"{kind}[{split}]",
        example=Images((size, size, channels)),
        condition=classes,
        num_examples=len(pixels),
        fingerprint=fingerprint(pixels, labels),
    )
    if len(pixels) * size**2 * channels > config.data.resident_mb << 20:
        return Encoded(info, list(zip(pixels, labels.tolist(), strict=True)), fit)
    pixels = pixels if pixels.ndim == 4 else pixels[..., None]
    if pixels.shape[1:] != info.example.shape:
        pixels = np.stack([fit(image, size, channels) for image in pixels])
    return InMemory(info, pixels, labels)


def _select(name: str, split: str, splits: dict[str, Arrays]) -> Arrays:
    """Returns the images and labels of a split, or of a part of one."""
    try:
        parts = _parts(split, {key: len(splits[key][1]) for key in splits})
        chosen = [[x[part] for x in splits[key]] for key, part in parts]
        images, labels = (np.concatenate(x) for x in zip(*chosen, strict=True))
    except Exception:  # TFDS has no one type for a split that it cannot parse
        labels = ()
    if not len(labels):
        raise UserError(
            f"{name} has no examples in the split {split!r} (its splits: "
            f"{', '.join(sorted(splits))}; or part of one: 'train[:500]')"
        )
    return images, labels


def _parts(split: str, sizes: dict[str, int]) -> list[tuple[str, slice]]:
    if split in sizes:
        return [(split, slice(None))]
    import tensorflow_datasets as tfds  # only it knows how to parse 'train[10%:]'

    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0)
        for name, size in sizes.items()
    }
    instruction = tfds.core.ReadInstruction.from_spec(split)
    return [
        (part.splitname, slice(part.from_, part.to))
        for part in instruction.to_absolute(infos)
    ]
