import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import build, generate
from gan_jax.errors import UserError

KEY = jax.random.key(0)


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def abstract(module, x, labels=None):
    """Returns the shape of a module's output, and those of its variables."""
    return jax.eval_shape(
        lambda key: module.init_with_output(key, x, labels, train=True), KEY
    )


@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("mlp", (2,)),
        ("mlp", (28, 28, 1)),
        *[
            ("dcgan", (side, side, channels))
            for side in (8, 14, 28, 32, 56, 64, 128)
            for channels in (1, 3)
        ],
        *[
            ("resnet", (side, side, channels))
            for side in (32, 64)
            for channels in (1, 3)
        ],
    ],
)
def test_shapes(model, shape, num_classes):
    gan = build(shape=shape, model=model, num_classes=num_classes, width=8)
    labels = jnp.zeros(4, jnp.int32) if num_classes else None
    examples, _ = abstract(gan.generator, jnp.zeros((4, 100)), labels)
    assert examples.shape == (4, *shape)
    logits, _ = abstract(gan.discriminator, jnp.zeros((4, *shape)), labels)
    assert logits.shape == (4,)


def conv(i, o, bias=False):
    return 16 * i * o + o * bias


def conv3(i, o):
    return 9 * i * o + o


# The networks' parameters, counted by hand from their definitions: the last number of
# each row is G's, then D's.
@pytest.mark.parametrize(
    ("how", "g", "d"),
    [
        (
            {"shape": (28, 28, 1)},
            100 * 6272 + 2 * 128 + conv(128, 64) + 2 * 64 + conv(64, 1, True),
            conv(1, 64, True) + conv(64, 128) + 2 * 128 + 6272 + 1,
        ),
        (
            {"shape": (64, 64, 3)},
            100 * 8192
            + sum(conv(c, c // 2) + 2 * c for c in (512, 256, 128))
            + 2 * 64
            + conv(64, 3, True),
            conv(3, 64, True)
            + sum(conv(c, 2 * c) + 4 * c for c in (64, 128, 256))
            + 8192
            + 1,
        ),
        (
            {"shape": (2,), "model": "mlp", "width": 128, "latent_size": 2},
            3 * 128 + 129 * 128 + 129 * 2,
            3 * 128 + 129 * 128 + 129,
        ),
        (
            {"shape": (32, 32, 3), "model": "resnet", "latent_size": 128},
            129 * 4096
            + 3 * (2 * conv3(256, 256) + 256 * 257 + 4 * 256)
            + 2 * 256
            + conv3(256, 3),
            conv3(3, 128) + 7 * conv3(128, 128) + 4 * 128 + 129 * 128 + 129,
        ),
    ],
)
def test_parameter_counts(how, g, d):
    gan = build(**how)
    _, variables = abstract(gan.generator, jnp.zeros((2, gan.latent.size)))
    assert count(variables["params"]) == g
    _, variables = abstract(gan.discriminator, jnp.zeros((2, *gan.shape)))
    assert count(variables["params"]) == d


def test_dcgan_weights_start_at_a_fiftieth():
    gan = build(shape=(28, 28, 1))
    for module, x in (
        (gan.generator, jnp.zeros((2, 100))),
        (gan.discriminator, jnp.zeros((2, 28, 28, 1))),
    ):
        params = jax.jit(lambda m=module, x=x: m.init(KEY, x, train=True)["params"])()
        kernels = [
            x
            for path, x in jax.tree_util.tree_leaves_with_path(params)
            if "kernel" in jax.tree_util.keystr(path)
        ]
        assert len(kernels) == 3
        for kernel in kernels:
            error = 5 * 0.02 / math.sqrt(2 * kernel.size)  # five standard errors
            np.testing.assert_allclose(kernel.std(), 0.02, atol=error)


@pytest.mark.parametrize(
    ("output", "low", "high"), [("tanh", -1.0, 1.0), ("sigmoid", 0.0, 1.0)]
)
@pytest.mark.parametrize("model", ["mlp", "dcgan"])
def test_images_lie_in_the_range_of_the_real_ones(model, output, low, high):
    gan = build(shape=(8, 8, 1), model=model, width=4, generator=f"output={output!r}")
    black_and_white = jnp.array([[0, 255]], jnp.uint8)
    np.testing.assert_allclose(gan.to_float(black_and_white), [[low, high]])
    z = jax.random.normal(KEY, (8, 100))

    @jax.jit
    def saturated(z):
        variables = gan.generator.init(KEY, z, train=True)
        params = jax.tree.map(lambda p: 1000 * p, variables.pop("params"))
        return generate(gan, {"params": params, **variables}, z)[0]

    images = saturated(z)
    assert low <= images.min() < low + 0.2
    assert high - 0.2 < images.max() <= high
    every = jnp.arange(256, dtype=jnp.uint8)
    np.testing.assert_array_equal(gan.to_uint8(gan.to_float(every)), every)


@pytest.mark.parametrize("model", ["mlp", "dcgan"])
def test_labels_change_what_both_players_return(model):
    gan = build(shape=(8, 8, 1), model=model, width=4, num_classes=3)
    z, x = jnp.ones((3, 100)), jax.random.normal(KEY, (1, 8, 8, 1)).repeat(3, 0)
    for module, given in ((gan.generator, z), (gan.discriminator, x)):
        out, _ = jax.jit(module.init_with_output, static_argnames="train")(
            KEY, given, jnp.arange(3), train=False
        )
        assert not np.allclose(out[0], out[1])
        assert not np.allclose(out[1], out[2])


@pytest.mark.parametrize("shape", [(30, 30, 1), (4, 4, 1), (28, 32, 1), (2,)])
def test_dcgan_refuses_what_it_cannot_make(shape):
    gan = build(shape=shape, generator="output='tanh'")
    with pytest.raises(UserError, match=r"^dcgan (cannot make|makes images)"):
        abstract(gan.generator, jnp.zeros((2, 100)))


@pytest.mark.parametrize("shape", [(28, 28, 1), (128, 128, 3), (32, 64, 3), (2,)])
def test_resnet_refuses_what_it_cannot_make(shape):
    gan = build(shape=shape, model="resnet", generator="output='tanh'")
    with pytest.raises(UserError, match=r"^resnet makes images of 32x32 or 64x64"):
        abstract(gan.generator, jnp.zeros((2, 100)))
