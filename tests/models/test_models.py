import flax.traverse_util
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.algorithm.spaces import OUTPUTS, Images
from gan_jax.errors import UserError
from gan_jax.layers.labels import D_CONDITIONING
from gan_jax.layers.output import FUNCTIONS
from gan_jax.models import dcgan, mlp, musegan, resnet

KEY = jax.random.key(0)
MODELS = {"mlp": mlp, "dcgan": dcgan, "resnet": resnet}


def players(model, shape, num_classes=0, **fields):
    """Returns both networks of a model."""
    fields = {"shape": shape, "num_classes": num_classes} | fields
    found = (MODELS | {"musegan": musegan})[model]
    return found.Generator(**fields), found.Discriminator(**fields)


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
        # Any example: points, images, a pair or a clip, a piano roll, one number.
        *[("mlp", s) for s in ((2,), (28, 28, 1), (2, 6, 8, 3), (5, 7, 2), ())],
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
        *[("musegan", s) for s in ((16, 48, 5), (8, 13, 1))],
    ],
)
def test_shapes(model, shape, num_classes):
    generator, discriminator = players(model, shape, num_classes, width=8)
    labels = jnp.zeros(4, jnp.int32) if num_classes else None
    examples, _ = abstract(generator, jnp.zeros((4, 100)), labels)
    assert examples.shape == (4, *shape)
    logits, _ = abstract(discriminator, jnp.zeros((4, *shape)), labels)
    assert logits.shape == (4,)


@pytest.mark.parametrize("conditioning", D_CONDITIONING)
def test_labels_stand_beside_examples_of_any_shape(conditioning):
    module = mlp.Discriminator((2, 6, 8, 3), 3, conditioning=conditioning)
    labels = jnp.zeros(4, jnp.int32)
    logits, _ = abstract(module, jnp.zeros((4, 2, 6, 8, 3)), labels)
    assert logits.shape == (4,)


@pytest.mark.parametrize(
    ("model", "shape"),
    [("mlp", (2,)), ("dcgan", (8, 8, 1)), ("resnet", (32, 32, 1))],
)
def test_latents_of_size_zero_need_a_label_beside_them(model, shape):
    make, nothing = MODELS[model].Generator, jnp.zeros((4, 0))
    labels = jnp.zeros(4, jnp.int32)
    examples, _ = abstract(make(shape, 3, width=8), nothing, labels)
    assert examples.shape == (4, *shape)
    message = "^latent_size is 0 and no class label is appended to the latents"
    with pytest.raises(UserError, match=message):
        abstract(make(shape), nothing)
    if model != "mlp":
        with pytest.raises(UserError, match=message):
            abstract(make(shape, 3, conditioning="batch_norm"), nothing, labels)


def conv(i, o, bias=False):
    return 16 * i * o + o * bias


def conv3(i, o):
    return 9 * i * o + o


# The networks' parameters, counted by hand from their definitions: the last number of
# each row is G's, then D's.
@pytest.mark.parametrize(
    ("fields", "g", "d"),
    [
        (
            {"model": "dcgan", "shape": (28, 28, 1)},
            100 * 6272 + 2 * 128 + conv(128, 64) + 2 * 64 + conv(64, 1, True),
            conv(1, 64, True) + conv(64, 128) + 2 * 128 + 6272 + 1,
        ),
        (
            {"model": "dcgan", "shape": (64, 64, 3)},
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
            {"model": "mlp", "shape": (2,), "width": 128, "latent_size": 2},
            3 * 128 + 129 * 128 + 129 * 2,
            3 * 128 + 129 * 128 + 129,
        ),
        (
            {"model": "resnet", "shape": (32, 32, 3), "latent_size": 128},
            129 * 4096
            + 3 * (2 * conv3(256, 256) + 256 * 257 + 4 * 256)
            + 2 * 256
            + conv3(256, 3),
            conv3(3, 128) + 7 * conv3(128, 128) + 4 * 128 + 129 * 128 + 129,
        ),
        (
            {"model": "resnet", "shape": (64, 64, 3), "latent_size": 128},
            129 * 16384
            + sum(
                conv3(2 * c, c) + conv3(c, c) + (2 * c + 1) * c + 6 * c
                for c in (512, 256, 128, 64)
            )
            + 2 * 64
            + conv3(64, 3),
            conv3(3, 64)
            + conv3(64, 64)
            + 4 * 64
            # The first layer of a block keeps its input's channels.
            + sum(
                conv3(c, c) + conv3(c, 2 * c) + (c + 1) * 2 * c
                for c in (64, 128, 256, 512)
            )
            + 1025,
        ),
    ],
)
def test_parameter_counts(fields, g, d):
    fields = {"latent_size": 100} | fields
    latents = jnp.zeros((2, fields.pop("latent_size")))
    generator, discriminator = players(**fields)
    _, variables = abstract(generator, latents)
    assert count(variables["params"]) == g
    _, variables = abstract(discriminator, jnp.zeros((2, *fields["shape"])))
    assert count(variables["params"]) == d


@pytest.mark.parametrize(
    ("model", "shape", "kernel"),
    [
        ("mlp", (2,), "Logits_0/Dense_0"),
        ("dcgan", (8, 8, 1), "Conv_0"),
        ("dcgan", (28, 28, 1), "Conv_1"),
        ("dcgan", (64, 64, 3), "Conv_3"),
        ("resnet", (32, 32, 3), "_Down_3/Conv_1"),
        ("resnet", (64, 64, 3), "_Down_4/ConvPool_0"),
    ],
)
def test_minibatch_std_widens_the_last_convolution_alone(model, shape, kernel):
    """Its kernel gets one more input channel, that of mlp's last layer in its place."""

    def shapes(**fields):
        discriminator = MODELS[model].Discriminator(shape, width=4, **fields)
        _, variables = abstract(discriminator, jnp.zeros((4, *shape)))
        return flax.traverse_util.flatten_dict(
            jax.tree.map(jnp.shape, variables["params"]), sep="/"
        )

    plain, widened = shapes(), shapes(minibatch_std=2)
    *sides, inputs, outputs = plain[f"{kernel}/kernel"]
    wanted = {f"{kernel}/kernel": (*sides, inputs + 1, outputs)}
    assert widened == plain | wanted


def test_dcgan_weights_start_at_a_fiftieth():
    generator, discriminator = players("dcgan", (28, 28, 1), width=16)

    @jax.jit
    def initial():
        return [
            module.init(KEY, x, train=True)["params"]
            for module, x in (
                (generator, jnp.zeros((2, 100))),
                (discriminator, jnp.zeros((2, 28, 28, 1))),
            )
        ]

    for params in initial():
        kernels = [
            np.asarray(x)
            for path, x in jax.tree_util.tree_leaves_with_path(params)
            if "kernel" in jax.tree_util.keystr(path)
        ]
        assert len(kernels) == 3
        for kernel in kernels:
            error = 5 * 0.02 / np.sqrt(2 * kernel.size)  # five standard errors
            np.testing.assert_allclose(kernel.std(), 0.02, atol=error)


def drawn(module, x, labels=None, scale=1.0):
    """Returns variables for arguments, with random parameters."""
    random = np.random.default_rng(0)
    _, variables = abstract(module, x, labels)

    def draw(path, like):
        if path[-1].key in ("scale", "var"):
            return np.ones(like.shape, np.float32)
        fan_in = np.prod(like.shape[:-1]) if len(like.shape) > 1 else 1
        return np.float32(scale * random.normal(size=like.shape) / np.sqrt(fan_in))

    return jax.tree_util.tree_map_with_path(draw, variables)


def test_every_output_has_a_range():
    assert FUNCTIONS.keys() == OUTPUTS.keys()


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("model", ["mlp", "dcgan"])
def test_images_lie_in_the_range_of_the_real_ones(model, output):
    """The generator reaches both ends of its space's bounds, and goes no further."""
    space = Images((8, 8, 1), bounds=OUTPUTS[output])
    generator = MODELS[model].Generator(space.shape, width=4, output=output)
    z = np.float32(np.random.default_rng(1).normal(size=(8, 100)))
    apply = jax.jit(generator.apply, static_argnames="train")
    images = apply(drawn(generator, z, scale=100.0), z, train=False)
    if space.bounds is None:
        assert images.min() < -2
        assert images.max() > 2
        return
    low, high = space.bounds
    assert low <= images.min() < low + 0.2
    assert high - 0.2 < images.max() <= high
    black_and_white = jnp.array([0, 255], jnp.uint8)
    np.testing.assert_allclose(space.encode(black_and_white), [low, high])


@pytest.mark.parametrize("model", MODELS)
def test_other_outputs_are_refused(model):
    module = MODELS[model].Generator((32, 32, 1), output="tan")
    with pytest.raises(UserError, match=r"^unknown output 'tan'; did you mean 'tanh'"):
        abstract(module, jnp.zeros((2, 100)))


@pytest.mark.parametrize("size", [100, 0])
@pytest.mark.parametrize("model", ["mlp", "dcgan"])
def test_labels_change_what_both_players_return(model, size):
    generator, discriminator = players(model, (8, 8, 1), 3, width=4)
    x = np.float32(np.random.default_rng(1).normal(size=(1, 8, 8, 1)).repeat(3, 0))
    labels = np.arange(3)
    rows = [(generator, np.ones((3, size), np.float32)), (discriminator, x)]
    for module, data in rows[: 2 if size else 1]:
        apply = jax.jit(module.apply, static_argnames="train")
        variables = drawn(module, data, labels)
        out = np.asarray(apply(variables, data, labels, train=False))
        assert not np.allclose(out[0], out[1])
        assert not np.allclose(out[1], out[2])


@pytest.mark.parametrize(
    "shape", [(30, 30, 1), (4, 4, 1), (28, 32, 1), (2,), (2, 8, 8, 1)]
)
def test_dcgan_refuses_what_it_cannot_make(shape):
    generator, _ = players("dcgan", shape)
    with pytest.raises(UserError, match=r"^dcgan (cannot make|makes images)"):
        abstract(generator, jnp.zeros((2, 100)))


@pytest.mark.parametrize("shape", [(28, 28, 1), (128, 128, 3), (32, 64, 3), (2,)])
def test_resnet_refuses_what_it_cannot_make(shape):
    generator, _ = players("resnet", shape)
    with pytest.raises(UserError, match=r"^resnet makes images of 32x32 or 64x64"):
        abstract(generator, jnp.zeros((2, 100)))


@pytest.mark.parametrize(
    ("model", "shape", "g_fields"),
    [
        ("mlp", (2,), {}),
        ("dcgan", (8, 8, 1), {"conditioning": "batch_norm"}),
        ("resnet", (32, 32, 3), {}),
    ],
)
def test_exported_networks_take_batches_of_any_size(model, shape, g_fields):
    generator, discriminator = players(model, shape, 3, width=2)
    generator = generator.clone(**g_fields)
    latents = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = np.arange(5, dtype=np.int32) % 3
    g = drawn(generator, latents, labels)
    d = drawn(discriminator, np.zeros((5, *shape), np.float32), labels)

    @jax.jit
    def judged(latents, labels):
        x = generator.apply(g, latents, labels, train=False)
        return x, discriminator.apply(d, x, labels, train=False)

    (batch,) = jax.export.symbolic_shape("batch")
    shapes = [
        jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype) for a in (latents, labels)
    ]
    exported = jax.export.export(judged, platforms=["cpu", "cuda", "tpu"])(*shapes)
    got, wanted = exported.call(latents, labels), judged(latents, labels)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, wanted)
    assert got[0].shape == (5, *shape)
    assert np.std(got[1]) > 0
