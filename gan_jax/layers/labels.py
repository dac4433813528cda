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
    conditioning: str,
    num_classes: int,
    valid: tuple[str, ...],
    condition: Array | None,
) -> dict[str, int]:
    """Returns how many classes enter a network in each way: all in one, 0 in others.

    Args:
      conditioning: the network's field of that name, '' for the first way.
      num_classes: of the labels, 0 for an unconditional network.
      valid: the ways that the network has.
      condition: what the network was called with, labels `[batch]` or None.

    Raises:
      UserError: there is no such way, or the condition is not labels of these classes.
    """
    if conditioning and not num_classes:
        raise UserError(
            f"conditioning={conditioning!r} needs class labels: set "
            "--config.conditional=True and take data that has them"
        )
    if conditioning and conditioning not in valid:
        raise unknown("conditioning", str(conditioning), valid)
    if num_classes and condition is None:
        raise UserError(f"a network with {num_classes} classes needs class labels")
    if condition is not None and not num_classes:
        raise UserError(
            "this network takes no condition but class labels: for a condition of "
            "another kind set --config.model to a file of your own"
        )
    return {way: num_classes * (way == (conditioning or valid[0])) for way in valid}


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
        """Maps `[batch, size]` and `[batch]` to `[batch, size + features]`.

        Raises:
          UserError: the size is 0 and there is nothing to append.
        """
        if self.num_classes:
            embedding = nn.Embed(self.num_classes, self.features)(labels)
            return jnp.concatenate([latents, embedding], -1)
        if not latents.shape[-1]:
            raise UserError(
                "latent_size is 0 and no class label is appended to the latents: the "
                "generator has no input (set --config.latent_size above 0, or "
                "--config.conditional=True with conditioning='concatenation')"
            )
        return latents


class LabelledExamples(nn.Module):
    """Appends a learned embedding of the label to D's input (arXiv:1411.1784).

    A feature map `[batch, ..., channels]` gets one more channel, with a value for each
    position; vectors `[batch, size]` get `features` more coordinates.

    Attributes:
      num_classes: 0 leaves the examples as they are.
      features: size of the embedding that vectors get.
    """

    num_classes: int
    features: int = 50

    @nn.compact
    def __call__(self, x: Array, labels: Array | None) -> Array:
        """Maps `[batch, ..., c]` to `[batch, ..., c + 1]`, or vectors to longer."""
        if not self.num_classes:
            return x
        positions = x.shape[1:-1]
        shape = (*positions, 1) if positions else (self.features,)
        embed = nn.Embed(
            self.num_classes, math.prod(shape), embedding_init=nn.initializers.normal(1)
        )
        embedding = embed(labels).reshape(x.shape[0], *shape)
        return jnp.concatenate([x, embedding], -1)


class Logits(nn.Module):
    """The last layer of a discriminator, with the label's projection added.

    Adds the inner product of the features with an embedding of the label (Miyato and
    Koyama 2018, arXiv:1802.05637, eq. 3). An auxiliary classifier (Odena et al. 2017,
    arXiv:1610.09585) does not see the label.

    Where the collection `intermediates` is mutable, it receives `features [batch,
    features]` and, from the classifier, `class_logits [batch, auxiliary]`.

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
        self._sow("features", features)
        logits = self._dense(1, features)[:, 0]
        if self.auxiliary:
            self._sow("class_logits", self._dense(self.auxiliary, features))
        if not self.num_classes:
            return logits
        embed = nn.Embed(
            self.num_classes, features.shape[-1], embedding_init=self.kernel_init
        )
        return logits + (self.wrap(embed)(labels) * features).sum(-1)

    def _dense(self, size: int, features: Array) -> Array:
        return self.wrap(nn.Dense(size, kernel_init=self.kernel_init))(features)

    def _sow(self, name: str, value: Array) -> None:
        """Leaves the value itself, where Flax's default is a tuple of all values."""
        self.sow("intermediates", name, value, lambda _, new: new, lambda: None)
