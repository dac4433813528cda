"""Spectral normalisation (Miyato et al. 2018, arXiv:1802.05957)."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from gan_jax.errors import UserError

# The collection of a player's statistics that holds the singular vectors.
COLLECTION = "spectral"


class SpectralNorm(nn.Module):
    r"""Divides each weight matrix of a layer by its largest singular value.

    A kernel $W$ is seen as a matrix with a column for each output (of a transposed
    convolution, for each input); $\sigma = v^T W u$ with $u$, $v$ from the power method
    (ibid., algorithm 1): fifteen iterations at initialisation, and `iterations`
    wherever the collection `spectral`, which holds them, is mutable, that is once in an
    update of its player; elsewhere they stay. They are constants to the gradient,
    $\sigma$ is not. They are kept in float32; the weights keep their type.

    PyTorch and the authors' Chainer code iterate in every pass in training, so two or
    three times an update of D and once in one of G. More `iterations` follow weights
    that change fast as closely.

    `flax.linen.SpectralNorm` does otherwise: it iterates once in every pass, also where
    nothing may move and at initialisation, keeps $u$ alone, and returns bfloat16
    weights as float32.

    Attributes:
      layer: a layer with a weight matrix or kernel; its parameters of one dimension,
        such as a bias, are left alone.
      iterations: of the power method in an update.
    """

    layer: nn.Module
    iterations: int = 1

    @nn.compact
    def __call__(self, *args) -> Array:
        """Applies the layer with its weights normalised."""
        if self.is_initializing():
            self.layer(*args)  # draws its parameters, which are not normalised
        normalised = nn.map_variables(
            lambda layer: layer(*args),
            "params",
            functools.partial(jax.tree_util.tree_map_with_path, self._normalise),
        )
        return normalised(self.layer)

    def _normalise(self, path, kernel: Array) -> Array:
        if kernel.ndim < 2:
            return kernel
        w = kernel.reshape(-1, kernel.shape[-1])
        name = path[-1].key
        u = self.variable(COLLECTION, f"{name}_u", self._draw, w.shape[1])
        v = self.variable(COLLECTION, f"{name}_v", self._draw, w.shape[0])
        if self.is_mutable_collection(COLLECTION):
            steps = 15 if self.is_initializing() else self.iterations
            u.value, v.value = power_iterations(w, u.value, steps)
        # Averages of unit vectors, as of an averaged generator, are shorter than one.
        sigma = _unit(v.value) @ w @ _unit(u.value)
        return (kernel / sigma).astype(kernel.dtype)

    def _draw(self, size: int) -> Array:
        return _unit(jax.random.normal(self.make_rng("params"), (size,)))


def wrapper(iterations: int) -> Callable[[nn.Module], nn.Module]:
    """Returns `SpectralNorm`, or a function that leaves a layer as it is.

    Args:
      iterations: of the power method in an update; True is 1, and 0 or False is none.

    Raises:
      UserError: it is no such number.
    """
    if not isinstance(iterations, int) or iterations < 0:
        raise UserError(
            f"spectral_norm is {iterations!r}: it is True, False, or how many power "
            "iterations an update makes"
        )
    if not iterations:
        return lambda layer: layer
    return functools.partial(SpectralNorm, iterations=int(iterations))


def power_iterations(w: Array, u: Array, steps: int) -> tuple[Array, Array]:
    r"""Iterates the power method for the leading singular vectors of `w`.

    Args:
      w: `[rows, columns]`.
      u: `[columns]`, the right singular vector so far.
      steps: how many iterations, at least 1.

    Returns:
      `u [columns]` and `v [rows]`, of unit length, so that $v^T W u$ estimates the
      largest singular value from below; they are constants to the gradient.
    """
    w = lax.stop_gradient(w).astype(u.dtype)

    def step(_, vectors):
        v = _unit(w @ vectors[0])
        return _unit(v @ w), v

    vectors = lax.stop_gradient(u), jnp.zeros(len(w), w.dtype)
    return step(0, vectors) if steps == 1 else lax.fori_loop(0, steps, step, vectors)


def _unit(x: Array) -> Array:
    return x / (jnp.linalg.norm(x) + 1e-12)
