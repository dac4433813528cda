"""Games of small networks with one term and no loss, in which a term is called."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.gradients import d_gradient, g_gradient
from gan_jax.algorithm.objectives import initial_memory
from gan_jax.algorithm.spaces import Classes, Images, Pair, Points, Space
from gan_jax.algorithm.state import TrainState
from gan_jax.algorithm.steps import init_state
from gan_jax.build import preflight
from gan_jax.build.builder import build
from gan_jax.devices.mesh import make_mesh
from gan_jax.diagnostics.toys import Smooth
from gan_jax.errors import UserError
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import Constraint, Penalty

BATCH = 8
_NOTHING = Loss(d=lambda real, fake: 0 * real, g=lambda fake, real: 0 * fake)


@dataclasses.dataclass(frozen=True)
class Trial:
    """A game of small networks with one term and no loss.

    Attributes:
      gan: the game.
      batch: of it.
    """

    gan: GAN
    batch: dict

    @functools.cached_property
    def state(self) -> TrainState:
        """The start, with parameters in general position: no bias is zero."""
        key = jax.random.key(0)
        shapes = jax.eval_shape(init_state, self.gan, key)
        random = np.random.default_rng(0)

        def drawn(of):
            draw = functools.partial(random.normal, 0, 0.6)
            return jax.tree.map(lambda x: jnp.float32(draw(x.shape)), of)

        g, d = ({"params": drawn(player.params)} for player in (shapes.g, shapes.d))
        return shapes.replace(
            step=jnp.int32(0),
            key=key,
            g=shapes.g.replace(**g),
            d=shapes.d.replace(**d),
            ema=g,
            memory=initial_memory(self.gan),
        )

    def evaluate(self, player: str, state: TrainState) -> tuple[Array, Any, Any]:
        """Returns the penalty's mean, its gradient by the player, and its memory."""
        gradient_of = {"d": d_gradient, "g": g_gradient}[player]
        made = gradient_of(self.gan, state, self.batch)
        (name,) = (penalty.name for penalty in self.gan.penalties)
        prefix = {"d": "penalty_", "g": "g_penalty_"}[player]
        return made.metrics[prefix + name], made.grads, made.memory.get(name)


def with_players(state: TrainState, memory: Any = None, **params) -> TrainState:
    """Returns the state with other parameters of players, or another memory.

    Args:
      state: of a GAN with at most one term that has a memory.
      memory: of that term; None leaves it.
      **params: by player, `d` and `g`.
    """
    players = {
        name: getattr(state, name).replace(params=of) for name, of in params.items()
    }
    memory = {name: memory for name in state.memory if memory is not None}
    return state.replace(**players, memory=state.memory | memory)


def fitting(term: Penalty | Constraint) -> Trial:
    """Returns the first game that the term fits: of points, images, or conditions.

    The last one is of pairs that are their own condition.

    Raises:
      UserError: it fits none of them; why is that of the simplest one in which the
        function runs.
    """
    points, images, classes = Points((2,)), Images((4, 4, 1)), Classes(3)
    pairs = Pair((2, 4, 4, 1))
    conditions = [None]
    if {"condition", "classify"} & set(term.asks):
        # Images first: labels broadcast against an example by mistake.
        conditions = [classes] if "classify" in term.asks else [images, classes]
    games = [(e, c) for c in conditions for e in (points, images)]
    games.append((pairs, pairs))
    errors = []
    for example, condition in games:
        try:
            return _checked(term, example, condition)
        except UserError as error:
            errors.append(error)
    ran = [error for error in errors if " returns " in str(error)]
    raise (ran or errors)[0]


def _checked(term: Penalty | Constraint, example: Space, condition: Any) -> Trial:
    how = {"model": Smooth, "latent_size": 3, "optimizer": "sgd(learning_rate=1.0)"}
    if isinstance(term, Penalty):
        term = dataclasses.replace(term, weight=1.0)
    key = "penalties" if isinstance(term, Penalty) else "constraints"
    gan = build(example, condition, loss=_NOTHING, **how)
    gan = dataclasses.replace(gan, **{key: (term,)})
    preflight.check(gan, BATCH, make_mesh(1))
    batch = {"example": jnp.tanh(_normal(0, BATCH, *example.shape))}
    if condition is not None:
        told = jnp.tanh(_normal(1, BATCH, *condition.shape))
        classes = isinstance(condition, Classes)
        batch["condition"] = jnp.arange(BATCH) % 3 if classes else told
    return Trial(gan, batch)


def _normal(seed: int, *shape: int) -> Array:
    return jax.random.normal(jax.random.key(seed), shape)
