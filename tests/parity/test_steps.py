"""Whole objectives and whole training steps, against a loop in PyTorch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.peers import (
    BATCH,
    F,
    Peer,
    batch_of,
    build,
    gradients,
    parameters,
    state_of,
    tensor,
    updates,
)

import gan_jax
from gan_jax.algorithm.keys import Keys

torch = pytest.importorskip("torch")

# --- Objectives -----------------------------------------------------------------------


def gan_r1(peer):
    real, fake = peer.logits
    if peer.player == "g":
        return F.softplus(-fake).mean()
    slopes = peer.squared_slopes(peer.real)
    return F.softplus(-real).mean() + F.softplus(fake).mean() + slopes.mean() / 4


def r3gan(peer):
    """arXiv:2501.05441, section 2: both slopes weigh gamma / 2."""
    real, fake = peer.logits
    if peer.player == "g":
        return F.softplus(real - fake).mean()
    slopes = peer.squared_slopes(peer.real) + peer.squared_slopes(peer.fake)
    return (F.softplus(fake - real) + 0.3 / 2 * slopes).mean()


def wgan_gp(peer):
    """arXiv:1704.00028, algorithm 1."""
    real, fake = peer.logits
    if peer.player == "g":
        return -fake.mean()
    t = peer.draws[0]
    lengths = peer.squared_slopes(t * peer.fake + (1 - t) * peer.real).sqrt()
    return fake.mean() - real.mean() + 10 * (lengths - 1).pow(2).mean()


def lsgan(peer):
    real, fake = peer.logits
    if peer.player == "g":
        return (fake - 1).pow(2).mean() / 2
    return (real - 1).pow(2).mean() / 2 + fake.pow(2).mean() / 2


R1 = {"loss": "non_saturating", "penalties": "r1(weight=0.5)"}
R3GAN = {"loss": "relativistic", "penalties": "r1(weight=0.3), r2(weight=0.3)"}
OBJECTIVES = {
    gan_r1: R1,
    r3gan: R3GAN,
    wgan_gp: {"loss": "wasserstein", "penalties": "gradient_penalty(weight=10)"},
    lsgan: {"loss": "least_squares"},
}


@pytest.mark.parametrize("port", OBJECTIVES, ids=lambda port: port.__name__)
@pytest.mark.parametrize("player", ["d", "g"])
def test_the_gradient_of_an_objective(port, player, near):
    ((found, peer),) = updates(build(**OBJECTIVES[port]), player)
    near(found.grads, peer.with_gradients(port(peer))[1])


# --- Steps ----------------------------------------------------------------------------


@dataclasses.dataclass
class Loop:
    """A training loop in PyTorch; calling it makes a step."""

    objective: object
    gan: object
    start: object

    def __post_init__(self):
        self.d, self.g = (parameters(p.params) for p in (self.start.d, self.start.g))
        self.step = 0
        self.opts = {}

    def peer(self, player, batch, update=0, **other):
        """Returns the situation of an update, with the latents that gan_jax draws."""
        folds = [update] if player == "d" else []
        key = Keys(self.start.key, self.step, 0, *folds)(f"{player}_noise")
        return Peer(
            player=player,
            real=tensor(batch["example"]),
            c=tensor(batch["condition"]).long(),
            latents=tensor(self.gan.latent.sample(key, BATCH)),
            **{"d": self.d, "g": self.g} | other,
        )

    def gradient(self, *args, **other):
        peer = self.peer(*args, **other)
        return peer.with_gradients(self.objective(peer))[1]

    def move(self, player, grads):
        """Moves a player by its optimizer."""
        leaves = jax.tree.leaves(getattr(self, player))
        opt = self.opts.setdefault(player, self.optimizer(leaves))
        for leaf, grad in zip(leaves, jax.tree.leaves(grads), strict=True):
            leaf.grad = grad.detach()
        opt.step()

    def optimizer(self, leaves):
        return torch.optim.SGD(leaves, RATE)


RATE = 0.1


def descended(params, grads):
    return jax.tree.map(lambda p, g: p - RATE * g, params, grads)


class Alternating(Loop):
    """Goodfellow et al.'s algorithm 1 with Adam, two updates of D."""

    def optimizer(self, leaves):
        return torch.optim.Adam(leaves, 0.002, betas=(0.5, 0.999))

    def __call__(self, *parts):
        for update, part in enumerate(parts):
            self.move("d", self.gradient("d", part, update))
        self.move("g", self.gradient("g", parts[-1]))


class Extragradient(Loop):
    def __call__(self, part):
        ahead = {
            player: descended(getattr(self, player), self.gradient(player, part))
            for player in ("d", "g")
        }
        grads = {player: self.gradient(player, part, **ahead) for player in ahead}
        for player in grads:
            self.move(player, grads[player])


class Unrolled(Loop):
    """Metz et al.'s surrogate, eq. 10-12, with a gradient through two updates of D."""

    def __call__(self, part):
        self.move("d", self.gradient("d", part))
        ahead = self.d
        for update in (1, 2):
            grads = self.gradient("d", part, update, d=ahead, unrolled=True)
            ahead = descended(ahead, grads)
        real, fake = self.peer("g", part, d=ahead).logits
        surrogate = -(F.softplus(-real) + F.softplus(fake)).mean()
        self.move("g", gradients(surrogate, self.g))


SGD = {"optimizer": f"sgd(learning_rate={RATE})"}
ADAM = {"optimizer": "adam(learning_rate=0.002, b1=0.5)"}
STEPS = {
    Alternating: (r3gan, {"step": "alternating", "d_updates": 2, **R3GAN, **ADAM}),
    Extragradient: (gan_r1, {"step": "extragradient", **R1, **SGD}),
    Unrolled: (gan_r1, {"step": "unrolled(k=2)", **R1, **SGD}),
}


@pytest.mark.parametrize("loop", STEPS, ids=lambda loop: loop.__name__)
def test_three_steps(loop, near):
    objective, how = STEPS[loop]
    gan = build(**how)
    start = state_of(gan)
    start = start.replace(
        d=start.d.replace(opt=gan.d_tx.init(start.d.params)),
        g=start.g.replace(opt=gan.g_tx.init(start.g.params)),
        ema={"params": start.g.params},
    )
    theirs, state = loop(objective, gan, start), start
    train_step = jax.jit(gan_jax.train_step)
    for step in range(3):
        theirs.step = step
        parts = [batch_of(10 * step + i) for i in range(gan.d_updates)]
        state, _ = train_step(gan, state, jax.tree.map(concatenated, *parts))
        theirs(*parts)
    near(way(state.d.params, start.d), way(theirs.d, start.d))
    near(way(state.g.params, start.g), way(theirs.g, start.g))


def concatenated(*arrays):
    return jnp.concatenate([*map(np.asarray, arrays)])


def way(params, start):
    """Returns how far parameters have moved."""
    return jax.tree.map(
        lambda p, s: (p.detach().numpy() if torch.is_tensor(p) else p) - np.asarray(s),
        params,
        start.params,
    )
