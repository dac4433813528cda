"""Every penalty is rows of one table, which bring all checks.

The world they are tried in has closed forms: a critic with a linear and a quadratic
part, and a linear generator. A row gives the penalty as a function in float64 NumPy, of
which finite differences give the gradients too.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.stats import chi

from gan_jax.errors import UserError
from gan_jax.objective import penalties, terms

BATCH, LATENTS, IMAGE, POINT = 4, 3, (2, 3, 1), (2,)
SCALES = np.arange(1.0, BATCH + 1)  # so that each example's gradient is seen


class World:
    """Networks of known derivatives, in NumPy or JAX as their parameters are."""

    def __init__(self, theta, shape, xp):
        self.d, self.w, self.shape, self.xp = theta["d"], theta["g"]["w"], shape, xp
        self.s = self.d["a"] @ xp.asarray([1.0, 2.0], self.w.dtype)

    def critic(self, x):
        x = flat(x)
        return x @ self.s + 0.5 * self.d["q"] * (x * x).sum(1)

    def slope(self, x):
        return self.s + self.d["q"] * flat(x)

    def generator(self, z):
        return (z @ self.w).reshape(len(z), *self.shape)

    def features(self, x):
        return self.xp.stack([flat(x) @ self.s, self.d["q"] * (flat(x) ** 2).sum(1)], 1)

    def classify(self, x):
        classes = self.xp.asarray([0.0, 0.5, -1.0], x.dtype)
        return (flat(x) @ self.s)[:, None] * classes


def flat(x):
    return x.reshape(len(x), -1)


def square(x):
    return (flat(x) ** 2).sum(1)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A row of the table.

    `expected(world, frozen, b)` is the penalty: what is constant to its gradient is
    read from `frozen`. `b` holds real, latents, labels, fake, and draws, what the
    penalty has drawn.
    """

    name: str
    expected: Callable
    settings: dict = dataclasses.field(default_factory=dict)
    player: str = "d"
    weight: float = 10.0
    players: tuple = ("d",)
    shape: tuple = IMAGE

    def __str__(self):
        how = ",".join(f"{k}={v}" for k, v in self.settings.items())
        return f"{self.name}({how})-{self.player}"


def between(b, end, t):
    return flat(b.real) + t.reshape(BATCH, 1) * (flat(end) - flat(b.real))


def lengths_of(w, x):
    return np.sqrt(square(w.slope(x)))


def gradient_penalty(excess):
    return lambda w, f, b: excess(lengths_of(w, between(b, b.fake, b.draws[0]))) ** 2


def dragan(w, f, b):
    noise, t = b.draws
    end = b.real + 0.5 * b.real.std() * noise
    return (lengths_of(w, between(b, end, t)) - 1) ** 2


def lecam(w, f, b):
    to_fake = w.critic(b.real) - f.critic(b.fake).mean()
    return to_fake**2 + (w.critic(b.fake) - f.critic(b.real).mean()) ** 2


def moved(w, x, noise, scale):
    return (w.critic(x) - w.critic(x + scale * noise)) ** 2


def zcr(w, f, b):
    near = b.latents + 0.7 * b.draws[0]
    change = w.critic(f.generator(b.latents)) - w.critic(f.generator(near))
    apart = square(w.generator(b.latents) - w.generator(near)) / np.prod(IMAGE)
    return change**2 - 0.4 * apart


def orthogonality(matrix, relaxed=False):
    def expected(w, f, b):
        gram = matrix(w).T @ matrix(w)
        wrong = gram - (np.diag(np.diag(gram)) if relaxed else np.eye(len(gram)))
        return np.full(BATCH, (wrong**2).sum())

    return expected


def feature_matching(w, f, b):
    gap = f.features(b.real).mean(0) - w.features(w.generator(b.latents)).mean(0)
    return np.full(BATCH, (gap**2).sum())


def pulled(w, b):
    """|J^T y|: the Jacobian of z W is W."""
    return np.sqrt(square(flat(b.draws[0]) / np.sqrt(6) @ w.w.T))


def path_length(w, f, b):
    return (pulled(w, b) - pulled(f, b).mean()) ** 2


def mode_seeking(w, f, b):
    dz = b.latents - b.latents[np.arange(BATCH) - 1]
    apart = np.abs(w.generator(dz)).mean() / np.abs(dz).mean()
    return np.full(BATCH, 1 / (apart + 1e-5))


def auxiliary_classifier(w, f, b):
    def cross_entropy(logits):
        total = np.log(np.exp(logits).sum(1))
        return total - logits[np.arange(BATCH), b.labels]

    fake = w.generator(b.latents)
    return cross_entropy(w.classify(b.real)) + cross_entropy(w.classify(fake))


G = {"player": "g", "players": ("g",)}
BOTH = {"players": ("d", "g")}
ZCR = {"settings": {"sigma": 0.7, "gamma": 0.4}, "weight": 5.0, **BOTH}
CLASSES = {"weight": 1.0, **BOTH}
POINTS = {"settings": {"scale": 0.5}, "shape": POINT}
RELAXED = {"settings": {"relaxed": True}, "weight": 1e-4}
CASES = [
    Case("r1", lambda w, f, b: 0.5 * square(w.slope(b.real))),
    Case("r2", lambda w, f, b: 0.5 * square(w.slope(b.fake))),
    Case("gradient_penalty", gradient_penalty(lambda n: n - 1)),
    Case("gradient_penalty", gradient_penalty(lambda n: n - 2.5), {"target": 2.5}),
    Case(
        "gradient_penalty",
        gradient_penalty(lambda n: np.maximum(n - 3, 0)),
        {"one_sided": True, "target": 3.0},
    ),
    Case("zero_centred_gradient_penalty", gradient_penalty(lambda n: n)),
    Case("dragan", dragan),
    Case("drift", lambda w, f, b: w.critic(b.real) ** 2, weight=0.001),
    Case("lecam", lecam, weight=0.3),
    Case("cr", lambda w, f, b: moved(w, b.real, b.draws[0], 0.5), **POINTS),
    Case(
        "bcr",
        lambda w, f, b: (
            moved(w, b.real, b.draws[0], 0.5) + moved(w, b.fake, b.draws[1], 0.5)
        ),
        **POINTS,
    ),
    Case("zcr", zcr, **ZCR),
    Case("zcr", zcr, player="g", **ZCR),
    Case("orthogonal", orthogonality(lambda w: w.d["a"]), weight=1e-4),
    Case("orthogonal", orthogonality(lambda w: w.d["a"], True), **RELAXED),
    Case("g_orthogonal", orthogonality(lambda w: w.w), weight=1e-4, **G),
    Case("g_orthogonal", orthogonality(lambda w: w.w, True), **RELAXED, **G),
    Case("feature_matching", feature_matching, weight=1.0, **G),
    Case("path_length", path_length, weight=2.0, **G),
    Case("mode_seeking", mode_seeking, weight=1.0, **G),
    Case("auxiliary_classifier", auxiliary_classifier, **CLASSES),
    Case("auxiliary_classifier", auxiliary_classifier, player="g", **CLASSES),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def drawn(seed, shape):
    """Draws parameters, a batch and a key."""
    random, size = np.random.default_rng(seed), int(np.prod(shape))
    theta = {
        "d": {
            "a": random.normal(size=(size, 2)),
            "q": np.float64(0.8),
            "embed": {"embedding": random.normal(size=(3, 2))},  # no kernel
        },
        "g": {"w": random.normal(size=(LATENTS, size))},
    }
    data = {
        "real": random.normal(size=(BATCH, *shape)),
        "latents": random.normal(size=(BATCH, LATENTS)),
        "labels": random.integers(0, 3, BATCH, np.int32),
    }
    return theta, data, jax.random.key(seed)


def cast(tree, dtype):
    def to(x):
        floats = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(x, dtype if floats else x.dtype)

    return jax.tree.map(to, tree)


def initial(function):
    return {k: jnp.float32(v) for k, v in getattr(function, "memory", {}).items()}


def evaluate(case, theta, data, key, memory=None):
    """Calls a penalty in the world as a step does: `(values, new memory)`."""
    function = getattr(penalties, case.name)
    world, real = World(theta, case.shape, jnp), data["real"]
    fake = world.generator(data["latents"])
    fake = lax.stop_gradient(fake) if case.player == "d" else fake
    offered = {
        "real_logits": world.critic(real),
        "fake_logits": world.critic(fake),
        "labels": data["labels"],
        "features": world.features,
        "classify": world.classify,
        "generator": world.generator,
        "latents": data["latents"],
        "params": theta[case.player],
        "memory": initial(function) if memory is None else memory,
    }
    asked = {name: offered[name] for name in terms.asks_for(function)}
    out = function(world.critic, real, fake, key, **asked, **case.settings)
    return out if isinstance(out, tuple) else (out, {})


def with_gradients(case, *given):
    """Returns the values of a case, and their gradients by its player's parameters."""

    def total(theta, data, key):
        values, _ = evaluate(case, theta, data, key)
        return (values * SCALES.astype(values.dtype)).sum(), values

    gradients, values = jax.grad(total, has_aux=True)(*given)
    return values, gradients[case.player]


@functools.cache
def replicas(shape):
    """Returns two replicas, and a third whose parameters are all zero."""
    first, second = drawn(0, shape), drawn(1, shape)
    theta, *given = first
    return first, second, (jax.tree.map(np.zeros_like, theta), *given)


@functools.cache
def compiled(shape, dtype=jnp.float32):
    """Returns all cases on all replicas, from one program: compiling takes long."""
    cases = [case for case in CASES if case.shape == shape]

    def everything(*given):
        return {str(case): with_gradients(case, *given) for case in cases}

    given = [(*cast((t, data), dtype), key) for t, data, key in replicas(shape)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *given)
    quickly = {"xla_backend_optimization_level": 0}  # rather than into fast code
    together = jax.jit(jax.vmap(everything), compiler_options=quickly)(*stacked)
    return [jax.tree.map(lambda x, i=i: x[i], together) for i in range(3)]


@dataclasses.dataclass
class Batch:
    real: np.ndarray
    latents: np.ndarray
    labels: np.ndarray
    fake: np.ndarray
    draws: list


@pytest.fixture
def draws(monkeypatch):
    """Lists what is drawn from continuous distributions, but in compiled code."""
    found = []

    def recorded(draw):
        def wrapped(*args, **kwargs):
            value = draw(*args, **kwargs)
            if not isinstance(value, jax.core.Tracer):
                found.append(np.float64(value))
            return value

        return wrapped

    for name in ("uniform", "normal"):
        monkeypatch.setattr(jax.random, name, recorded(getattr(jax.random, name)))
    return found


def batch_of(case, theta, data, draws):
    fake = World(theta, case.shape, np).generator(data["latents"])
    return Batch(**data, fake=fake, draws=list(draws))


def gradients_of(case, theta, batch):
    """Returns central finite differences of the expected penalty, in float64."""
    frozen = World(theta, case.shape, np)
    leaves, tree = jax.tree.flatten(theta[case.player])

    def total(leaves):
        moved = {**theta, case.player: jax.tree.unflatten(tree, leaves)}
        world = World(moved, case.shape, np)
        return (SCALES * case.expected(world, frozen, batch)).sum()

    def difference(i, at, h=1e-5):
        ends = []
        for step in (h, -h):
            leaf = np.array(leaves[i])
            leaf[at] += step
            ends.append(total([*leaves[:i], leaf, *leaves[i + 1 :]]))
        return (ends[0] - ends[1]) / (2 * h)

    found = [
        np.reshape([difference(i, at) for at in np.ndindex(leaf.shape)], leaf.shape)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, found)


def assert_near(got, wanted, rtol):
    def compare(got, wanted):
        wanted = np.asarray(wanted, np.float64)
        atol = rtol * np.abs(wanted).max(initial=1e-6)
        np.testing.assert_allclose(np.float64(got), wanted, rtol=rtol, atol=atol)

    jax.tree.map(compare, got, wanted)


@every_case
def test_values_are_those_of_the_closed_form(case, draws):
    theta, data, key = replicas(case.shape)[0]
    values, _ = evaluate(case, *cast((theta, data), jnp.float32), key)
    world, batch = World(theta, case.shape, np), batch_of(case, theta, data, draws)
    assert values.shape == (BATCH,)
    assert_near(values, case.expected(world, world, batch), 1e-4)


@every_case
@pytest.mark.parametrize("replica", [0, 1])
def test_compiled_replicas_are_as_alone_and_have_its_gradients(case, replica, draws):
    theta, data, key = replicas(case.shape)[replica]
    alone, _ = evaluate(case, *cast((theta, data), jnp.float32), key)
    batch = batch_of(case, theta, data, draws)
    values, gradients = compiled(case.shape)[replica][str(case)]
    assert_near(values, alone, 1e-4)
    assert_near(gradients, gradients_of(case, theta, batch), 1e-3)


@every_case
def test_gradients_are_finite_where_everything_vanishes(case):
    _, gradients = compiled(case.shape)[2][str(case)]
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@every_case
def test_bfloat16_is_near_float32(case):
    theta, data, key = replicas(case.shape)[0]
    values, gradients = compiled(case.shape, jnp.bfloat16)[0][str(case)]
    rounded = cast(cast((theta, data), jnp.bfloat16), jnp.float32)
    assert_near(values, evaluate(case, *rounded, key)[0], 0.06)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@every_case
def test_marks_say_the_players_and_the_weight_of_the_paper(case):
    function = getattr(penalties, case.name)
    assert getattr(function, "weight", 10.0) == case.weight
    assert getattr(function, "players", ("d",)) == case.players
    assert ("memory" in terms.asks_for(function)) == hasattr(function, "memory")


def test_every_penalty_is_in_the_table():
    found = dict(inspect.getmembers(penalties, inspect.isfunction))
    public = {name for name in found if not name.startswith("_")}
    constraints = {name for name in public if hasattr(found[name], "constraint")}
    assert constraints == {"weight_clipping"}
    assert public - constraints == {case.name for case in CASES}
    for case in CASES:
        of_case = {c.player for c in CASES if c.name == case.name}
        assert of_case == set(case.players)


# --- By hand ------------------------------------------------------------------------

SLOPE = jnp.array([3.0, 4.0])  # of norm 5
ONES = jnp.ones((3, 2))
NOTHING = (None, ONES, ONES, jax.random.key(0))


@pytest.mark.parametrize(
    ("name", "steepness", "settings", "value"),
    [
        ("r1", 1, {}, 12.5),
        ("r2", 1, {}, 12.5),
        ("gradient_penalty", 1, {}, 16),
        ("gradient_penalty", 1, {"target": 2}, 9),
        ("gradient_penalty", 1, {"one_sided": True}, 16),
        ("gradient_penalty", 0.1, {}, 0.25),
        ("gradient_penalty", 0.1, {"one_sided": True}, 0),
        ("zero_centred_gradient_penalty", 1, {}, 25),
        ("dragan", 1, {}, 16),
    ],
)
def test_a_slope_of_norm_five(name, steepness, settings, value):
    penalty = getattr(penalties, name)
    got = penalty(lambda x: steepness * x @ SLOPE + 7, *NOTHING[1:], **settings)
    np.testing.assert_allclose(got, np.full(3, value), rtol=1e-5, atol=1e-7)


# --- Consistency --------------------------------------------------------------------


def consistency(name, critic, real, fake, **settings):
    penalty = getattr(penalties, name)
    offered = {"real_logits": critic(real), "fake_logits": critic(fake)}
    asked = {name: offered[name] for name in terms.asks_for(penalty)}
    return penalty(critic, real, fake, jax.random.key(3), **asked, **settings)


@pytest.mark.parametrize(
    ("name", "of"), [("cr", "real"), ("bcr", "real"), ("bcr", "fake")]
)
def test_images_are_flipped_and_shifted_by_an_eighth(name, of):
    image = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    slope = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    framed = np.pad(image, 1)
    possible = [
        ((image - turned[i : i + 4, j : j + 4]) * slope).sum() ** 2
        for turned in (framed, framed[:, ::-1])
        for i in range(3)
        for j in range(3)
    ]
    images = jnp.broadcast_to(image[None, :, :, None], (300, 4, 4, 1))
    given = {"real": 0 * images, "fake": 0 * images, of: images}
    got = consistency(name, lambda x: (x[..., 0] * slope).sum((1, 2)), **given)
    apart = np.abs(np.array(got)[:, None] - np.array(possible))
    assert (apart.min(1) < 1e-3).all()
    assert set(apart.argmin(1)) == set(range(18))


@pytest.mark.parametrize("name", ["cr", "bcr"])
def test_consistent_critics_pay_nothing(name):
    # Whole numbers within a frame of zeros: neither a flip nor a shift changes the sum.
    inside = np.random.default_rng(0).integers(-9, 9, (8, 2, 2, 1))
    images = jnp.pad(jnp.float32(inside), ((0, 0), (1, 1), (1, 1), (0, 0)))
    assert not consistency(name, lambda x: x.sum((1, 2, 3)), images, images).any()
    first_row = consistency(name, lambda x: x[:, 1].sum((1, 2)), images, images)
    assert first_row.any()
    assert not consistency(name, lambda x: 0 * x[:, 0], ONES, ONES).any()
    assert consistency(name, lambda x: x[:, 0], ONES, ONES, scale=0.1).any()


def test_latent_consistency_asks_the_players_for_opposite_things():
    fake = generator = lambda z: jnp.tile(z, 2)
    latents = jnp.ones((2, 1))
    ask = {"generator": generator, "latents": latents, "sigma": 0.5, "gamma": 0.25}
    given = (ONES, fake(latents), jax.random.key(0))
    indifferent = penalties.zcr(lambda x: 0 * x[:, 0], *given, **ask)
    steep = penalties.zcr(lambda x: 2 * x[:, 0], *given, **ask)
    assert (indifferent < 0).all()  # the more examples differ, the less it is
    # Both parts are multiples of one squared noise: 4 against 1/4 of it.
    np.testing.assert_allclose(steep, -15 * indifferent, rtol=1e-4)


# --- Memory -------------------------------------------------------------------------


def lecam_means(world, batch):
    return {"real": world.critic(batch.real), "fake": world.critic(batch.fake)}


def path_means(world, batch):
    return {"length": pulled(world, batch)}


@pytest.mark.parametrize(
    ("name", "player", "means", "pulls"),
    [
        ("lecam", "d", lecam_means, {"real": "fake", "fake": "real"}),
        ("path_length", "g", path_means, {"length": "length"}),
    ],
)
@pytest.mark.parametrize("decay", [0.0, 0.6])
def test_averages_are_of_all_batches_and_of_nothing_else(
    name, player, means, pulls, decay, draws
):
    case = Case(name, None, {"decay": decay}, player=player)
    memory, seen = None, []
    for step in range(3):
        theta, data, key = drawn(step, IMAGE)
        draws.clear()
        values, memory = evaluate(case, *cast((theta, data), jnp.float32), key, memory)
        batch = batch_of(case, theta, data, draws)
        seen.append(means(World(theta, IMAGE, np), batch))
        weights = decay ** np.arange(step, -1, -1)
        anchors = {
            key: np.average([s[key].mean() for s in seen], weights=weights)
            for key in pulls
        }
        wanted = sum((seen[-1][k] - anchors[to]) ** 2 for k, to in pulls.items())
        assert_near(values, wanted, 1e-4)
        assert {x.dtype for x in memory.values()} == {jnp.dtype("float32")}


# --- Parameters ---------------------------------------------------------------------


def test_orthogonal_matrices_pay_nothing_and_relaxed_ones_have_any_length():
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 5)))
    kernel = jnp.float32(q).reshape(2, 2, 3, 5)
    stretched = kernel * jnp.array([1.0, 2.0, 0.5, 3.0, 0.0])
    for penalty in (penalties.orthogonal, penalties.g_orthogonal):
        pay = functools.partial(penalty, *NOTHING)
        bias = jnp.full(5, 7.0)
        params = {"conv": {"kernel": kernel, "bias": bias}}
        assert_near(pay(params=params), np.zeros(3), 1e-6)
        params = {"conv": {"kernel": stretched, "bias": bias}}
        wanted = (0 + 3**2 + 0.75**2 + 8**2 + 1) * np.ones(3)
        assert_near(pay(params=params), wanted, 1e-5)
        assert_near(pay(params=params, relaxed=True), np.zeros(3), 1e-5)


def test_weight_clipping_clips_and_leaves_what_is_within():
    params = {"w": jnp.array([[0.04, 0.45], [0.3, -0.34]]), "b": jnp.array([-0.05])}
    new = jax.jit(functools.partial(penalties.weight_clipping, limit=0.1))(params)
    np.testing.assert_array_equal(new["w"], np.float32([[0.04, 0.1], [0.1, -0.1]]))
    np.testing.assert_array_equal(new["b"], params["b"])


# --- What the generator makes -------------------------------------------------------


def test_features_match_if_their_means_do():
    real = jax.random.normal(jax.random.key(1), (4, 2))
    match = functools.partial(penalties.feature_matching, None, real)
    got = match(real[::-1], None, features=jnp.sin)
    np.testing.assert_allclose(got, np.zeros(4), atol=1e-12)
    np.testing.assert_allclose(
        match(real + 2, None, features=lambda x: x), 8, rtol=1e-5
    )


def test_path_lengths_of_an_isometry_are_chi_distributed():
    """J^T y is N(0, I / hw) in three dimensions, and `a` is its mean length."""
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 3)))
    latents, generator = jnp.zeros((20000, 3)), lambda z: (z @ q.T).reshape(-1, 2, 4, 2)
    memory = initial(penalties.path_length)
    values, memory = penalties.path_length(
        None,
        latents,
        None,
        jax.random.key(0),
        generator=generator,
        latents=latents,
        memory=memory,
    )
    np.testing.assert_allclose(values.mean(), chi(3).var() / 8, rtol=0.03)
    average = memory["length"] / memory["weight"]
    np.testing.assert_allclose(average, chi(3).mean() / np.sqrt(8), rtol=0.01)


def test_mode_seeking_wants_examples_apart_as_their_latents_are():
    latents = jnp.array([[0.0, 1.0], [2.0, -3.0], [5.0, 5.0]])
    ask = {"latents": latents, "generator": lambda z: 4 * z}
    got = penalties.mode_seeking(None, latents, 4 * latents, None, **ask)
    np.testing.assert_allclose(got, np.full(3, 0.25), rtol=1e-4)
    with pytest.raises(UserError, match="batch_size of 2"):
        penalties.mode_seeking(
            None, *2 * [latents[:1]], None, **ask | {"latents": ONES[:1]}
        )


def test_a_classifier_that_knows_nothing_pays_the_entropy_of_both_batches():
    ask = {"classify": lambda x: jnp.zeros((3, 5)), "labels": jnp.arange(3)}
    got = penalties.auxiliary_classifier(*NOTHING, **ask)
    np.testing.assert_allclose(got, np.full(3, 2 * np.log(5)), rtol=1e-6)


# --- Refusals -----------------------------------------------------------------------

LOGITS = {"real_logits": jnp.ones(3), "fake_logits": jnp.ones(3), "memory": {}}
LATENT = {"latents": ONES, "generator": lambda z: z}


@pytest.mark.parametrize(
    ("name", "asked", "settings"),
    [
        ("gradient_penalty", {}, {"target": -1}),
        ("gradient_penalty", {}, {"one_sided": "no"}),
        ("lecam", LOGITS, {"decay": 1}),
        ("lecam", LOGITS, {"decay": -0.1}),
        ("cr", LOGITS, {"scale": 0}),
        ("bcr", LOGITS, {"scale": "big"}),
        ("zcr", LATENT, {"sigma": 0.0}),
        ("zcr", LATENT, {"gamma": float("nan")}),
        ("path_length", LATENT | LOGITS, {"decay": 1.5}),
        ("orthogonal", {"params": {}}, {"relaxed": 2}),
        ("g_orthogonal", {"params": {}}, {"relaxed": None}),
        ("weight_clipping", {}, {"limit": 0}),
        ("weight_clipping", {}, {"limit": -0.01}),
        ("weight_clipping", {}, {"limit": 10**400}),
    ],
)
def test_senseless_settings_are_refused(name, asked, settings):
    penalty = getattr(penalties, name)
    asked = {k: v for k, v in asked.items() if k in terms.asks_for(penalty)}
    given = ({},) if hasattr(penalty, "constraint") else NOTHING
    with pytest.raises(UserError, match=f"^{name}: {next(iter(settings))} must be "):
        penalty(*given, **asked, **settings)
