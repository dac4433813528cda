import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import Points, build, train_step
from gan_jax.algorithm import chunks, replicas
from gan_jax.data import toy
from gan_jax.data.feed import Drawn, Resident

POINTS = {"example": Points((2,)), "model": "mlp", "width": 8, "latent_size": 2}


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 2])
def test_a_replicas_key_is_that_of_its_seed(seed):
    keys = jax.random.key_data(replicas.root_keys(seed, 2))
    for i in range(2):
        alone = jax.random.key_data(replicas.root_keys(seed + i, 1)[0])
        np.testing.assert_array_equal(keys[i], alone)


def test_a_replica_starts_as_the_single_run_with_its_seed_bit_for_bit():
    gan = build(**POINTS)
    init = jax.jit(replicas.init_state)
    both = init(gan, replicas.root_keys(3, 2))
    alone = init(gan, replicas.root_keys(4, 1))
    for one, two in zip(*(jax.tree.leaves(s.g) for s in (alone, both)), strict=True):
        np.testing.assert_array_equal(one[0], two[1])


def test_a_lazy_penalty_stays_a_conditional():
    """Under a plain vmap it would be computed in each step, and then left out."""
    gan = build(**POINTS, penalties="r1(every=4)")
    keys = replicas.root_keys(0, 3)
    states = jax.eval_shape(replicas.init_state, gan, keys)
    feed = Drawn(keys, toy.ring(), 8)
    ours = jax.make_jaxpr(replicas.train_chunk, (0, 3))(gan, states, feed, 2)
    plain = jax.make_jaxpr(jax.vmap(chunks.train_chunk, (None, 0, 0, None)), (0, 3))
    assert "cond[" in str(ours)
    assert "cond[" not in str(plain(gan, states, feed, 2))


def test_a_step_for_all_seeds_keeps_a_lazy_penalty_lazy():
    gan = build(**POINTS, penalties="r1(every=4)")
    states = jax.eval_shape(replicas.init_state, gan, replicas.root_keys(0, 3))
    batch = {"example": jnp.zeros((4, 2))}
    step = jax.vmap(train_step, (None, 0, None, None))
    assert "cond[" in str(jax.make_jaxpr(step, 0)(gan, states, batch, 1))
    assert "cond[" not in str(jax.make_jaxpr(step, 0)(gan, states, batch, None))


def test_replicas_share_the_images_and_have_their_own_order():
    images = jnp.arange(23, dtype=jnp.uint8)[:, None, None, None]
    keys = replicas.root_keys(5, 2)
    feed = Resident(keys, images, jnp.arange(23), 5, 2)
    drawn = jax.vmap(lambda feed: feed.window(jnp.int32(3), 4), (feed.axes,), 1)(feed)
    assert drawn.shape == (4, 2, 10)
    for i in range(2):
        alone = feed.replace(key=keys[i]).window(jnp.int32(3), 4)
        np.testing.assert_array_equal(drawn[:, i], alone)
    jaxpr = jax.make_jaxpr(
        lambda feed: jax.vmap(
            lambda feed, drawn: feed.batch(drawn)["example"], (feed.axes, 0)
        )(feed, drawn[0])
    )(feed)
    assert "[2,23,1,1,1]" not in str(jaxpr)  # no copy of the set for each
