"""Generative adversarial networks in JAX, for research.

    gan = gan_jax.build(gan_jax.Images((28, 28, 1)), loss="hinge", penalties="r1")
    state = jax.jit(gan_jax.init_state)(gan, jax.random.key(0))
    state, metrics = jax.jit(gan_jax.train_step)(gan, state, {"example": images})
    samples = gan_jax.draw(gan, state, jax.random.key(1), num=16)

`images` are uint8 `[batch, 28, 28, 1]`; docs/notebook.md has a page of this that can be
pasted. A `GAN` is everything static, a `TrainState` is arrays alone, and every function
here but `load` and `load_generator` is pure: it works unjitted, under `jit`, under
`vmap` over seeds, and on a mesh. Here are only the names that notebooks and files of
your own need, and each is documented where it is defined. The algorithm starts at
`gan_jax.algorithm.steps.train_step`. A training run on disk is
`gan_jax.run.training.train(config, path)`, and the commands are
`python -m gan_jax.train`, `gan_jax.runs`, `gan_jax.sample`, `gan_jax.translate`,
`gan_jax.evaluate`, `gan_jax.export` and `gan_jax.check`.
"""

from gan_jax.algorithm.chunks import train_chunk
from gan_jax.algorithm.gan import GAN
from gan_jax.algorithm.latents import Latent
from gan_jax.algorithm.players import discriminate, draw, generate
from gan_jax.algorithm.spaces import (
    Classes,
    Images,
    Pair,
    PianoRoll,
    Points,
    Space,
    Video,
)
from gan_jax.algorithm.state import Player, TrainState
from gan_jax.algorithm.steps import d_step, g_step, init_state, train_step
from gan_jax.build.builder import build, from_config
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import augmentation, penalty
from gan_jax.run.restore import load, load_generator

__all__ = [
    "GAN",
    "Classes",
    "Images",
    "Latent",
    "Loss",
    "Pair",
    "PianoRoll",
    "Player",
    "Points",
    "Space",
    "TrainState",
    "Video",
    "augmentation",
    "build",
    "d_step",
    "discriminate",
    "draw",
    "from_config",
    "g_step",
    "generate",
    "init_state",
    "load",
    "load_generator",
    "penalty",
    "train_chunk",
    "train_step",
]
