"""The workloads that the benchmarks time: networks, batches and losses."""

import time

import flax.struct
import jax
import jax.numpy as jnp

from gan_jax import Images, Pair, Points, build
from gan_jax.algorithm.replicas import root_keys
from gan_jax.data import toy
from gan_jax.data.feed import Drawn

# The networks of the DCGAN paper and its 28x28 form, an MLP on eight Gaussians, SNGAN's
# ResNet, and two translators of images. Adam(2e-4, b1=0.5, b2=0.999), non-saturating
# loss by default.
WORKLOADS = {
    "mlp_ring": {
        "example": Points((2,)),
        "model": "mlp",
        "width": 128,
        "latent_size": 2,
        "discriminator": "slope=0.0",
        "batch_size": 256,
    },
    "dcgan28": {"example": Images((28, 28, 1)), "batch_size": 128},
    "dcgan28_r1": {
        "example": Images((28, 28, 1)),
        "batch_size": 128,
        "penalties": "r1",
    },
    "dcgan64": {"example": Images((64, 64, 3)), "batch_size": 32},
    "sngan32": {
        "example": Images((32, 32, 3)),
        "model": "resnet",
        "latent_size": 128,
        "loss": "hinge",
        "batch_size": 32,
    },
    "pix2pix64": {
        "example": Images((64, 64, 3)),
        "condition": Images((64, 64, 3)),
        "model": "pix2pix",
        "latent_size": 0,
        "penalties": "reconstruction(weight=100)",
        "discriminator": "receptive_field=34",
        "batch_size": 8,
    },
    "cyclegan64": {
        "example": Pair((2, 64, 64, 3)),
        "condition": Pair((2, 64, 64, 3)),
        "model": "cyclegan",
        "latent_size": 0,
        "loss": "least_squares",
        "penalties": "cycle(weight=5), identity(weight=2.5)",
        "generator": "blocks=6",
        "discriminator": "receptive_field=34",
        "batch_size": 1,
    },
}


@flax.struct.dataclass
class OneBatch:
    """A feed that gives the same batch in every step.

    Attributes:
      arrays: leaves `[batch, ...]` by their names.
    """

    arrays: dict[str, jax.Array]

    axes = None

    def window(self, step: jax.Array, n: int) -> jax.Array:
        """Returns nothing but the number of steps, as a leading axis."""
        return jnp.arange(n)

    def batch(self, drawn: jax.Array) -> dict[str, jax.Array]:
        """Returns the batch."""
        return self.arrays


def setup(name: str, replicas: int = 1):
    """Returns a workload's GAN, its feed, and the root keys `[replicas]`.

    A condition, where there is one, is the example itself, as CycleGAN has it.
    """
    settings = dict(WORKLOADS[name])
    size = settings.pop("batch_size")
    gan, keys = build(**settings), root_keys(0, replicas)
    if isinstance(gan.example, Points):
        return gan, Drawn(keys, toy.ring(), size), keys
    examples = jax.random.normal(jax.random.key(0), (size, *gan.example.shape))
    arrays = {"example": examples}
    if gan.condition is not None:
        arrays["condition"] = examples
    return gan, OneBatch(arrays), keys


def compiled(function, gan, state, fed):
    """Compiles a function that donates its state; returns it, and the seconds."""
    jax.clear_caches()
    start = time.perf_counter()
    program = jax.jit(function, donate_argnums=1).lower(gan, state, fed).compile()
    return program, time.perf_counter() - start
