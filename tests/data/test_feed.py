import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.algorithm.spaces import Classes, Images, Points, Space, Video
from gan_jax.config import default
from gan_jax.data import toy
from gan_jax.data.feed import Drawn, Resident, Stream, Window, open_feed
from gan_jax.data.source import Info, InMemory
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError

SEED = 3
KEYS = jax.random.key(SEED)[None]


SQUARE = Images((2, 2, 1))
THREE = Classes(3)


def numbered(n, example=SQUARE, condition=THREE):
    """A set whose i-th example is filled with i, so that batches tell the order."""
    numbers = np.arange(n).reshape(n, *[1] * len(example.shape))
    examples = np.broadcast_to(numbers, (n, *example.shape))
    info = Info(
        name="numbered",
        example=example,
        condition=condition,
        num_examples=n,
        fingerprint="",
    )
    examples = examples.astype(example.stored_dtype)
    if isinstance(condition, Classes):
        return InMemory(info, examples, np.arange(n) % condition.num_classes)
    if condition is None:
        return InMemory(info, examples)
    shape = (n, *condition.shape)
    numbers = np.arange(n).reshape(n, *[1] * len(condition.shape))
    conditions = np.broadcast_to(numbers, shape).astype(condition.stored_dtype)
    return InMemory(info, examples, conditions)


class Lazy:
    """The same, by random access alone."""

    def __init__(self, source):
        self._source, self.info = source, source.info

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        return self._source[index]


def config_of(batch_size, d_updates=1, seed=SEED, **keys):
    config = default()
    config.update_from_flattened_dict({"conditional": True, "log_every": 1, **keys})
    config.batch_size, config.d_updates, config.seed = batch_size, d_updates, seed
    return config


@functools.partial(jax.jit, static_argnums=2)
def batches(feed, step, n):
    """Returns what `n` steps draw, `[n, replicas, ...]`."""
    window = jax.vmap(lambda feed: feed.window(step, n), (feed.axes,), 1)(feed)
    batch = jax.vmap(lambda feed, drawn: feed.batch(drawn), (feed.axes, 0))
    return jax.vmap(batch, (None, 0))(feed, window)


def drawn(feed, step, n):
    """Returns the indices that `n` steps draw, `[n, d_updates * batch]`."""
    feed = feed.at(step, n)
    if isinstance(feed, Window):  # nothing to compile
        got = {
            key: np.asarray(x).reshape(n, 1, -1, *x.shape[4:])
            for key, x in feed.batches.items()
        }
    else:
        got = batches(feed, np.int32(step), n)
    indices = np.asarray(got["example"][:, 0, :, 0, 0, 0])
    np.testing.assert_array_equal(got["condition"][:, 0], indices % 3)
    return indices


def open_one(kind, n, config, step=0, keys=KEYS):
    source = numbered(n) if kind == "resident" else Lazy(numbered(n))
    return open_feed(source, config, keys, step, sharding.make_mesh())


KINDS = ["resident", "stream"]
# What the first three steps draw, by 23 examples, batches of 5 and two D updates. A run
# that is resumed must find the same order, so these numbers never change.
ORDERS = {
    "resident": [
        [20, 7, 2, 0, 8, 4, 21, 3, 6, 12],
        [9, 15, 10, 5, 18, 16, 13, 1, 17, 11],
        [18, 8, 21, 19, 2, 5, 1, 22, 15, 20],
    ],
    "stream": [
        [4, 22, 16, 7, 21, 3, 18, 19, 20, 0],
        [2, 13, 14, 8, 11, 10, 9, 6, 1, 12],
        [14, 1, 15, 7, 21, 10, 16, 4, 2, 12],
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_is_what_it_has_been(kind):
    got = drawn(open_one(kind, 23, config_of(5, 2)), 0, 13)
    assert got[:3].tolist() == ORDERS[kind]


def test_drawn_points_are_what_they_have_been():
    key = KEYS[0]
    ring = Drawn(key, toy.ring(), 2, conditional=True).batch(jnp.int32(5))
    np.testing.assert_allclose(
        ring["example"], [[1.990905, 0.021268], [-1.387824, 1.413192]], atol=1e-5
    )
    assert ring["condition"].tolist() == [0, 3]
    roll = Drawn(key, toy.SwissRoll(), 2).batch(jnp.int32(5))
    np.testing.assert_allclose(
        roll["example"], [[0.953081, -1.271602], [-1.195084, -0.601486]], atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d_updates", [1, 2])
def test_an_epoch_shows_no_example_twice(kind, d_updates):
    # 23 examples make 4 batches of 5 an epoch, 3 left out; 8 updates are two epochs.
    feed = open_one(kind, 23, config_of(5, d_updates))
    epochs = drawn(feed, 0, 8 // d_updates).reshape(2, 20)
    for epoch in epochs:
        assert len(set(epoch.tolist())) == 20
    assert epochs[0].tolist() != epochs[1].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_example_comes_in_time(kind):
    feed = open_one(kind, 7, config_of(5))
    assert set(drawn(feed, 0, 20).ravel().tolist()) == set(range(7))


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_alone_tells_what_comes_next(kind):
    config = config_of(5, 2)
    whole = drawn(open_one(kind, 23, config), 0, 13)
    for start in (1, 3, 4, 9):
        feed = open_one(kind, 23, config, start)
        np.testing.assert_array_equal(drawn(feed, start, 4), whole[start : start + 4])


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_draw_what_one_long_chunk_does(kind):
    # The lengths are those of other tests: like programs are compiled once.
    feed = open_one(kind, 23, config_of(5, 2))
    parts = [drawn(feed, step, n) for step, n in ((0, 4), (4, 1), (5, 4), (9, 4))]
    whole = drawn(open_one(kind, 23, config_of(5, 2)), 0, 13)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_is_another_order(kind):
    orders = [
        drawn(
            open_one(kind, 64, config_of(32, seed=s), keys=jax.random.key(s)[None]),
            0,
            2,
        ).tolist()
        for s in (0, 1)
    ]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("kind", KINDS)
def test_each_replica_draws_what_its_run_alone_does(kind):
    config = config_of(5, 2, replicas=2)
    keys = jax.vmap(jax.random.key)(SEED + np.arange(2, dtype=np.uint32))
    got = batches(open_one(kind, 23, config, keys=keys).at(0, 4), np.int32(0), 4)
    assert got["example"].shape == (4, 2, 10, 2, 2, 1)
    assert got["condition"].shape == (4, 2, 10)
    for i in range(2):
        alone = open_one(kind, 23, config_of(5, 2, SEED + i), keys=keys[i : i + 1])
        np.testing.assert_array_equal(
            got["example"][:, i, :, 0, 0, 0], drawn(alone, 0, 4)
        )


# What a feed holds, by abstract evaluation and reading alone: nothing is compiled.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(
    ("example", "condition"),
    [
        (Points((3,)), None),
        (Points((3,)), Classes(2)),
        (Images((4, 4, 3)), Images((4, 4, 1))),
        (Video((2, 4, 4, 1)), Classes(5)),
        (Space((2, 3, 4, 5), (0.0, 1.0)), Points((7,))),
        (Space(()), Space(())),
    ],
    ids=str,
)
def test_any_space_goes_through_every_feed(kind, conditional, example, condition):
    source = numbered(12, example, condition)
    if kind == "stream":
        source = Lazy(source)
    config = config_of(4, 2, conditional=conditional)
    feed = open_feed(source, config, KEYS, 0, sharding.make_mesh()).at(0, 3)
    got = jax.eval_shape(lambda feed: batches(feed, np.int32(0), 3), feed)
    expected = {"example": example}
    if conditional and condition is not None:
        expected["condition"] = condition
    assert got.keys() == expected.keys()
    for key, space in expected.items():
        assert got[key].shape == (3, 1, 8, *space.shape)
        assert got[key].dtype == space.stored_dtype


@pytest.mark.parametrize("kind", KINDS)
def test_a_condition_that_is_the_example_is_placed_once(kind):
    source = numbered(12, condition=Images((2, 2, 1)))
    source = InMemory(source.info, source.examples, source.examples)
    if kind == "stream":
        source = Lazy(source)
    feed = open_feed(source, config_of(4), KEYS, 0, sharding.make_mesh()).at(0, 2)
    if kind == "stream":
        assert feed.batches["condition"] is feed.batches["example"]
    else:
        assert feed.conditions is feed.examples


@pytest.mark.parametrize("conditional", [False, True])
def test_drawn_batches_have_conditions_if_the_run_is_conditional(conditional):
    config = config_of(4, 2, conditional=conditional)
    feed = open_feed(toy.ring(), config, KEYS, 0, None).at(0, 3)
    got = jax.eval_shape(lambda feed: batches(feed, np.int32(0), 3), feed)
    assert ("condition" in got) == conditional
    assert got["example"].shape == (3, 1, 8, 2)


def test_a_stream_is_ready_at_a_late_step_at_once():
    source, late = Lazy(numbered(50)), 10_000_000
    feed = Stream(source, config_of(8), late, sharding.make_mesh())
    assert feed.at(late, 2).batches["example"].shape == (2, 1, 1, 8, 2, 2, 1)


class Odd(Lazy):
    """A set one of whose examples is not like the others."""

    def __init__(self, odd):
        super().__init__(numbered(12))
        self._odd = odd

    def __getitem__(self, index):
        return self._odd(super().__getitem__(index)) if index == 7 else self._source[0]


def no_file(example):
    raise FileNotFoundError("it is gone")


ODD = [
    (lambda x: {**x, "example": x["example"][:1]}, r"shape \(1, 2, 1\) and type uint8"),
    (lambda x: {**x, "example": x["example"] / 1.0}, "type float64; Images"),
    (lambda x: {**x, "condition": 3}, "condition holds the class 3: they go from 0 t"),
    (lambda x: {"example": x["example"]}, "has no 'condition'"),
    (no_file, "cannot be read .FileNotFoundError: it is gone"),
]


@pytest.mark.parametrize(("odd", "message"), ODD)
def test_a_stream_refuses_a_later_example_that_does_not_fit(odd, message):
    feed = open_feed(Odd(odd), config_of(4), KEYS, 0, sharding.make_mesh())
    with pytest.raises(UserError, match=f"^numbered: example 7.*{message}"):
        feed.at(0, 3)


@pytest.mark.parametrize("step", [0, 16_000_000, 2**31 // 3])
def test_orders_do_not_overflow(step):
    examples = jnp.zeros((23, 2))
    feed = Resident(KEYS[0], examples, None, 5, 2)
    indices = np.asarray(jax.jit(lambda step: feed.window(step, 3))(jnp.int32(step)))
    assert ((indices >= 0) & (indices < 23)).all()


@pytest.mark.parametrize(
    ("density", "modes"), [(toy.ring(), 8), (toy.grid(), 25), (toy.SwissRoll(), 0)]
)
def test_toy_densities(density, modes):
    batch = jax.jit(lambda: density.sample(KEYS[0], 20_000))()
    assert density.info.example == Points((2,))
    assert density.info.fingerprint == repr(density)
    points = np.asarray(batch["example"])
    assert points.shape == (20_000, 2)
    if not modes:  # on the spiral, radius is proportional to angle
        assert density.info.condition is None
        assert batch.keys() == {"example"}
        radius = np.linalg.norm(points, axis=1) * 2.25 * np.pi
        turn = np.arctan2(points[:, 1], points[:, 0])
        off = (radius - turn + np.pi) % (2 * np.pi) - np.pi
        assert np.abs(off).mean() < 0.5
        assert 0.45 < np.linalg.norm(points, axis=1).min() < 0.75
        assert 1.9 < np.linalg.norm(points, axis=1).max() < 2.3
        return
    assert density.info.condition == Classes(modes)
    labels = np.asarray(batch["condition"])
    counts = np.bincount(labels, minlength=modes)
    expected = 20_000 / modes
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
    centres = np.array(density.centres)
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(1)
    np.testing.assert_array_equal(nearest, labels)
    np.testing.assert_allclose(
        (points - centres[labels]).std(), density.scale, rtol=0.02
    )
    np.testing.assert_allclose(centres.mean(0), 0, atol=1e-6)


def test_the_ring_has_radius_two_and_the_grid_spacing_one():
    np.testing.assert_allclose(np.linalg.norm(toy.ring().centres, axis=1), 2, rtol=1e-6)
    assert sorted({x for x, _ in toy.grid().centres}) == [-4, -2, 0, 2, 4]


# --- Batches that are changed as they are drawn -------------------------------------


def shifted(key, batch):
    """Adds a random number to each example, and the same to its condition."""
    shift = jax.random.randint(key, batch["example"].shape[:1], 1, 100, jnp.uint8)
    shift = shift.reshape(-1, 1, 1, 1)
    return {name: x + shift for name, x in batch.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_augmented_batches_are_a_function_of_seed_and_step(kind):
    config = config_of(5, 2, replicas=2)
    keys = jax.random.split(jax.random.key(SEED), 2)

    def opened(augment, step):
        source = numbered(23, SQUARE, SQUARE)
        source = source if kind == "resident" else Lazy(source)
        source.augment = augment
        feed = open_feed(source, config, keys, step, sharding.make_mesh(replicas=2))
        axes = feed.at(step, 3).axes

        @jax.jit
        def draw(feed, step):
            window = jax.vmap(lambda feed: feed.window(step, 3), (axes,), 1)(feed)
            batch = jax.vmap(lambda feed, drawn: feed.batch(drawn), (axes, 0))
            return jax.vmap(batch, (None, 0))(feed, window)

        return draw(feed.at(step, 3), np.int32(step))

    plain, ours = opened(None, 0), opened(shifted, 0)
    moved = ours["example"] - plain["example"]
    assert (moved > 0).all()
    assert (moved[..., :1, :1, :] == moved).all()  # one number for an example
    np.testing.assert_array_equal(ours["condition"] - plain["condition"], moved)
    of_examples = moved[..., 0, 0, 0].reshape(6, -1)  # [steps and replicas, examples]
    assert len({tuple(row) for row in of_examples.tolist()}) == 6
    resumed = opened(shifted, 2)
    np.testing.assert_array_equal(resumed["example"][0], ours["example"][2])
