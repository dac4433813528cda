"""Every kind of game goes through the same functions."""

import dataclasses

import flax.linen as nn
import games
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax import Classes, Images, Points, Video, build, data
from gan_jax.algorithm import gradients, spaces
from gan_jax.algorithm.chunks import guarded_step
from gan_jax.build.preflight import check
from gan_jax.config import default
from gan_jax.devices.mesh import make_mesh
from gan_jax.errors import UserError

KEY = jax.random.key(0)
INIT, GUARDED_STEP = jax.jit(gan_jax.init_state), jax.jit(guarded_step)
DRAW = jax.jit(gan_jax.draw, static_argnums=3)


def game(name):
    """Returns the GAN of a row, a batch of its data, and its source."""
    config = default()
    config.update_from_flattened_dict(games.SMALL | games.GAMES[name])
    source = data.load(config)
    gan = gan_jax.from_config(config, source.info.example, source.info.condition)
    check(gan, config.batch_size, make_mesh(1))
    size = config.batch_size * config.d_updates
    if hasattr(source, "sample"):
        return gan, source.sample(KEY, size), source
    rows = [source[i % len(source)] for i in range(size)]
    batch = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return gan, batch if config.conditional else {"example": batch["example"]}, source


def moves(before, after):
    pairs = jax.device_get([jax.tree.leaves(x.params) for x in (before, after)])
    return all((a != b).any() for a, b in zip(*pairs, strict=True))


# Of which tests/run/test_spaces.py or test_applications.py trains one.
LONG = ("classes", "digits", "masks", "pairs", "rolls")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LONG else name
        for name in games.GAMES
    ],
)
def test_two_steps_samples_and_the_guard(name):
    gan, batch, _ = game(name)
    state = INIT(gan, KEY)
    start = state
    for step in range(2):
        state, metrics = GUARDED_STEP(gan, state, batch, step)
        assert all(np.isfinite(m) and m.shape == () for m in metrics.values())
    assert state.step == 2
    assert moves(start.d, state.d)
    assert moves(start.g, state.g)

    condition = batch.get("condition")
    samples = DRAW(gan, state, KEY, 8, None if condition is None else condition[:8])
    assert samples.shape == (8, *gan.example.shape)
    assert samples.dtype == gan.example.stored_dtype

    bad = batch | {"example": np.full(batch["example"].shape, np.nan, np.float32)}
    frozen, metrics = GUARDED_STEP(gan, state, bad, 2)
    assert not np.isfinite(metrics["d_loss"])
    assert frozen.step == 2
    jax.tree.map(np.testing.assert_array_equal, frozen.d.params, state.d.params)


def test_judgements_are_those_of_the_first_example_first():
    """Logits of any shape, also of several networks, become one axis."""
    gan, batch, _ = game("pairs")
    state = INIT(gan, KEY)
    x = gan.example.encode(jnp.asarray(batch["example"]))
    logits, _ = gan_jax.algorithm.players.discriminate(gan, state.d.variables, x, x)
    of_a, of_b = gan.discriminator.apply(state.d.variables, x, x, train=True)
    assert of_a.shape == (8, 2, 2, 1)
    expected = np.concatenate([of_a.reshape(8, 4), of_b.reshape(8, 4)], 1).ravel()
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


class Normed:
    """A discriminator of the batch's statistics in training, else of running ones."""

    Generator = games.clip_model.Generator

    class Discriminator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, x, condition=None, *, train):
            h = x.reshape(len(x), -1)
            return nn.Dense(1)(nn.BatchNorm(not train)(h))


def test_d_judges_outside_training_too():
    gan = build(Images((2, 2, 1)), model=Normed, latent_size=2)
    d = INIT(gan, KEY).d
    levels = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 1), np.uint8)
    x = levels / np.float32(127.5) - 1
    # The running mean and variance of the first state are 0 and 1.
    wanted = x.reshape(6, 4) @ d.params["Dense_0"]["kernel"][:, 0] / np.sqrt(1 + 1e-5)
    for examples in (levels, x):  # stored, and as networks see them
        logits, stats = gan_jax.discriminate(gan, d.variables, examples, train=False)
        np.testing.assert_allclose(logits, wanted, rtol=1e-4)
        jax.tree.map(np.testing.assert_array_equal, stats, dict(d.stats))
    _, moved = gan_jax.discriminate(gan, d.variables, x)
    assert (moved["batch_stats"]["BatchNorm_0"]["mean"] != 0).all()


def test_a_loss_is_the_mean_over_judgements():
    """D's loss and its gradient, recomputed from the patches of pix2pix's form."""
    gan, batch, _ = game("masks")
    gan = dataclasses.replace(gan, penalties=())
    state = INIT(gan, KEY)
    batch = jax.tree.map(lambda x: x[:8], batch)
    got = jax.jit(gradients.d_gradient)(gan, state, batch)
    keys = gradients.Keys(KEY, 0, 0, 0)
    x, c = (
        space.encode(jnp.asarray(batch[key]))
        for space, key in ((gan.example, "example"), (gan.condition, "condition"))
    )
    fake, _ = gan_jax.generate(
        gan, state.g.variables, jnp.zeros((8, 0)), c, key=keys("d_networks")
    )

    def loss(params):
        real_logits, fake_logits = (
            gan.discriminator.apply({"params": params}, y, c, train=True)
            for y in (x, fake)
        )
        assert real_logits.shape == (8, 2, 2, 1)
        return nn.softplus(-real_logits).mean() + nn.softplus(fake_logits).mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(state.d.params)
    np.testing.assert_allclose(got.metrics["d_loss"], value, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        got.grads,
        grads,
    )


class Noisy:
    """Networks that draw from random streams."""

    class Generator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, latents, condition=None, *, train):
            x = nn.Dense(2)(latents)
            return x + jax.random.normal(self.make_rng("style"), x.shape)

    class Discriminator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, x, condition=None, *, train):
            h = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(8)(x)))
            return nn.Dense(1)(h)


def test_networks_get_random_streams_of_any_name():
    gan = build(Points((2,)), model=Noisy, latent_size=2, penalties="cr")
    check(gan, 4, make_mesh(1))
    state = INIT(gan, KEY)
    step = jax.jit(gan_jax.d_step)
    batch = {"example": jnp.ones((4, 2))}
    told = [float(step(gan, state, batch, i)[1]["d_real"]) for i in (0, 0, 1)]
    assert told[0] == told[1]  # a function of (seed, step, purpose) ...
    assert told[0] != told[2]  # ... so each update drops other units
    one, two = (gan_jax.draw(gan, state, jax.random.key(i), 3) for i in range(2))
    assert (one != two).all()


@pytest.mark.parametrize("space", [Images((4, 4, 3)), Video((2, 4, 4, 1), (0.0, 1.0))])
def test_what_is_stored_survives_the_networks_range(space):
    levels = np.arange(256, dtype=np.uint8)
    x = space.encode(levels)
    assert (x.min(), x.max()) == space.bounds
    np.testing.assert_array_equal(space.decode(x), levels)
    np.testing.assert_array_equal(space.decode(jnp.array([-9.0, 9.0])), [0, 255])
    assert space.zeros(5).shape == (5, *space.shape)
    np.testing.assert_array_equal(space.encode(x), x)
    with pytest.raises(UserError, match=r"of type int32: give them as uint8, 0 to 255"):
        space.encode(np.arange(256, dtype=np.int32))


@pytest.mark.parametrize(
    "space",
    [Points((2,)), Classes(7), Images((8, 8, 1), (0.0, 1.0))],
)
def test_a_description_is_of_its_space(space):
    assert spaces.from_description(spaces.describe(space)) == space


def test_a_space_has_the_axes_of_its_kind():
    with pytest.raises(UserError, match=r"Images \(height, width, channels\) cannot"):
        Images((8, 8))


class Narrow:
    """A generator of the wrong shape, and a discriminator of one logit for all."""

    class Generator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, latents, condition=None, *, train):
            return nn.Dense(3)(latents)

    class Discriminator(nn.Module):
        shape: tuple

        @nn.compact
        def __call__(self, x, condition=None, *, train):
            return nn.Dense(1)(x).mean(keepdims=True)


class Whole(Noisy):
    Discriminator = Narrow.Discriminator


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model": Narrow},
            r"Generator returns shape \(4, 3\) .*; it must return \(4, 2",
        ),
        (
            {"model": Whole},
            r"Discriminator returns shape \(1, 1\) for a batch of 4; it m",
        ),
        ({"condition": Images((8, 8, 1))}, "takes class labels as its condition, and"),
        ({"latent_size": 0}, "latent_size is 0: without latents and without"),
        ({"width_": 3}, "unknown setting of build 'width_'; did you mean 'width'"),
        (
            {"latent_size": 0, "condition": Classes(3), "penalties": "mode_seeking"},
            "mode_seeking needs latents: latent_size must be",
        ),
    ],
)
def test_refuses(settings, message):
    settings = {"example": Points((2,)), "model": "mlp", "width": 8} | settings
    with pytest.raises(UserError, match=message):
        check(build(**settings), 4, make_mesh(1))


def test_a_term_may_only_ask_for_what_there_is():
    with pytest.raises(UserError, match=r"'logits_real'; did you mean 'real_logits'"):

        @gan_jax.penalty
        def wrong(critic, real, fake, key, *, logits_real):
            return logits_real


def test_a_condition_that_is_no_class_must_be_given():
    gan, _, _ = game("masks")
    state = jax.eval_shape(gan_jax.init_state, gan, KEY)
    with pytest.raises(UserError, match="samples need a condition"):
        jax.eval_shape(lambda s: gan_jax.draw(gan, s, KEY, 4), state)
