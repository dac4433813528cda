"""The workloads that the benchmarks time: networks, batches and losses."""

import time

import flax.struct
import jax
import jax.numpy as jnp

from gan_jax import build
from gan_jax.data import toy
from gan_jax.data.feed import Drawn

# The networks of the DCGAN paper and its 28x28 form, an MLP on eight Gaussians, and
# SNGAN's ResNet. Adam(2e-4, b1=0.5, b2=0.999), non-saturating loss unless said.
WORKLOADS = {
    "mlp_ring": {
        "shape": (2,),
        "model": "mlp",
        "width": 128,
        "latent_size": 2,
        "discriminator": "slope=0.0",
        "batch_size": 256,
    },
    "dcgan28": {"shape": (28, 28, 1), "batch_size": 128},
    "dcgan28_r1": {"shape": (28, 28, 1), "batch_size": 128, "penalties": "r1"},
    "dcgan64": {"shape": (64, 64, 3), "batch_size": 32},
    "sngan32": {
        "shape": (32, 32, 3),
        "model": "resnet",
        "latent_size": 128,
        "loss": "hinge",
        "batch_size": 32,
    },
}


@flax.struct.dataclass
class OneBatch:
    """A feed that gives the same batch in every step."""

    images: jax.Array

    axes = None

    def window(self, step: jax.Array, n: int) -> jax.Array:
        """Returns nothing but the number of steps, as a leading axis."""
        return jnp.arange(n)

    def batch(self, drawn: jax.Array) -> dict[str, jax.Array]:
        """Returns the batch."""
        return {"image": self.images}


def setup(name: str):
    """Returns a workload's GAN, a key, and its feed."""
    arguments = dict(WORKLOADS[name])
    size = arguments.pop("batch_size")
    gan, key = build(**arguments), jax.random.key(0)
    if len(gan.shape) == 1:
        return gan, key, Drawn(key, toy.ring(), size)
    return gan, key, OneBatch(jax.random.normal(key, (size, *gan.shape)))


def compiled(function, gan, state, fed):
    """Compiles a step or a chunk, its state donated; returns it, and the seconds."""
    jax.clear_caches()  # whatever was compiled before
    start = time.perf_counter()
    program = jax.jit(function, donate_argnums=1).lower(gan, state, fed).compile()
    return program, time.perf_counter() - start
