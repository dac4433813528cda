"""Gradients of an objective, by parts of a batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

from gan_jax.devices import mesh as sharding


def gradient(objective: Callable, params, carried, batch: dict, parts: int):
    """Differentiates the mean of an objective over a batch, a part at a time.

    At the memory of a part it is the gradient of the whole batch where networks take
    examples apart and the objective is a mean over them; what is of a batch (its
    statistics, means in a loss, groups, what terms remember) is of each part.

    Args:
      objective: `(params, carried, part of the batch, its number) -> (value, (carried,
        metrics))`; the number is None where there is one part.
      params: to differentiate by.
      carried: what a part hands on to the next.
      batch: leaves `[batch, ...]`.
      parts: how many; they divide the batch.

    Returns:
      The gradient, what the last part carried, and the mean of the metrics.
    """
    grad = jax.grad(objective, has_aux=True)
    if parts == 1:
        grads, (carried, metrics) = grad(params, carried, batch, None)
        return grads, carried, metrics
    split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    split = sharding.split_batch(split, axis=1)

    def add(before, part):
        total, carried = before
        grads, (carried, metrics) = grad(params, carried, *part)
        return (optax.tree.add(total, grads), carried), metrics

    start = optax.tree.zeros_like(params), carried
    (total, carried), metrics = lax.scan(add, start, (split, jnp.arange(parts)))
    return (
        optax.tree.scale(1 / parts, total),
        carried,
        jax.tree.map(lambda m: m.mean(0), metrics),
    )
