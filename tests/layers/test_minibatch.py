import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.layers.minibatch import append_deviation

KEY = jax.random.key(0)
append = jax.jit(append_deviation, static_argnums=1)


@pytest.mark.parametrize("shape", [(6, 5), (6, 2, 3, 4)])
@pytest.mark.parametrize("group", [2, 3, 6, 8])
def test_equals_numpy(shape, group):
    x = jax.random.normal(KEY, shape)
    got = append(x, group)
    assert got.shape == (*shape[:-1], shape[-1] + 1)
    np.testing.assert_array_equal(got[..., :-1], x)
    for start in range(0, 6, group):
        some = slice(start, start + group)
        wanted = np.std(np.asarray(x[some]), axis=0).mean()
        np.testing.assert_allclose(got[some, ..., -1], wanted, rtol=1e-4)


def test_equal_examples_deviate_by_nothing_and_have_a_gradient():
    x = jnp.ones((4, 3))
    np.testing.assert_allclose(append(x, 2)[:, -1], 0, atol=1e-3)
    gradient = jax.jit(jax.grad(lambda x: append_deviation(x, 2).sum()))(x)
    assert np.isfinite(gradient).all()


def test_one_example_is_a_group():
    np.testing.assert_allclose(append(jnp.ones((1, 3)), 4)[0, -1], 0, atol=1e-3)


def test_no_group_is_no_feature():
    x = jax.random.normal(KEY, (4, 3))
    assert append_deviation(x, 0) is x


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (4, r"is 4: it must divide the batch of 6 examples"),
        (1, r"is 1: a group has at least 2"),
        (-2, r"is -2: a group has at least 2"),
        (2.0, r"is 2.0: a group"),
    ],
)
def test_other_groups_are_refused(group, message):
    with pytest.raises(UserError, match=rf"^minibatch_std {message}"):
        append_deviation(jnp.ones((6, 3)), group)
