"""Augmentations of what the discriminator sees: `(key, images) -> images`.

All are differentiable, and take and return a batch `[batch, height, width, channels]`
in [-1, 1]. What further they ask for by name is said in gan_jax/terms.py.
"""

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.terms import marked


@marked(real_only=True, images_only=True)
def flip(key: Array, images: Array) -> Array:
    """Mirrors half of the images, left to right."""
    mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


@marked(images_only=True)
def translation(key: Array, images: Array, *, ratio: float = 0.125) -> Array:
    """Shifts each image by up to `ratio` of its side, zeros coming in (DiffAugment).

    Zhao et al. 2020 (arXiv:2006.10738), section 3.
    """
    _, height, width, _ = images.shape
    reach = [int(ratio * side + 0.5) for side in (height, width)]
    padded = jnp.pad(images, ((0, 0), *((r, r) for r in reach), (0, 0)))
    starts = [
        jax.random.randint(one, (len(images),), 0, 2 * r + 1)
        for one, r in zip(jax.random.split(key), reach, strict=True)
    ]
    cut = jax.vmap(
        lambda image, *at: jax.lax.dynamic_slice(
            image, (*at, 0), (height, width, image.shape[-1])
        )
    )
    return cut(padded, *starts)
