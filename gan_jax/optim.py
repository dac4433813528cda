"""Optimizers and learning-rate schedules by name, and the averaged generator."""

import inspect

import jax.numpy as jnp
import optax
from jax import Array

from gan_jax import resolve
from gan_jax.errors import UserError, unknown
from gan_jax.resolve import one_line

SCHEDULES = {
    "constant": lambda rate, steps: rate,
    "linear": lambda rate, steps: optax.linear_schedule(rate, 0.0, steps),
    "cosine": lambda rate, steps: optax.cosine_decay_schedule(rate, steps),
}


def build(text: str, schedule: str, num_updates: int) -> optax.GradientTransformation:
    """Builds an optimizer of optax from `'adam(learning_rate=2e-4, b1=0.5)'`.

    Args:
      text: the optimizer's name in optax, with its arguments.
      schedule: 'constant', or 'linear' or 'cosine' to zero at `num_updates`.
      num_updates: how many updates the run makes.

    Raises:
      UserError: no such optimizer, argument or schedule.
    """
    calls = resolve.parse_calls(text)
    if len(calls) != 1:
        raise UserError(f"optimizer {text!r}: write one NAME(learning_rate=..., ...)")
    (name, arguments) = calls[0]
    make = resolve.attribute("optimizer", name, optax, _is_optimizer)
    if not callable(make):
        raise UserError(f"optimizer {name!r} is no function")
    resolve.accepted(make, arguments, f"optimizer {name!r}")
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    if not isinstance(arguments.get("learning_rate"), int | float):
        raise UserError(f"optimizer {text!r}: give it a learning_rate=NUMBER")
    rate = SCHEDULES[schedule](arguments.pop("learning_rate"), num_updates)
    try:
        return make(learning_rate=rate, **arguments)
    except Exception as error:
        raise UserError(f"optimizer {text!r} fails: {one_line(error)}") from error


def _is_optimizer(value) -> bool:
    return inspect.isfunction(value) and (
        next(iter(inspect.signature(value).parameters), "") == "learning_rate"
    )


def ema(average, new, decay: float, step: Array):
    """Moves an exponential moving average towards `new`.

    The decay is at most `(1 + step) / (10 + step)`, so that the average forgets the
    initial weights at once and is worth sampling from the first steps on.

    Args:
      average: a pytree, the average so far.
      new: a pytree like it.
      decay: the weight of the average, in [0, 1).
      step: how many updates the average has seen.
    """
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(new, average, 1 - decay)
