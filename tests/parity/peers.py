"""A GAN with random weights, in Flax and in PyTorch, and one update of a player.

The networks are smooth, have biases, and take classes; nothing is at zero. PyTorch
computes in float64. Both get the same draws: what gan_jax draws by `jax.random` in an
update is recorded, in its order, the latents first.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recording

import gan_jax
from gan_jax import Classes, Images
from gan_jax.algorithm.gradients import d_gradient, g_gradient
from gan_jax.algorithm.objectives import initial_memory
from gan_jax.layers.conv import Conv, ConvTranspose
from gan_jax.layers.labels import LabelledLatents, Logits

torch = pytest.importorskip("torch")
F = torch.nn.functional
torch.set_num_threads(1)

SHAPE, CLASSES, LATENTS, BATCH = (8, 8, 2), 3, 4, 6
GRADIENTS = {"d": d_gradient, "g": g_gradient}

# --- In Flax ------------------------------------------------------------------------


class Smooth:
    """Two small convolutional networks."""

    class Generator(nn.Module):
        shape: tuple
        num_classes: int

        @nn.compact
        def __call__(self, latents, condition, *, train):
            h = LabelledLatents(self.num_classes, 3)(latents, condition)
            h = nn.softplus(nn.Dense(16)(h)).reshape(-1, 2, 2, 4)
            h = jnp.tanh(ConvTranspose(3)(h))
            return jnp.tanh(ConvTranspose(self.shape[-1])(h))

    class Discriminator(nn.Module):
        shape: tuple
        num_classes: int
        per_example: bool = True
        auxiliary: bool = False

        @nn.compact
        def __call__(self, x, condition, *, train):
            h = jnp.tanh(Conv(3)(x))
            h = nn.softplus(Conv(4)(h)).reshape(len(x), -1)
            classes = self.num_classes
            return Logits(classes, auxiliary=classes * self.auxiliary)(h, condition)


def build(**how):
    """Returns a GAN of these networks."""
    networks = {"model": Smooth, "latent_size": LATENTS}
    return gan_jax.build(Images(SHAPE), Classes(CLASSES), **networks | how)


def randomised(tree, seed, scale=0.4):
    """Returns a tree like it with random numbers, float32."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.float32(scale * random.standard_normal(x.shape)), tree
    )


def state_of(gan, seed=0):
    """Returns a state with random parameters."""
    state = jax.eval_shape(gan_jax.init_state, gan, jax.random.key(0))
    d, g = (randomised(p.params, seed + i) for i, p in enumerate((state.d, state.g)))
    return state.replace(
        step=jnp.int32(0),
        key=jax.random.key(seed),
        d=state.d.replace(params=d),
        g=state.g.replace(params=g),
        memory=initial_memory(gan),
    )


def batch_of(seed, num=BATCH):
    """Returns random examples and classes."""
    random = np.random.default_rng(seed)
    return {
        "example": random.uniform(-1, 1, (num, *SHAPE)).astype(np.float32),
        "condition": random.integers(0, CLASSES, num, np.int32),
    }


DRAWS = ("uniform", "normal", "bernoulli", "randint")


def recorded(evaluate):
    """Returns a function that returns also all that it draws."""
    return recording.recorded(evaluate, *DRAWS)


def updates(gan, player, num=1, seed=0):
    """Makes `num` updates of a player's statistics and memory, its parameters fixed.

    Yields:
      The `Gradient` of gan_jax, and the same situation in PyTorch.
    """
    gradient = recorded(lambda state, batch: GRADIENTS[player](gan, state, batch))
    state = state_of(gan, seed)
    for i in range(num):
        batch = batch_of(seed + i)
        found, draws = gradient(state, batch)
        yield found, Peer.of(player, state, batch, draws, bool(gan.augment))
        state = state.replace(step=state.step + 1, memory=found.memory)


# --- In PyTorch ---------------------------------------------------------------------


def tensor(x, **how):
    """Returns an array as a tensor, numbers with a point as float64."""
    x = np.array(x)
    return torch.tensor(np.float64(x) if x.dtype.kind == "f" else x, **how)


def parameters(tree):
    """Returns a tree of parameters as tensors that are differentiated by."""
    return jax.tree.map(lambda x: tensor(x, requires_grad=True), tree)


def gradients(value, tree):
    """Returns the gradient of a number by a tree of tensors, itself differentiable."""
    leaves, structure = jax.tree.flatten(tree)
    found = torch.autograd.grad(
        value, leaves, create_graph=True, materialize_grads=True
    )
    return jax.tree.unflatten(structure, found)


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def conv(p, x):
    """Applies `[out, in, k, k]`, as PyTorch keeps it, to `[batch, h, w, in]`."""
    kernel = p["kernel"].permute(3, 2, 0, 1)
    y = F.conv2d(x.permute(0, 3, 1, 2), kernel, p["bias"], stride=2, padding=1)
    return y.permute(0, 2, 3, 1)


def conv_transpose(p, x):
    """Applies `[in, out, k, k]`, as PyTorch keeps it, to `[batch, h, w, in]`."""
    kernel = p["kernel"].permute(3, 2, 0, 1)
    y = F.conv_transpose2d(x.permute(0, 3, 1, 2), kernel, p["bias"], 2, 1)
    return y.permute(0, 2, 3, 1)


def generate(p, z, c):
    embedding = p["LabelledLatents_0"]["Embed_0"]["embedding"][c]
    h = F.softplus(dense(p["Dense_0"], torch.cat([z, embedding], 1)))
    h = torch.tanh(conv_transpose(p["ConvTranspose_0"], h.reshape(-1, 2, 2, 4)))
    return torch.tanh(conv_transpose(p["ConvTranspose_1"], h))


def features(p, x):
    h = torch.tanh(conv(p["Conv_0"], x))
    return F.softplus(conv(p["Conv_1"], h)).flatten(1)


def discriminate(p, x, c):
    h, head = features(p, x), p["Logits_0"]
    projection = (head["Embed_0"]["embedding"][c] * h).sum(1)
    return dense(head["Dense_0"], h)[:, 0] + projection


def classify(p, x):
    return dense(p["Logits_0"]["Dense_1"], features(p, x))


@dataclasses.dataclass
class Peer:
    """The situation of one update of a player, in PyTorch.

    `real` and `fake` are the examples, `c` their classes, and `draws` what a penalty or
    a loss draws. D's update has samples that do not depend on G, unless D is
    `unrolled`. `changes` are the draws of AUGMENT for both kinds, if it is on.
    """

    player: str
    d: Any
    g: Any
    real: Any
    c: Any
    latents: Any
    draws: list = ()
    changes: tuple = ()
    step: int = 0
    unrolled: bool = False

    @classmethod
    def of(cls, player, state, batch, draws, augmented=False):
        latents, *rest = map(tensor, draws)
        real, c = tensor(batch["example"]), tensor(batch["condition"]).long()
        d, g = parameters(state.d.params), parameters(state.g.params)
        changes = (rest[:3], rest[3:6]) if augmented else ()
        rest = rest[6:] if augmented else rest
        return cls(player, d, g, real, c, latents, rest, changes, int(state.step))

    @property
    def fake(self):
        made = self.generator(self.latents)
        return made if self.player == "g" or self.unrolled else made.detach()

    def real_seen(self, x):
        return augmented(x, *self.changes[0]) if self.changes else x

    def fake_seen(self, x):
        return augmented(x, *self.changes[1]) if self.changes else x

    @property
    def seen(self):
        """What D sees in the loss, of real and of generated examples."""
        return self.real_seen(self.real), self.fake_seen(self.fake)

    @property
    def logits(self):
        return tuple(map(self.critic, self.seen))

    def squared_slopes(self, x, seen=lambda x: x):
        """The squared norm of the gradient by x of D(seen(x)), `[batch]`."""
        x = x.detach().requires_grad_()
        logits = self.critic(seen(x))
        (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return slope.pow(2).flatten(1).sum(1)

    def critic(self, x):
        return discriminate(self.d, x, self.c)

    def features(self, x):
        return features(self.d, x)

    def classify(self, x):
        return classify(self.d, x)

    def generator(self, z):
        return generate(self.g, z, self.c)

    def with_gradients(self, value):
        """Returns a number and its gradient by the parameters of the player."""
        return value, gradients(value, getattr(self, self.player))


# --- Changes of images (DiffAugment, arXiv:2006.10738, section 3) -------------------


def mirrored(x, chosen):
    return torch.where(chosen, x.flip(2), x)


def shifted(x, down, right, beyond="constant"):
    """Cuts an image out of one that is a pixel larger on each side."""
    _, height, width, _ = x.shape
    padded = F.pad(x.permute(0, 3, 1, 2), (1, 1, 1, 1), beyond).permute(0, 2, 3, 1)
    rows = [
        image[i : i + height, j : j + width]
        for image, i, j in zip(padded, down, right, strict=True)
    ]
    return torch.stack(rows)


def recoloured(x, draws):
    brightness, saturation, contrast = draws
    x = x + brightness - 0.5
    grey = x.mean(3, keepdim=True)
    x = grey + 2 * saturation * (x - grey)
    level = x.mean((1, 2, 3), keepdim=True)
    return level + (contrast + 0.5) * (x - level)


AUGMENT = "translation, color"


def augmented(x, down, right, colours):
    return recoloured(shifted(x, down, right), colours)
