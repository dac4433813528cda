"""Penalties on parameters, and constraints that they are projected to."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from gan_jax.objective.penalties.shared import Critic
from gan_jax.objective.terms import check_flag, check_number, constraint, penalty


@penalty(weight=1e-4)
def orthogonal(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    params: Any,
    relaxed: bool = False,
) -> Array:
    r"""Returns $\sum_W \|W^T W - I\|_F^2$ over the discriminator's weights.

    BigGAN (arXiv:1809.11096), eq. 2; its authors' code has half the gradient of this,
    and Brock et al. 2017 (arXiv:1609.07093) sum absolute values. A kernel is seen as a
    matrix with a column for each output, and that of a transposed convolution with one
    for each input, since it is stored as the kernel of the convolution that it
    transposes. Embeddings are left out, as the authors leave out G's: their rows are
    looked up one by one.

    Settings:
      relaxed: do not penalise the lengths of the columns,
        $\|W^T W \odot (1 - I)\|_F^2$ (ibid., eq. 3).

    Raises:
      UserError: `relaxed` is neither True nor False.
    """
    check_flag("orthogonal: relaxed", relaxed)
    return jnp.broadcast_to(_orthogonality(params, relaxed), len(real))


@penalty(weight=1e-4, players=("g",))
def g_orthogonal(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    params: Any,
    relaxed: bool = False,
) -> Array:
    """Returns what `orthogonal` does, of the generator's weights.

    Raises:
      UserError: `relaxed` is neither True nor False.
    """
    check_flag("g_orthogonal: relaxed", relaxed)
    return jnp.broadcast_to(_orthogonality(params, relaxed), len(real))


@constraint
def weight_clipping(params: Any, *, limit: float = 0.01) -> Any:
    """Returns the discriminator's parameters, each clipped to [-limit, limit].

    Arjovsky et al. 2017 (arXiv:1701.07875), algorithm 1: the parameters are clipped
    after each update of a Wasserstein critic. (The authors' code clips them before.)

    Settings:
      limit: the greatest magnitude.

    Raises:
      UserError: the limit is no positive number.
    """
    check_number("weight_clipping: limit", limit, zero=False)
    return optax.tree.clip(params, -limit, limit)


def _orthogonality(params: Any, relaxed: bool) -> Array:
    total = jnp.float32(0)
    for path, kernel in jax.tree_util.tree_leaves_with_path(params):
        is_embedding = jax.tree_util.keystr(path[-1:], simple=True) == "embedding"
        if kernel.ndim < 2 or is_embedding:
            continue
        w = kernel.reshape(-1, kernel.shape[-1])
        gram, identity = w.T @ w, jnp.eye(w.shape[1])
        error = gram * (1 - identity) if relaxed else gram - identity
        total += jnp.square(error).sum()
    return total
