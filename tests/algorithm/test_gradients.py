"""What a step does beside the plain game: packs, parts, replay, precision, terms."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax import Classes, Images, Points, Space, build
from gan_jax.algorithm import objectives
from gan_jax.algorithm.average import Average
from gan_jax.algorithm.gradients import d_gradient, g_gradient
from gan_jax.algorithm.keys import Keys, purpose_key
from gan_jax.build import optimizers as optim
from gan_jax.errors import UserError
from gan_jax.objective import penalties
from gan_jax.objective.terms import augmentation, penalty

KEY = jax.random.key(0)
INIT, STEP = gan_jax.init_state, jax.jit(gan_jax.train_step)
D_STEP = jax.jit(gan_jax.d_step)
POINTS = {"example": Points((2,)), "model": "mlp", "width": 8, "latent_size": 2}
IMAGES = {"example": Images((8, 8, 1)), "model": "mlp", "width": 8, "latent_size": 3}
SGD = {"optimizer": "sgd(learning_rate=0.1)"}


def make(**how):
    gan = build(**how)
    return gan, INIT(gan, KEY)


def batch_of(gan, n=6):
    images = jax.random.uniform(KEY, (n, *gan.example.shape), minval=-1)
    return {"example": images, "condition": jnp.arange(n) % 3}


def assert_close(a, b, **how):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **how), a, b)


# --- Packs --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2,), (3, 4, 2)])
def test_a_pack_has_the_channels_of_its_examples_in_a_row(shape):
    gan, _ = make(**POINTS | {"example": Space(shape), "pack": 3})
    examples = jax.random.normal(KEY, (6, *shape))
    got = np.asarray(gan.packed(examples))
    channels = shape[-1]
    for i in range(6):
        own = slice(i % 3 * channels, (i % 3 + 1) * channels)
        np.testing.assert_array_equal(got[i // 3][..., own], examples[i])


def test_a_packed_discriminator_sees_as_many_times_the_input():
    seen = {}
    for pack in (1, 2):
        gan, state = make(**POINTS, pack=pack)
        after, metrics = STEP(gan, state, batch_of(gan))
        kernel = state.d.params["Dense_0"]["kernel"]
        seen[pack] = kernel.shape
        assert np.isfinite(metrics["d_loss"])
        assert (after.d.params["Dense_0"]["kernel"] != kernel).any()
    assert seen == {1: (2, 8), 2: (4, 8)}


# --- Gradients by parts -------------------------------------------------------------


def test_parts_of_a_batch_give_its_gradient():
    """Of networks that take examples apart, by a plain gradient step."""
    how = POINTS | SGD | {"penalties": "r1(weight=1)"}
    whole, state = make(**how)
    parts, _ = make(**how, accumulate=3)
    batch = batch_of(whole, 12)
    one, ours = STEP(whole, state, batch)
    two, theirs = STEP(parts, state, batch)
    assert_close(one.d.params, two.d.params, rtol=1e-4, atol=1e-6)
    assert_close(one.g.params, two.g.params, rtol=1e-4, atol=1e-6)
    assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_memory_moves_once_an_update_by_the_whole_batch():
    how = IMAGES | SGD | {"penalties": "lecam", "replay": 24}
    how |= {"augment": "ada(every=1, images_to_one=48, target=-2.0)"}
    whole, state = make(**how)
    parts, _ = make(**how, accumulate=3)
    batch = batch_of(whole, 12)
    (one, ours), (two, theirs) = (D_STEP(g, state, batch) for g in (whole, parts))
    assert float(abs(one.memory["lecam"]["real"])) > 1e-5
    np.testing.assert_allclose(two.memory["lecam"]["weight"], 0.01, rtol=1e-5)
    assert_close(one.memory["lecam"], two.memory["lecam"], rtol=1e-4, atol=1e-7)
    assert_close(one.memory["ada"], two.memory["ada"], rtol=1e-6)
    assert ours["ada_p"] == theirs["ada_p"] == 0.25
    assert one.memory["replay"]["filled"] == two.memory["replay"]["filled"] == 12


def test_the_network_sees_a_part_at_a_time():
    gan, state = make(**POINTS, accumulate=3)
    jaxpr = str(jax.make_jaxpr(gan_jax.d_step, 0)(gan, state, batch_of(gan, 12)))
    assert "f32[8,8] = dot_general" in jaxpr  # four pairs of real and fake
    assert "f32[24,8] = dot_general" not in jaxpr


# --- Replay -------------------------------------------------------------------------


def test_a_step_fills_the_buffer_with_samples():
    gan, state = make(**POINTS, replay=6)
    after, _ = D_STEP(gan, state, batch_of(gan))
    assert after.memory["replay"]["filled"] == 6
    z = gan.latent.sample(jax.random.fold_in(purpose("d_noise"), 0), 6)
    variables = {"params": state.g.params}
    made = gan.generator.apply(variables, z, train=True)
    assert_close(after.memory["replay"]["example"], made, rtol=1e-5)


def purpose(name):
    return purpose_key(KEY, 0, name)


# --- Precision ----------------------------------------------------------------------


DCGAN = {**IMAGES, "model": "dcgan", "width": 4}


@pytest.mark.parametrize("how", [POINTS, pytest.param(DCGAN, marks=pytest.mark.slow)])
def test_bfloat16_is_of_the_networks_alone(how):
    how = how | {"penalties": "r1(weight=0.1)"}
    plain, state = make(**how)
    low, _ = make(**how, precision="bfloat16")
    batch = batch_of(plain)
    after, metrics = STEP(low, state, batch)
    kinds = {leaf.dtype for leaf in jax.tree.leaves((after.g, after.d, after.ema))}
    assert jnp.dtype("bfloat16") not in kinds
    assert {m.dtype for m in jax.tree.leaves(metrics)} == {jnp.dtype("float32")}
    _, expected = STEP(plain, state, batch)
    for name in ("d_loss", "g_loss", "value", "penalty_r1"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=0.1, atol=0.05)
    assert "bf16" in str(jax.make_jaxpr(gan_jax.d_step, 0)(low, state, batch))
    assert "bf16" not in str(jax.make_jaxpr(gan_jax.d_step, 0)(plain, state, batch))


# --- The average and the schedules --------------------------------------------------


def test_after_its_half_life_a_generator_counts_half():
    ema = Average(halflife=600.0, rampup=0.0)
    average = jnp.float32(1.0)
    for step in range(10):  # 60 images each
        average = ema.update(average, jnp.float32(0.0), step, 60)
    np.testing.assert_allclose(average, 0.5, rtol=1e-5)


def test_a_ramp_up_bounds_the_half_life_by_the_images_seen():
    ema = Average(halflife=600.0, rampup=0.1)
    np.testing.assert_allclose(ema.decay(0, 60), 0.0, atol=1e-6)
    np.testing.assert_allclose(ema.decay(50, 60), 0.5 ** (60 / 300), rtol=1e-6)
    np.testing.assert_allclose(ema.decay(500, 60), 0.5 ** (60 / 600), rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "updates", "expected"),
    [
        ("constant(warmup=4)", 1, [0.25, 0.5, 0.75, 1, 1, 1]),
        ("constant(warmup=2)", 2, [0.25, 0.5, 0.75, 1, 1, 1]),
        ("linear(warmup=2)", 1, [0.5, 0.9, 0.8, 0.7, 0.6, 0.5]),
        ("constant", 1, [1, 1, 1, 1, 1, 1]),
        ("linear(hold=0.2)", 1, [1, 1, 1, 7 / 8, 6 / 8, 5 / 8]),
        ("linear(hold=0.2, warmup=2)", 1, [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8]),
        ("linear(hold=0.1)", 2, [1, 1, 1, 17 / 18, 16 / 18, 15 / 18]),
        ("cosine(hold=0.8)", 1, [1, 1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0]),
    ],
)
def test_schedules(schedule, updates, expected):
    tx = optim.build("sgd(learning_rate=1.0)", schedule, 10, updates)
    opt, moved = tx.init(jnp.zeros(())), []
    for _ in expected:
        update, opt = tx.update(jnp.ones(()), opt)
        moved.append(-float(update))
    np.testing.assert_allclose(moved, expected, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        "adam(learning_rate=1e-3, b1=0.0)",
        "adamw(learning_rate=1e-3, weight_decay=1e-4)",
        "sgd(learning_rate=1e-3, momentum=0.9)",
        "rmsprop(learning_rate=5e-5)",
        "optimistic_adam_v2(learning_rate=1e-3)",
    ],
)
def test_optimizers_of_optax_move_parameters(optimizer):
    tx = optim.build(optimizer, "constant", 10)
    params = {"kernel": jnp.ones((2, 3))}
    update, _ = tx.update(params, tx.init(params), params)
    assert (update["kernel"] < 0).all()


# --- Terms --------------------------------------------------------------------------


@penalty(players=("d", "g"), weight=2.0, initial={"count": 0.0})
def counted(critic, real, fake, key, *, generator, latents, memory, scale=1.0):
    value = scale * jnp.square(generator(latents)).sum(-1) + 0 * critic(fake)
    return value, {"count": memory["count"] + 1}


@augmentation(
    adapt=lambda memory, real_logits, num: memory | {"p": memory["p"] + 0.25},
    initial={"p": 0.0},
)
def fading(key, examples, *, memory, step):
    return examples * (1 - memory["p"])


@pytest.fixture
def mine(monkeypatch):
    import sys
    import types

    module = types.ModuleType("my_terms")
    module.counted, module.fading = counted, fading
    monkeypatch.setitem(sys.modules, "my_terms", module)


def test_a_term_of_both_players_remembers_and_is_weighed(mine):
    how = {**POINTS, **SGD, "penalties": "my_terms.counted(scale=0.5, weight=3)"}
    gan, state = make(**how)
    plain, _ = make(**POINTS, **SGD)
    batch = batch_of(gan)
    after, metrics = STEP(gan, state, batch)
    assert after.memory["counted"]["count"] == 2
    assert {"penalty_counted", "g_penalty_counted"} <= metrics.keys()
    # To D it is a constant; G descends its gradient too.
    same, _ = STEP(plain, state, batch)
    assert_close(after.d.params, same.d.params, rtol=1e-6)
    z = gan.latent.sample(purpose("g_noise"), 6)

    def cost(params):
        made = gan.generator.apply({"params": params}, z, train=True)
        return 3 * 0.5 * jnp.square(made).sum(-1).mean()

    slope = jax.grad(cost)(state.g.params)
    expected = jax.tree.map(lambda p, s: p - 0.1 * s, same.g.params, slope)
    assert_close(after.g.params, expected, rtol=1e-4, atol=1e-6)


def test_a_lazy_term_remembers_when_it_is_due(mine):
    gan, state = make(**POINTS, penalties="my_terms.counted(every=2)")
    counts = []
    for _ in range(4):
        state, _ = STEP(gan, state, batch_of(gan))
        counts.append(int(state.memory["counted"]["count"]))
    assert counts == [2, 2, 4, 4]


def test_an_augmentation_is_seen_by_d_and_adapts(mine):
    gan, state = make(**POINTS, augment="my_terms.fading")
    told = []
    for _ in range(5):
        state, metrics = STEP(gan, state, batch_of(gan))
        told.append(float(metrics["fading_p"]))
    assert told == [0.25, 0.5, 0.75, 1.0, 1.25]
    dark = dataclasses.replace(gan)
    at = state.replace(memory={"fading": {"p": jnp.float32(1.0)}})
    _, metrics = D_STEP(dark, at, batch_of(gan))  # all examples are 0 to D
    np.testing.assert_allclose(metrics["d_real"], metrics["d_fake"], rtol=1e-6)


def test_real_and_fake_are_augmented_by_different_draws():
    gan, _ = make(**POINTS, augment="instance_noise(scale=1.0)")
    keys = Keys(KEY, jnp.int32(0), 0)
    points = jnp.zeros((5, 2))
    real, fake = objectives.both_augmented(gan, points, points, 0, {}, keys)
    assert (real != fake).all()
    assert len(np.unique(real)) == real.size


@pytest.mark.parametrize("output", ["tanh", "sigmoid"])
def test_augmentations_see_images_from_minus_one_to_one(output):
    """A cut-out is mid-grey, whatever the range of the generator."""
    gan, _ = make(**IMAGES, augment="cutout", generator=f"output='{output}'")
    low, high = gan.example.bounds
    white = jnp.full((4, 8, 8, 1), high)
    keys = Keys(KEY, jnp.int32(0), 0)
    real, fake = objectives.both_augmented(gan, white, white, 0, {}, keys)
    for images in (real, fake):
        assert set(np.unique(images)) == {(low + high) / 2, high}


def test_flips_are_of_real_images_alone():
    gan, _ = make(**IMAGES, augment="flip")
    images = batch_of(gan, 16)["example"]
    keys = Keys(KEY, jnp.int32(0), 0)
    real, fake = objectives.both_augmented(gan, images, images, 0, {}, keys)
    np.testing.assert_array_equal(fake, images)
    flipped = [(r == i[:, ::-1]).all() for r, i in zip(real, images, strict=True)]
    assert 0 < sum(flipped) < 16


class Quadratic:
    """D(x) = a x + |x|^2 / 2, in two judgements."""

    class Generator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, latents, condition=None, *, train):
            return nn.Dense(2, bias_init=nn.initializers.ones)(latents)

    class Discriminator(nn.Module):
        shape: tuple
        per_example: bool = True

        @nn.compact
        def __call__(self, x, condition=None, *, train):
            self.sow("intermediates", "features", x)
            a = self.param(
                "a", lambda _: jnp.resize(jnp.array([0.7, -1.2]), x.shape[1])
            )
            return a * x + x**2 / 2


@augmentation
def stretched(key, x):
    return x * jnp.array([2.0, -0.5]) + 0.3


def judged_plainly(critic, real, fake, key):
    return critic(real) + 3 * critic(fake)


def features_seen(critic, real, fake, key, *, features, real_seen, fake_seen):
    return (features(real_seen) + 3 * features(fake_seen)).sum(-1)


@pytest.mark.parametrize(("pack", "per_example"), [(1, True), (2, False)])
def test_penalties_get_raw_examples_and_the_slope_of_what_d_sees(pack, per_example):
    """R1 and R2 are of D(T(x)) by x, for an affine T."""
    how = {"model": Quadratic, "latent_size": 2, "pack": pack}
    gan = build(Points((2,)), discriminator=f"per_example={per_example}", **how)
    terms = (
        penalties.r1,
        penalties.r2,
        penalty(judged_plainly),
        penalty(features_seen),
    )
    terms = [dataclasses.replace(term, players=("d", "g")) for term in terms]
    gan = dataclasses.replace(gan, penalties=tuple(terms), augment=(stretched,))
    state, batch = INIT(gan, KEY), {"example": batch_of(gan)["example"]}
    w = np.asarray(state.g.params["Dense_0"]["kernel"])
    stretch, a = np.array([2.0, -0.5]), np.array([0.7, -1.2])
    keys = {"d": Keys(KEY, state.step, 0, 0), "g": Keys(KEY, state.step, 0)}
    for player, of_player in (("d", d_gradient), ("g", g_gradient)):
        metrics = of_player(gan, state, batch).metrics
        metrics = {name.split("penalty_")[-1]: x for name, x in metrics.items()}
        z = gan.latent.sample(keys[player](f"{player}_noise"), 6)
        kinds = np.asarray(batch["example"]), np.asarray(z) @ w + 1
        seen = [x * stretch + 0.3 for x in kinds]
        slopes = [stretch * (a + x) for x in seen]
        expected = {
            f"r{i + 1}": pack * (s**2).sum(1).mean() / 2 for i, s in enumerate(slopes)
        }
        plain = [(a * x + x**2 / 2).mean() for x in kinds]
        expected["judged_plainly"] = plain[0] + 3 * plain[1]
        expected["features_seen"] = pack * (seen[0] + 3 * seen[1]).sum(1).mean()
        found = {name: metrics[name] for name in expected}
        assert_close(found, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zcr", "mode_seeking"])
def test_samples_are_compared_with_their_like(name):
    """Neither noise on what D sees nor earlier samples come between them."""
    told = []
    for how in ({}, {"augment": "instance_noise(scale=9.0)"}, {"replay": 6}):
        gan, state = make(**POINTS, penalties=name, **how)
        if "replay" in how:
            far = {"example": jnp.full((6, 2), 99.0), "filled": jnp.float32(6)}
            state = state.replace(memory={"replay": far})
        _, metrics = STEP(gan, state, batch_of(gan))
        told.append({k: v for k, v in metrics.items() if f"penalty_{name}" in k})
    assert_close(told[0]["g_penalty_" + name], told[1]["g_penalty_" + name], rtol=0.05)
    assert_close(told[0], told[2], rtol=0.05)


@pytest.mark.slow
def test_packs_count_as_their_images_to_ada():
    """p goes from 0 to 1 in so many images, however many D sees as one."""
    told = []
    for pack in (1, 2):
        ada = "ada(images_to_one=60, every=1, target=-2)"
        gan, state = make(**IMAGES, augment=ada, pack=pack)
        state, _ = D_STEP(gan, state, batch_of(gan))
        told.append(float(state.memory["ada"]["p"]))
    np.testing.assert_allclose(told, 0.1, rtol=1e-5)


def test_a_clipped_discriminator_stays_in_its_box():
    how = {**POINTS, **SGD, "penalties": "weight_clipping(limit=0.05, every=2), r1"}
    gan, state = make(**how)
    for due in (True, False, True):
        state, metrics = STEP(gan, state, batch_of(gan))
        most = max(float(jnp.abs(p).max()) for p in jax.tree.leaves(state.d.params))
        assert (most <= 0.05001) == due
    assert "penalty_weight_clipping" not in metrics


class Bare:
    """A user's model that leaves nothing but its logits."""

    class Generator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, latents, condition=None, *, train):
            return nn.Dense(2)(latents)

    class Discriminator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, x, condition=None, *, train):
            return nn.Dense(1)(x)[:, 0]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"penalties": "auxiliary_classifier"}, "needs class labels: set --config.con"),
        ({"augment": "ada"}, "'ada' is for images, and these are points"),
        ({"augment": "colour"}, "unknown augmentation 'colour'; did you mean 'color'"),
        ({"augment": "color(q=1)"}, "unknown setting of augmentation 'color' 'q'"),
        ({"augment": "flip, flip"}, "augmentation 'flip' is given twice"),
        ({"pack": 2, "condition": Classes(3)}, "pack needs an unconditional GAN"),
        (
            {"pack": 2, "penalties": "mode_seeking"},
            "'mode_seeking' is of single samples",
        ),
        ({"precision": "float16"}, "unknown precision 'float16'"),
        ({"schedule": "linear(warm=3)"}, "unknown setting of schedule 'linear' 'warm'"),
        (
            {"schedule": "linear(warmup=9)", "num_steps": 5},
            r"warmup must be .* below num_steps \(5\)",
        ),
        ({"schedule": "linear(hold=1)"}, r"hold must be a number in \[0, 1\), not 1"),
        ({"penalties": "weight_clipping(weight=2)"}, "unknown setting of penalty"),
        ({"penalties": "penalty"}, "unknown penalty 'penalty'"),
        ({"augment": "augmentation"}, "unknown augmentation 'augmentation'"),
        (
            {"loss": "wasserstein, label_smoothing"},
            "label_smoothing needs a loss with labels",
        ),
    ],
)
def test_refuses_what_makes_no_sense(how, message):
    with pytest.raises(UserError, match=message):
        make(**POINTS | how)


def test_features_of_a_model_that_leaves_none_are_refused():
    from gan_jax.build.preflight import check
    from gan_jax.devices import mesh as sharding

    how = POINTS | {"model": Bare, "penalties": "feature_matching"}
    gan = build(**how)
    with pytest.raises(UserError, match="does not sow 'features'"):
        check(gan, 4, sharding.make_mesh(1))
