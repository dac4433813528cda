import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gan_jax
from gan_jax import Classes, Images, Points, build
from gan_jax.algorithm.average import Average
from gan_jax.algorithm.keys import purpose_key
from gan_jax.build import optimizers as optim
from gan_jax.data import toy
from gan_jax.data.feed import Drawn, Resident
from gan_jax.layers.spectral import power_iterations
from gan_jax.models import mlp
from gan_jax.objective import losses

KEY = jax.random.key(0)
INIT = gan_jax.init_state  # eager: it compiles nothing that is not shared
D_STEP, G_STEP = jax.jit(gan_jax.d_step), jax.jit(gan_jax.g_step)
TRAIN_STEP = jax.jit(gan_jax.train_step)
TRAIN_CHUNK = jax.jit(gan_jax.train_chunk, static_argnames="n")
GENERATE = jax.jit(lambda gan, *args: gan_jax.generate(gan, *args)[0])
DRAW = jax.jit(gan_jax.draw, static_argnames="num")
SMALL = {"example": Images((8, 8, 1)), "width": 4, "latent_size": 6}
POINTS = {"example": Points((2,)), "model": "mlp", "width": 8, "latent_size": 2}


def make(**how):
    gan = build(**{**SMALL, **how})
    return gan, INIT(gan, KEY)


def batch_of(gan, n=6):
    images = jax.random.uniform(KEY, (n, *gan.example.shape), minval=-1)
    return {"example": images, "condition": jnp.arange(n) % 3}


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, raw(a), raw(b))


def assert_close(a, b, **how):
    how = {"rtol": 1e-4, "atol": 1e-5, **how}
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **how), raw(a), raw(b))


def raw(tree):
    """Returns the tree with keys as plain arrays, which NumPy can compare."""

    def plain(x):
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if is_key else x

    return jax.tree.map(plain, tree)


@pytest.mark.parametrize(
    "condition", [None, pytest.param(Classes(3), marks=pytest.mark.slow)]
)
def test_each_step_moves_its_own_player_alone(condition):
    gan, state = make(condition=condition)
    batch = batch_of(gan)
    after, _ = D_STEP(gan, state, batch)
    assert_same(after.replace(d=state.d), state)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.d, state.d)
    assert all(jax.tree.leaves((moved.params, moved.stats)))

    after, _ = G_STEP(gan, state, batch)
    assert_same(after.d, state.d)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after.g, state.g)
    assert all(jax.tree.leaves((moved.params, moved.stats)))
    assert after.step == state.step + 1


def test_metrics_are_those_of_the_theory():
    """Recomputes a step's metrics from the logits by the textbook formulas."""
    gan, state = make(**POINTS)
    batch = batch_of(gan, 64)
    _, metrics = D_STEP(gan, state, batch)
    key = jax.random.fold_in(purpose_key(KEY, 0, "d_noise"), 0)
    z = gan.latent.sample(key, 64)
    fake = GENERATE(gan, {"params": state.g.params}, z)
    d_real, d_fake = (
        jax.nn.sigmoid(
            gan.discriminator.apply({"params": state.d.params}, x, train=True)
        )
        for x in (batch["example"], fake)
    )
    value = jnp.log(d_real).mean() + jnp.log(1 - d_fake).mean()
    expected = {
        "value": value,
        "d_loss": -value,
        "d_real": d_real.mean(),
        "d_fake": d_fake.mean(),
        "d_accuracy": ((d_real > 0.5).mean() + (d_fake <= 0.5).mean()) / 2,
    }
    for name, wanted in expected.items():
        np.testing.assert_allclose(metrics[name], wanted, rtol=1e-5)


def test_metrics_of_a_critic_are_its_mean_values():
    gan, state = make(**POINTS, loss="hinge")
    batch = batch_of(gan, 64)
    metrics = D_STEP(gan, state, batch)[1]
    key = jax.random.fold_in(purpose_key(KEY, 0, "d_noise"), 0)
    fake = GENERATE(gan, {"params": state.g.params}, gan.latent.sample(key, 64))
    real, fake = (
        gan.discriminator.apply({"params": state.d.params}, x, train=True)
        for x in (batch["example"], fake)
    )
    assert not {"value", "d_real", "d_fake"} & metrics.keys()
    np.testing.assert_allclose(metrics["critic_real"], real.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["critic_fake"], fake.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["d_accuracy"], (real > fake).mean(), rtol=1e-5)
    assert 0 < metrics["d_accuracy"] < 1


def test_a_blind_discriminator_is_the_equilibrium():
    gan, state = make(**POINTS)
    zero = jax.tree.map(jnp.zeros_like, state.d.params)
    state = state.replace(d=state.d.replace(params=zero))
    _, d = D_STEP(gan, state, batch_of(gan))
    _, g = G_STEP(gan, state, batch_of(gan))
    np.testing.assert_allclose(d["value"], -np.log(4), rtol=1e-6)
    np.testing.assert_allclose(d["d_loss"], np.log(4), rtol=1e-6)
    np.testing.assert_allclose(g["g_loss"], np.log(2), rtol=1e-6)
    assert d["d_real"] == d["d_fake"] == d["d_accuracy"] == 0.5


@pytest.mark.parametrize("k", [1, 3])
def test_a_train_step_is_algorithm_1_by_hand(k):
    gan, state = make(**POINTS, d_updates=k, penalties="r1(weight=2, every=2)")
    batch = batch_of(gan, 4 * k)
    after, metrics = TRAIN_STEP(gan, state, batch)

    by_hand, d_losses = state, []
    for i in range(k):
        part = jax.tree.map(lambda x: x[4 * i : 4 * i + 4], batch)  # noqa: B023
        by_hand, d_metrics = D_STEP(gan, by_hand, part, i)
        d_losses.append(d_metrics["d_loss"])
    by_hand, g_metrics = G_STEP(gan, by_hand, part)
    assert_close(after, by_hand)
    np.testing.assert_allclose(metrics["d_loss"], np.mean(d_losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["g_loss"], g_metrics["g_loss"], rtol=1e-5)


def test_a_d_step_is_the_optimizer_on_the_penalised_loss():
    """The update equals a plain gradient-descent step on the whole objective."""
    gan, state = make(
        **POINTS, optimizer="sgd(learning_rate=0.5)", penalties="r1(weight=3)"
    )
    batch = batch_of(gan)
    after, metrics = D_STEP(gan, state, batch)
    key = jax.random.fold_in(purpose_key(KEY, 0, "d_noise"), 0)
    fake = GENERATE(gan, {"params": state.g.params}, gan.latent.sample(key, 6))

    def objective(params):
        def critic(x):
            return gan.discriminator.apply({"params": params}, x, train=True)

        slope = jax.grad(lambda x: critic(x).sum())(batch["example"])
        r1 = 0.5 * jnp.square(slope).sum(1).mean()
        loss = losses.non_saturating.d(critic(batch["example"]), critic(fake)).mean()
        return loss + 3 * r1, r1

    gradient, r1 = jax.jit(jax.grad(objective, has_aux=True))(state.d.params)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, state.d.params, gradient)
    assert_close(after.d.params, expected, atol=1e-6)
    np.testing.assert_allclose(metrics["penalty_r1"], r1, rtol=1e-5)
    np.testing.assert_allclose(
        metrics["d_grad_norm"], optax.tree.norm(gradient), rtol=1e-5
    )


def test_a_lazy_penalty_comes_every_so_often_and_weighs_as_much():
    gan, state = make(**POINTS, penalties="r1(every=3)")
    every_step, _ = make(**POINTS, penalties="r1")
    got = []
    for step in range(4):
        at = state.replace(step=jnp.int32(step))
        _, metrics = D_STEP(gan, at, batch_of(gan))
        got.append(float(metrics["penalty_r1"]))
        _, plain = D_STEP(every_step, at, batch_of(gan))
        wanted = 3 * plain["penalty_r1"] if step % 3 == 0 else 0.0
        np.testing.assert_allclose(got[-1], wanted, rtol=1e-5)
    assert got[0] > 0


@pytest.mark.parametrize("images", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_chunk_is_its_steps_one_by_one(images):
    gan, state = make(**SMALL if images else POINTS, d_updates=2)
    feed = Drawn(KEY, _Noise() if images else toy.ring(), 8)
    chunk, metrics = TRAIN_CHUNK(gan, state, feed, n=3)
    assert metrics["g_loss"].shape == (3,)
    for i, drawn in enumerate(feed.window(state.step, 3)):
        state, one = TRAIN_STEP(gan, state, feed.batch(drawn))
        assert_close(jax.tree.map(lambda m: m[i], metrics), one, rtol=1e-3)  # noqa: B023
    assert_close(chunk, state, rtol=1e-3, atol=1e-4)


@jax.tree_util.register_static
class _Noise:
    def sample(self, key, n):
        image = jax.random.uniform(key, (n, 8, 8, 1), minval=-1)
        return {"example": image, "condition": jnp.zeros(n, jnp.int32)}


def test_step_t_replayed_alone_has_the_same_noise():
    gan, state = make(**POINTS)
    feed = Drawn(KEY, toy.ring(), 8)
    states = [state]
    for t in range(3):
        states.append(TRAIN_STEP(gan, states[t], feed.batch(jnp.int32(t)))[0])
    again, _ = TRAIN_STEP(gan, states[2], feed.batch(jnp.int32(2)))
    assert_same(again, states[3])
    # ... and another step, purpose or seed has another.
    noises = [
        jax.random.normal(purpose_key(jax.random.key(seed), t, purpose), (4,)).tolist()
        for seed in (0, 1)
        for t in (0, 1)
        for purpose in ("d_noise", "g_noise")
    ]
    assert len({tuple(noise) for noise in noises}) == 8


def test_each_of_k_updates_has_its_own_noise():
    gan, state = make(**POINTS)
    fakes = [
        float(D_STEP(gan, state, batch_of(gan), update)[1]["d_fake"])
        for update in range(3)
    ]
    assert len(set(fakes)) == 3


def test_steps_run_under_vmap_over_seeds():
    gan, _ = make()
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    states = jax.jit(jax.vmap(gan_jax.init_state, (None, 0)))(gan, keys)
    batch = batch_of(gan)
    step = jax.jit(jax.vmap(gan_jax.train_step, in_axes=(None, 0, None)))
    together, _ = step(gan, states, batch)
    for i in range(2):
        alone, _ = TRAIN_STEP(gan, INIT(gan, keys[i]), batch)
        assert_close(
            jax.tree.map(lambda x: x[i], together.g.params),  # noqa: B023
            alone.g.params,
            rtol=1e-3,
            atol=1e-4,
        )


def test_ema_is_the_average_of_what_it_saw():
    average, ema = jnp.zeros(()), Average(rate=0.3)
    seen = [3.0, -1.0, 4.0, 1.0, 5.0]
    by_hand = 0.0
    for t, value in enumerate(seen):
        average = ema.update(average, jnp.float32(value), t, 1)
        decay = min(0.3, (1 + t) / (10 + t))
        by_hand = decay * by_hand + (1 - decay) * value
    np.testing.assert_allclose(average, by_hand, rtol=1e-6)


def test_only_relativistic_losses_need_real_images_in_a_g_step():
    """A user's relativistic pair reaches the real logits; ours leave them unused."""
    relativistic = gan_jax.Loss(
        d=lambda real, fake: jax.nn.softplus(fake - real),
        g=lambda fake, real: jax.nn.softplus(real - fake),
    )
    changed = []
    for loss in (relativistic, losses.non_saturating):
        gan, state = make(**POINTS, loss=loss)
        one, two = (
            G_STEP(gan, state, {"example": x * jnp.ones((4, 2))})[1]["g_loss"]
            for x in (0.0, 1.0)
        )
        changed.append(bool(one != two))
    assert changed == [True, False]


def test_conditional_samples_follow_their_labels():
    gan, state = make(condition=Classes(3))
    images = DRAW(gan, state, KEY, 6)
    assert images.shape == (6, 8, 8, 1)
    assert images.dtype == jnp.uint8
    chosen = DRAW(gan, state, KEY, 6, condition=jnp.array([0, 1, 2, 0, 1, 1]))
    assert_same(images[:5], chosen[:5])
    assert (images[5] != chosen[5]).any()


def test_linear_schedule_reaches_zero():
    tx = optim.build("sgd(learning_rate=1.0)", "linear", 4)
    opt, moved = tx.init(jnp.zeros(())), []
    for _ in range(5):
        update, opt = tx.update(jnp.ones(()), opt)
        moved.append(-float(update))
    np.testing.assert_allclose(moved, [1, 0.75, 0.5, 0.25, 0], atol=1e-6)


def test_singular_vectors_move_once_in_a_d_step_and_not_in_a_g_step():
    gan, state = make(**POINTS, discriminator="spectral_norm=True", penalties="r1")
    after, _ = D_STEP(gan, state, batch_of(gan))
    for i in range(2):
        norm = state.d.stats["spectral"][f"SpectralNorm_{i}"]
        w = state.d.params[f"Dense_{i}"]["kernel"]
        once = power_iterations(w, norm["kernel_u"], 1)
        got = after.d.stats["spectral"][f"SpectralNorm_{i}"]
        np.testing.assert_allclose(got["kernel_u"], once[0], atol=1e-5)
        if i == 1:  # of a square matrix, whose vectors have not converged
            assert not np.allclose(got["kernel_v"], norm["kernel_v"], atol=1e-6)
    unmoved, _ = G_STEP(gan, after, batch_of(gan))
    assert_same(unmoved.d, after.d)


@pytest.mark.parametrize("condition", [None, Classes(3)])
def test_one_batch_of_both_is_as_good_as_two(condition):
    """Where examples do not mix, real and generated ones may share a batch."""

    class Apart(mlp.Discriminator):
        per_example = False

    together, state = make(**POINTS, condition=condition, penalties="r1")
    fields = {
        k: getattr(together.discriminator, k) for k in ("shape", "num_classes", "width")
    }
    apart = dataclasses.replace(together, discriminator=Apart(**fields))
    one, ours = D_STEP(together, state, batch_of(together))
    two, theirs = D_STEP(apart, state, batch_of(apart))
    assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert_close(one.d.params, two.d.params, rtol=1e-3, atol=1e-5)


def test_a_chunk_moves_nothing_between_host_and_device():
    gan = build(**SMALL)
    state = jax.jit(gan_jax.init_state)(gan, KEY)  # no array twice: it is donated
    images = jnp.zeros((16, *gan.example.shape), jnp.uint8)
    feed = Resident(jax.random.key(1), images, None, 4, 1)
    chunk = jax.jit(gan_jax.train_chunk, static_argnames="n", donate_argnames="state")
    state, _ = chunk(gan, state, feed, n=3)
    with jax.transfer_guard("disallow"):
        state, metrics = jax.block_until_ready(chunk(gan, state, feed, n=3))
    assert int(state.step) == 6
    assert metrics["g_loss"].shape == (3,)
