"""What penalties share: norms, gradients of the critic, and moving averages."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.lax import stop_gradient

from gan_jax.errors import UserError

# `(examples, condition=None) -> [judgements]`, see `gan_jax.objective.terms.Context`.
Critic = Callable[..., Array]
Memory = dict[str, Array]


def gradient(critic: Critic, x: Array, *condition: Any) -> Array:
    """Returns the gradient by each example of the sum of its logits, `[batch, ...]`."""
    return jax.grad(lambda x: critic(x, *condition).sum())(x)


def squared_norm(x: Array) -> Array:
    """Returns the squared norm of each example, over all its dimensions, `[batch]`."""
    return jnp.square(x).sum(range(1, x.ndim))


def norm(x: Array) -> Array:
    """Returns the norm of each example, `[batch]`, with a finite derivative at zero."""
    return jnp.sqrt(squared_norm(x) + 1e-12)


def moving_averages(
    memory: Memory, values: Memory, decay: float | Array
) -> tuple[Memory, Memory]:
    """Returns the averages with `values` included, constant to the gradient.

    They are free of the bias to their initial value: those after the first update are
    `values`.

    Args:
      memory: sums that start at zero, by name, and the sum of their weights, `weight`.
      values: scalars of this update, by name.
      decay: of the weights, in [0, 1).

    Returns:
      The averages by name, and the new memory.
    """
    new = stop_gradient({**values, "weight": jnp.float32(1)})
    new = optax.tree.cast(new, jnp.float32)
    memory = optax.incremental_update(new, memory, 1 - decay)
    return {name: memory[name] / memory["weight"] for name in values}, memory


def check_latents(name: str, latents: Array) -> None:
    """Refuses a penalty on latents where they have no coordinates."""
    if not latents.shape[-1]:
        raise UserError(f"{name} needs latents: latent_size must be above 0")
