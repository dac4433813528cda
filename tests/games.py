"""Games on every kind of example and condition, written as a user's own file.

Each game is a row of `GAMES`, keys of a config: its data, its networks and its terms
come from this file by their names.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from gan_jax import Images, Pair, Video, penalty
from gan_jax.data.source import Info, InMemory


def info(name, example, condition):
    return Info(
        name=name,
        example=example,
        condition=condition,
        num_examples=24,
        fingerprint=name,
    )


def stored(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


class Clips:
    """Clips that are made when they are asked for."""

    info = info("clips", Video((3, 8, 8, 1)), None)

    def __len__(self):
        return 24

    def __getitem__(self, i):
        return {"example": stored(i, 3, 8, 8, 1)}


def clips(config):
    return Clips()


def pairs(config):
    """Two images, drawn independently, which are also what both players are told."""
    space, x = Pair((2, 8, 8, 1)), stored(0, 24, 2, 8, 8, 1)
    return InMemory(info("pairs", space, space), x, x)


def masks(config):
    """An image, and the image it is made from."""
    spaces = Images((8, 8, 1)), Images((8, 8, 3))
    data = stored(1, 24, 8, 8, 1), stored(2, 24, 8, 8, 3)
    return InMemory(info("masks", *spaces), *data)


class Translator(nn.Module):
    """One image to another."""

    channels: int

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Dense(6)(x.reshape(*x.shape[:-3], -1)))
        shape = (*x.shape[:-1], self.channels)
        return jnp.tanh(nn.Dense(np.prod(shape[-3:]))(h)).reshape(shape)


class Patches(nn.Module):
    """An image to a map of logits, `[batch, h / 4, w / 4, 1]`."""

    @nn.compact
    def __call__(self, x):
        h = nn.leaky_relu(nn.Conv(4, (4, 4), (2, 2), "SAME")(x), 0.2)
        return nn.Conv(1, (4, 4), (2, 2), "SAME")(h)


class clip_model:
    """Judges each frame."""

    class Generator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, latents, condition=None, *, train):
            h = nn.relu(nn.Dense(8)(latents))
            return jnp.tanh(nn.Dense(np.prod(self.shape))(h)).reshape(-1, *self.shape)

    class Discriminator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, x, condition=None, *, train):
            h = nn.leaky_relu(nn.Dense(8)(x.reshape(*x.shape[:2], -1)), 0.2)
            return nn.Dense(1)(h)[..., 0]


class pair_model:
    """CycleGAN's form (arXiv:1703.10593): G(a, b) = (F(b), H(a)), D = (D_A, D_B)."""

    class Generator(nn.Module):
        shape: tuple
        condition: Pair

        @nn.compact
        def __call__(self, latents, condition, *, train):
            a, b = condition[:, 0], condition[:, 1]
            to_a, to_b = Translator(1, name="F"), Translator(1, name="H")
            return jnp.stack([to_a(b), to_b(a)], 1)

    class Discriminator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, x, condition, *, train):
            return Patches(name="A")(x[:, 0]), Patches(name="B")(x[:, 1])


class mask_model:
    """The form of pix2pix (arXiv:1611.07004): D judges patches of x beside c."""

    class Generator(nn.Module):
        shape: tuple
        condition: Images

        @nn.compact
        def __call__(self, latents, condition, *, train):
            x = nn.Dropout(0.5, deterministic=False)(condition)
            return Translator(1)(x)

    class Discriminator(nn.Module):
        shape: tuple
        condition: Images
        per_example = True

        @nn.compact
        def __call__(self, x, condition, *, train):
            return Patches()(jnp.concatenate([x, condition], -1))


@penalty(weight=2.0, players=("g",))
def cycle(critic, real, fake, key, *, generator, latents, example):
    """Returns |G(G(x)) - x|."""
    back = generator(latents, generator(latents, example))
    return jnp.abs(back - example).mean((1, 2, 3, 4))


GAMES = {
    "points": {"data.source": "toy", "data.name": "ring", "model": "mlp"},
    "classes": {"data.source": "packaged", "model": "mlp", "conditional": True},
    "clips": {"data.source": f"{__file__}:clips", "model": f"{__file__}:clip_model"},
    "digits": {
        "data.source": "moving_mnist",
        "data.name": "mnist(frames=4)",
        "data.data_dir": "nowhere",  # so that the digits are the packaged ones
        "model": "video",
        "image_size": 16,
        "discriminator": "frames=2",
    },
    "rolls": {
        "data.source": "midi",
        "data.name": "chorales(bars=1, beat=2)",
        "model": "musegan",
        "width": 2,
        "latent_size": 16,
        "penalties": "",
    },
    "pairs": {
        "data.source": f"{__file__}:pairs",
        "model": f"{__file__}:pair_model",
        "conditional": True,
        "latent_size": 0,
        "penalties": f"{__file__}:cycle, r1, drift",
        "replay": 8,
        "loss": "least_squares",
    },
    "masks": {
        "data.source": f"{__file__}:masks",
        "model": f"{__file__}:mask_model",
        "conditional": True,
        "latent_size": 0,
        "penalties": "r1(weight=1, every=2), lecam",
        "d_updates": 2,
    },
}
SMALL = {
    "num_steps": 4,
    "batch_size": 8,
    "width": 8,
    "latent_size": 4,
    "image_size": 8,
    "log_every": 1,
    "sample_every": 2,
    "checkpoint_every": 2,
    "penalties": "r1, lecam",
}
