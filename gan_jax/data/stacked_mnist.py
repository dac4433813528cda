"""Stacked-MNIST: three random digits as the channels of one image, a thousand modes.

The set on which mode collapse is counted in images (Metz et al. 2017, arXiv:1611.02163;
Lin et al. 2018, arXiv:1712.04086). It is drawn in the compiled step.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.data import tfds
from gan_jax.data.source import Info

CHANNELS, DIGITS = 3, 10


@dataclasses.dataclass(frozen=True)
class Stacked:
    """Images of three digits that are drawn independently of each other.

    The digits are a constant of the programs that draw them: all of MNIST is 47 MB.

    Attributes:
      info: the description, which tells two such sets apart; one class per mode.
      digits: `[num, side, side]`, uint8.
      labels: of the digits, `[num]`.
    """

    info: Info
    digits: np.ndarray = dataclasses.field(compare=False, repr=False)
    labels: np.ndarray = dataclasses.field(compare=False, repr=False)

    def sample(self, key: Array, n: int) -> dict[str, Array]:
        """Draws `n` images; the condition of each is the number that it shows."""
        drawn = jax.random.randint(key, (n, CHANNELS), 0, len(self.digits))
        image = jnp.moveaxis(jnp.asarray(self.digits)[drawn], 1, -1)
        places = DIGITS ** np.arange(CHANNELS)[::-1]
        return {"example": image, "condition": jnp.asarray(self.labels)[drawn] @ places}


def load(config: ConfigDict) -> Stacked:
    """Stacks the digits of MNIST, which are found as by `data.source=tfds`.

    Raises:
      UserError: there is no such split, or MNIST is not available.
    """
    grey = config.copy_and_resolve_references()
    grey.data.update(name="mnist", channels="grey", resident_mb=2**20)  # in memory
    mnist = tfds.load(grey)
    side, about = config.image_size, mnist.info
    info = dataclasses.replace(
        about,
        name=f"stacked_mnist:{about.name}",
        example=Images((side, side, CHANNELS)),
        condition=Classes(DIGITS**CHANNELS),
        num_examples=0,
        fingerprint=f"stacked {about.fingerprint}",
    )
    return Stacked(info, mnist.examples[..., 0], mnist.conditions.astype(np.int32))
