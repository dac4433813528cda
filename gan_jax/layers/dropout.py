"""Dropout as a generator's source of noise."""

from collections.abc import Callable

import flax.linen as nn
from jax import Array

from gan_jax.errors import UserError


def lasting_dropout(rate: float) -> Callable[[Array], Array]:
    """Returns `drop`, which applies a new layer wherever a network calls it.

    It is active in sampling as in training, as noise beside the latents (Isola et al.
    2017, arXiv:1611.07004, section 3.2), and uses the random stream `dropout`. At rate
    0 it does nothing and needs no stream.

    Args:
      rate: the share of values that is set to 0, in [0, 1).

    Raises:
      UserError: the rate is not in [0, 1).
    """
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise UserError(f"dropout is {rate}: it must be a number from 0 to below 1")
    return lambda x: nn.Dropout(rate, deterministic=False)(x)
