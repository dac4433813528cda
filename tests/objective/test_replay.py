"""The buffer of earlier samples: places, coins, conditions and ages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gan_jax.errors import UserError
from gan_jax.objective import replay

SIZE, BATCH, STEPS = 12, 5, 400
EXAMPLES, CLASSES = np.zeros((1, 2)), np.zeros(1, np.int32)


def numbered(step):
    """Returns samples and classes, all different, of which none is 0."""
    numbers = 1 + step * BATCH + np.arange(BATCH)
    return np.stack([numbers, -numbers], 1).astype(np.float32), numbers % 7


@pytest.fixture(scope="module")
def history():
    """Runs many updates as a step would, on two replicas.

    Returns:
      Of each update of the first replica, by name: the numbers of the samples that are
      shown, their conditions, and the numbers in the buffer after it.
    """
    new = [numbered(step) for step in range(STEPS)]
    samples = np.stack([x for x, _ in new])
    classes = np.stack([c for _, c in new]).astype(np.int32)

    def update(buffer, inputs):
        shown, condition, buffer = replay.mixed(buffer, *inputs)
        return buffer, {"shown": shown, "condition": condition, "buffer": buffer}

    def run(key):
        keys = jax.random.split(key, STEPS)
        start = replay.start(SIZE, EXAMPLES, CLASSES)
        return jax.lax.scan(update, start, (samples, classes, keys))[1]

    found = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 2))
    first, second = (
        jax.tree.map(lambda x, i=i: np.asarray(x)[i], found) for i in (0, 1)
    )
    assert (first["shown"] != second["shown"]).any()
    return first


def numbers_in(history, step):
    return history["buffer"]["example"][step, :, 0]


def test_free_places_are_taken_in_order_and_their_samples_shown(history):
    for step, filled in enumerate((5, 10, 12)):
        assert history["buffer"]["filled"][step] == filled
        alone = min(BATCH, SIZE - step * BATCH)  # samples with a free place
        placed = numbers_in(history, step)[step * BATCH :][:alone]
        if alone == BATCH:
            np.testing.assert_array_equal(history["shown"][step], numbered(step)[0])
            np.testing.assert_array_equal(placed, numbered(step)[0][:, 0])
    np.testing.assert_array_equal(numbers_in(history, 1)[10:], 0)
    # Two of the third update go to the two places that are left.
    np.testing.assert_array_equal(numbers_in(history, 2)[10:], [11, 12])
    np.testing.assert_array_equal(history["shown"][2][:2, 0], [11, 12])
    assert (history["buffer"]["filled"][2:] == SIZE).all()


def test_what_is_not_shown_is_kept_and_what_was_shown_instead_is_not(history):
    before = numbers_in(history, 2)
    for step in range(3, STEPS):
        new, shown = numbered(step)[0][:, 0], history["shown"][step][:, 0]
        is_old, after = shown != new, numbers_in(history, step)
        assert set(shown[is_old]) <= set(before)
        assert len(set(shown)) == BATCH  # from distinct places
        kept = (set(before) - set(shown[is_old])) | set(new[is_old])
        assert set(after) == kept
        # A new sample takes the place of the one that is shown in its stead.
        for old, instead in zip(shown[is_old], new[is_old], strict=True):
            np.testing.assert_array_equal(before == old, after == instead)
        before = after


def test_each_sample_has_its_own_fair_coin(history):
    coins = np.stack(
        [
            history["shown"][step][:, 0] != numbered(step)[0][:, 0]
            for step in range(3, STEPS)
        ]
    )
    assert stats.binomtest(int(coins.sum()), coins.size, 0.5).pvalue > 1e-3
    counts = np.bincount(coins.sum(1), minlength=BATCH + 1)
    expected = stats.binom(BATCH, 0.5).pmf(np.arange(BATCH + 1)) * len(coins)
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    correlations = np.corrcoef(coins.T) - np.eye(BATCH)
    assert np.abs(correlations).max() < 4 / np.sqrt(len(coins))


def test_a_sample_is_replaced_in_each_update_with_the_same_probability(history):
    """The places are uniform: ages are geometric, of p = batch / size / 2."""
    ages = []
    for step in range(50, STEPS):
        new, shown = numbered(step)[0][:, 0], history["shown"][step][:, 0]
        born = (shown[shown != new] - 1) // BATCH
        ages.extend(step - born)
    law = stats.geom(BATCH / SIZE / 2)
    edges = np.arange(1, 13)
    counts = [np.sum(np.equal(ages, age)) for age in edges] + [np.sum(ages > edges[-1])]
    expected = [*law.pmf(edges), law.sf(edges[-1])] * np.array(len(ages))
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_the_condition_stays_with_its_sample(history):
    shown, condition = history["shown"], history["condition"]
    np.testing.assert_array_equal(shown[..., 0] % 7, condition)
    np.testing.assert_array_equal(shown[..., 0], -shown[..., 1])
    buffer = history["buffer"]
    full = buffer["example"][2:, :, 0]
    np.testing.assert_array_equal(full % 7, buffer["condition"][2:])
    assert condition.dtype == buffer["condition"].dtype == np.int32


def test_an_unconditional_buffer_keeps_samples_alone():
    buffer = replay.start(6, EXAMPLES)
    assert set(buffer) == {"example", "filled"}
    mixed = jax.jit(replay.mixed)
    shown, condition, after = mixed(buffer, np.ones((4, 2)), None, jax.random.key(0))
    assert condition is None
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, buffer)
    np.testing.assert_array_equal(shown, 1)
    np.testing.assert_array_equal(after["example"][:, 0], [1, 1, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("condition", "shape", "dtype"),
    [
        (np.zeros(3, np.int32), (), "int32"),
        (np.zeros((3, 2, 5), np.float32), (2, 5), "float32"),
        (np.zeros((3, 2), jnp.bfloat16), (2,), "float32"),
    ],
)
def test_all_is_float32_but_whole_conditions(condition, shape, dtype):
    buffer = replay.start(7, np.zeros((3, 4, 4, 1), jnp.bfloat16), condition)
    assert buffer["condition"].shape == (7, *shape)
    assert buffer["condition"].dtype == dtype
    assert (buffer["example"].shape, buffer["example"].dtype) == (
        (7, 4, 4, 1),
        "float32",
    )
    assert buffer["filled"].dtype == "float32"

    samples = jax.ShapeDtypeStruct((3, 4, 4, 1), jnp.bfloat16)
    args = (buffer, samples, condition, jax.random.key(0))
    shown, condition, after = jax.eval_shape(replay.mixed, *args)
    assert (shown.shape, shown.dtype) == (samples.shape, samples.dtype)
    assert condition.dtype == args[2].dtype
    for before, now in zip(*map(jax.tree.leaves, (buffer, after)), strict=True):
        assert (before.shape, before.dtype) == (now.shape, now.dtype)


def test_a_batch_that_exceeds_the_buffer_is_refused():
    buffer = replay.start(3, EXAMPLES)
    with pytest.raises(UserError, match="replay is 3: it must be at least 4"):
        replay.mixed(buffer, jnp.ones((4, 2)), None, jax.random.key(0))
