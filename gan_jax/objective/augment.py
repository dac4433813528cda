"""Augmentations of what the discriminator sees: `(key, images) -> images`.

All take and return a batch `[batch, height, width, channels]` in [-1, 1], and draw for
each image independently. For fixed draws they are affine in the images.
`gan_jax.objective.terms.Augmentation` lists what an augmentation may ask for.
"""

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError
from gan_jax.objective.ada import ada, bgc
from gan_jax.objective.terms import augmentation, check_number

__all__ = ["ada", "bgc", "color", "cutout", "flip", "instance_noise", "translation"]


@augmentation(real_only=True, images_only=True)
def flip(key: Array, images: Array, *, p: float = 0.5) -> Array:
    """Mirrors each image, left to right, with probability `p`."""
    return _some(key, p, images[:, :, ::-1], images)


@augmentation(images_only=True)
def translation(
    key: Array, images: Array, *, ratio: float = 0.125, p: float = 1.0
) -> Array:
    """Shifts each image by up to `ratio` of its side (DiffAugment).

    With probability `p`; pixels from outside are zero. Zhao et al. 2020
    (arXiv:2006.10738), section 3.
    """
    check_number("translation: ratio", ratio, below=1)
    return _some(key, p, shifted(key, images, ratio, mode="constant"), images)


@augmentation(images_only=True)
def color(key: Array, images: Array, *, p: float = 1.0) -> Array:
    r"""Changes brightness, saturation and contrast of each image (DiffAugment).

    Brightness adds $U(-\frac12, \frac12)$; saturation multiplies the difference from
    the mean over the channels by $U(0, 2)$; contrast then multiplies the difference
    from the mean of the image by $U(\frac12, \frac32)$. All three are applied with
    probability `p`. Zhao et al. 2020 (arXiv:2006.10738), section 3.
    """
    brightness, saturation, contrast = jax.random.uniform(
        key, (3, len(images), 1, 1, 1)
    )
    changed = images + (brightness - 0.5)
    changed = _scaled(changed, 2 * saturation, axis=-1)
    changed = _scaled(changed, contrast + 0.5, axis=(1, 2, 3))
    return _some(key, p, changed.astype(images.dtype), images)


@augmentation(images_only=True)
def cutout(key: Array, images: Array, *, ratio: float = 0.5, p: float = 1.0) -> Array:
    """Sets a rectangle of `ratio` of each image's sides to zero (DiffAugment).

    With probability `p`. The centre is anywhere in the image, so that a part of the
    rectangle may be outside. DeVries and Taylor 2017 (arXiv:1708.04552); Zhao et al.
    2020 (arXiv:2006.10738), section 3.
    """
    check_number("cutout: ratio", ratio)
    rows, columns = (
        _within(one, len(images), side, int(ratio * side + 0.5))
        for one, side in zip(jax.random.split(key), images.shape[1:3], strict=True)
    )
    inside = rows[:, :, None] & columns[:, None]
    return _some(key, p, jnp.where(inside[..., None], 0, images), images)


@augmentation
def instance_noise(
    key: Array,
    images: Array,
    *,
    step: Array,
    scale: float = 0.1,
    until: int = 10_000,
) -> Array:
    r"""Adds $N(0, \sigma^2)$ to every pixel, or to the coordinates of points.

    $\sigma$ falls linearly from `scale` at step 0 to 0 at step `until`, and stays 0.
    Real and generated examples then have overlapping supports, without which a perfect
    discriminator leaves the generator no gradient. Sønderby et al. 2017
    (arXiv:1610.04490); Arjovsky and Bottou 2017 (arXiv:1701.04862), section 3.
    """
    check_number("instance_noise: scale", scale)
    check_number("instance_noise: until", until, zero=False)
    sigma = scale / until * jnp.maximum(0, until - step)  # exactly 0 at `until`
    noise = jax.random.normal(key, images.shape)
    return (images + sigma * noise).astype(images.dtype)


def shifted(key: Array, images: Array, ratio: float, mode: str) -> Array:
    """Shifts each image by whole pixels, up to `ratio` of each side.

    Args:
      key: a PRNG key.
      images: `[batch, height, width, channels]`.
      ratio: of a side, below 1.
      mode: what comes in at the border, as for `jnp.pad`.
    """
    _, height, width, channels = images.shape
    reach = [int(ratio * side + 0.5) for side in (height, width)]
    padded = jnp.pad(images, ((0, 0), *((r, r) for r in reach), (0, 0)), mode=mode)
    starts = [
        jax.random.randint(one, (len(images),), 0, 2 * r + 1)
        for one, r in zip(jax.random.split(key), reach, strict=True)
    ]
    cut = jax.vmap(
        lambda image, *at: jax.lax.dynamic_slice(
            image, (*at, 0), (height, width, channels)
        )
    )
    return cut(padded, *starts)


def _some(key: Array, p: float, changed: Array, images: Array) -> Array:
    """Returns for each image the changed one with probability `p`."""
    if type(p) not in (int, float) or not 0 <= p <= 1:
        raise UserError(f"p must be a number in [0, 1], not {p!r}")
    if p == 1:
        return changed
    chosen = jax.random.bernoulli(
        jax.random.fold_in(key, 1), float(p), (len(images), 1, 1, 1)
    )
    return jnp.where(chosen, changed, images)


def _scaled(images: Array, factor: Array, axis) -> Array:
    """Multiplies the difference from the mean over `axis`."""
    mean = images.mean(axis, keepdims=True)
    return mean + factor * (images - mean)


def _within(key: Array, num: int, side: int, size: int) -> Array:
    """Tells for each of `side` pixels if it is in an interval of `size`, `[num, side]`.

    The middle of an interval is uniform among the centres of pixels, if `size` is odd,
    or among the edges of pixels.
    """
    starts = jax.random.randint(key, (num, 1), 0, side + 1 - size % 2) - size // 2
    pixels = jnp.arange(side)
    return (starts <= pixels) & (pixels < starts + size)
