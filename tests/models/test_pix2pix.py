import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax.algorithm.spaces import Classes, Images
from gan_jax.errors import UserError
from gan_jax.models import pix2pix

KEYS = jax.random.split(jax.random.key(0), 4)


def players(shape=(16, 16, 1), condition=(16, 16, 3), **fields):
    """Returns both networks."""
    fields = {"shape": shape, "condition": Images(condition), "width": 4} | fields
    g = {key: value for key, value in fields.items() if key != "receptive_field"}
    return pix2pix.Generator(**g), pix2pix.Discriminator(**fields)


def abstract(module, x, condition):
    """Returns the shape of the output, and those of the variables."""
    return jax.eval_shape(
        lambda key: module.init_with_output(key, x, condition, train=True), KEYS[0]
    )


def kernels(variables):
    flat = flax.traverse_util.flatten_dict(variables["params"], sep="/")
    return {k.removesuffix("/kernel"): v.shape for k, v in flat.items() if "ker" in k}


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("latents", [0, 5])
@pytest.mark.parametrize("size", [(28, 28), (64, 64), (96, 96), (256, 128), (22, 14)])
def test_shapes(size, latents, norm):
    g, d = players((*size, 3), (*size, 1), norm=norm, receptive_field=16)
    condition = jnp.zeros((2, *size, 1))
    z = jnp.zeros((2, latents))
    x, variables = abstract(g, z, condition)
    assert x.shape == (2, *size, 3)
    assert kernels(variables)["Conv_0"] == (4, 4, 1 + latents, 4)
    logits, _ = abstract(d, jnp.zeros((2, *size, 3)), condition)
    assert logits.shape == (2, size[0] // 2 - 2, size[1] // 2 - 2, 1)


def test_the_layers_are_those_of_the_authors():
    """Of the U-Net at 256x256; each layer on the way up sees two after the first."""
    g, d = players((256, 256, 3), (256, 256, 3), width=64)
    images = jnp.zeros((1, 256, 256, 3))
    _, variables = abstract(g, jnp.zeros((1, 0)), images)
    down = [3, 64, 128, 256, 512, 512, 512, 512, 512]
    up = [3, 64, 128, 256, 512, 512, 512, 512]
    doubled = [512, *(2 * n for n in down[-2:0:-1])]
    wanted = {f"Conv_{i}": (4, 4, *down[i : i + 2]) for i in range(8)}
    wanted |= {
        f"ConvTranspose_{i}": (4, 4, features, inputs)
        for i, (features, inputs) in enumerate(zip(up[::-1], doubled, strict=True))
    }
    assert kernels(variables) == wanted
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    # Theirs has no bias in the first and in the innermost layer.
    assert count == 54_413_955 + 64 + 512
    _, variables = abstract(d, images, images)
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 2_768_705


def test_weights_start_at_a_fiftieth():
    g, _ = players(width=16)
    init = jax.jit(g.init, static_argnames="train")
    params = init(KEYS[0], jnp.zeros((1, 0)), jnp.zeros((1, 16, 16, 3)), train=True)
    flat = flax.traverse_util.flatten_dict(params["params"], sep="/")
    for name, kernel in flat.items():
        if name.endswith("kernel"):
            error = 5 * 0.02 / np.sqrt(2 * kernel.size)  # five standard errors
            np.testing.assert_allclose(kernel.std(), 0.02, atol=error)


def random(tree, seed=0):
    """Returns random parameters of some shapes."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.float32(0.3 * draw.normal(size=x.shape)), tree)


def images(seed, *shape):
    return np.float32(np.random.default_rng(seed).uniform(-1, 1, shape))


@pytest.fixture(scope="module")
def generator():
    """A generator with random parameters, as a function `(params, c, key, train)`."""
    g, _ = players(norm="instance")
    condition, none = images(0, 2, 16, 16, 3), jnp.zeros((2, 0))
    _, variables = abstract(g, none, condition)

    @jax.jit
    def run(params, condition, key):
        rngs = {"dropout": key}
        apply = [
            g.apply({"params": params}, none, condition, train=train, rngs=rngs)
            for train in (False, True)
        ]
        return apply[0], apply[1]

    return run, random(variables["params"]), condition


def test_dropout_is_the_noise_in_sampling_too(generator):
    run, params, condition = generator
    sampled, trained = run(params, condition, KEYS[0])
    np.testing.assert_array_equal(sampled, trained)
    again, _ = run(params, condition, KEYS[0])
    np.testing.assert_array_equal(sampled, again)
    other, _ = run(params, condition, KEYS[1])
    assert np.abs(sampled - other).mean() > 1e-3


def test_every_level_has_a_skip(generator):
    """Without the layers below it, a level still depends on the condition."""
    run, params, condition = generator
    other = condition[::-1]
    for cut in ("ConvTranspose_0", "ConvTranspose_1", "ConvTranspose_2"):
        params = {**params, cut: jax.tree.map(jnp.zeros_like, params[cut])}
        one, _ = run(params, condition, KEYS[0])
        assert np.abs(one - run(params, other, KEYS[0])[0]).mean() > 1e-3


def test_the_discriminator_sees_example_and_condition():
    _, d = players(norm="none", receptive_field=16)
    x, condition = images(1, 2, 16, 16, 1), images(2, 2, 16, 16, 3)
    _, variables = abstract(d, x, condition)
    params = random(variables["params"])
    run = jax.jit(lambda x, c: d.apply({"params": params}, x, c, train=True))
    logits = run(x, condition)
    assert logits.shape == (2, 6, 6, 1)
    assert np.abs(logits - run(x[::-1], condition)).mean() > 1e-3
    assert np.abs(logits - run(x, condition[::-1])).mean() > 1e-3


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_only_batch_norm_mixes_examples(norm):
    assert players(norm=norm)[1].per_example == (norm != "batch")


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_config_reaches_the_fields_and_trains_in_bfloat16(norm):
    spaces = Images((28, 28, 1)), Images((28, 28, 3))
    gan = gan_jax.build(
        *spaces,
        model="pix2pix",
        latent_size=0,
        precision="bfloat16",
        generator=f"norm='{norm}', dropout=0.2",
        discriminator=f"norm='{norm}', receptive_field=34, spectral_norm=True",
    )
    assert (gan.generator.norm, gan.generator.dropout) == (norm, 0.2)
    assert gan.discriminator.receptive_field == 34
    names = ("example", "condition")
    stored = [jax.ShapeDtypeStruct((4, *space.shape), jnp.uint8) for space in spaces]
    state = jax.eval_shape(gan_jax.init_state, gan, KEYS[0])
    step = jax.eval_shape(
        gan_jax.train_step, gan, state, dict(zip(names, stored, strict=True))
    )
    assert step[0].d == state.d
    assert "spectral" in state.d.stats


@pytest.mark.parametrize(
    ("shape", "condition", "message"),
    [
        ((16, 16, 1), None, "^pix2pix translates an image, its .*conditional=True"),
        (
            (16, 16, 1),
            Classes(3),
            r"^pix2pix makes an image from one of its size.* \(\)",
        ),
        ((16, 16, 1), Images((8, 16, 1)), r".*\(16, 16, 1\), .* \(8, 16, 1\)"),
        ((2,), Images((8, 16, 1)), "^pix2pix makes an image from one of its size"),
    ],
)
def test_other_data_is_refused(shape, condition, message):
    x, c = jnp.zeros((2, *shape)), jnp.zeros((2, 16, 16, 3))
    for module, first in (
        (pix2pix.Generator(shape, condition), jnp.zeros((2, 0))),
        (pix2pix.Discriminator(shape, condition), x),
    ):
        with pytest.raises(UserError, match=message):
            abstract(module, first, c)


def test_odd_images_are_refused():
    g, _ = players((15, 16, 1), (15, 16, 1))
    with pytest.raises(UserError, match=r"^pix2pix halves images, and 15x16 is odd"):
        abstract(g, jnp.zeros((2, 0)), jnp.zeros((2, 15, 16, 1)))
