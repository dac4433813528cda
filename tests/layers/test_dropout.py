import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.layers.dropout import lasting_dropout


class Twice(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x):
        drop = lasting_dropout(self.rate)
        return drop(x), drop(x)


def dropped(rate, seed=0):
    rngs = {"dropout": jax.random.key(seed)}
    return Twice(rate).apply({}, jnp.ones((100, 100)), rngs=rngs)


def test_each_call_drops_its_share_and_keeps_the_mean():
    first, second = dropped(0.25)
    assert set(np.unique(first)) == {0, np.float32(1 / 0.75)}
    np.testing.assert_allclose((first == 0).mean(), 0.25, atol=0.02)
    assert (first != second).any()


def test_the_stream_decides():
    np.testing.assert_array_equal(dropped(0.5, 1), dropped(0.5, 1))
    assert (dropped(0.5, 1)[0] != dropped(0.5, 2)[0]).any()


def test_rate_zero_does_nothing_and_needs_no_stream():
    for same in Twice(0.0).apply({}, jnp.ones(3)):
        np.testing.assert_array_equal(same, 1)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), "0.5"])
def test_other_rates_are_refused(rate):
    with pytest.raises(UserError, match=rf"^dropout is {rate}: it must be a number"):
        lasting_dropout(rate)
