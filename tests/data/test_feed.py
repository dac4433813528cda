import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.config import default
from gan_jax.data import toy
from gan_jax.data.feed import Resident, Stream, open_feed
from gan_jax.data.source import Images, Info
from gan_jax.devices import mesh as sharding

KEY = jax.random.key(3)


def numbered(n):
    """A set whose i-th image is filled with i, so that batches tell what they drew."""
    images = np.broadcast_to(
        np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 1)
    )
    info = Info(
        name="numbered", shape=(2, 2, 1), num_classes=3, num_examples=n, fingerprint=""
    )
    return Images(info, images.copy(), np.arange(n) % 3)


class Lazy:
    """The same by random access alone."""

    def __init__(self, n):
        self._source, self.info = numbered(n), numbered(n).info

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        return self._source[index]


def config_of(batch_size, d_updates=1, seed=0):
    config = default()
    config.batch_size, config.d_updates, config.seed = batch_size, d_updates, seed
    return config


def drawn(feed, step, n):
    """Returns the indices that `n` steps draw, `[n, d_updates * batch]`."""
    at = feed.at(step, n)

    @jax.jit
    def batches(at):
        return jax.vmap(at.batch)(at.window(jnp.int32(step), n))

    got = batches(at)
    indices = np.asarray(got["image"][..., 0, 0, 0])
    np.testing.assert_array_equal(got["label"], indices % 3)
    return indices


def open_one(kind, n, config, step=0, key=KEY):
    source = numbered(n) if kind == "resident" else Lazy(n)
    return open_feed(source, config, key, step, sharding.make_mesh())


KINDS = ["resident", "stream"]


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
@pytest.mark.parametrize("start", [1, 3, 4, 9])
def test_the_step_alone_tells_what_comes_next(kind, start):
    config = config_of(5, 2)
    whole = drawn(open_one(kind, 23, config), 0, 13)
    rest = drawn(open_one(kind, 23, config, start), start, 13 - start)
    np.testing.assert_array_equal(rest, whole[start:])


def test_chunks_draw_what_one_long_chunk_does():
    for kind in KINDS:
        feed = open_one(kind, 23, config_of(5, 3))
        parts = [drawn(feed, step, n) for step, n in ((0, 1), (1, 4), (5, 2))]
        whole = drawn(open_one(kind, 23, config_of(5, 3)), 0, 7)
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_another_seed_is_another_order():
    orders = [
        drawn(open_one("stream", 64, config_of(32, seed=seed)), 0, 2).tolist()
        for seed in (0, 1)
    ]
    orders += [
        drawn(
            open_one("resident", 64, config_of(32), key=jax.random.key(seed)), 0, 2
        ).tolist()
        for seed in (0, 1)
    ]
    assert orders[0] != orders[1]
    assert orders[2] != orders[3]


def test_a_stream_is_ready_at_a_late_step_at_once():
    feed = Stream(Lazy(50), config_of(8), 10_000_000, sharding.make_mesh())
    assert feed.at(10_000_000, 2).batches["image"].shape == (2, 1, 8, 2, 2, 1)


@pytest.mark.parametrize("step", [0, 16_000_000, 2**31 // 3])
def test_orders_do_not_overflow(step):
    source = numbered(23)
    feed = Resident(KEY, jnp.asarray(source.images), jnp.asarray(source.labels), 5, 2)
    indices = np.asarray(feed.window(jnp.int32(step), 3))
    assert ((indices >= 0) & (indices < 23)).all()


@pytest.mark.parametrize(
    ("density", "modes"), [(toy.ring(), 8), (toy.grid(), 25), (toy.SwissRoll(), 0)]
)
def test_toy_densities(density, modes):
    batch = jax.jit(lambda: density.sample(KEY, 20_000))()
    points, labels = np.asarray(batch["image"]), np.asarray(batch["label"])
    assert density.info.num_classes == modes
    assert points.shape == (20_000, 2)
    if not modes:  # on the spiral, radius is proportional to angle
        radius = np.linalg.norm(points, axis=1) * 2.25 * np.pi
        turn = np.arctan2(points[:, 1], points[:, 0])
        off = (radius - turn + np.pi) % (2 * np.pi) - np.pi
        assert np.abs(off).mean() < 0.5
        assert 0.45 < np.linalg.norm(points, axis=1).min() < 0.75
        assert 1.9 < np.linalg.norm(points, axis=1).max() < 2.3
        return
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
    assert sorted({x for x, _ in toy.grid().centres}) == [-2, -1, 0, 1, 2]
