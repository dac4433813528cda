"""Optimizers and schedules by name, gradients by parts, the averaged generator."""

import dataclasses
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from gan_jax import resolve, sharding
from gan_jax.errors import UserError, unknown
from gan_jax.resolve import one_line

SCHEDULES = {
    "constant": lambda rate, steps: optax.constant_schedule(rate),
    "linear": lambda rate, steps: optax.linear_schedule(rate, 0.0, steps),
    "cosine": lambda rate, steps: optax.cosine_decay_schedule(rate, steps),
}


def build(
    text: str, schedule: str, num_steps: int, updates: int = 1
) -> optax.GradientTransformation:
    """Builds an optimizer of optax from `'adam(learning_rate=2e-4, b1=0.5)'`.

    Args:
      text: the optimizer's name in optax, with its arguments.
      schedule: 'constant', or 'linear' or 'cosine' to zero at `num_steps`; each as
        `'linear(warmup=500)'` with a rise from zero over so many steps.
      num_steps: how many steps the run makes.
      updates: how often it is called in a step.

    Raises:
      UserError: no such optimizer, argument or schedule.
    """
    name, arguments = one_call("optimizer", text, "NAME(learning_rate=..., ...)")
    make = resolve.attribute("optimizer", name, optax, _is_optimizer)
    if not callable(make):
        raise UserError(f"optimizer {name!r} is no function")
    resolve.accepted(make, arguments, f"optimizer {name!r}")
    if not isinstance(arguments.get("learning_rate"), int | float):
        raise UserError(f"optimizer {text!r}: give it a learning_rate=NUMBER")
    rate = _schedule(schedule, arguments.pop("learning_rate"), num_steps, updates)
    try:
        return make(learning_rate=rate, **arguments)
    except Exception as error:
        raise UserError(f"optimizer {text!r} fails: {one_line(error)}") from error


def one_call(kind: str, text: str, form: str) -> tuple[str, dict]:
    """Parses a text that names one thing.

    Raises:
      UserError: it names none, or more.
    """
    calls = resolve.parse_calls(text)
    if len(calls) != 1:
        raise UserError(f"{kind} {text!r}: write one {form}")
    return calls[0]


def _schedule(text: str, rate: float, num_steps: int, updates: int):
    name, how = one_call("schedule", text, "NAME or NAME(warmup=STEPS)")
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    for key in how.keys() - {"warmup"}:
        raise unknown(f"setting of schedule {name!r}", key, ("warmup",))
    warmup = how.get("warmup", 0)
    if type(warmup) is not int or not 0 <= warmup < num_steps:
        raise UserError(
            f"schedule {text!r}: warmup must be a whole number below num_steps "
            f"({num_steps})"
        )
    if name == "constant" and not warmup:
        return rate
    whole = SCHEDULES[name](rate, num_steps * updates)
    rise = optax.linear_schedule(0.0, 1.0, warmup * updates)
    return (lambda count: rise(count + 1) * whole(count)) if warmup else whole


def _is_optimizer(value) -> bool:
    return inspect.isfunction(value) and (
        next(iter(inspect.signature(value).parameters), "") == "learning_rate"
    )


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


@dataclasses.dataclass(frozen=True)
class Average:
    """An exponential moving average of the generator.

    Attributes:
      rate: the weight of the average in an update, in [0, 1). It is at most
        `(1 + step) / (10 + step)`, so that the average forgets the initial weights at
        once and is worth sampling from the first steps on.
      halflife: in images that D has been shown; where it is above 0 it takes the
        place of `rate`: after so many images a generator counts half (Karras et al.
        2020, arXiv:1912.04958).
      rampup: the half-life is at most this share of the images seen so far (Karras et
        al. 2020, arXiv:2006.06676, appendix C: 0.05); 0 for no such bound.
    """

    rate: float = 0.999
    halflife: float = 0.0
    rampup: float = 0.05

    def decay(self, step: Array, batch_size: int) -> Array:
        """Returns the weight of the average in the update of a step."""
        if not self.halflife:
            return jnp.minimum(self.rate, (1 + step) / (10 + step))
        halflife = self.halflife
        if self.rampup:
            halflife = jnp.minimum(halflife, self.rampup * batch_size * step)
        return 0.5 ** (batch_size / jnp.maximum(halflife, 1e-8))

    def update(self, average, new, step: Array, batch_size: int):
        """Moves the average towards `new`.

        Args:
          average: a pytree, the average so far.
          new: a pytree like it.
          step: how many updates the average has seen.
          batch_size: images in an update.
        """
        decay = self.decay(step, batch_size)
        return optax.incremental_update(new, average, 1 - decay)
