"""Generative adversarial networks in JAX.

In a notebook:

    gan = gan_jax.build(shape=(28, 28, 1), loss="non_saturating")
    state = jax.jit(gan_jax.init_state)(gan, jax.random.key(0))
    state, metrics = jax.jit(gan_jax.train_step)(gan, state, {"image": images})
    images = gan_jax.draw(gan, state, jax.random.key(1), num=64)

Each name is documented where it is defined.
"""

from gan_jax.algorithm.chunks import train_chunk
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.latents import Latent
from gan_jax.algorithm.players import draw, generate
from gan_jax.algorithm.state import Player, TrainState
from gan_jax.algorithm.steps import d_step, g_step, init_state, train_step
from gan_jax.build.builder import build, from_config
from gan_jax.objective.losses import Loss

__all__ = [
    "GAN",
    "Latent",
    "Loss",
    "Player",
    "TrainState",
    "build",
    "d_step",
    "draw",
    "from_config",
    "g_step",
    "generate",
    "init_state",
    "train_chunk",
    "train_step",
]
