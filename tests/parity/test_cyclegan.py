"""The objectives of CycleGAN as its authors write them, with its networks, in PyTorch.

Theirs sum over the two domains, and their squares lack the ½ of least_squares: G's
objective is four times ours, and D's twice.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.peers import F, gradients, parameters, randomised, tensor

import gan_jax
from gan_jax.algorithm.gradients import d_gradient, g_gradient
from gan_jax.algorithm.spaces import Pair

torch = pytest.importorskip("torch")
SPACE = Pair((2, 8, 8, 1))


def conv(p, x, **how):
    bias = p.get("bias")
    return F.conv2d(x, p["kernel"].permute(3, 2, 0, 1), bias, **how)


def reflected(p, x):
    border = p["kernel"].shape[0] // 2
    return conv(p, F.pad(x, (border,) * 4, mode="reflect"))


def up(p, x):
    kernel = p["kernel"].permute(3, 2, 0, 1)
    return F.conv_transpose2d(x, kernel, None, 2, 1, output_padding=1)


def normed(p, x):
    return F.instance_norm(x, weight=p["scale"], bias=p["bias"], eps=1e-5)


def translate(p, x):
    """One residual block between two layers down and two up."""
    norms = iter([p[f"InstanceNorm_{i}"] for i in range(7)])
    x = F.relu(normed(next(norms), reflected(p["ReflectConv_0"], x)))
    for i in (0, 1):
        x = conv(p[f"Conv_{i}"], x, stride=2, padding=1)
        x = F.relu(normed(next(norms), x))
    h = F.relu(normed(next(norms), reflected(p["ReflectConv_1"], x)))
    x = x + normed(next(norms), reflected(p["ReflectConv_2"], h))
    for i in (0, 1):
        x = F.relu(normed(next(norms), up(p[f"ConvTranspose_{i}"], x)))
    return torch.tanh(reflected(p["ReflectConv_3"], x))


def judge(p, x):
    x = F.leaky_relu(conv(p["Conv_0"], x, stride=2, padding=1), 0.2)
    x = conv(p["Conv_1"], x, padding=1)
    x = F.leaky_relu(normed(p["InstanceNorm_0"], x), 0.2)
    return conv(p["Conv_2"], x, padding=1)


def squared(logits, target):
    return F.mse_loss(logits, torch.full_like(logits, target))


def of_g(g, d, a, b):
    """arXiv:1703.10593, eq. 3, with the weights 10 and 5."""
    to_a, to_b = (lambda x, name=name: translate(g[name], x) for name in "FH")
    fake_a, fake_b = to_a(b), to_b(a)
    fooled = squared(judge(d["A"], fake_a), 1.0) + squared(judge(d["B"], fake_b), 1.0)
    cycle = F.l1_loss(to_a(fake_b), a) + F.l1_loss(to_b(fake_a), b)
    identity = F.l1_loss(to_a(a), a) + F.l1_loss(to_b(b), b)
    return fooled + 10 * cycle + 5 * identity


def of_d(g, d, a, b):
    pairs = (a, translate(g["F"], b).detach()), (b, translate(g["H"], a).detach())
    return sum(
        0.5 * (squared(judge(d[name], real), 1.0) + squared(judge(d[name], fake), 0.0))
        for name, (real, fake) in zip("AB", pairs, strict=True)
    )


@pytest.mark.parametrize("player", ["d", "g"])
def test_the_gradients_are_those_of_the_authors_objectives(player, near):
    gan = gan_jax.build(
        SPACE,
        SPACE,
        model="cyclegan",
        width=2,
        latent_size=0,
        loss="least_squares",
        penalties="cycle(weight=5), identity(weight=2.5)",
        generator="blocks=1",
        discriminator="receptive_field=16",
    )
    state = jax.eval_shape(gan_jax.init_state, gan, jax.random.key(0))
    # Small enough that few channels die, whose norm magnifies what float32 rounds.
    d, g = (randomised(p.params, i, 0.2) for i, p in ((2, state.d), (3, state.g)))
    state = state.replace(
        step=jnp.int32(0),
        key=jax.random.key(0),
        d=state.d.replace(params=d),
        g=state.g.replace(params=g),
    )
    x = np.random.default_rng(1).uniform(-1, 1, (3, *SPACE.shape)).astype(np.float32)
    batch = {"example": x, "condition": x}
    gradient, objective, factor = {
        "d": (d_gradient, of_d, 2),
        "g": (g_gradient, of_g, 4),
    }[player]
    found = jax.jit(gradient, static_argnums=0)(gan, state, batch)
    players = {"d": parameters(d), "g": parameters(g)}
    a, b = (tensor(x[:, i]).permute(0, 3, 1, 2) for i in (0, 1))
    value = objective(players["g"], players["d"], a, b) / factor
    near(found.grads, gradients(value, players[player]))
