"""Every penalty is rows of one table, which bring all checks.

The world they are tried in has closed forms: a critic with a linear and a quadratic
part that makes two judgements of each example, an affine augmentation of what it sees
in the loss, and a linear generator. A row gives the
penalty as a function in float64 NumPy; finite differences of it give the gradients.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recording
from jax import lax
from scipy.stats import chi

from gan_jax.algorithm.spaces import Images, Pair, PianoRoll, Points, Video
from gan_jax.errors import UserError
from gan_jax.objective import penalties
from gan_jax.objective.terms import Constraint, Context, Penalty

BATCH, JUDGEMENTS, LATENTS, IMAGE, POINT = 4, 2, 3, (2, 3, 1), (2,)
PAIR = (2, 1, 3, 1)
SPACES = {IMAGE: Images, POINT: Points, PAIR: Pair}
WAYS = [[1.0, 0.5], [2.0, -1.0]]  # from the columns of a kernel to judgements


class World:
    """Networks of known derivatives, in NumPy or JAX as their parameters are."""

    def __init__(self, theta, shape, condition, xp):
        self.d, self.w, self.shape, self.xp = theta["d"], theta["g"]["w"], shape, xp
        self.s = self.d["a"] @ xp.asarray(WAYS, self.w.dtype)
        self.condition = condition

    def of(self, condition):
        """Returns the condition, that of real examples unless there is another."""
        chosen = self.condition if condition is None else condition
        return flat(self.xp.asarray(chosen, self.w.dtype))[:, :1]

    def critic(self, x, condition=None):
        x = flat(x)
        alike = 0.5 * self.d["q"] * square(x)[:, None]
        told = 0.1 * self.of(condition) * x.sum(1)[:, None]
        return (x @ self.s + alike + told).reshape(-1)

    def slope(self, x, condition=None):
        """Returns the gradient of the sum of an example's judgements."""
        alike = self.d["q"] * flat(x) + 0.1 * self.of(condition)
        return self.s.sum(1) + JUDGEMENTS * alike

    def stretch(self, x):
        """Returns the factor of each coordinate in the augmentation T."""
        size = flat(x).shape[1]
        return self.xp.asarray(1.5 - 0.4 * np.arange(size), x.dtype)

    def seen(self, x):
        """Returns T(x)."""
        return (self.stretch(x) * flat(x) + 0.3).reshape(x.shape)

    def seen_slope(self, x, condition=None):
        """Returns the gradient of the sum of the judgements of T(x), by x."""
        return self.stretch(x) * self.slope(self.seen(x), condition)

    def generator(self, z, condition=None):
        made = (z @ self.w).reshape(len(z), *self.shape)
        if self.shape != PAIR:
            return made
        told = self.condition if condition is None else condition
        return made * (1 + 0.4 * told[:, ::-1])

    def features(self, x, condition=None):
        two = [flat(x) @ self.s[:, 0], self.d["q"] * square(x)]
        return self.xp.stack(two, 1) * (1 + self.of(condition))

    def classify(self, x, condition=None):
        classes = self.xp.asarray([0.0, 0.5, -1.0], x.dtype)
        return (flat(x) @ self.s[:, 0])[:, None] * classes


def flat(x):
    return x.reshape(len(x), -1)


def square(x):
    return (flat(x) ** 2).sum(1)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A row of the table.

    `expected(world, frozen, b)` is the penalty: what is constant to its gradient is
    read from `frozen`. `b` holds real, latents, condition, fake, fake_condition, and
    draws, what the penalty has drawn.
    """

    name: str
    expected: Callable
    settings: dict = dataclasses.field(default_factory=dict)
    player: str = "d"
    weight: float = 10.0
    players: tuple = ("d",)
    shape: tuple = IMAGE

    def __str__(self):
        settings = ",".join(f"{k}={v}" for k, v in self.settings.items())
        return f"{self.name}({settings})-{self.player}"


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


def lecam(w, f, b, positive=lambda gap: gap):
    real, fake = lecam_means(f, b)["real"].mean(), lecam_means(f, b)["fake"].mean()
    of = lecam_means(w, b)
    return positive(of["real"] - fake) ** 2 + positive(real - of["fake"]) ** 2


def lecam_relu(w, f, b):
    return lecam(w, f, b, lambda gap: np.maximum(gap, 0))


def lecam_means(w, b):
    of_fake = w.critic(w.seen(b.fake), b.fake_condition)
    return {"real": w.critic(w.seen(b.real)), "fake": of_fake}


def moved(w, x, noise, condition=None):
    near = w.critic(x + 0.5 * noise, condition)
    return (w.critic(w.seen(x), condition) - near) ** 2


def zcr_of_d(w, f, b):
    near = b.latents + 0.7 * b.draws[0]
    change = w.critic(f.generator(b.latents)) - w.critic(f.generator(near))
    return (change**2).reshape(BATCH, JUDGEMENTS).mean(1)


def zcr_of_g(w, f, b):
    near = b.latents + 0.7 * b.draws[0]
    return -0.4 * square(w.generator(b.latents) - w.generator(near)) / np.prod(IMAGE)


def orthogonality(matrix, relaxed=False):
    def expected(w, f, b):
        gram = matrix(w).T @ matrix(w)
        wrong = gram - (np.diag(np.diag(gram)) if relaxed else np.eye(len(gram)))
        return np.full(BATCH, (wrong**2).sum())

    return expected


def feature_matching(w, f, b):
    of_fake = w.features(w.seen(w.generator(b.latents)), b.fake_condition)
    gap = f.features(f.seen(b.real)).mean(0) - of_fake.mean(0)
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


def reconstruction(w, f, b, cost=np.abs):
    return cost(w.generator(b.latents) - b.real).mean((1, 2, 3))


def cycle(w, f, b):
    back = w.generator(b.latents, w.generator(b.latents, b.real))
    return np.abs(back - b.real).mean((1, 2, 3, 4))


def identity(w, f, b):
    made = w.generator(b.latents, np.stack([b.real[:, 1], b.real[:, 0]], 1))
    return np.abs(made - b.real).mean((1, 2, 3, 4))


def cross_entropy(logits, classes):
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(BATCH), classes]


def classifier_of_g(w, f, b):
    made = w.seen(w.generator(b.latents))
    return cross_entropy(w.classify(made), b.fake_condition)


def classifier_of_d(w, f, b):
    of_real = cross_entropy(w.classify(w.seen(b.real)), b.condition)
    return of_real + classifier_of_g(w, f, b)


G = {"player": "g", "players": ("g",)}
BOTH = {"players": ("d", "g")}
ZCR = {"settings": {"sigma": 0.7, "gamma": 0.4}, "weight": 5.0, **BOTH}
CLASSES = {"weight": 1.0, **BOTH}
POINTS = {"settings": {"scale": 0.5}, "shape": POINT}
RELAXED = {"settings": {"relaxed": True}, "weight": 1e-4}
CASES = [
    Case("r1", lambda w, f, b: 0.5 * square(w.seen_slope(b.real))),
    Case("r2", lambda w, f, b: 0.5 * square(w.seen_slope(b.fake, b.fake_condition))),
    Case("gradient_penalty", gradient_penalty(lambda n: n - 1)),
    Case("gradient_penalty", gradient_penalty(lambda n: n - 2.5), {"target": 2.5}),
    Case(
        "gradient_penalty",
        gradient_penalty(lambda n: np.maximum(n - 5, 0)),
        {"one_sided": True, "target": 5.0},
    ),
    Case("zero_centred_gradient_penalty", gradient_penalty(lambda n: n)),
    Case("dragan", dragan),
    Case("drift", lambda w, f, b: w.critic(w.seen(b.real)) ** 2, weight=0.001),
    Case("lecam", lecam, weight=0.3),
    Case("lecam", lecam_relu, {"relu": True}, weight=0.3),
    Case("cr", lambda w, f, b: moved(w, b.real, b.draws[0]), **POINTS),
    Case(
        "bcr",
        lambda w, f, b: (
            moved(w, b.real, b.draws[0])
            + moved(w, b.fake, b.draws[1], b.fake_condition)
        ),
        **POINTS,
    ),
    Case("zcr", zcr_of_d, **ZCR),
    Case("zcr", zcr_of_g, player="g", **ZCR),
    Case("orthogonal", orthogonality(lambda w: w.d["a"]), weight=1e-4),
    Case("orthogonal", orthogonality(lambda w: w.d["a"], True), **RELAXED),
    Case("g_orthogonal", orthogonality(lambda w: w.w), weight=1e-4, **G),
    Case("g_orthogonal", orthogonality(lambda w: w.w, True), **RELAXED, **G),
    Case("feature_matching", feature_matching, weight=1.0, **G),
    Case("path_length", path_length, weight=2.0, **G),
    Case("mode_seeking", mode_seeking, weight=1.0, **G),
    Case("reconstruction", reconstruction, weight=100.0, **G),
    Case(
        "reconstruction",
        functools.partial(reconstruction, cost=np.square),
        {"squared": True},
        weight=100.0,
        **G,
    ),
    Case("cycle", cycle, shape=PAIR, **G),
    Case("identity", identity, weight=5.0, shape=PAIR, **G),
    Case("auxiliary_classifier", classifier_of_d, **CLASSES),
    Case("auxiliary_classifier", classifier_of_g, player="g", **CLASSES),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
each_replica = pytest.mark.parametrize("replica", [0, 1])


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
        "condition": random.integers(0, 3, BATCH, np.int32),
        "fake_condition": random.integers(0, 3, BATCH, np.int32),
    }
    if shape == PAIR:
        data |= {"condition": data["real"], "fake_condition": data["real"][::-1]}
    return theta, data, jax.random.key(seed)


def cast(tree, dtype):
    def to(x):
        floats = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(x, dtype if floats else x.dtype)

    return jax.tree.map(to, tree)


def initial(term):
    return jax.tree.map(jnp.float32, term.initial)


def recorded(evaluate):
    """Returns a function that returns also what it draws from continuous laws."""
    return recording.recorded(evaluate, "uniform", "normal")


def evaluate(case, theta, data, key, memory=None):
    """Calls a penalty in the world as a step does: `(values, new memory)`."""
    term = getattr(penalties, case.name).with_settings(**case.settings)
    world = World(theta, case.shape, data["condition"], jnp)
    made = world.generator(data["latents"])
    fake = lax.stop_gradient(made) if case.player == "d" else made
    real_seen, fake_seen = world.seen(data["real"]), world.seen(fake)
    told = data["fake_condition"]
    context = Context(
        critic=world.critic,
        fake=fake,
        key=key,
        real_logits=world.critic(real_seen),
        fake_logits=world.critic(fake_seen, told),
        real_slope=lambda: world.seen_slope(data["real"]),
        fake_slope=lambda: world.seen_slope(fake, told),
        real_seen=real_seen,
        fake_seen=fake_seen,
        example=data["real"],
        sample=made,
        player=case.player,
        features=world.features,
        classify=world.classify,
        generator=world.generator,
        params=theta[case.player],
        memory=initial(term) if memory is None else memory,
        step=jnp.int32(0),
        space=SPACES[case.shape](case.shape),
        **data,
    )
    return term.values(context)


def scales(num):
    """Returns a weight of each value, so that each one's gradient is seen."""
    return np.arange(1.0, num + 1)


def with_gradients(case, *arguments):
    """Returns values, gradients by the parameters of its player, and draws."""

    def total(theta, data, key):
        (values, _), draws = recorded(evaluate)(case, theta, data, key)
        weights = jnp.asarray(scales(len(values)), values.dtype)
        return (values * weights).sum(), (values, draws)

    gradients, (values, draws) = jax.grad(total, has_aux=True)(*arguments)
    return values, gradients[case.player], draws


@functools.cache
def replicas(shape):
    """Returns two replicas, and a third whose parameters are all zero."""
    first, second = drawn(0, shape), drawn(1, shape)
    theta, *rest = first
    return first, second, (jax.tree.map(np.zeros_like, theta), *rest)


@functools.cache
def compiled(shape, dtype=jnp.float32):
    """Returns all cases on all replicas, from one program: compiling takes long.

    In half precision, on the first replica alone.
    """
    cases = [case for case in CASES if case.shape == shape]

    def everything(*arguments):
        return {str(case): with_gradients(case, *arguments) for case in cases}

    each = [(*cast((t, data), dtype), key) for t, data, key in replicas(shape)]
    run = jax.jit(everything)
    if dtype == jnp.float32:
        run = jax.jit(jax.vmap(everything))
        found = run(*jax.tree.map(lambda *leaves: jnp.stack(leaves), *each))
        return [jax.tree.map(lambda x, i=i: np.asarray(x)[i], found) for i in range(3)]
    return [jax.tree.map(lambda x: np.asarray(x, np.float32), run(*each[0]))]


@dataclasses.dataclass
class Batch:
    real: np.ndarray
    latents: np.ndarray
    condition: np.ndarray
    fake_condition: np.ndarray
    fake: np.ndarray
    draws: list


def world_of(case, theta, data):
    return World(theta, case.shape, data["condition"], np)


def batch_of(case, theta, data, draws):
    fake = world_of(case, theta, data).generator(data["latents"])
    return Batch(**data, fake=fake, draws=[np.float64(x) for x in draws])


def gradients_of(case, theta, data, draws):
    """Returns central finite differences of the expected penalty, in float64."""
    frozen, batch = world_of(case, theta, data), batch_of(case, theta, data, draws)
    leaves, tree = jax.tree.flatten(theta[case.player])

    def total(leaves):
        changed = {**theta, case.player: jax.tree.unflatten(tree, leaves)}
        values = case.expected(world_of(case, changed, data), frozen, batch)
        return (scales(len(values)) * values).sum()

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
@each_replica
def test_values_and_gradients_are_those_of_the_closed_form(case, replica):
    theta, data, _ = replicas(case.shape)[replica]
    values, gradients, draws = compiled(case.shape)[replica][str(case)]
    world, batch = world_of(case, theta, data), batch_of(case, theta, data, draws)
    assert values.shape in ((BATCH,), (BATCH * JUDGEMENTS,))
    assert_near(values, case.expected(world, world, batch), 1e-4)
    assert_near(gradients, gradients_of(case, theta, data, draws), 1e-3)


@every_case
def test_gradients_are_finite_where_everything_vanishes(case):
    _, gradients, _ = compiled(case.shape)[2][str(case)]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@every_case
def test_bfloat16_is_near_the_closed_form(case):
    theta, data, _ = replicas(case.shape)[0]
    values, gradients, draws = compiled(case.shape, jnp.bfloat16)[0][str(case)]
    rounded = cast((theta, data), jnp.bfloat16)
    theta, data = jax.tree.map(
        lambda x, as_before: np.asarray(x).astype(as_before.dtype),
        rounded,
        (theta, data),
    )
    world, batch = world_of(case, theta, data), batch_of(case, theta, data, draws)
    assert_near(values, case.expected(world, world, batch), 0.06)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@every_case
def test_its_type_has_the_players_and_the_weight_of_the_paper(case):
    term = getattr(penalties, case.name)
    assert (term.name, term.every) == (case.name, 1)
    assert (term.weight, term.players) == (case.weight, case.players)
    assert ("memory" in term.asks) == (term.initial is not None)


def test_every_penalty_is_in_the_table():
    public = {name: getattr(penalties, name) for name in penalties.__all__}
    terms = {n: x for n, x in vars(penalties).items() if hasattr(x, "asks")}
    assert public == terms
    constraints = {n for n, x in public.items() if isinstance(x, Constraint)}
    assert constraints == {"weight_clipping"}
    table = {case.name for case in CASES}
    assert {n for n, x in public.items() if isinstance(x, Penalty)} == table
    for case in CASES:
        of_case = {c.player for c in CASES if c.name == case.name}
        assert of_case == set(case.players)


# --- By hand ------------------------------------------------------------------------

SLOPE = jnp.array([3.0, 4.0])  # of norm 5
ONES = jnp.ones((3, 2))
NOTHING = (None, ONES, ONES, jax.random.key(0))


def call(name, critic, real, fake, key=NOTHING[3], **offered):
    """Calls a penalty with what it asks for, and the settings among the rest."""
    term = getattr(penalties, name)
    wanted = {*term.asks, *term.setting_names}
    slopes = {
        "real_slope": lambda: jax.grad(lambda x: critic(x).sum())(real),
        "fake_slope": lambda: jax.grad(lambda x: critic(x).sum())(fake),
    }
    seen = {"real_seen": real, "fake_seen": fake}
    offered = {"fake_condition": None, **slopes, **seen} | offered
    return term(
        critic, real, fake, key, **{k: x for k, x in offered.items() if k in wanted}
    )


def told_nothing(function):
    """Returns a critic that does not read its condition."""
    return lambda x, condition=None: function(x)


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
    critic = told_nothing(lambda x: steepness * x @ SLOPE + 7)
    got = call(name, critic, ONES, ONES, **settings)
    np.testing.assert_allclose(got, np.full(3, value), rtol=1e-5, atol=1e-7)


# --- Consistency --------------------------------------------------------------------


def consistency(name, critic, real, fake, space=Images, **settings):
    """Returns a penalty on examples that are images, or of another space."""
    space = space(real.shape[1:])
    critic = told_nothing(critic)

    @jax.jit
    def values(real, fake):
        logits = {"real_logits": critic(real), "fake_logits": critic(fake)}
        key = jax.random.key(3)
        return call(name, critic, real, fake, key, space=space, **logits, **settings)

    return values(real, fake)


@pytest.mark.parametrize(
    ("name", "of"), [("cr", "real"), ("bcr", "real"), ("bcr", "fake")]
)
@pytest.mark.parametrize("flip", [True, False])
def test_images_are_flipped_and_shifted_by_an_eighth(name, of, flip):
    image = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    slope = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    framed = np.pad(image, 1, mode="reflect")
    possible = [
        ((image - turned[i : i + 4, j : j + 4]) * slope).sum() ** 2
        for turned in (framed, framed[:, ::-1])[: 1 + flip]
        for i in range(3)
        for j in range(3)
    ]
    images = np.broadcast_to(image[None, :, :, None], (300, 4, 4, 1))
    batches = {"real": 0 * images, "fake": 0 * images, of: images}
    ask = {**batches, "flip": flip}
    got = consistency(name, lambda x: (x[..., 0] * slope).sum((1, 2)), **ask)
    apart = np.abs(np.array(got)[:, None] - np.array(possible))
    assert (apart.min(1) < 1e-3).all()
    assert set(apart.argmin(1)) == set(range(len(possible)))


@pytest.mark.parametrize("name", ["cr", "bcr"])
def test_consistent_critics_pay_nothing(name):
    # Whole numbers within a frame of zeros, two wide since the border reflects: neither
    # a flip nor a shift changes the sum.
    inside = np.random.default_rng(0).integers(-9, 9, (8, 4, 4, 1))
    images = np.pad(np.float32(inside), ((0, 0), (2, 2), (2, 2), (0, 0)))
    whole, first_row = (
        consistency(
            name,
            lambda x: jnp.stack([x.sum((1, 2, 3)), x[:, 2].sum((1, 2))], 1).reshape(-1),
            *(images, images),
        )
        .reshape(-1, 2)
        .T
    )
    assert not whole.any()
    assert first_row.any()


@pytest.mark.parametrize("space", [Video, PianoRoll])
def test_only_images_are_flipped_and_shifted(space):
    """A clip of images and a piano roll are moved by noise."""
    real = jnp.ones((3, 2, 4, 4, 1) if space == Video else (3, 4, 4, 1))

    def first_moment(x):
        return x.reshape(3, -1).mean(1)

    got = consistency("bcr", first_moment, real, real, space, scale=0.01)
    assert ((got > 0) & (got < 1e-3)).all()


def test_latent_consistency_asks_the_players_for_opposite_things():
    latents = jnp.ones((2, 1))
    ask = {"latents": latents, "sigma": 0.5, "gamma": 0.25}
    ask |= {"generator": lambda z: jnp.tile(z, 2), "sample": jnp.tile(latents, 2)}
    of_d, of_g = (
        call("zcr", lambda x: 2 * x[:, 0], ONES, None, player=player, **ask)
        for player in ("d", "g")
    )
    assert (of_g < 0).all()  # the more examples differ, the less it is
    # Both are multiples of one squared noise: 4 of it, and -1/4.
    np.testing.assert_allclose(of_d, -16 * of_g, rtol=1e-4)


# --- Memory -------------------------------------------------------------------------


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
    name, player, means, pulls, decay
):
    case = Case(name, None, {"decay": decay}, player=player)
    run = jax.jit(recorded(functools.partial(evaluate, case)))
    memory, seen = None, []
    for step in range(3):
        theta, data, key = drawn(step, IMAGE)
        memory = initial(getattr(penalties, name)) if memory is None else memory
        arguments = (*cast((theta, data), jnp.float32), key, memory)
        (values, memory), draws = run(*arguments)
        batch = batch_of(case, theta, data, draws)
        seen.append(means(world_of(case, theta, data), batch))
        weights = decay ** np.arange(step, -1, -1)
        anchors = {
            key: np.average([s[key].mean() for s in seen], weights=weights)
            for key in pulls
        }
        wanted = sum((seen[-1][k] - anchors[to]) ** 2 for k, to in pulls.items())
        assert_near(values, wanted, 1e-4)
        assert {x.dtype for x in memory.values()} == {jnp.dtype("float32")}


def test_lecam_starts_late_from_the_means_of_the_last_batch():
    memory, logits = initial(penalties.lecam), jnp.arange(3.0)
    anchors = {2: 2.0, 3: 3.0, 4: 0.9 * 3 + 0.1 * 4}  # the mean is that of the step
    for step, anchor in anchors.items():
        ask = {"real_logits": step - 1 + logits, "fake_logits": logits}
        ask |= {"step": jnp.int32(step), "start": 4, "decay": 0.9}
        values, memory = call("lecam", *NOTHING, memory=memory, **ask)
        assert (values > 0).all() == (step >= 4)
        found = memory["real"] / memory["weight"]
        np.testing.assert_allclose(found, anchor, rtol=1e-6)


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
    match = functools.partial(call, "feature_matching", None, real)
    got = match(real[::-1], features=told_nothing(jnp.sin))
    np.testing.assert_allclose(got, np.zeros(4), atol=1e-12)
    got = match(real + 2, features=told_nothing(lambda x: x))
    np.testing.assert_allclose(got, 8, rtol=1e-5)


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
    ask = {"latents": latents, "sample": 4 * latents, "generator": lambda z: 4 * z}
    for told in (None, jnp.arange(3)):
        ask["fake_condition"] = told
        got = penalties.mode_seeking(None, latents, 4 * latents, None, **ask)
        np.testing.assert_allclose(got, np.full(3, 0.25), rtol=1e-4)
    with pytest.raises(UserError, match="batch_size of 2"):
        penalties.mode_seeking(
            None, *2 * [latents[:1]], None, **ask | {"latents": ONES[:1]}
        )


def test_a_classifier_that_knows_nothing_pays_the_entropy_of_its_batches():
    ask = {"classify": told_nothing(lambda x: jnp.zeros((3, 5)))}
    ask |= {"condition": jnp.arange(3), "fake_condition": jnp.arange(3)[::-1]}
    for player, batches in (("d", 2), ("g", 1)):
        got = call("auxiliary_classifier", *NOTHING, player=player, **ask)
        np.testing.assert_allclose(got, np.full(3, batches * np.log(5)), rtol=1e-6)


def test_a_generator_that_swaps_pairs_comes_back_and_one_that_does_not_pays():
    """G(a, b) = (b + 1, a - 1): the domains differ by 1, and nothing is lost."""
    x = np.random.default_rng(0).normal(size=(4, *PAIR)).astype(np.float32)
    step = np.float32([1, -1]).reshape(2, 1, 1, 1)
    ask = {"generator": lambda z, told: told[:, ::-1] + step, "example": x}
    ask |= {"condition": x, "latents": ONES, "space": Pair(PAIR)}
    ask["sample"] = ask["generator"](None, x)
    got = call("cycle", None, x, None, **ask)
    np.testing.assert_allclose(got, np.zeros(4), atol=1e-6)
    got = call("identity", None, x, None, **ask)  # each domain is moved by 1
    np.testing.assert_allclose(got, np.ones(4), rtol=1e-6)


@pytest.mark.parametrize("name", ["cycle", "identity"])
@pytest.mark.parametrize(
    ("space", "condition", "message"),
    [
        (Images(IMAGE), np.ones((4, *IMAGE)), "needs pairs of images, .* is Images"),
        (Pair(PAIR), None, "needs pairs that are their own condition.*=True$"),
        (Pair(PAIR), np.ones(4, np.int32), "needs pairs that are their own condition"),
    ],
)
def test_only_pairs_that_are_their_own_condition_are_translated(
    name, space, condition, message
):
    ask = {"space": space, "condition": condition, "generator": None}
    ask |= dict.fromkeys(("latents", "example", "sample"))
    with pytest.raises(UserError, match=f"^{name} {message}"):
        call(name, *NOTHING, **ask)


@pytest.mark.parametrize("name", ["zcr", "path_length", "mode_seeking"])
def test_what_latents_change_is_not_asked_of_a_gan_without_them(name):
    ask = {"latents": np.ones((3, 0)), "generator": None, "memory": {}}
    ask |= {"sample": None, "fake_condition": None, "player": "d"}
    with pytest.raises(UserError, match=f"^{name} needs latents: latent_size must be"):
        call(name, *NOTHING, **ask)


# --- Refusals -----------------------------------------------------------------------

LOGITS = {"real_logits": jnp.ones(3), "fake_logits": jnp.ones(3), "memory": {}}
LOGITS |= {"step": jnp.int32(0)}
LATENT = {"latents": ONES, "generator": lambda z: z, "sample": ONES, "player": "d"}


@pytest.mark.parametrize(
    ("name", "asked", "settings"),
    [
        ("gradient_penalty", {}, {"target": -1}),
        ("gradient_penalty", {}, {"one_sided": "no"}),
        ("lecam", LOGITS, {"decay": 1}),
        ("lecam", LOGITS, {"decay": -0.1}),
        ("lecam", LOGITS, {"start": -1}),
        ("lecam", LOGITS, {"relu": 1}),
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
    refused = functools.partial(call, name, *NOTHING, **asked, space=Points((2,)))
    if name == "weight_clipping":
        refused = functools.partial(penalties.weight_clipping, {})
    with pytest.raises(UserError, match=f"^{name}: {next(iter(settings))} must be "):
        refused(**settings)
