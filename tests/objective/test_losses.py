# ruff: noqa: E501 (a row of what is refused is a line)

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.stats import norm

from gan_jax.build.objectives import build_loss as uncached
from gan_jax.diagnostics import game
from gan_jax.diagnostics.loss_checks import examine
from gan_jax.errors import UserError
from gan_jax.objective import losses, targets
from gan_jax.objective.losses import Loss

LOG2 = np.log(2.0)
build_loss = functools.cache(uncached)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def bce(target, x):
    return -target * np.log(sigmoid(x)) - (1 - target) * np.log(1 - sigmoid(x))


def logistic(x):
    return np.log(1 + np.exp(-x))


def falling_hinge(x):
    return np.maximum(0, 1 - x)


def falling_square(x):
    return (x - 1) ** 2


# f-GAN's g_f(v) and f*(t), as its tables 6 and 2 have them.
F_GAN = {
    "kl": (lambda v: v, lambda t: np.exp(t - 1)),
    "reverse_kl": (lambda v: -np.exp(-v), lambda t: -1 - np.log(-t)),
    "pearson": (lambda v: v, lambda t: t**2 / 4 + t),
    "squared_hellinger": (lambda v: 1 - np.exp(-v), lambda t: t / (1 - t)),
    "jensen_shannon": (
        lambda v: np.log(2) - np.log(1 + np.exp(-v)),
        lambda t: -np.log(2 - np.exp(t)),
    ),
    "gan": (lambda v: -np.log(1 + np.exp(-v)), lambda t: -np.log(1 - np.exp(t))),
}


class Row(NamedTuple):
    """A loss, and what is known of it by hand.

    Attributes:
      text: in a config.
      d: of real and fake logits, by the paper's formula.
      g: of fake and real logits.
      logit: that of a discriminator that cannot tell, l*.
      slopes: there, of D's loss and of G's by the fake logit.
      where_sure: what G's gradient is called where D is sure.
      relative: whether only differences of logits count.
    """

    text: str
    d: Callable
    g: Callable
    logit: float
    slopes: tuple[float, float]
    where_sure: str = ": non-saturating"
    relative: bool = False


SATURATING = ": saturating"


def squares(a, b, c):
    return Row(
        f"least_squares(a={a}, b={b}, c={c})",
        lambda r, f: (r - b) ** 2 / 2 + (f - a) ** 2 / 2,
        lambda f, r: (f - c) ** 2 / 2,
        (a + b) / 2,
        ((b - a) / 2, (a + b) / 2 - c),
    )


def pairs(name, f, slope):
    return Row(
        f"relativistic(f='{name}')",
        lambda real, fake: f(real - fake),
        lambda fake, real: f(fake - real),
        0.0,
        (slope, -slope),
        relative=True,
    )


def averages(name, f, slope):
    def lead(x, y):
        return f(x - y.mean()) + f(-(y - x.mean()))

    text = f"relativistic_average(f='{name}')"
    return Row(text, lead, lead, 0.0, (2 * slope, -2 * slope), relative=True)


def divergence(name, saturating=False, logit=0.0, slope=1.0, where_sure=None):
    critic, conjugate = F_GAN[name]

    def g(fake, real):
        return -conjugate(critic(fake)) if saturating else -critic(fake)

    return Row(
        f"f_gan(divergence='{name}', saturating={saturating})",
        lambda real, fake: -critic(real) + conjugate(critic(fake)),
        g,
        logit,
        (slope, -slope),
        where_sure or (SATURATING if saturating else ": non-saturating"),
    )


def contrast(real, fake):
    return [
        np.log(1 + sum(np.exp(f - real[i]) for f in fake))
        + np.log(1 + sum(np.exp(fake[i] - r) for r in real))
        for i in range(len(real))
    ]


def by_label(text, real, fake, g, **known):
    """Returns the row of a cross-entropy with (weight, target) pairs for each side."""
    return Row(
        text,
        lambda r, f: (
            sum(w * bce(t, r) for w, t in real) + sum(w * bce(t, f) for w, t in fake)
        ),
        g,
        **known,
    )


ROWS = [
    Row(
        "non_saturating",
        lambda r, f: -np.log(sigmoid(r)) - np.log(1 - sigmoid(f)),
        lambda f, r: -np.log(sigmoid(f)),
        0.0,
        (0.5, -0.5),
    ),
    Row(
        "minimax",
        lambda r, f: -np.log(sigmoid(r)) - np.log(1 - sigmoid(f)),
        lambda f, r: np.log(1 - sigmoid(f)),
        0.0,
        (0.5, -0.5),
        SATURATING,
    ),
    Row(
        "hinge",
        lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f),
        lambda f, r: -f,
        0.0,
        (1.0, -1.0),
    ),
    Row("wasserstein", lambda r, f: f - r, lambda f, r: -f, 0.0, (1.0, -1.0)),
    squares(0.0, 1.0, 1.0),
    squares(-1, 1, 0),
    Row(
        "dual_contrastive",
        contrast,
        lambda f, r: np.negative(contrast(r, f)),
        0.0,
        (1.0, -1.0),
        SATURATING,
        relative=True,
    ),
    pairs("logistic", logistic, 0.5),
    pairs("hinge", falling_hinge, 1.0),
    pairs("least_squares", falling_square, 2.0),
    averages("logistic", logistic, 0.5),
    averages("least_squares", falling_square, 2.0),
    divergence("kl", logit=1.0),
    divergence("reverse_kl"),
    divergence("pearson"),
    divergence("squared_hellinger"),
    divergence("jensen_shannon", slope=0.5),
    divergence("gan", slope=0.5),
    divergence("kl", saturating=True, logit=1.0),
    divergence("reverse_kl", saturating=True, where_sure=": non-saturating"),
    # Its f* falls below T = -2, that is where a density ratio would be negative.
    divergence("pearson", saturating=True, where_sure=", which pushes fake logits down"),
    by_label(
        "non_saturating, label_smoothing(real=0.9)",
        [(1, 0.9)],
        [(1, 0.0)],
        lambda f, r: logistic(f),
        logit=np.log(0.45 / 0.55),
        slopes=(0.45, -0.55),
    ),
    by_label(
        "minimax, label_smoothing(fake=0.1), label_flipping(p=0.2)",
        [(0.8, 0.9), (0.2, 0.1)],
        [(0.8, 0.1), (0.2, 0.9)],
        lambda f, r: -logistic(-f),
        logit=0.0,
        slopes=(0.5 - 0.26, -0.5),
        where_sure=SATURATING,
    ),
    by_label(
        "non_saturating, noisy_labels(real=[0.7, 1.2], fake=[0.0, 0.3])",
        [(1, 0.95)],
        [(1, 0.15)],
        lambda f, r: logistic(f),
        logit=np.log(0.55 / 0.45),
        slopes=(0.4, -0.45),
    ),
]  # fmt: skip
each_loss = pytest.mark.parametrize("row", ROWS, ids=[row.text for row in ROWS])
REAL, FAKE = np.array(
    [[0.7, -1.3, 2.1, 0.05, -0.4], [-0.6, 0.9, 0.1, -2.2, 1.4]], np.float32
)


def players(row):
    """Yields each player's loss, its formula, and logits in its order."""
    loss = build_loss(row.text)
    yield loss.d, row.d, (REAL, FAKE)
    yield loss.g, row.g, (FAKE, REAL)


# As they are, of other signs, and with a constant added to all of them.
BATCHES = np.stack([[REAL, FAKE], [-REAL, -FAKE], [REAL + 2, FAKE + 2]])


def eager(row, real, fake):
    """Returns D's loss and G's, `[2, batch]`, in the order of `players`."""
    loss = build_loss(row.text)
    return jnp.stack([loss.d(real, fake), loss.g(fake, real)])


@functools.cache
def compiled(row):
    """Returns from one program the losses and gradients of all batches.

    Returns:
      Losses `[batches, 2, batch]`, and gradients `[batches, 2, 2, batch]` of their sums
      by the first and the second argument of each; losses of the first batch, bfloat16.
    """

    def sums(real, fake):
        values = eager(row, real, fake)
        return values.sum(1), values

    def measure(real, fake):
        gradients, values = jax.jacrev(sums, (0, 1), has_aux=True)(real, fake)
        of_d, of_g = jnp.stack(gradients, 1)
        return values, jnp.stack([of_d, of_g[::-1]])

    def everything(batches):
        half = eager(row, *batches[0].astype(jnp.bfloat16))
        return *jax.vmap(measure)(*batches.swapaxes(0, 1)), half

    return jax.jit(everything)(BATCHES)


@each_loss
def test_values_are_the_papers(row):
    for function, formula, logits in players(row):
        np.testing.assert_allclose(
            function(*logits), formula(*logits), rtol=1e-5, atol=1e-6
        )
    loss = build_loss(row.text)
    if loss.cost:
        change = loss.target or (lambda key, targets: targets)
        ones, zeros = (change(None, x) for x in (np.ones(5), np.zeros(5)))
        by_cost = loss.cost(REAL, ones) + loss.cost(FAKE, zeros)
        np.testing.assert_allclose(loss.d(REAL, FAKE), by_cost, rtol=1e-5)


@each_loss
def test_gradients_are_those_of_the_papers_formulas(row):
    found = compiled(row)[1][0]
    for (_, formula, logits), got in zip(players(row), found, strict=True):
        exact = np.array(logits, np.float64)
        expected = np.zeros_like(exact)
        for index in np.ndindex(exact.shape):
            step = np.zeros_like(exact)
            step[index] = 1e-5
            ends = [np.sum(formula(*(exact + sign * step))) for sign in (1, -1)]
            expected[index] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@each_loss
def test_is_one_function_compiled_mapped_and_in_half_precision(row):
    mapped, _, half = compiled(row)
    looped = np.stack([eager(row, *batch) for batch in BATCHES[:2]])
    np.testing.assert_allclose(mapped[:2], looped, rtol=1e-5, atol=1e-6)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, float), looped[0], rtol=0.05, atol=0.05)


@each_loss
def test_passes_the_checks_with_the_numbers_known_by_hand(row):
    loss = build_loss(row.text)
    verdicts = examine(loss)
    assert all(verdict.passed for verdict in verdicts.values()), verdicts
    fixed = verdicts["fixed point of D"].found
    assert fixed.startswith(f"l* = {row.logit + 0.0:.4g},")
    assert ("every constant is" in fixed) == (row.relative or "wass" in row.text)
    assert verdicts["G's gradient"].found.endswith(row.where_sure)

    # Lemmas 2.3 and 4.1 of arXiv:1801.04406: roots of x^2 + gamma x - L_D' L_G'.
    d_slope, g_slope = row.slopes
    for gamma in (0.0, 1.0):
        eigenvalues = game.dirac_eigenvalues(loss, row.logit, gamma)
        polynomial = [1, gamma, -d_slope * g_slope]
        np.testing.assert_allclose(np.poly(eigenvalues), polynomial, atol=1e-4)


@each_loss
def test_only_relativistic_losses_see_differences_alone(row):
    values = compiled(row)[0]
    assert np.allclose(values[0], values[2], atol=1e-4) == row.relative


@each_loss
def test_knows_which_losses_compare_logits(row):
    loss = build_loss(row.text)
    assert losses.compares(loss) == row.relative
    ignores = row.relative or row.text == "wasserstein"
    assert losses.ignores_constants(loss) == ignores


@each_loss
def test_knows_whose_logits_are_log_odds(row):
    # Of f-GAN's, those whose g_f is f'(e^v): T = f'(p/q) at v = log p/q, as below.
    divergences = (f"divergence='{name}'" for name in ("gan", "jensen", "reverse_kl"))
    of_cross_entropy = ("non_saturating", "minimax", *divergences)
    wanted = any(text.rstrip("'") in row.text for text in of_cross_entropy)
    assert losses.estimates_log_odds(build_loss(row.text)) == wanted


def test_your_own_decreasing_function_makes_a_relativistic_loss():
    loss = losses.relativistic(f=lambda x: jnp.exp(-x))
    np.testing.assert_allclose(loss.d(REAL, FAKE), np.exp(FAKE - REAL), rtol=1e-6)


# f of each divergence (f-GAN, table 1), and the logit at which g_f is f'(u).
GENERATORS = {
    "kl": (lambda u: u * np.log(u), lambda u: 1 + np.log(u)),
    "reverse_kl": (lambda u: -np.log(u), np.log),
    "pearson": (lambda u: (u - 1) ** 2, lambda u: 2 * (u - 1)),
    "squared_hellinger": (lambda u: (np.sqrt(u) - 1) ** 2, lambda u: np.log(u) / 2),
    "jensen_shannon": (
        lambda u: u * np.log(u) - (u + 1) * np.log((1 + u) / 2),
        np.log,
    ),
    "gan": (lambda u: u * np.log(u) - (u + 1) * np.log(1 + u), np.log),
}
X = np.linspace(-10, 11, 10001)
P, Q = norm(0, 1), norm(0.5, 1.3)


def mean_d_loss(loss, critic):
    """Returns the mean of a sum of a function of real and one of fake logits."""
    zeros = np.zeros_like(critic)
    under_p, under_q = loss.d(critic, zeros), loss.d(zeros, critic)
    both = integrate.trapezoid(P.pdf(X) * under_p + Q.pdf(X) * under_q, X)
    return both - loss.d(zeros[:1], zeros[:1]).item()


@pytest.mark.parametrize("name", GENERATORS)
def test_the_best_critic_of_two_gaussians_attains_the_divergence(name):
    generator, best = GENERATORS[name]
    ratio = P.pdf(X) / Q.pdf(X)
    exact = integrate.trapezoid(Q.pdf(X) * generator(ratio), X)
    if name == "kl":
        closed = np.log(1.3) + (1 + 0.5**2) / (2 * 1.3**2) - 0.5
        np.testing.assert_allclose(exact, closed, atol=1e-6)
    loss, critic = losses.f_gan(name), best(ratio).astype(np.float32)
    np.testing.assert_allclose(-mean_d_loss(loss, critic), exact, atol=1e-4)
    for other in (critic + 0.2, critic - 0.2, critic + 0.2 * np.sin(X), 0.8 * critic):
        assert -mean_d_loss(loss, other.astype(np.float32)) < exact - 1e-3


def test_exp_is_continued_by_its_tangent():
    x = np.float32([-5.0, 0.0, 19.5, 20.0, 20.5, 1e4])
    slope = np.exp(np.minimum(x, 20.0))
    expected = slope * (1 + np.maximum(x - 20.0, 0.0))
    got, gradient = jax.jit(jax.vmap(jax.value_and_grad(losses._exp)))(x)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-5)


@pytest.mark.parametrize(("c", "is_pearson"), [(0, True), (0.5, False)])
def test_least_squares_with_these_targets_is_pearsons_divergence(c, is_pearson):
    """Both terms of G's loss at D's best answer (arXiv:1611.04076, theorem 1)."""
    loss, p, q = losses.least_squares(a=-1, b=1, c=c), P.pdf(X), Q.pdf(X)
    critic = ((p - q) / (p + q)).astype(np.float32)
    best = mean_d_loss(loss, critic)
    for other in (critic + 0.1, 0.8 * critic, critic + 0.1 * np.sin(X)):
        assert mean_d_loss(loss, other.astype(np.float32)) > best + 1e-4
    both = 2 * integrate.trapezoid((p + q) * np.asarray(loss.g(critic, critic)), X)
    chi_squared = integrate.trapezoid((2 * q - (p + q)) ** 2 / (p + q), X)
    assert np.isclose(both, chi_squared, atol=1e-4) == is_pearson


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_optimal_discriminator_of_two_gaussians_gives_the_jensen_shannon_value(shift):
    """At D* = p / (p + q), -d_loss = V = -log 4 + 2 JSD (arXiv:1406.2661, thm. 1)."""
    p, q = norm(0, 1), norm(shift, 1)
    x = jnp.linspace(-12, 15, 20001)
    logits = jnp.asarray(p.logpdf(x) - q.logpdf(x))  # of D*
    under_p = -losses.minimax.d(logits, jnp.full_like(logits, -jnp.inf))
    under_q = -losses.minimax.d(jnp.full_like(logits, jnp.inf), logits)
    value = integrate.trapezoid(p.pdf(x) * under_p + q.pdf(x) * under_q, x)

    def kl_to_middle(a, b):
        def integrand(t):
            return a.pdf(t) * (a.logpdf(t) - np.log((a.pdf(t) + b.pdf(t)) / 2))

        return integrate.quad(integrand, -12, 15, points=[0, shift])[0]

    jsd = (kl_to_middle(p, q) + kl_to_middle(q, p)) / 2
    np.testing.assert_allclose(value, -2 * LOG2 + 2 * jsd, atol=1e-5)
    assert (jsd > 1e-3) == (shift > 0)


# --- Targets --------------------------------------------------------------------------


def flips(key, num, p):
    """Returns which labels one update flips: real ones, and fake ones."""
    target = targets.label_flipping(losses.non_saturating, p=p).target
    of_real, of_fake = jax.random.split(key)
    return (
        np.asarray(target(of_real, jnp.ones(num)) == 0),
        np.asarray(target(of_fake, jnp.zeros(num)) == 1),
    )


def test_labels_are_flipped_independently_and_anew_in_each_update():
    key, num, p = jax.random.key(0), 4000, 0.3
    real, fake = flips(key, num, p)
    for side in (real, fake):
        assert stats.binomtest(int(side.sum()), num, p).pvalue > 1e-3
    assert stats.binomtest(int((real & fake).sum()), num, p**2).pvalue > 1e-3
    again, other = flips(key, num, p), flips(jax.random.key(1), num, p)
    assert (again[0] == real).all()
    assert (other[0] != real).any()


def test_flipped_labels_are_what_d_pays_for():
    key, loss = jax.random.key(0), targets.label_flipping(losses.non_saturating, p=0.3)
    real, fake = np.full(4000, 2, np.float32), np.full(4000, -5, np.float32)
    more = loss.draw(key).d(real, fake) - losses.non_saturating.d(real, fake)
    # A logit of 2 costs 2 more if it is real and flipped; one of -5 costs 5 more.
    of_real, of_fake = flips(key, 4000, 0.3)
    np.testing.assert_allclose(more, 2 * of_real + 5 * of_fake, atol=1e-4)


def test_no_label_is_flipped_with_probability_zero():
    loss = targets.label_flipping(losses.least_squares(), p=0)
    for each in (loss, loss.draw(jax.random.key(0))):
        expected = losses.least_squares().d(REAL, FAKE)
        np.testing.assert_array_equal(each.d(REAL, FAKE), expected)


@pytest.mark.parametrize(("label", "low", "high"), [(1.0, 0.7, 1.2), (0.0, 0.0, 0.3)])
def test_noisy_labels_are_uniform_in_their_interval(label, low, high):
    target = targets.noisy_labels(losses.least_squares()).target
    drawn = np.asarray(target(jax.random.key(0), jnp.full(4000, label)))
    assert low - 1e-5 <= drawn.min() < drawn.max() <= high + 1e-5
    assert stats.kstest(drawn, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    np.testing.assert_allclose(target(None, label), (low + high) / 2)


def test_each_transform_has_its_own_key_and_the_last_one_changes_labels_first():
    text = (
        "least_squares, noisy_labels, label_flipping(p=0.4), label_smoothing(fake=0.1)"
    )
    key, paid = jax.random.key(3), 0.0
    for side, key_of_side, logits in zip(
        (1, 0), jax.random.split(key), (REAL, FAKE), strict=True
    ):
        smoothed = np.full(5, 0.1 + (0.9 - 0.1) * side)
        rest, _ = jax.random.split(key_of_side)  # smoothing draws nothing
        rest, flip_key = jax.random.split(rest)
        flipped = jax.random.bernoulli(flip_key, 0.4, (5,))
        label = np.where(flipped, 1 - smoothed, smoothed)
        u = jax.random.uniform(jax.random.split(rest)[1], (5,))
        of_real, of_fake = 0.7 + 0.5 * u, 0.3 * u
        paid += (logits - (of_fake + (of_real - of_fake) * label)) ** 2 / 2
    got = build_loss(text).draw(key).d(REAL, FAKE)
    np.testing.assert_allclose(got, paid, rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "minimax, label_flipping(p=0.2)",
        "least_squares, noisy_labels",
        "least_squares, noisy_labels, label_flipping(p=0.2)",
        "least_squares, label_flipping(p=0.2), label_smoothing(real=0.8, fake=0.1)",
    ],
)
def test_the_gradient_of_a_random_loss_is_that_of_its_mean_targets_on_average(text):
    loss, base = build_loss(text), build_loss(text.partition(",")[0])
    keys = jax.random.split(jax.random.key(0), 4000)

    def slopes(loss):
        return jnp.stack(game.d_slopes(loss, REAL, FAKE))

    drawn, exact = jax.jit(
        lambda keys: (jax.vmap(lambda key: slopes(loss.draw(key)))(keys), slopes(loss))
    )(keys)
    drawn, exact = np.asarray(drawn), np.asarray(exact)
    error = drawn.std(0) / np.sqrt(len(keys))
    assert (error > 0).all()
    assert (np.abs(drawn.mean(0) - exact) < 4.5 * error).all()
    for each in (loss, loss.draw(keys[0])):
        np.testing.assert_array_equal(each.g(FAKE, REAL), base.g(FAKE, REAL))


def test_a_loss_that_is_not_random_draws_itself():
    loss = build_loss("non_saturating, label_smoothing")
    drawn = loss.draw(jax.random.key(0))
    np.testing.assert_array_equal(drawn.d(REAL, FAKE), loss.d(REAL, FAKE))
    assert losses.hinge.draw(jax.random.key(0)) is losses.hinge


# --- Losses by their names ------------------------------------------------------------

MINE = """
import jax.numpy as jnp
from gan_jax.objective.losses import Loss
from gan_jax.objective import terms

tilted = Loss(d=lambda r, f: f - r, g=lambda f, r: -f)

def family(k=1.0):
    return tilted._replace(g=lambda f, r: -k * f)

class bare:
    d = staticmethod(lambda r, f: f - r)
    g = staticmethod(lambda f, r: -f)

@terms.penalty
def fine(critic, real, fake, key):
    return real

@terms.transform
def halved(loss, *, by):
    return loss._replace(d=lambda r, f: loss.d(r, f) / by)

@terms.family
def steep(*, k):
    return tilted._replace(g=lambda f, r: -k * f)

def doubled(loss, *, by=2.0):
    return loss._replace(d=lambda r, f: by * loss.d(r, f))

def raising():
    return [][1]

only_d = Loss(d=lambda r, f: f - r, g=None)
number = 3

def makes_number():
    return 3
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path}/mine.py"


@pytest.mark.parametrize(
    ("text", "d", "g"),
    [
        ("{}:tilted", FAKE - REAL, -FAKE),
        ("{}:bare", FAKE - REAL, -FAKE),
        ("{}:family", FAKE - REAL, -FAKE),
        ("{}:family(k=3)", FAKE - REAL, -3 * FAKE),
        ("wasserstein, {}:doubled", 2 * (FAKE - REAL), -FAKE),
        ("{}:family(k=3), {}:doubled(by=5)", 5 * (FAKE - REAL), -3 * FAKE),
        ("{}:steep(k=4), {}:halved(by=4)", (FAKE - REAL) / 4, -4 * FAKE),
        ("gan_jax.objective.losses.wasserstein", FAKE - REAL, -FAKE),
    ],
)
def test_your_own_losses_are_built_by_name(mine, text, d, g):
    loss = uncached(text.replace("{}", mine))
    assert isinstance(loss, Loss)
    np.testing.assert_allclose(loss.d(REAL, FAKE), d, rtol=1e-6)
    np.testing.assert_allclose(loss.g(FAKE, REAL), g, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"there is no loss: name one"),
        ("hnge", r"unknown loss 'hnge'; did you mean 'hinge'\? \(valid: dual_contrastive, f_gan, hinge, least_squares, minimax, non_saturating, relativistic, relativistic_average, wasserstein\)$"),
        ("softplus", r"unknown loss 'softplus' \(valid: dual"),
        ("hinge(margin=2)", r"the loss 'hinge' has no settings"),
        ("{}:tilted(k=2)", r"mine.py:tilted' has no settings"),
        ("least_squares(d=1)", r"unknown option of loss 'least_squares' 'd' \(valid: a, b, c\)"),
        ("{}:family(j=1)", r"unknown option of loss '\S+:family' 'j' \(valid: k\)"),
        ("least_squares(a='x')", r"least_squares\(a='x', b=1.0, c=1.0\): it needs numbers"),
        ("least_squares(a=1)", r"a less than b"),
        ("least_squares(c=1e999)", r"it needs numbers"),
        ("relativistic(f='square')", r"unknown f of relativistic 'square'.*\(valid: hinge, least_squares, logistic\)"),
        ("relativistic_average(f=3)", r"unknown f of relativistic_average '3'"),
        ("f_gan(divergence='tv')", r"unknown divergence 'tv' \(valid: gan, jensen_shannon, kl, "),
        ("f_gan(divergence=['kl'])", r"loss 'f_gan' fails: TypeError: "),
        ("f_gan(saturating='no')", r"saturating is 'no': it is True or False"),
        ("label_smoothing", r"'label_smoothing' changes a loss: name one before it"),
        ("minimax, hinge", r"'hinge' is a loss and comes first: .*\(label_flipping, label_smoothing, noisy_labels\)"),
        ("minimax, least_squares(c=0)", r"'least_squares' is a loss and comes first"),
        ("minimax, {}:tilted", r"tilted' changes no loss"),
        ("minimax, {}:number", r"number' changes no loss"),
        ("minimax, label_smothing", r"unknown transform of the loss 'label_smothing'; did you mean 'label_smoothing'"),
        ("minimax, label_smoothing(p=1)", r"unknown option of transform 'label_smoothing' 'p' \(valid: fake, real\)"),
        ("minimax, label_smoothing(loss=1)", r"unknown option of transform 'label_smoothing' 'loss'"),
        ("hinge, label_smoothing", r"label_smoothing needs a loss with labels.*non_saturating, minimax or least_squares"),
        ("wasserstein, label_flipping", r"label_flipping needs a loss with labels"),
        ("f_gan, noisy_labels", r"noisy_labels needs a loss with labels"),
        ("minimax, label_smoothing(real=1.1)", r"it needs 0 <= fake < real <= 1"),
        ("minimax, label_smoothing(real=0.5, fake=0.5)", r"it needs 0 <= fake < real <= 1"),
        ("minimax, label_smoothing(real='a')", r"it needs 0 <= fake < real <= 1"),
        ("minimax, label_flipping(p=0.5)", r"it needs 0 <= p < 0.5"),
        ("minimax, label_flipping(p=-0.1)", r"it needs 0 <= p < 0.5"),
        ("minimax, noisy_labels(real=0.9)", r"it needs two intervals"),
        ("minimax, noisy_labels(real=[1.2, 0.7])", r"it needs two intervals"),
        ("minimax, noisy_labels(real=[0.9, 1.2])", r"their middles in \[0, 1\]"),
        ("minimax, noisy_labels(fake=[0.9, 1.1])", r"that of real above that of fake"),
        ("{}:only_d", r"the loss, of type Loss, has no function 'g': make it a gan_jax.Loss\(d=..., g=...\)$"),
        ("{}:number", r"the loss, of type int, has no function 'd': make it a gan_jax.Loss\(d=..., g=...\)$"),
        ("{}:makes_number", r"has no function 'd'"),
        ("minimax, {}:raising", r"transform '\S+:raising' fails: TypeError: "),
        ("{}:raising", r"loss '\S+:raising' fails: IndexError: "),
        ("{}:doubled", r"doubled' changes a loss: name one before it"),
        ("{}:steep", r"steep' is a function of k: give them as settings, or make it a gan_jax.Loss"),
        ("{}:halved(by=2)", r"halved' changes a loss: name one before it"),
        ("{}:fine", r"fine' is a penalty and no loss"),
        ("minimax, {}:steep(k=1)", r"steep' changes no loss"),
        ("minimax, {}:fine", r"fine' is a penalty and no transform of the loss: it goes into --config.penalties"),
        ("{}:nothing", r"mine.py does not define 'nothing'"),
        ("hinge(", r"cannot read 'hinge\('"),
    ],
)  # fmt: skip
def test_refuses_in_one_line(mine, text, message):
    with pytest.raises(UserError, match=message) as error:
        uncached(text.replace("{}", mine))
    assert "\n" not in str(error.value)
