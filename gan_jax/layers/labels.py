"""How class labels enter the two players."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


class LabelledLatents(nn.Module):
    """Appends a learned embedding of the label to the latents (arXiv:1411.1784).

    Attributes:
      num_classes: 0 leaves the latents as they are.
      features: size of the embedding.
    """

    num_classes: int
    features: int = 50

    @nn.compact
    def __call__(self, latents: Array, labels: Array | None) -> Array:
        """Maps `[batch, size]` and `[batch]` to `[batch, size + features]`."""
        if not self.num_classes:
            return latents
        embedding = nn.Embed(self.num_classes, self.features)(labels)
        return jnp.concatenate([latents, embedding], -1)


class Logits(nn.Module):
    """The last layer of a discriminator, with the label's projection added.

    Adds the inner product of the features with an embedding of the label (Miyato and
    Koyama 2018, arXiv:1802.05637, eq. 3).

    Attributes:
      num_classes: 0 for an unconditional discriminator.
      kernel_init: initialiser of the weights.
      wrap: what wraps each layer, such as `SpectralNorm`.
    """

    num_classes: int
    kernel_init: Callable = nn.initializers.lecun_normal()
    wrap: Callable = lambda layer: layer

    @nn.compact
    def __call__(self, features: Array, labels: Array | None) -> Array:
        """Maps `[batch, features]` and `[batch]` to logits `[batch]`."""
        logits = self.wrap(nn.Dense(1, kernel_init=self.kernel_init))(features)[:, 0]
        if not self.num_classes:
            return logits
        embed = nn.Embed(
            self.num_classes, features.shape[-1], embedding_init=self.kernel_init
        )
        return logits + (self.wrap(embed)(labels) * features).sum(-1)
