"""Self-attention over the positions of a feature map."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError
from gan_jax.layers.conv import Conv


class SelfAttention(nn.Module):
    r"""Adds self-attention to a feature map (Zhang et al. 2019, arXiv:1805.08318).

    Section 3, $x + \gamma\, W_o \sum_j \mathrm{softmax}_j(q_i \cdot k_j)\, v_j$ with
    $\gamma = 0$ at first. Keys and values are max-pooled 2x2, and values have half the
    channels, as in the authors' code and in BigGAN (arXiv:1809.11096).

    Attributes:
      wrap: what wraps each layer, such as `SpectralNorm`.
    """

    wrap: Callable = lambda layer: layer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[batch, h, w, channels]`, height and width even, to the same shape."""
        channels = x.shape[-1]
        q = self._project(x, channels // 8)
        k = max_pool(self._project(x, channels // 8))
        v = max_pool(self._project(x, channels // 2))
        h = self._project(attend(q, k, v), channels)
        return x + self.param("gamma", nn.initializers.zeros, ()) * h

    def _project(self, x: Array, features: int) -> Array:
        conv = Conv(max(features, 1), kernel=1, stride=1, padding=0, use_bias=False)
        return self.wrap(conv)(x)


def attend(q: Array, k: Array, v: Array) -> Array:
    """Averages the values, weighted by the softmax of `q` and `k`'s inner products.

    Args:
      q: `[batch, h, w, size]`.
      k: `[batch, h', w', size]`.
      v: `[batch, h', w', features]`.

    Returns:
      `[batch, h, w, features]`.
    """
    products = jnp.einsum("bhwc,bijc->bhwij", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(products, (-2, -1)).astype(v.dtype)
    return jnp.einsum("bhwij,bijc->bhwc", weights, v)


def max_pool(x: Array) -> Array:
    """Takes the maximum of 2x2 pixels: `[batch, 2h, 2w, c]` to `[batch, h, w, c]`."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def attended(side: int, sides: list[int], what: str) -> int | None:
    """Returns which block self-attention follows; None for side 0.

    Args:
      side: of the feature map to attend to, that of the first block with this side.
      sides: of the feature maps of all blocks.
      what: the network, as messages call it.

    Raises:
      UserError: no block has a feature map of that side.
    """
    if side and side not in sides:
        valid = ", ".join(map(str, sorted(set(sides))))
        raise UserError(
            f"attention is {side}: the feature maps of {what} have side {valid} "
            "(0 for no attention)"
        )
    return sides.index(side) if side else None
