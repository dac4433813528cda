"""Checks of penalties: against closed forms, and penalties that are wrong."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import stop_gradient

from gan_jax import penalty
from gan_jax.build.objectives import build_loss, build_penalties
from gan_jax.diagnostics import game
from gan_jax.diagnostics.differences import differences
from gan_jax.diagnostics.penalty_checks import FINITE, dirac_jacobian, examine, fitting
from gan_jax.errors import UserError
from gan_jax.objective import penalties
from gan_jax.objective.terms import Constraint, Penalty, constraint


def named(text):
    return next(term for terms in build_penalties(text) for term in terms)


def slope(critic, x):
    return jax.grad(lambda x: critic(x).sum())(x)


@penalty
def scalar(critic, real, fake, key):
    return jnp.square(critic(real)).mean()


@penalty
def nothing(critic, real, fake, key):
    return 0 * critic(real) + 1


@penalty
def root(critic, real, fake, key):
    return jnp.sqrt(jnp.square(slope(critic, real)).sum(1))


@penalty
def stopped(critic, real, fake, key, *, real_logits):
    return real_logits * stop_gradient(real_logits)


@penalty(weight=1.0)
def repels(critic, real, fake, key):
    return -0.5 * jnp.square(slope(critic, real)).sum(1)


@penalty(initial={"mean": 0.0})
def grows(critic, real, fake, key, *, real_logits, memory):
    return real_logits, {"mean": memory["mean"] + real_logits}


@penalty(initial={"mean": 0.0})
def steady(critic, real, fake, key, *, real_logits, memory, decay=0.5):
    now = stop_gradient(real_logits.mean())
    mean = decay * memory["mean"] + (1 - decay) * now
    return jnp.square(real_logits - mean), {"mean": mean}


@constraint
def halves(params):
    return jax.tree.map(lambda x: x / 2, params)


@constraint
def unit(params):
    return jax.tree.map(lambda x: x / jnp.linalg.norm(x), params)


slow = functools.partial(pytest.param, marks=pytest.mark.slow)
GRADIENT, DIRAC = "D's gradient", "Dirac-GAN"


@pytest.mark.parametrize(
    ("term", "failed", "found"),
    [
        (scalar, {"shapes"}, "one value per judgement: drop .mean()"),
        (grows, {"shapes"}, "another kind of memory than it gets"),
        slow(nothing, {GRADIENT}, "no gradient by D's parameters"),
        slow(root, {FINITE, DIRAC}, "D's gradient is NaN or inf where D is constant"),
        slow(stopped, {GRADIENT}, "relative difference 1 to finite"),
        slow(repels, {DIRAC}, "0.5±0i: unstable (±0.5i without it)"),
        (halves, {"projection"}, "moves a parameter by another"),
        (unit, {"finite at parameters 0, 1e4"}, "where parameters have size 0"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_bad_penalty_fails_where_it_is_bad(term, failed, found):
    bad = {name: v for name, v in examine(term).items() if not v.passed}
    assert bad.keys() == failed
    assert any(found in verdict.found for verdict in bad.values()), bad


@pytest.mark.slow
def test_an_average_may_be_a_constant_to_the_gradient():
    verdicts = examine(steady)
    assert all(verdict.passed for verdict in verdicts.values()), verdicts
    assert verdicts[GRADIENT].found.endswith("its memory held")
    assert verdicts["shapes"].found.endswith("memory keeps its 1 array(s)")


@pytest.mark.slow
@pytest.mark.parametrize("name", penalties.__all__)
def test_every_penalty_passes(name):
    term = named(name)
    verdicts = examine(term)
    assert all(verdict.passed for verdict in verdicts.values()), verdicts
    players = () if isinstance(term, Constraint) else term.players
    assert {f"{p.upper()}'s gradient" for p in players} <= verdicts.keys()


@pytest.mark.parametrize(
    ("text", "gamma"),
    [
        ("r1(weight=0.7)", 0.7),
        slow("zero_centred_gradient_penalty(weight=0.2)", 0.4),
    ],
)
def test_the_dirac_gans_jacobian_is_that_of_the_closed_form(text, gamma):
    loss = build_loss("least_squares(c=0.7)")  # l* = 0.5
    found = dirac_jacobian(loss, 0.5, named(text))
    expected = game.dirac_jacobian(loss, 0.5, gamma)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[0, 0] == pytest.approx(-gamma)


@pytest.mark.slow
def test_a_penalty_that_jumps_has_no_jacobian():
    """WGAN-GP keeps D from being constant (arXiv:1801.04406, section 3.1)."""
    loss = build_loss("wasserstein")
    found = dirac_jacobian(loss, 0.0, named("gradient_penalty"))
    assert np.isnan(found).all()


def of_images(critic, real, fake, key):
    return jnp.abs(fake).mean((1, 2, 3))


def of_translation(critic, real, fake, key, *, condition):
    return jnp.abs(fake - condition).mean((1, 2, 3))


def of_pairs(critic, real, fake, key, *, condition):
    return jnp.abs(fake - condition[:, ::-1]).mean((1, 2, 3, 4))


def of_no_game(critic, real, fake, key):
    return fake.sum((1, 2, 3, 4, 5))


@pytest.mark.parametrize(
    ("function", "example", "condition"),
    [
        (of_images, "Images", "NoneType"),
        (of_translation, "Images", "Images"),
        (of_pairs, "Pair", "Pair"),
    ],
)
def test_the_game_is_one_that_the_penalty_fits(function, example, condition):
    gan = fitting(Penalty(function=function, name="mine")).gan
    spaces = gan.example, gan.condition
    assert [type(space).__name__ for space in spaces] == [example, condition]


def test_a_penalty_that_fits_no_game_says_why():
    with pytest.raises(UserError, match="the penalty 'mine' fails: ValueError"):
        fitting(Penalty(function=of_no_game, name="mine"))


def test_differences_hold_what_a_term_remembers():
    def term(p, m):
        new = 0.5 * m + p[0] * p[1]
        return jnp.square(p[0] - new[0]), new

    p, m = jnp.array([0.7, -0.4]), jnp.array([0.3])
    found = jax.jit(functools.partial(differences, term))(p, m, jnp.eye(2))
    gap = 2 * (0.7 - (0.15 - 0.28))
    np.testing.assert_allclose(found.whole, [gap * 1.4, -gap * 0.7], rtol=1e-4)
    np.testing.assert_allclose(found.held(), [gap, 0], atol=2e-4)
