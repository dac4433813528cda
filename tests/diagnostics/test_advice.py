import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import softplus

from gan_jax import Images, Loss, Points, build
from gan_jax.build.objectives import build_loss
from gan_jax.diagnostics import advice
from gan_jax.objective import losses


def gan(loss="non_saturating", penalties="", **settings):
    settings = {"model": "mlp", "width": 4, "latent_size": 2, **settings}
    return build(Points((2,)), loss=loss, penalties=penalties, **settings)


def test_known_losses_let_the_players_compete():
    for text in ("minimax", "hinge", "least_squares(a=-1, b=1, c=0)", "wasserstein"):
        assert advice.warnings(gan(text, "r1"), (), own_loss=True) == []
    for family in (losses.relativistic, losses.relativistic_average):
        assert advice.warnings(gan(family(), "r1"), (), own_loss=True) == []


def of_d(real, fake):
    return softplus(-real) + softplus(fake)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Loss(of_d, lambda a, b: softplus(-b)), "G's loss does not depend"),
        (Loss(lambda real, fake: softplus(fake), lambda f, r: -f), "logits of real"),
        (Loss(lambda real, fake: softplus(-real), lambda f, r: -f), "of generated"),
        (Loss(lambda a, b: of_d(b, a), lambda f, r: -f), "the same way"),
        (Loss(of_d, lambda fake, real: softplus(fake)), "the same way"),
        (Loss(of_d, lambda fake, real: jnp.exp(-fake)), None),
    ],
)
def test_a_loss_of_your_own(loss, message):
    found = advice.warnings(gan(loss), (), own_loss=True)
    assert len(found) == (message is not None)
    assert all(message in line for line in found)
    assert advice.warnings(gan(loss), ()) == []


@pytest.mark.parametrize(
    ("loss", "unbounded"),
    [
        ("wasserstein", True),
        ("f_gan(divergence='kl')", True),
        ("f_gan(divergence='reverse_kl')", True),
        ("f_gan(divergence='pearson')", True),
        ("f_gan(divergence='squared_hellinger')", False),
        ("non_saturating", False),
        ("least_squares", False),
        ("hinge", False),
        ("relativistic(f='logistic')", False),
        ("dual_contrastive", False),
    ],
)
def test_losses_without_a_lower_bound_need_one_for_d(loss, unbounded):
    found = advice.warnings(gan(build_loss(loss)), ())
    assert ["no lower bound" in line for line in found] == [True] * unbounded


@pytest.mark.parametrize(
    ("penalties", "stats", "warned"),
    [
        ("", (), True),
        ("", ("spectral",), False),
        ("weight_clipping", (), False),
        ("r1(every=16)", (), False),
        ("lecam", (), False),
        ("orthogonal", (), True),
        ("mode_seeking", (), True),  # of G alone
    ],
)
def test_what_keeps_a_critic_from_growing(penalties, stats, warned):
    assert bool(advice.warnings(gan("wasserstein", penalties), stats)) == warned


@pytest.mark.parametrize(
    ("penalties", "stats", "warned"),
    [
        ("gradient_penalty", ("batch_stats",), True),
        ("gradient_penalty", ("spectral",), False),
        ("lecam", ("batch_stats",), False),
    ],
)
def test_gradients_by_single_examples_need_a_d_that_judges_them_so(
    penalties, stats, warned
):
    found = advice.warnings(gan("wasserstein", penalties), stats)
    assert ["mixes the examples" in line for line in found] == [True] * warned


@pytest.mark.parametrize(
    ("mean", "deviation", "warned"),
    [(0, 1, 0), (5, 4, 0), (-200, 1, 1), (0, 50, 1), (0, 0.01, 1)],
)
def test_points_of_another_scale(mean, deviation, warned):
    points = mean + deviation * np.array([[-1.0, 1], [1, 1], [1, -1], [-1, -1]])
    assert len(advice.of_points(points)) == warned


def test_minibatch_std_mixes_too_little_to_warn_of():
    fields = 'norm="none", minibatch_std=4'
    made = build(Images((8, 8, 1)), penalties="r1", width=4, discriminator=fields)
    assert advice.warnings(made, ()) == []
