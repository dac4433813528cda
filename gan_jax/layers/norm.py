"""Normalisation by batch, plain, by class or by latents; or by instance."""

from collections.abc import Callable

import flax.linen as nn
from jax import Array

from gan_jax.errors import unknown

# Flax's name for the collection of the statistics of batch normalisation.
COLLECTION = "batch_stats"

_MOMENTUM = 0.9
NORMS = ("batch", "instance", "none")


def norm_of(kind: str, train: bool) -> Callable[[Array], Array]:
    """Returns `norm`, which applies a new layer wherever a network calls it.

    Args:
      kind: 'batch'; 'instance', of each channel of each example over its positions
        (Ulyanov et al. 2016, arXiv:1607.08022), with a gain and a bias; or 'none'.
      train: whether to normalise by the statistics of the batch.

    Raises:
      UserError: it is none of them.
    """
    if kind not in NORMS:
        raise unknown("norm", str(kind), NORMS)
    if kind == "batch":
        return batch_norm(train)
    if kind == "instance":
        return lambda x: nn.InstanceNorm(epsilon=1e-5)(x)
    return lambda x: x


def batch_norm(
    train: bool, num_classes: int = 0, labels: Array | None = None
) -> Callable[[Array], Array]:
    """Returns `norm`, which applies a new layer wherever a network calls it.

    Args:
      train: whether to normalise by the statistics of the batch.
      num_classes: each class has its gain and bias; 0 for one of all examples.
      labels: `[batch]`, used if there are classes.
    """
    if num_classes:
        return lambda x: ConditionalBatchNorm(num_classes)(x, labels, train=train)
    return lambda x: nn.BatchNorm(not train, momentum=_MOMENTUM)(x)


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation with a gain and a bias for each class.

    Dumoulin et al. 2017 (arXiv:1610.07629), eq. 5; in a GAN, Miyato and Koyama 2018
    (arXiv:1802.05637), section 4. All classes share the mean and the variance.

    Attributes:
      num_classes: of the labels.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: Array, labels: Array, *, train: bool) -> Array:
        """Maps `[batch, ..., features]` and `[batch]` to the shape of the first."""
        plain = nn.BatchNorm(
            not train, momentum=_MOMENTUM, use_scale=False, use_bias=False
        )
        gain = 1 + self._of_class("gain", x, labels)
        return gain * plain(x) + self._of_class("bias", x, labels)

    def _of_class(self, name: str, x: Array, labels: Array) -> Array:
        zeros = nn.initializers.zeros
        embed = nn.Embed(self.num_classes, x.shape[-1], embedding_init=zeros, name=name)
        return embed(labels).reshape(x.shape[0], *(1,) * (x.ndim - 2), -1)


class LatentBatchNorm(nn.Module):
    """Batch normalisation with a gain and a bias that are linear in the latents.

    As in BigGAN (arXiv:1809.11096) and DVD-GAN (arXiv:1907.06571). It starts as plain
    batch normalisation.
    """

    @nn.compact
    def __call__(self, x: Array, latents: Array, *, train: bool) -> Array:
        """Maps `[batch, ..., features]` and `[batch, n]` to the shape of the first."""
        plain = nn.BatchNorm(
            not train, momentum=_MOMENTUM, use_scale=False, use_bias=False
        )
        gain = 1 + self._of_latents("gain", x, latents)
        return gain * plain(x) + self._of_latents("bias", x, latents)

    def _of_latents(self, name: str, x: Array, latents: Array) -> Array:
        zeros = nn.initializers.zeros
        dense = nn.Dense(x.shape[-1], kernel_init=zeros, name=name)
        return dense(latents).reshape(x.shape[0], *(1,) * (x.ndim - 2), -1)
