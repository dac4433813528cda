"""How the players move: against the games whose solutions are known."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax import Points, build
from gan_jax.algorithm import dynamics
from gan_jax.errors import UserError
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import Dynamics

KEY = jax.random.key(0)
STEP = jax.jit(gan_jax.train_step)
RATE, START = 0.1, (1.0, 0.5)
CENTRE = 3.0  # of the data: at the origin some terms vanish by chance
POINTS = {"example": Points((2,)), "model": "mlp", "width": 8, "latent_size": 2}


class Bilinear:
    """The Dirac-GAN (arXiv:1801.04406, definition 2.1): D(x) = psi x, G makes theta."""

    class Generator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, latents, condition=None, *, train):
            theta = self.param("theta", lambda _: jnp.array([CENTRE + START[0]]))
            return jnp.broadcast_to(theta, (len(latents), 1))

    class Discriminator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, x, condition=None, *, train):
            psi = self.param("psi", lambda _: jnp.array([START[1]]))
            return (x * psi).sum(-1)


def make(step, **how):
    bilinear = Loss(d=lambda r, f: f - r, g=lambda f, r: -f)
    how = {"loss": bilinear, "optimizer": f"sgd(learning_rate={RATE})", **how}
    return build(Points((1,)), model=Bilinear, latent_size=1, step=step, **how)


def path(gan, n):
    """Returns (theta, psi) before and after each of `n` steps.

    It is theta seen from the data.
    """
    state = gan_jax.init_state(gan, KEY)
    points = []
    for _ in range(n + 1):
        theta = state.g.params["theta"][0] - CENTRE
        points.append([theta, state.d.params["psi"][0]])
        state, _ = STEP(gan, state, {"example": jnp.full((2, 1), CENTRE)})
    return np.array(points)


STEPS = [name for name, x in vars(dynamics).items() if isinstance(x, Dynamics)]

# D minimises psi theta, G -psi theta: the maps of (theta, psi) are linear.
H = RATE
MAPS = {
    "simultaneous": [[1, H], [-H, 1]],
    "alternating": [[1 - H**2, H], [-H, 1]],
    # z - H F(z - H F(z)), F(theta, psi) = (-psi, theta).
    "extragradient": [[1 - H**2, H], [-H, 1 - H**2]],
    # D follows to psi - 2 H theta; G descends -theta (psi - 2 H theta), theta - CENTRE
    # being G's distance from the data in both factors.
    "unrolled(k=2)": [[1 - H * (H + 4 * H), H], [-H, 1]],
}


@pytest.mark.parametrize("step", MAPS)
def test_each_step_is_its_map_on_the_bilinear_game(step):
    points = path(make(step), 30)
    expected = np.array(START)
    for got in points:
        np.testing.assert_allclose(got, expected, atol=2e-5)
        expected = np.array(MAPS[step]) @ expected


def test_only_what_looks_ahead_converges_on_the_bilinear_game():
    """Spectral radii: 1 + H^2 > 1, 1, and below 1 (arXiv:1802.10551, section 3)."""
    radii = {
        step: np.abs(np.linalg.eigvals(np.array(m))).max() for step, m in MAPS.items()
    }
    assert radii["simultaneous"] > 1
    np.testing.assert_allclose(radii["alternating"], 1)
    assert radii["extragradient"] < 1
    assert radii["unrolled(k=2)"] < 1


@pytest.mark.slow
def test_unrolled_by_no_step_is_alternating():
    batch = {"example": jax.random.normal(KEY, (6, 2))}
    how = POINTS | {"optimizer": "adam(learning_rate=1e-3, eps_root=1e-8)"}
    how |= {"loss": "minimax"}  # a zero-sum game, as unrolled plays
    one, two = (build(**how, step=step) for step in ("alternating", "unrolled(k=0)"))
    state = gan_jax.init_state(one, KEY)
    ours, theirs = STEP(one, state, batch), STEP(two, state, batch)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        (ours[0].g.params, ours[0].d.params, ours[1]["d_loss"]),
        (theirs[0].g.params, theirs[0].d.params, theirs[1]["d_loss"]),
    )


@pytest.mark.parametrize("step", [*MAPS, "unrolled(k=5)"])
def test_every_step_rests_at_the_equilibrium_of_the_dirac_gan(step):
    """psi = 0 and G at the data (arXiv:1801.04406, lemma 2.2), wherever they are."""
    gan = make(step, loss="non_saturating", penalties="r1(weight=0.5)")
    state = gan_jax.init_state(gan, KEY)
    g, d = ({name: jnp.array([x])} for name, x in (("theta", CENTRE), ("psi", 0.0)))
    state = state.replace(g=state.g.replace(params=g), d=state.d.replace(params=d))
    for _ in range(2):
        state, _ = STEP(gan, state, {"example": jnp.full((2, 1), CENTRE)})
    found = state.g.params["theta"][0], state.d.params["psi"][0]
    np.testing.assert_allclose(found, (CENTRE, 0), atol=1e-6)


@pytest.mark.slow
def test_every_step_makes_one_step_and_averages_what_it_made():
    batch = {"example": jax.random.normal(KEY, (6, 2))}
    for name in STEPS:
        how = {"optimizer": "sgd(learning_rate=1e-3)", "penalties": "lecam"}
        gan = build(**POINTS, step=name, **how)
        gan = dataclasses.replace(gan, ema=gan.ema.__class__(rate=0.0))
        state = gan_jax.init_state(gan, KEY)
        after, metrics = STEP(gan, state, batch)
        assert after.step == 1
        jax.tree.map(np.testing.assert_array_equal, after.ema["params"], after.g.params)
        assert {"d_loss", "g_loss", "value", "d_grad_norm"} <= metrics.keys()
        remembered, before = map(jax.tree.leaves, (after.memory, state.memory))
        assert any((a != b).any() for a, b in zip(remembered, before, strict=True))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"step": "simultanous"}, "unknown step 'simultanous'; did you mean"),
        ({"step": "g_step"}, "unknown step 'g_step'"),
        ({"step": "unrolled(depth=2)"}, "unknown setting of step 'unrolled' 'depth'"),
        ({"step": "extragradient", "d_updates": 2}, "d_updates must be 1, and is 2"),
        (
            {"step": "unrolled"},
            "no derivative where a gradient is 0: .*eps_root",
        ),
    ],
)
def test_refuses(how, message):
    with pytest.raises(UserError, match=message):
        build(**POINTS, **how)


def test_a_schedule_ends_with_the_run_however_often_a_step_calls_the_optimizer():
    for step in ("alternating", "extragradient"):
        gan = make(step, schedule="linear", num_steps=10)
        moves = np.abs(np.diff(path(gan, 12), axis=0)).max(1)
        assert (moves[:10] > 1e-4).all(), step
        assert (moves[10:] < 1e-7).all(), step


def test_an_extragradient_step_is_projected_once():
    how = {"penalties": "weight_clipping(limit=0.45)"}  # psi starts at 0.5
    points = path(make("extragradient", **how), 3)
    (theta, psi), (_, got) = points[:2]
    ahead = min(psi - H * theta, 0.45), theta + H * psi  # of psi, of theta
    np.testing.assert_allclose(got, min(psi - H * ahead[1], 0.45), atol=1e-6)
    assert (points[1:, 1] <= 0.45001).all()


def test_what_terms_remember_moves_once_in_an_extragradient_step():
    batch = {"example": jax.random.normal(KEY, (6, 2))}
    weights = []
    for step in ("simultaneous", "extragradient"):
        gan = build(**POINTS, step=step, penalties="lecam")
        after, _ = STEP(gan, gan_jax.init_state(gan, KEY), batch)
        weights.append(float(after.memory["lecam"]["weight"]))
    np.testing.assert_allclose(weights, 0.01, rtol=1e-4)
