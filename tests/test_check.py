import jax
import numpy as np
import pytest

from gan_jax.algorithm import dynamics
from gan_jax.build.objectives import build_loss
from gan_jax.diagnostics import game
from gan_jax.diagnostics.loss_checks import examine
from gan_jax.objective import augment, losses, penalties, targets
from gan_jax.objective.terms import Term

MINE = """
import jax.numpy as jnp
from jax.nn import sigmoid, softplus
from gan_jax import Loss
from gan_jax.objective.losses import non_saturating as right

swapped = right._replace(d=lambda r, f: softplus(r) + softplus(-f))
g_swapped = right._replace(g=lambda f, r: softplus(f))
d_constant = right._replace(d=lambda r, f: 0 * r)
g_constant = right._replace(g=lambda f, r: 0 * f)
naive = right._replace(d=lambda r, f: -jnp.log(sigmoid(r)) - jnp.log(1 - sigmoid(f)))
scalar = right._replace(d=lambda r, f: right.d(r, f).mean())
raising = right._replace(d=lambda r, f: r @ jnp.ones(3))
concave = right._replace(d=lambda r, f: -softplus(r) - softplus(-f))
saddle = right._replace(d=lambda r, f: softplus(f - r) - 0.1 * jnp.square(f + r))
greedy = right._replace(d=lambda r, f: -r + 0.5 * f)
drawn = right._replace(target=lambda key, targets: targets[:, None])


def unsure(real, fake, critic, key):
    return critic(real)


def mean(critic, real, fake, key):
    return critic(real).mean()


def lazy(gan, state, batch):
    return state, {}
"""
FINITE, STABLE = "finite at logits 0, ±1e4", "Dirac-GAN, R1(1)"


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    path = tmp_path_factory.mktemp("losses") / "mine.py"
    path.write_text(MINE)
    return str(path)


@pytest.mark.parametrize(
    ("name", "failed", "found"),
    [
        (
            "swapped",
            {"D's gradient", "equilibrium", "Dirac-GAN", STABLE},
            "0.5 by real logits, -0.5",
        ),
        ("g_swapped", {"G's gradient", "Dirac-GAN", STABLE}, "0.5 at l*, 4.5e-05"),
        ("g_constant", {"G's gradient", "Dirac-GAN", STABLE}, "±0i: not valid, as G's"),
        (
            "d_constant",
            {"D's gradient", "equilibrium", "Dirac-GAN", STABLE},
            "curvature 0: not valid, as D's gradient failed",
        ),
        ("naive", {FINITE}, "is nan at real -1e+04"),
        ("scalar", {"shapes"}, "d returns () for a batch of 1, not (1,)"),
        ("concave", {"equilibrium"}, "slope 0, curvature -0.5"),
        ("saddle", {"equilibrium"}, "a constant near l* has a lower"),
        ("greedy", {"fixed point of D", "equilibrium"}, "none"),
        ("drawn", {"shapes"}, "d as drawn returns (1, 1) for a batch of 1, not (1,)"),
    ],
)
def test_a_bad_loss_fails_where_it_is_bad(mine, name, failed, found):
    verdicts = examine(build_loss(f"{mine}:{name}"))
    bad = {check: verdict for check, verdict in verdicts.items() if not verdict.passed}
    assert set(bad) == failed
    assert any(found in verdict.found for verdict in bad.values()), bad


def test_a_loss_that_raises_fails_with_its_reason(mine):
    verdicts = examine(build_loss(f"{mine}:raising"))
    for name, (passed, found) in verdicts.items():
        assert passed == (name == "G's gradient")
        assert passed or found.startswith("TypeError: dot_general requires")


def test_the_command_prints_what_each_check_found(forks):
    status, out, err = forks("check", "non_saturating")
    assert (status, err) == (0, "")
    rows = [
        line.split("passed")[1].strip()
        for line in out.splitlines()[3:]
        if "passed" in line
    ]
    assert len(rows) == 8
    for found in (
        "[batch] for [batch]",
        "-0.5 by real logits, 0.5 by fake",
        "l* = 0, sigma(l*) = 0.5, D's loss 1.386",
        "±0.5i",
        "-0.5±0i: stable",
    ):
        assert found in rows


def test_the_command_says_by_its_status_that_a_check_failed(forks, mine):
    status, out, err = forks("check", f"{mine}:g_swapped")
    assert (status, err) == (1, "")
    assert out.count("failed") == 3
    assert out.count("passed") == 5
    assert "must push fake logits up" in " ".join(out.split())


@pytest.mark.parametrize(
    ("text", "status", "row"),
    [
        ("weight_clipping", 0, "projection passed applied twice, it moves a"),
        ("{mine}:mean", 1, "shapes failed the penalty 'mean' returns shape ()"),
        ("{mine}:lazy", 1, "step counter failed state.step rises by 0 in a step"),
    ],
)
def test_the_command_checks_by_kind(forks, mine, text, status, row):
    found, out, err = forks("check", text.format(mine=mine))
    assert (found, err) == (status, "")
    assert row in " ".join(out.split())


def test_names_of_ours_are_of_one_kind():
    homes = losses, targets, penalties, augment, dynamics
    kinds = losses.Loss, Term
    ours = [
        name for home in homes for name, x in vars(home).items() if isinstance(x, kinds)
    ]
    assert len(ours) == len(set(ours))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "error: the argument NAME is missing; --help says what it is\n"),
        (("hinge", "minimax"), "error: unexpected argument 'minimax': flags are"),
        (
            ("hnge",),
            "error: unknown loss, penalty or step 'hnge'; did you mean 'hinge'?",
        ),
        (("hinge, label_smoothing",), "error: label_smoothing needs a loss with"),
        (("none.py:a",), "error: loss, penalty or step: there is no file "),
        (("",), "error: there is nothing to check: give a name"),
        (("color",), "error: 'color' goes into --config.augment, for which there"),
        (("r1, r2",), "error: 'r1, r2' names several penalties: check one"),
        (("r1(wight=1)",), "error: unknown setting of penalty 'r1' 'wight'; did you"),
        (("r1", "--with=hnge"), "error: unknown loss 'hnge'; did you mean 'hinge'?"),
        (("hinge", "--with=r1"), "error: --with=r1: a loss is checked alone"),
        (("weight_clipping", "--with=hinge"), "error: --with=hinge: a constraint is"),
        (("extragradient", "--with=adam"), "error: optimizer 'adam': give it a"),
        (("{mine}:unsure",), "error: '{mine}:unsure' may be a loss, a penalty or a"),
    ],
)
def test_the_command_refuses_in_one_line(forks, mine, args, message):
    status, out, err = forks("check", *(arg.format(mine=mine) for arg in args))
    assert (status, out) == (2, "")
    assert err.startswith(message.format(mine=mine))
    assert err.count("\n") == 1


def test_fixed_points_of_an_interval_are_found_to_its_ends():
    point = game.fixed_point(losses.hinge)
    np.testing.assert_allclose(point, (0, -1, 1), atol=1e-5)


def test_with_r1_the_players_come_to_the_dirac_gans_equilibrium():
    """Simultaneous gradient steps do what the eigenvalues say."""
    loss, step = losses.wasserstein, 0.05
    for gamma in (0.0, 1.0):
        jacobian = jax.jit(game.dirac_jacobian, static_argnums=0)(loss, 0.0, gamma)
        matrix = np.eye(2) + step * np.asarray(jacobian)
        psi, theta = 0.3, 0.4
        for _ in range(200):  # the game is linear in each player
            psi, theta = psi - step * (theta + gamma * psi), theta + step * psi
        expected = np.linalg.matrix_power(matrix, 200) @ [0.3, 0.4]
        np.testing.assert_allclose([psi, theta], expected, rtol=1e-4)
        assert (np.hypot(psi, theta) < 0.5) == (gamma > 0)


def test_a_loss_may_have_its_own_rule_of_reverse_differentiation():
    @jax.custom_vjp
    def cost(x):
        return jax.nn.softplus(-x)

    cost.defvjp(lambda x: (cost(x), x), lambda x, g: (-g * jax.nn.sigmoid(-x),))
    loss = losses.Loss(
        d=lambda real, fake: cost(real) + cost(-fake), g=lambda fake, real: cost(fake)
    )
    assert all(verdict.passed for verdict in examine(loss).values())
