"""The pixels of an image are its features."""

import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError
from gan_jax.metrics.features.extractor import Extractor, Outputs


def load() -> Extractor:
    """Returns the extractor of all pixels, scaled to [0, 1]."""
    return Extractor("pixels", "1", "", "FD-pixels", {}, _apply)


def _apply(variables: dict, stored: Array) -> Outputs:
    if stored.dtype != jnp.uint8:
        raise UserError(
            f"the features 'pixels' are of uint8 images, and these are {stored.dtype}: "
            "use 'identity'"
        )
    return Outputs(stored.reshape(len(stored), -1) / jnp.float32(255), None)
