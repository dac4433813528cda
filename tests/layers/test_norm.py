import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.layers.norm import ConditionalBatchNorm, LatentBatchNorm, norm_of

KEYS = jax.random.split(jax.random.key(0), 4)
LABELS = jnp.array([2, 0, 2, 1])


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 2, 5)])
def test_each_example_gets_the_batch_norm_of_its_class(shape, train):
    x = 3 + 2 * jax.random.normal(KEYS[0], shape)
    norm = ConditionalBatchNorm(3)
    start, variables = jax.jit(norm.init_with_output, static_argnames="train")(
        KEYS[1], x, LABELS, train=train
    )
    stats = variables["batch_stats"]["BatchNorm_0"]
    stats = {"mean": stats["mean"] + 1, "var": stats["var"] * 3}
    gain, bias = np.float32(np.random.default_rng(0).normal(size=(2, 3, 5)))
    apply = jax.jit(norm.apply, static_argnames=("train", "mutable"))
    got, moved = apply(
        {
            "params": {"gain": {"embedding": gain}, "bias": {"embedding": bias}},
            "batch_stats": {"BatchNorm_0": stats},
        },
        x,
        LABELS,
        train=train,
        mutable="batch_stats",
    )
    plain = nn.BatchNorm(not train, momentum=0.9)
    apply = jax.jit(plain.apply, static_argnames="mutable")
    for i, label in enumerate(LABELS):
        wanted, plain_moved = apply(
            {
                "params": {"scale": 1 + gain[label], "bias": bias[label]},
                "batch_stats": stats,
            },
            x,
            mutable="batch_stats",
        )
        np.testing.assert_allclose(got[i], wanted[i], atol=1e-5)
    jax.tree.map(
        np.testing.assert_array_equal,
        moved["batch_stats"]["BatchNorm_0"],
        plain_moved["batch_stats"],
    )
    unit, _ = jax.jit(plain.init_with_output)(KEYS[1], x)
    np.testing.assert_allclose(start, unit, atol=1e-5)


class Normed(nn.Module):
    kind: str

    @nn.compact
    def __call__(self, x, train=True):
        return norm_of(self.kind, train)(x)


def test_the_kinds_differ_in_what_they_average_over():
    x = np.float32(np.random.default_rng(0).normal(2, 3, (4, 3, 2, 5)))
    for kind, axes in {"batch": (0, 1, 2), "instance": (1, 2)}.items():
        got, variables = Normed(kind).init_with_output(KEYS[0], x)
        centred = x - x.mean(axes, keepdims=True)
        wanted = centred / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
        np.testing.assert_allclose(got, wanted, atol=1e-4)
        (params,) = variables["params"].values()
        shapes = {name: p.shape for name, p in params.items()}
        assert shapes == {"scale": (5,), "bias": (5,)}
    got, variables = Normed("none").init_with_output(KEYS[0], x)
    np.testing.assert_array_equal(got, x)
    assert not variables


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 2, 2, 5)])
def test_gains_and_biases_are_linear_in_the_latents(shape, train):
    """With the label as a latent of one hot, it is the batch norm of its class."""
    x = 3 + 2 * jax.random.normal(KEYS[0], shape)
    of_latents, of_class = LatentBatchNorm(), ConditionalBatchNorm(3)
    latents = jax.nn.one_hot(LABELS, 3)
    gain, bias = np.float32(np.random.default_rng(0).normal(size=(2, 3, 5)))
    start = of_latents.init(KEYS[1], x, latents, train=train)

    @jax.jit
    def both(x):
        stats = {"batch_stats": start["batch_stats"]}
        zero = jnp.zeros(5)
        params = {
            "gain": {"kernel": gain, "bias": zero},
            "bias": {"kernel": bias, "bias": zero},
        }
        apply = {"train": train, "mutable": "batch_stats"}
        classes = {"gain": {"embedding": gain}, "bias": {"embedding": bias}}
        return (
            of_latents.apply({"params": params, **stats}, x, latents, **apply),
            of_class.apply({"params": classes, **stats}, x, LABELS, **apply),
        )

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *both(x))
    unit = nn.BatchNorm(not train).init_with_output(KEYS[1], x)[0]
    plain, _ = of_latents.apply(start, x, latents, train=train, mutable="batch_stats")
    np.testing.assert_allclose(plain, unit, atol=1e-5)
