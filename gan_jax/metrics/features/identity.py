"""The stored numbers are the features: for points, and for any space."""

import jax.numpy as jnp
from jax import Array

from gan_jax.metrics.features.extractor import Extractor, Outputs


def load() -> Extractor:
    """Returns the extractor of the stored values as they are, flattened."""
    return Extractor("identity", "1", "", "FD-identity", {}, _apply)


def _apply(variables: dict, stored: Array) -> Outputs:
    return Outputs(stored.reshape(len(stored), -1).astype(jnp.float32), None)
