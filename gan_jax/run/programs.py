"""The programs of a run: as training compiles them, and for devices not here."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gan_jax.algorithm import replicas
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.spaces import Classes
from gan_jax.algorithm.state import TrainState
from gan_jax.data import feed
from gan_jax.devices import mesh as devices
from gan_jax.run import grids

EVALUATED = 250  # examples that an evaluation makes at once


def init_state(gan: GAN, config: ConfigDict) -> Callable[[Any], TrainState]:
    """Returns the function from a seed to the states before the first step."""

    def init(seed):
        return replicas.init_state(gan, replicas.root_keys(seed, config.replicas))

    return init


def train_chunk(shardings: TrainState) -> jax.stages.Wrapped:
    """Returns `replicas.train_chunk` jitted, for states of these shardings.

    It donates the state.
    """
    everywhere = devices.replicated(jax.tree.leaves(shardings)[0].mesh)
    return jax.jit(
        replicas.train_chunk,
        static_argnames="n",
        donate_argnums=1,
        out_shardings=(shardings, everywhere),
    )


def sample_grid(mesh: Mesh) -> jax.stages.Wrapped:
    """Returns `replicas.sample_grid` jitted; every device gets the samples."""
    everywhere = devices.replicated(mesh)
    return jax.jit(
        replicas.sample_grid, static_argnames="num", out_shardings=everywhere
    )


def render(mesh: Mesh) -> jax.stages.Wrapped:
    """Returns `replicas.render` jitted; every device gets the samples."""
    return jax.jit(replicas.render, out_shardings=devices.replicated(mesh))


def chunk_length(config: ConfigDict, step: int) -> int:
    """Returns how many steps the next chunk makes: at most up to the next log line.

    All chunks have one length, a divisor of `log_every`, so that one program is
    compiled, except the first after a stop and the last.
    """
    most = min(config.chunk or config.log_every, config.log_every)
    length = next(n for n in range(most, 0, -1) if config.log_every % n == 0)
    to_next = length - step % length
    return min(to_next, config.num_steps - step)


def lowered(
    config: ConfigDict, source: Any, gan: GAN, mesh: Mesh
) -> dict[str, Callable[[], jax.stages.Lowered]]:
    """Returns what lowers each program of a run; no device of the mesh is used.

    Args:
      config: of the run.
      source: of its data.
      gan: the static half.
      mesh: for whose devices.

    Returns:
      `train` makes the steps of one chunk, `draw` a sample grid, and `evaluate`
      examples for the metrics.
    """
    shapes = jax.eval_shape(init_state(gan, config), np.uint32(config.seed))
    shardings = devices.shardings(shapes, mesh, config.sharding)
    state = devices.placed(shapes, shardings)
    n = chunk_length(config, 0)
    drawn = feed.planned(source, config, state.key, n, mesh)
    num, _ = grids.grid_size(gan, config.replicas)
    latents = jax.ShapeDtypeStruct((EVALUATED, gan.latent.size), jnp.float32)
    conditions = _conditions(gan, num, classes=False)
    told = _conditions(gan, EVALUATED, classes=True)
    step = np.int32(0)
    return {
        "train": lambda: train_chunk(shardings).lower(
            gan, state, drawn, n=n, step=step
        ),
        "draw": lambda: sample_grid(mesh).lower(
            gan, state, num=num, condition=conditions
        ),
        "evaluate": lambda: render(mesh).lower(gan, state, latents, told, np.uint32(0)),
    }


def _conditions(gan: GAN, num: int, classes: bool) -> jax.ShapeDtypeStruct | None:
    """Returns the shape of `num` conditions; grids draw classes by themselves."""
    space = gan.condition
    if space is None or (isinstance(space, Classes) and not classes):
        return None
    return jax.ShapeDtypeStruct((num, *space.shape), space.stored_dtype)
