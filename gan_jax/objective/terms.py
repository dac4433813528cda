"""The kinds of terms that an experiment names, each made by a decorator.

A term is a plain function with a type that says how it is used:

    @penalty(weight=0.3, initial={"real": 0.0})
    def lecam(critic, real, fake, key, *, real_logits, memory, decay=0.99): ...

A parameter with a default is a setting, which a config may give: `lecam(decay=0.9)`. A
keyword-only parameter without a default asks for something by its name: a penalty for a
field of `Context`, an augmentation for `step` or `memory`. A function of the user's own
that has no decorator is a term with the defaults of its kind.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import jax
import numpy as np
from jax import Array

from gan_jax.errors import UserError, choices, place_of, unknown
from gan_jax.objective.signatures import misfit

MAX = 3e38  # of float32
MAX_WEIGHT = float(np.finfo(np.float32).max)


class Context(NamedTuple):
    """What a penalty may ask for by name.

    One judgement is one logit. D may make several of each example (patches, frames);
    `[judgements]` then holds all those of the first example, then those of the second.

    Attributes:
      critic: a function `(examples, condition=None) -> [judgements]`, the
        discriminator D, without augmentation. Without a second argument it takes the
        condition of `real`, as do the other functions below.
      real: `[batch, ...]`, real examples, packed where D sees packs, x.
      fake: `[batch, ...]`, generated examples, likewise, G(z).
      key: a PRNG key for what the term draws.
      real_logits: `[judgements]`, those of the loss: D(T(x)) with the augmentation T.
      fake_logits: `[judgements]`, likewise D(T(G(z))).
      real_slope: a function `() -> [batch, ...]`, the gradient by `real` of the sum of
        `real_logits`; both come from one pass.
      fake_slope: likewise, of `fake_logits` by `fake`.
      real_seen: `[batch, ...]`, T(x), what D saw of `real` in the pass of the loss.
      fake_seen: `[batch, ...]`, T(G(z)).
      condition: `[batch, ...]`, what both players are told of `real`; None in an
        unconditional GAN.
      fake_condition: `[batch, ...]`, what they are told of `fake`: it differs where
        `fake` holds earlier samples.
      example: `[batch, *shape]`, the real examples before packing.
      sample: `[batch, *shape]`, the generated examples of `latents`, before packing.
      latents: `[batch, size]`, of this update's samples; `fake` may hold earlier
        samples.
      player: 'd' or 'g', whose objective it is.
      features: a function `(examples, condition=None) -> [batch, n]`, the
        discriminator's last features. Those of `real_seen` and `fake_seen` are of the
        loss's pass, and cost no other one, as do the classes below.
      classify: a function `(examples, condition=None) -> [batch, num_classes]`, the
        logits of the discriminator's auxiliary classifier.
      generator: a function `(latents, condition=None) -> [batch, *shape]`, in training.
      params: a pytree, the parameters of the player that is updated.
      memory: a pytree of float32 arrays that is kept from step to step and starts as
        `initial`; the term then returns `(values, new_memory)`.
      step: int32 scalar, training steps made so far.
      space: the `Space` of an example.
    """

    critic: Callable
    real: Array
    fake: Array
    key: Array
    real_logits: Array
    fake_logits: Array
    condition: Array | None
    fake_condition: Array | None
    example: Array
    sample: Array
    latents: Array
    features: Callable
    classify: Callable
    generator: Callable
    params: Any
    memory: Any
    step: Array
    space: Any
    real_seen: Array
    fake_seen: Array
    real_slope: Callable | None = None
    fake_slope: Callable | None = None
    player: str = "d"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term:
    """A function with its settings.

    Attributes:
      function: the term itself.
      name: as configs, metrics and memory call it.
      settings: `(name, value)` of those that differ from their defaults.

    Raises:
      UserError: the function asks for an unknown name, takes other arguments than it is
        called with, or has no signature.
    """

    function: Callable
    name: str
    settings: tuple[tuple[str, Any], ...] = ()

    kind: ClassVar[str] = "term"  # as messages call it
    key: ClassVar[str]  # of a config, that names it
    positional: ClassVar[tuple[str, ...]]  # the arguments that it is called with
    offered: ClassVar[tuple[str, ...]] = ()  # what it may ask for
    options: ClassVar[tuple[str, ...]] = ()  # fields that a config may set

    def __post_init__(self):
        """Checks what it asks for, and takes over the function's documentation."""
        object.__setattr__(self, "__doc__", self.function.__doc__)
        object.__setattr__(self, "__wrapped__", self.function)
        if wrong := misfit(self._parameters(), self.positional, self.offered):
            raise self._error(wrong)
        for name in self.asks:
            if name not in self.offered:
                valid = choices(name, self.offered)
                raise self._error(f"asks for an unknown {name!r}{valid}")

    @functools.cached_property
    def asks(self) -> tuple[str, ...]:
        """The names of what the function asks for."""
        return tuple(
            p.name
            for p in self._parameters()
            if p.kind is p.KEYWORD_ONLY and p.default is p.empty
        )

    @functools.cached_property
    def setting_names(self) -> tuple[str, ...]:
        """The names of the function's settings."""
        return tuple(p.name for p in self._parameters() if p.default is not p.empty)

    def with_settings(self, **settings) -> Self:
        """Returns the term with other settings, or other values of its `options`.

        Raises:
          UserError: it has no setting of that name, or an option has a wrong value.
        """
        valid = {*self.options, *self.setting_names}
        for name in settings:
            if name not in valid:
                raise unknown(f"setting of {self.kind} {self.name!r}", name, valid)
        options = {n: settings.pop(n) for n in self.options if n in settings}
        changed = dict(self.settings) | {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in settings.items()
        }
        return dataclasses.replace(self, settings=tuple(changed.items()), **options)

    def __call__(self, *args, **asked):
        """Calls the function with its settings."""
        return self.function(*args, **dict(self.settings) | asked)

    def _parameters(self) -> list[inspect.Parameter]:
        try:
            return list(inspect.signature(self.function).parameters.values())
        except (ValueError, TypeError):
            message = f"{self.kind} {self.name!r} is no Python function"
            raise UserError(message) from None

    def _check_memory(self, initial):
        if "memory" in self.asks and initial is None:
            raise self._error(
                "asks for memory: say in its decorator what it starts as, initial=..."
            )

    def _check_every(self, every):
        if type(every) is not int or not 1 <= every < 2**31:
            raise UserError(
                f"{self.kind} {self.name!r}: every must be a whole number from 1 on"
            )

    def _error(self, what: str) -> UserError:
        """Returns an error that names the term, and where its function is."""
        return UserError(f"{self.kind} {self.name!r} {what}{place_of(self.function)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalty(Term):
    """A term of an objective: `(critic, real, fake, key) -> values`.

    The values are one for each example, `[batch]`, or for each judgement; the step
    takes their mean. A number of the whole batch, such as a norm of parameters, is
    broadcast. Of a term of both players only the gradient by the parameters of the
    player that is updated matters; `fake` depends on the generator's parameters in the
    generator's update alone.

    Attributes:
      weight: the factor of its mean in the objective.
      every: it is evaluated at every so many-th step and multiplied by that number
        (lazy regularisation, Karras et al. 2020, arXiv:1912.04958, appendix B). Steps
        are G's: a term of D is due in all of a step's `d_updates`.
      players: whose objective it is added to: 'd', 'g' or both.
      initial: what its memory holds before the first update; None if it has none.

    Raises:
      UserError: one of these makes no sense.
    """

    weight: float = 10.0
    every: int = 1
    players: tuple[str, ...] = ("d",)
    initial: Any = dataclasses.field(default=None, compare=False)

    kind, key = "penalty", "penalties"
    positional = Context._fields[:4]
    offered = Context._fields
    options = ("weight", "every")

    def __post_init__(self):
        """Checks how it is applied."""
        super().__post_init__()
        object.__setattr__(self, "players", tuple(self.players))
        for player in self.players:
            if player not in ("d", "g"):
                raise unknown(f"player of penalty {self.name!r}", player, ("d", "g"))
        if type(self.weight) not in (int, float) or not 0 <= self.weight <= MAX_WEIGHT:
            raise UserError(f"penalty {self.name!r}: weight must be a number from 0 on")
        self._check_every(self.every)
        self._check_memory(self.initial)

    def values(self, context: Context) -> tuple[Array, Any]:
        """Returns its values, and its new memory (None if it has none).

        No gradient passes through the memory.

        Raises:
          UserError: it has a memory and returns none, or the reverse.
        """
        asked = {name: getattr(context, name) for name in self.asks}
        found = self(*context[:4], **asked)
        if self.initial is None:
            if isinstance(found, tuple):
                raise self._error(
                    "returns a tuple and has no memory: return the values alone, or "
                    "say what the memory starts as, @penalty(initial=...)"
                )
            return found, None
        if not isinstance(found, tuple) or len(found) != 2:
            raise self._error("has a memory: it must return (values, new memory)")
        values, memory = found
        return values, jax.lax.stop_gradient(memory)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constraint(Term):
    """A projection of D's parameters after its updates: `params -> params`.

    Attributes:
      every: it is applied at every so many-th step.

    Raises:
      UserError: that is no positive whole number.
    """

    every: int = 1

    kind, key = "penalty", "penalties"  # a config names it among them
    positional = ("params",)
    options = ("every",)

    def __post_init__(self):
        """Checks how often it is applied."""
        super().__post_init__()
        self._check_every(self.every)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation(Term):
    """A change of what D sees: `(key, examples) -> examples`, both `[batch, ...]`.

    Attributes:
      images_only: it needs examples that are images.
      real_only: it is applied to real examples only, not to samples.
      initial: what its memory holds before the first update; None if it has none.
      adapt: `(memory, real_logits, num, **settings) -> memory`, called once in each
        update of D; `real_logits` are its `[judgements]` of `num` real examples. The
        entry `p` of the memory is logged.

    Raises:
      UserError: it asks for memory and has none.
    """

    images_only: bool = False
    real_only: bool = False
    initial: Any = dataclasses.field(default=None, compare=False)
    adapt: Callable | None = None

    kind, key = "augmentation", "augment"
    positional = ("key", "examples")
    offered = ("step", "memory")

    def __post_init__(self):
        """Checks that what it remembers has a start."""
        super().__post_init__()
        self._check_memory(self.initial)

    def apply(self, key: Array, examples: Array, step: Array, memory: Any) -> Array:
        """Returns the examples changed."""
        fields = {"step": step, "memory": memory}
        return self(key, examples, **{name: fields[name] for name in self.asks})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family(Term):
    """A function of settings alone that returns a `Loss`."""

    kind = key = "loss"
    positional = asks = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transform(Term):
    """A function `(loss) -> Loss` that changes a loss."""

    kind, key = "transform of the loss", "loss"
    positional = ("loss",)
    asks = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dynamics(Term):
    """A training step: `(gan, state, batch) -> (state, metrics)`.

    Attributes:
      one_d_update: it makes exactly one update of D in a step.
      evaluations: how often it calls each optimizer in an update.
      differentiates_d: it differentiates through D's optimizer.
    """

    one_d_update: bool = False
    evaluations: int = 1
    differentiates_d: bool = False

    kind = key = "step"
    positional = ("gan", "state", "batch")


def penalty(function: Callable | None = None, **options):
    """Makes a `Penalty` of a function: `@penalty`, or `@penalty(weight=0.3)`."""
    return decorated(Penalty, function, options)


def constraint(function: Callable | None = None, **options):
    """Makes a `Constraint` of a function."""
    return decorated(Constraint, function, options)


def augmentation(function: Callable | None = None, **options):
    """Makes an `Augmentation` of a function."""
    return decorated(Augmentation, function, options)


def family(function: Callable) -> Family:
    """Makes a `Family` of a function."""
    return decorated(Family, function, {})


def transform(function: Callable) -> Transform:
    """Makes a `Transform` of a function."""
    return decorated(Transform, function, {})


def dynamics(function: Callable | None = None, **options):
    """Makes a `Dynamics` of a function."""
    return decorated(Dynamics, function, options)


def decorated(kind: type[Term], function: Callable | None, options: dict[str, Any]):
    """Makes a term of a function, or a decorator that does.

    Args:
      kind: of the term.
      function: that is decorated; None for `@decorator(...)`.
      options: fields of the kind.

    Raises:
      UserError: there is no such option.
    """
    decorator = f"@{kind.__name__.lower()}"
    if function is not None and not callable(function):
        raise UserError(f"{decorator}({function!r}): write its options as NAME=VALUE")
    valid = kind.__dataclass_fields__.keys() - Term.__dataclass_fields__.keys()
    for name in options.keys() - valid:
        raise unknown(f"option of {decorator}", name, valid)
    if function is None:
        return lambda function: decorated(kind, function, options)
    return kind(function=function, name=function.__name__, **options)


# --- Settings that make no sense ------------------------------------------------------


def check_number(setting: str, value, *, below: float = MAX, zero: bool = True):
    """Refuses a setting that is no number from 0 to `below`, itself excluded."""
    fits = type(value) in (int, float) and 0 <= value < below
    if not fits or (value == 0 and not zero):
        interval = f"{'[' if zero else '('}0, {below:.6g})"
        raise UserError(f"{setting} must be a number in {interval}, not {value!r}")


def check_flag(setting: str, value):
    """Refuses a setting that is neither True nor False."""
    if not isinstance(value, bool):
        raise UserError(f"{setting} must be True or False, not {value!r}")
