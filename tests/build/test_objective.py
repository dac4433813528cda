"""Every objective by its name, trained: what a player minimises falls by its steps."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax.build import objectives as objective
from gan_jax.objective import augment, losses, penalties
from gan_jax.objective.losses import Loss

KEY = jax.random.key(0)
POINTS = {"shape": (2,), "model": "mlp", "width": 8, "latent_size": 2}
IMAGES = {"shape": (8, 8, 1), "model": "mlp", "width": 8, "latent_size": 3}
ADAM = {"optimizer": "adam(learning_rate=1e-2, b1=0.5)"}


def names(module, is_one):
    public = vars(module).items()
    return sorted(n for n, x in public if not n.startswith("_") and is_one(x))


def takes(first):
    return lambda x: (
        inspect.isfunction(x) and next(iter(inspect.signature(x).parameters)) == first
    )


# Every public loss of ours, by its name alone, and what else a name can mean.
LOSSES = (
    *names(losses, lambda x: isinstance(x, Loss)),
    *names(losses, lambda x: takes("loss")(x) is False and objective._is_loss(x)),
    *(f"non_saturating, {name}" for name in names(losses, takes("loss"))),
    'relativistic(f="hinge")',
    'relativistic_average(f="least_squares")',
    "f_gan(saturating=True)",
    *(f'f_gan(divergence="{name}")' for name in losses._DIVERGENCES),
    "least_squares(a=-1, b=1, c=0), label_smoothing(fake=0.1), label_flipping(p=0.1)",
)
PENALTIES = names(penalties, takes("critic"))
AUGMENTATIONS = names(augment, takes("key"))


def descend(gan, state, batch, player, n=25):
    """Makes `n` steps of one player, all with the noise of the first."""
    step = {"d": gan_jax.d_step, "g": gan_jax.g_step}[player]

    def again(state, _):
        state, metrics = step(gan, state, batch)
        return state.replace(step=jnp.int32(0)), metrics

    return jax.jit(lambda state: jax.lax.scan(again, state, None, n))(state)


def batch_of(gan, n=12):
    image = 1 + 0.3 * jax.random.normal(KEY, (n, *gan.shape))
    return {"image": image, "label": jnp.arange(n) % 3}


@pytest.mark.parametrize("loss", LOSSES)
def test_each_player_descends_its_loss(loss):
    gan = gan_jax.build(**POINTS, **ADAM, loss=loss)
    state, batch = jax.jit(gan_jax.init_state)(gan, KEY), batch_of(gan)
    for player in ("d", "g"):
        state, metrics = descend(gan, state, batch, player)
        values = metrics[f"{player}_loss"]
        assert jnp.isfinite(values).all()
        assert values[-1] < values[0] - 1e-3


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_falls_alone(name):
    """Under the steps of each player that it is for, by gradient descent."""
    classes = {"num_classes": 3} if name == "auxiliary_classifier" else {}
    if classes:
        classes["discriminator"] = "conditioning='auxiliary'"
    nothing = Loss(d=lambda real, fake: 0 * real, g=lambda fake, real: 0 * fake)
    how = {"optimizer": "sgd(learning_rate=2e-3)", "loss": nothing}
    gan = gan_jax.build(**IMAGES, **how, **classes, penalties=f"{name}(weight=2)")
    state, batch = jax.jit(gan_jax.init_state)(gan, KEY), batch_of(gan)
    for player in gan.penalties[0].players:
        key = {"d": "penalty_", "g": "g_penalty_"}[player] + name
        after, metrics = descend(gan, state, batch, player)
        assert jnp.isfinite(metrics[key]).all()
        assert metrics[key][-1] < metrics[key][0]
        assert after.memory.keys() == state.memory.keys()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_gan_trains_through_an_augmentation(name):
    gan = gan_jax.build(**IMAGES, **ADAM, augment=name)
    state = jax.jit(gan_jax.init_state)(gan, KEY)
    plain = gan_jax.build(**IMAGES, **ADAM)
    if "p" in state.memory.get(name, {}):
        own = state.memory[name] | {"p": jnp.float32(0.8)}
        state = state.replace(memory={name: own})
    batch = batch_of(gan)
    after, metrics = jax.jit(gan_jax.train_step)(gan, state, batch)
    _, bare = jax.jit(gan_jax.train_step)(plain, state.replace(memory={}), batch)
    assert all(jnp.isfinite(m) for m in metrics.values())
    assert metrics["d_loss"] != bare["d_loss"]
    slopes = np.array([float(m["g_grad_norm"]) for m in (metrics, bare)])
    assert (slopes > 0).all()  # the gradient comes through to G
    assert after.step == 1
