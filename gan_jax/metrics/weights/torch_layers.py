"""Layers of PyTorch as parameters of a Flax network with the same layers.

A layer is dense, or a convolution with batch normalisation behind it. The latter is
folded into the former: a scale of the kernel, and a bias.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gan_jax.metrics.weights import files
from gan_jax.metrics.weights.files import Weights

# From a layer's path in Flax, joined by dots, to the names in PyTorch of its kernel's
# and its normalisation's modules; the latter is '' for a dense layer.
Names = Callable[[str], tuple[str, str]]

_EPSILON = 1e-3  # of batch normalisation
_NORM = ("weight", "bias", "running_mean", "running_var")


def parameters(weights: Weights, network: nn.Module, size: int, names: Names) -> dict:
    """Returns the parameters of a network, of weights under PyTorch's names.

    Args:
      weights: of the network, or so it is hoped.
      network: of images `[n, size, size, 3]`; each of its layers has a kernel and a
        bias. A dense layer with normalisation is a 1x1 convolution in PyTorch.
      size: height and width of an image.
      names: of each layer in PyTorch.

    Raises:
      UserError: a tensor is missing, is not the network's, or has the wrong shape.
    """
    wanted = shapes(network, size, names)
    tensors = files.checked(weights, wanted, ignored="num_batches_tracked")
    params = {}
    for path, shape in _kernels(network, size).items():
        kernel, bias = layer(tensors, *names(".".join(path)))
        params[*path, "kernel"] = kernel.reshape(shape)
        params[*path, "bias"] = bias
    return unflatten_dict(params)


def shapes(network: nn.Module, size: int, names: Names) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a network's tensors in PyTorch, by their names."""
    found = {}
    for path, (*window, inputs, features) in _kernels(network, size).items():
        weight, norm = names(".".join(path))
        if norm:
            window = window or (1, 1)
        found[f"{weight}.weight"] = (features, inputs, *window)
        rest = [f"{norm}.{key}" for key in _NORM] if norm else [f"{weight}.bias"]
        found |= dict.fromkeys(rest, (features,))
    return found


@functools.cache
def _kernels(network: nn.Module, size: int) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Returns the shape of each layer's kernel, by the layer's path."""
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    flat = flatten_dict(params).items()
    return {path[:-1]: leaf.shape for path, leaf in flat if path[-1] == "kernel"}


def layer(
    tensors: dict[str, np.ndarray], weight: str, norm: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a layer's kernel, features last, and bias: computed in float64."""
    kernel = np.moveaxis(tensors[f"{weight}.weight"], (1, 0), (-2, -1))
    if not norm:
        return kernel, tensors[f"{weight}.bias"]
    scale, bias, mean, variance = (
        tensors[f"{norm}.{key}"].astype(np.float64) for key in _NORM
    )
    scale /= np.sqrt(variance + _EPSILON)
    return (kernel * scale).astype(np.float32), (bias - mean * scale).astype(np.float32)
