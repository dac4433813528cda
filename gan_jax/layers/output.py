"""The function that ends a generator and sets the range of its values."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import unknown

FUNCTIONS = {"tanh": jnp.tanh, "sigmoid": nn.sigmoid, "linear": lambda x: x}


def finish(x: Array, output: str) -> Array:
    """Applies 'tanh', 'sigmoid' or 'linear' (nothing), a generator's field `output`.

    Raises:
      UserError: it is none of them.
    """
    if output not in FUNCTIONS:
        raise unknown("output", str(output), FUNCTIONS)
    return FUNCTIONS[output](x)
