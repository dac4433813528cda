"""How class labels enter the two players."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError, unknown

G_CONDITIONING = ("concatenation", "batch_norm")
D_CONDITIONING = ("projection", "concatenation", "auxiliary")


def classes_by_conditioning(
    given: str, num_classes: int, valid: tuple[str, ...]
) -> dict[str, int]:
    """Returns how many classes enter a network in each way: all in one, 0 in others.

    Args:
      given: the field `conditioning` of a network, '' for the first way.
      num_classes: of the labels, 0 for none.
      valid: the ways that the network has.

    Raises:
      UserError: it is none of them, or there are no labels.
    """
    if given and not num_classes:
        raise UserError(
            f"conditioning={given!r} needs class labels: set --config.conditional=True "
            "and take data that has them"
        )
    if given and given not in valid:
        raise unknown("conditioning", str(given), valid)
    return {way: num_classes * (way == (given or valid[0])) for way in valid}


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


class LabelledExamples(nn.Module):
    """Appends a learned embedding of the label to what D is shown (arXiv:1411.1784).

    An image gets it as one more channel, of the size of pixels at first.

    Attributes:
      num_classes: 0 leaves the examples as they are.
      features: size of the embedding beside vectors.
    """

    num_classes: int
    features: int = 50

    @nn.compact
    def __call__(self, x: Array, labels: Array | None) -> Array:
        """Maps `[batch, h, w, c]` to `[batch, h, w, c + 1]`, or vectors to longer."""
        if not self.num_classes:
            return x
        shape = (*x.shape[1:-1], 1) if x.ndim > 2 else (self.features,)
        embed = nn.Embed(
            self.num_classes, math.prod(shape), embedding_init=nn.initializers.normal(1)
        )
        embedding = embed(labels).reshape(len(x), *shape)
        return jnp.concatenate([x, embedding], -1)


class Logits(nn.Module):
    """The last layer of a discriminator, with the label's projection added.

    Adds the inner product of the features with an embedding of the label (Miyato and
    Koyama 2018, arXiv:1802.05637, eq. 3). An auxiliary classifier (Odena et al. 2017,
    arXiv:1610.09585) is not told the label.

    Where the collection `intermediates` is mutable, it gets `features [batch,
    features]` and, of the classifier, `class_logits [batch, auxiliary]`.

    Attributes:
      num_classes: of the labels that are projected; 0 for none.
      kernel_init: initialiser of the weights.
      wrap: what wraps each layer, such as `SpectralNorm`.
      auxiliary: classes that an auxiliary classifier tells apart; 0 for none.
    """

    num_classes: int
    kernel_init: Callable = nn.initializers.lecun_normal()
    wrap: Callable = lambda layer: layer
    auxiliary: int = 0

    @nn.compact
    def __call__(self, features: Array, labels: Array | None) -> Array:
        """Maps `[batch, features]` and `[batch]` to logits `[batch]`."""
        self._show("features", features)
        logits = self._dense(1, features)[:, 0]
        if self.auxiliary:
            self._show("class_logits", self._dense(self.auxiliary, features))
        if not self.num_classes:
            return logits
        embed = nn.Embed(
            self.num_classes, features.shape[-1], embedding_init=self.kernel_init
        )
        return logits + (self.wrap(embed)(labels) * features).sum(-1)

    def _dense(self, size: int, features: Array) -> Array:
        return self.wrap(nn.Dense(size, kernel_init=self.kernel_init))(features)

    def _show(self, name: str, value: Array) -> None:
        self.sow("intermediates", name, value, lambda _, new: new, lambda: None)
