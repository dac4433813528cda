"""Optimizers of optax and schedules of the learning rate, by name."""

import functools
import inspect

import optax

from gan_jax.build import names
from gan_jax.errors import UserError, one_line, unknown
from gan_jax.objective.terms import check_number

SCHEDULES = {
    "constant": lambda rate, steps: optax.constant_schedule(rate),
    "linear": lambda rate, steps: optax.linear_schedule(rate, 0.0, steps),
    "cosine": lambda rate, steps: optax.cosine_decay_schedule(rate, steps),
}


@functools.cache  # optax makes new functions each time: GANs of one config are equal
def build(
    text: str, schedule: str, num_steps: int, updates: int = 1
) -> optax.GradientTransformation:
    """Builds an optimizer of optax from `'adam(learning_rate=2e-4, b1=0.5)'`.

    Args:
      text: the optimizer's name in optax, with its arguments.
      schedule: 'constant', or 'linear' or 'cosine' to zero at `num_steps`; each as
        `'linear(warmup=500)'` with a rise from zero over so many steps, and as
        `'linear(hold=0.5)'` it falls only after that share of the steps.
      num_steps: of the run.
      updates: how often the optimizer is called in a step.

    Raises:
      UserError: no such optimizer, argument or schedule.
    """
    name, arguments = names.one_call("optimizer", text, "NAME(learning_rate=..., ...)")
    make = names.attribute("optimizer", name, optax, _is_optimizer)
    if not callable(make):
        raise UserError(f"optimizer {name!r} is no function")
    names.accepted(make, arguments, f"optimizer {name!r}")
    if not isinstance(arguments.get("learning_rate"), int | float):
        raise UserError(f"optimizer {text!r}: give it a learning_rate=NUMBER")
    rate = _schedule(schedule, arguments.pop("learning_rate"), num_steps, updates)
    try:
        return make(learning_rate=rate, **arguments)
    except Exception as error:
        raise UserError(f"optimizer {text!r} fails: {one_line(error)}") from error


def _schedule(text: str, rate: float, num_steps: int, updates: int):
    form = "NAME or NAME(warmup=STEPS, hold=SHARE)"
    name, settings = names.one_call("schedule", text, form)
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    for key in settings.keys() - {"warmup", "hold"}:
        raise unknown(f"setting of schedule {name!r}", key, ("warmup", "hold"))
    warmup, hold = settings.get("warmup", 0), settings.get("hold", 0)
    if type(warmup) is not int or not 0 <= warmup < num_steps:
        raise UserError(
            f"schedule {text!r}: warmup must be a whole number below num_steps "
            f"({num_steps})"
        )
    check_number(f"schedule {text!r}: hold", hold, below=1)
    if name == "constant" and not warmup:
        return rate
    held = round(hold * num_steps) * updates
    fall = SCHEDULES[name](rate, num_steps * updates - held)
    whole = optax.join_schedules([optax.constant_schedule(rate), fall], [held])
    rise = optax.linear_schedule(0.0, 1.0, warmup * updates)
    return (lambda count: rise(count + 1) * whole(count)) if warmup else whole


def _is_optimizer(value) -> bool:
    return inspect.isfunction(value) and (
        next(iter(inspect.signature(value).parameters), "") == "learning_rate"
    )
