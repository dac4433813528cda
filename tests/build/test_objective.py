"""Every objective by its name, trained: what a player minimises falls by its steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax.algorithm.objectives import initial_memory
from gan_jax.algorithm.spaces import Classes, Images, Pair, Points
from gan_jax.diagnostics.toys import Smooth
from gan_jax.errors import UserError
from gan_jax.objective import augment, losses, penalties, targets
from gan_jax.objective.losses import Loss
from gan_jax.objective.terms import Augmentation, Family, Penalty, Transform

KEY = jax.random.key(0)
MLP = {"model": "mlp", "width": 8, "generator": "depth=1", "discriminator": "depth=1"}
POINTS = MLP | {"example": Points((2,)), "latent_size": 2}
IMAGES = MLP | {"example": Images((8, 8, 1)), "latent_size": 3}
PAIRS = {"model": Smooth, "latent_size": 0, "example": Pair((2, 4, 4, 1))}
PAIRS["condition"] = PAIRS["example"]
STEPS = {"d": gan_jax.d_step, "g": gan_jax.g_step}


def names(module, kinds):
    public = vars(module).items()
    return sorted(n for n, x in public if isinstance(x, kinds) and n[0] != "_")


# Every public loss of ours, by its name alone, and what else a name can mean.
LOSSES = (
    *names(losses, (Loss, Family)),
    *(f"non_saturating, {name}" for name in names(targets, Transform)),
    'relativistic(f="hinge")',
    'relativistic_average(f="least_squares")',
    "f_gan(saturating=True)",
    *(f'f_gan(divergence="{name}")' for name in losses._DIVERGENCES),
    "least_squares(a=-1, b=1, c=0), label_smoothing(fake=0.1), label_flipping(p=0.1)",
)


@functools.cache
def _initialised(gan):
    return jax.jit(gan_jax.init_state, static_argnums=0)(gan, KEY)


def initialised(plain, gan):
    """Returns the first state of a GAN from that of one with the same networks."""
    return _initialised(plain).replace(memory=initial_memory(gan))


@functools.cache
def built(**settings):
    return gan_jax.build(**settings)


def descend(gan, state, batch, players, n=25):
    """Makes `n` steps of each player alone, all with the noise of the first.

    Returns:
      The last state and the metrics of all steps by player, from one program.
    """

    def of_player(player, state):
        def again(state, _):
            state, metrics = STEPS[player](gan, state, batch)
            return state.replace(step=jnp.int32(0)), metrics

        return jax.lax.scan(again, state, None, n)

    run = jax.jit(
        lambda state: {player: of_player(player, state) for player in players}
    )
    return run(state)


def batch_of(gan, n=12):
    """Returns examples, and the condition of each: a class, or the example itself."""
    noise = np.random.default_rng(0).standard_normal((n, *gan.example.shape))
    batch = {"example": (1 + 0.3 * noise).astype(np.float32)}
    if isinstance(gan.condition, Classes):
        batch["condition"] = np.arange(n, dtype=np.int32) % 3
    elif gan.condition is not None:
        batch["condition"] = batch["example"]
    return batch


@pytest.mark.parametrize("loss", LOSSES)
def test_each_player_descends_its_loss(loss):
    settings = POINTS | {"optimizer": "sgd(learning_rate=0.02)"}
    gan = built(**settings, loss=loss)
    state = initialised(built(**settings), gan)
    found = descend(gan, state, batch_of(gan), ("d", "g"))
    for player, (_, metrics) in found.items():
        values = np.asarray(metrics[f"{player}_loss"])
        assert np.isfinite(values).all()
        assert values[-1] < values[0] - 1e-3


# Has no loss of its own: an update follows the penalty alone.
NOTHING = Loss(d=lambda real, fake: 0 * real, g=lambda fake, real: 0 * fake)


@pytest.mark.parametrize("name", names(penalties, Penalty))
def test_a_penalty_falls_alone(name):
    """Under the steps of each player that it is for, by gradient descent."""
    settings = PAIRS if name in ("cycle", "identity") else IMAGES
    settings = settings | {"optimizer": "sgd(learning_rate=2e-3)", "loss": NOTHING}
    if name == "auxiliary_classifier":
        settings |= {"condition": Classes(3)}
        settings["discriminator"] = "depth=1, conditioning='auxiliary'"
    gan = built(**settings, penalties=f"{name}(weight=2)")
    state = initialised(built(**settings), gan)
    found = descend(gan, state, batch_of(gan), gan.penalties[0].players)
    for player, (after, metrics) in found.items():
        values = metrics[{"d": "penalty_", "g": "g_penalty_"}[player] + name]
        assert np.isfinite(values).all()
        assert values[-1] < values[0]
        assert after.memory.keys() == state.memory.keys()


@functools.cache
def trained_once(**settings):
    """Returns the state after a step, and its metrics, augmented if need be."""
    gan, plain = built(**settings), built(**settings | {"augment": ""})
    state = initialised(plain, gan)
    moved = {
        name: memory | {"p": jnp.float32(0.8)}
        for name, memory in state.memory.items()
        if "p" in memory
    }
    state = state.replace(memory=state.memory | moved)
    run = jax.jit(functools.partial(gan_jax.train_step, gan))
    return run(state, batch_of(gan))


@pytest.mark.parametrize("name", names(augment, Augmentation))
def test_a_gan_trains_through_an_augmentation(name):
    settings = IMAGES | {"optimizer": "sgd(learning_rate=1e-2)"}
    after, metrics = trained_once(**settings, augment=name)
    _, bare = trained_once(**settings, augment="")
    assert all(np.isfinite(m) for m in metrics.values())
    assert metrics["d_loss"] != bare["d_loss"]
    slopes = np.array([float(m["g_grad_norm"]) for m in (metrics, bare)])
    assert (slopes > 0).all()  # the gradient comes through to G
    assert after.step == 1


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"augment": "ada", "loss": "relativistic"}, "if a constant .*'bgc"),
        ({"augment": "ada", "loss": "wasserstein"}, "if a constant .*'bgc"),
        ({"penalties": "lecam", "loss": "relativistic_average"}, "use r1 or bcr"),
    ],
)
def test_terms_of_single_logits_refuse_a_loss_of_differences(terms, message):
    with pytest.raises(UserError, match=message):
        gan_jax.build(**IMAGES, **terms)
    gan_jax.build(**IMAGES, **terms | {"loss": "hinge"})
