"""Random changes of images as they are drawn, alike for an example and its condition.

Their `augment` is a source's: a part of the compiled step, which metrics do not see.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Enlarges images, crops them at random to their size, and mirrors half of them.

    Isola et al. 2017 (arXiv:1611.07004), section 6.2: 256x256 images are enlarged to
    286x286. Called as `(key, batch) -> batch`.

    Attributes:
      enlarge: by how much, from 1, which is not at all, to 2.
      mirror: whether images are mirrored, each with probability 1/2.

    Raises:
      UserError: they are no such numbers.
    """

    enlarge: float = 286 / 256
    mirror: bool = True

    def __post_init__(self):
        """Checks the settings."""
        if not isinstance(self.enlarge, int | float) or not 1 <= self.enlarge <= 2:
            raise UserError(f"enlarge is {self.enlarge!r}: it must be from 1 to 2")
        if not isinstance(self.mirror, bool):
            raise UserError(f"mirror is {self.mirror!r}: it must be True or False")

    def __call__(self, key: Array, batch: dict[str, Array]) -> dict[str, Array]:
        """Changes uint8 images `[batch, height, width, channels]`, by their names.

        Images of one size that stand at the same place in the batch change alike.
        """
        keys = jax.random.split(key, len(batch["example"]))
        return {name: jax.vmap(self._changed)(keys, x) for name, x in batch.items()}

    def _changed(self, key: Array, image: Array) -> Array:
        crop_key, mirror_key = jax.random.split(key)
        size = jnp.array(image.shape[:2])
        margin = jnp.round((self.enlarge - 1) * size).astype(int)
        corner = jax.random.randint(crop_key, (2,), 0, margin + 1)
        crop = jax.image.scale_and_translate(
            image.astype(jnp.float32),
            image.shape,
            (0, 1),
            1 + margin / size,
            -corner.astype(jnp.float32),
            "linear",
            antialias=False,
        )
        if self.mirror:
            crop = jnp.where(jax.random.bernoulli(mirror_key), crop[:, ::-1], crop)
        return jnp.round(crop).astype(image.dtype)
