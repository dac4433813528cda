"""Checks of steps: the bilinear game's known rates, and steps that are wrong."""

import numpy as np
import pytest

from gan_jax.algorithm.dynamics import alternating, vector_field
from gan_jax.algorithm.steps import d_step, move_d, move_g
from gan_jax.build.objectives import build_step
from gan_jax.diagnostics.step_checks import RATE, examine, follow, game, rate
from gan_jax.objective.terms import dynamics

H = RATE
# The eigenvalues of one coordinate, of which G's and D's partner each other:
# z -> z - H F(z) with F(z) = i z, and its kin (arXiv:1802.10551, section 3).
LAST = 1 - H**2 * (1 + 2 * 2)  # of unrolled(k=2), see tests/algorithm/test_dynamics.py
RATES = {
    "simultaneous": np.sqrt(1 + H**2),
    "alternating": 1.0,
    "extragradient": np.sqrt(1 - H**2 + H**4),
    "unrolled(k=2)": np.abs(np.linalg.eigvals([[LAST, H], [-H, 1]])).max(),
}
HOW = {
    "simultaneous": "diverges",
    "alternating": "cycles",
    "extragradient": "converges",
    "unrolled(k=2)": "converges",
}


@pytest.mark.parametrize("name", RATES)
def test_every_step_passes_with_its_known_rate(name):
    verdicts = examine(build_step(name))
    assert all(verdict.passed for verdict in verdicts.values()), verdicts
    *_, factor, _, _, how = verdicts["bilinear game"].found.split()
    assert how == HOW[name]
    np.testing.assert_allclose(float(factor), RATES[name], rtol=1e-3)


def test_optimistic_descent_converges():
    """z' = z - 2 H F(z) + H F(z_before) (arXiv:1711.00141, eq. 5), F(z) = i z."""
    optimizer = f"optimistic_gradient_descent(learning_rate={H})"
    found = rate(follow(game(build_step("simultaneous"), optimizer)).distances)
    expected = np.abs(np.roots([1, -1 + 2j * H, -1j * H])).max()
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert found < 1


@dynamics
def same_count(gan, state, batch):
    after, metrics = alternating(gan, state, batch)
    return after.replace(step=state.step), metrics


@dynamics
def d_alone(gan, state, batch):
    after, metrics = d_step(gan, state, batch)
    return after.replace(step=state.step + 1), metrics


@dynamics
def uphill(gan, state, batch):
    d, g = vector_field(gan, state, batch)
    state, d_metrics = move_d(gan, state, d)
    g = g._replace(grads={"theta": -g.grads["theta"]})
    state, g_metrics = move_g(gan, state, batch, g)
    return state, d_metrics | g_metrics


@dynamics
def no_average(gan, state, batch):
    after, metrics = alternating(gan, state, batch)
    return after.replace(ema=state.ema), metrics


RANDOM = np.random.default_rng(0)


@dynamics
def random(gan, state, batch):
    after, metrics = alternating(gan, state, batch)
    moved = after.g.params["theta"] + 0.01 * RANDOM.normal()
    return after.replace(g=after.g.replace(params={"theta": moved})), metrics


@dynamics
def infinite(gan, state, batch):
    after, metrics = alternating(gan, state, batch)
    return after, metrics | {"ratio": metrics["d_loss"] / (state.step - 3)}


@dynamics
def vector_metric(gan, state, batch):
    after, metrics = alternating(gan, state, batch)
    return after, metrics | {"move": after.g.params["theta"]}


@dynamics
def stateless(gan, state, batch):
    return alternating(gan, state, batch)[1]


@dynamics
def raises(gan, state, batch):
    return state.missing


@pytest.mark.parametrize(
    ("step", "failed", "found"),
    [
        (same_count, {"step counter"}, "rises by 0 in a step"),
        (d_alone, {"G moves", "average of G"}, "G's parameters stay as they were"),
        (uphill, {"G moves"}, "cosine -1 of its first move"),
        (no_average, {"average of G"}, "state.ema stays as it was"),
        (random, {"replay", "vmap over seeds"}, "from state.key and state.step"),
        (infinite, {"metrics"}, "NaN or inf: ratio"),
        (vector_metric, {"shapes"}, "metrics that are no scalars"),
        (stateless, {"shapes"}, "must return the new state and the metrics"),
        (raises, {"shapes"}, "AttributeError"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_bad_step_fails_where_it_is_bad(step, failed, found):
    bad = {name: v for name, v in examine(step).items() if not v.passed}
    assert bad.keys() == failed
    assert any(found in verdict.found for verdict in bad.values()), bad


def test_the_rate_is_that_of_a_geometric_path_and_ignores_rounding():
    steps = np.arange(401)
    for factor in (0.7, 0.98, 1.02, 1.5):
        distances = np.maximum(3 * factor**steps, 1e-7)
        np.testing.assert_allclose(rate(distances), factor, rtol=1e-6)
