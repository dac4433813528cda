"""A small classifier of grey images of 28x28, trained on MNIST by this project.

Its weights are in this package; `scripts/train_features.py` made them, and its
docstring has the recipe and the accuracy. The layers are those of LeNet-5 (LeCun et al.
1998), wider, with ReLU and max pooling.

An image of three channels is three digits, as in Stacked-MNIST: their features are
joined, and a class is a number of three digits, whose logit is the sum of theirs.
"""

import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from gan_jax.errors import UserError
from gan_jax.layers.conv import Conv
from gan_jax.metrics.features.extractor import Extractor, Outputs
from gan_jax.metrics.weights import files

SIDE, NUM_CLASSES = 28, 10


class LeNet(nn.Module):
    """Two convolutions and two dense layers.

    Attributes:
      width: channels of the first convolution; of the second, twice as many.
      features: units of the layer before the logits.
      dropout: rate of its inputs and outputs, in training.
    """

    width: int = 32
    features: int = 128
    dropout: float = 0.4

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False) -> tuple[Array, Array]:
        """Maps `[batch, 28, 28, 1]` in [0, 1] to features, after ReLU, and logits."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        h = images - 0.13  # the mean of MNIST
        for channels in (self.width, 2 * self.width):
            h = nn.relu(Conv(channels, kernel=5, stride=1, padding=0)(h))
            # Not nn.max_pool, whose gradient is slow on a CPU.
            n, side, *_ = h.shape
            h = h.reshape(n, side // 2, 2, side // 2, 2, channels).max((2, 4))
        h = drop(h.reshape(len(h), -1))
        features = nn.relu(nn.Dense(self.features)(h))
        return features, nn.Dense(NUM_CLASSES)(drop(features))


def load(weights: str | None = None) -> Extractor:
    """Returns the extractor.

    Args:
      weights: a file that `scripts/train_features.py` wrote; by default, ours.

    Raises:
      UserError: the file is damaged, or holds other weights.
    """
    found = files.read(weights or Path(__file__).with_suffix(".safetensors"))
    network, image = LeNet(), jax.ShapeDtypeStruct((1, SIDE, SIDE, 1), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    wanted = {name: x.shape for name, x in flatten_dict(shapes, sep="/").items()}
    params = unflatten_dict(files.checked(found, wanted), sep="/")

    def apply(variables: Any, images: Array) -> Outputs:
        if images.shape[1:] not in ((SIDE, SIDE, 1), (SIDE, SIDE, 3)):
            shape = "x".join(map(str, images.shape[1:]))
            raise UserError(
                f"mnist_lenet is for grey images of {SIDE}x{SIDE}x1, or three of them "
                f"as {SIDE}x{SIDE}x3, and these are {shape}: take another extractor, "
                "such as inception"
            )
        digits = jnp.moveaxis(images, -1, 1).reshape(-1, SIDE, SIDE, 1)
        features, logits = network.apply(variables, digits.astype(jnp.float32) / 255)
        logits = logits.reshape(len(images), -1, NUM_CLASSES)
        joint = functools.reduce(_joint, jnp.moveaxis(logits, 1, 0))
        return Outputs(features.reshape(len(images), -1), joint)

    variables = {"params": params}
    return Extractor("mnist_lenet", "1", found.sha256, "FD-LeNet", variables, apply)


def _joint(first: Array, second: Array) -> Array:
    """Returns the logits `[n, a * b]` of pairs of two independent classes."""
    return (first[:, :, None] + second[:, None]).reshape(len(first), -1)
