import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax.algorithm.spaces import Classes, Images, Pair
from gan_jax.errors import UserError
from gan_jax.models import cyclegan

KEY = jax.random.key(0)


def players(shape=(2, 8, 8, 1), **fields):
    """Returns both networks."""
    fields = {"shape": shape, "width": 3} | fields
    if "condition" not in fields:
        fields["condition"] = Pair(shape)
    d = {key: value for key, value in fields.items() if key != "blocks"}
    g = {key: value for key, value in fields.items() if key != "receptive_field"}
    return cyclegan.Generator(**g), cyclegan.Discriminator(**d)


def abstract(module, x, condition):
    """Returns the shape of the output, and those of the variables."""
    return jax.eval_shape(
        lambda key: module.init_with_output(key, x, condition, train=True), KEY
    )


def kernels(variables, network):
    flat = flax.traverse_util.flatten_dict(variables["params"][network], sep="/")
    return {k.removesuffix("/kernel"): v.shape for k, v in flat.items() if "ker" in k}


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize(
    ("size", "channels"), [((28, 28), 1), ((64, 64), 3), ((20, 32), 1)]
)
def test_shapes(size, channels, norm):
    shape = (2, *size, channels)
    g, d = players(shape, norm=norm, receptive_field=16, blocks=2)
    x = jnp.zeros((5, *shape))
    made, _ = abstract(g, jnp.zeros((5, 0)), x)
    assert made.shape == x.shape
    logits, _ = abstract(d, x, x)
    wanted = (5, size[0] // 2 - 2, size[1] // 2 - 2, 1)
    assert [of_domain.shape for of_domain in logits] == [wanted, wanted]
    assert d.per_example == (norm != "batch")


@pytest.mark.parametrize("blocks", [6, 9])
def test_the_layers_are_those_of_the_authors(blocks):
    """Appendix 7.2, at 256x256; transposed kernels hold the outputs first."""
    shape = (2, 256, 256, 3)
    g, d = players(shape, width=64, blocks=blocks)
    x = jnp.zeros((1, *shape))
    _, variables = abstract(g, jnp.zeros((1, 0)), x)
    residual = [(3, 3, 256, 256)] * (2 * blocks)
    wanted = [(7, 7, 3, 64), *residual, (7, 7, 64, 3)]
    wanted = {f"ReflectConv_{i}": kernel for i, kernel in enumerate(wanted)}
    wanted |= {"Conv_0": (3, 3, 64, 128), "Conv_1": (3, 3, 128, 256)}
    wanted |= {"ConvTranspose_0": (3, 3, 128, 256), "ConvTranspose_1": (3, 3, 64, 128)}
    assert kernels(variables, "F") == kernels(variables, "H") == wanted
    count = sum(x.size for x in jax.tree.leaves(variables["params"]["F"]))
    # Theirs: 7,837,699 with 6 blocks and 11,378,179 with 9, of a bias in each layer.
    theirs = {6: 7_837_699, 9: 11_378_179}[blocks]
    normed = 64 + 128 + 256 + 2 * blocks * 256 + 128 + 64
    assert count == theirs + normed  # each has a gain and a bias here
    _, variables = abstract(d, x, x)
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert count == 2 * (2_764_737 + 128 + 256 + 512)


def random(tree):
    """Returns random parameters of some shapes."""
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda x: np.float32(0.3 * draw.normal(size=x.shape)), tree)


def pairs(seed, batch=3, shape=(2, 8, 8, 1)):
    draw = np.random.default_rng(seed)
    return np.float32(draw.uniform(-1, 1, (batch, *shape)))


@pytest.fixture(scope="module")
def generator():
    """A generator with random parameters, as a function of pairs; and they."""
    g, _ = players(blocks=1)
    none = jnp.zeros((3, 0))
    _, variables = abstract(g, none, pairs(0))
    params = random(variables["params"])

    @jax.jit
    def run(params, x):
        return g.apply({"params": params}, none, x, train=True)

    return run, params


def test_each_image_goes_into_the_other_domain(generator):
    """G(a, b) = (F(b), H(a)): an image depends on the other one alone."""
    run, params = generator
    x, other = pairs(0), pairs(1)
    made = run(params, x)
    for i in (0, 1):
        changed = np.array(x)
        changed[:, i] = other[:, i]
        moved = np.abs(run(params, changed) - made).mean((0, 2, 3, 4))
        assert moved[i] == 0
        assert moved[1 - i] > 1e-3


def test_the_two_translations_share_nothing(generator):
    run, params = generator
    made = run(params, pairs(0))
    for i, name in enumerate(("F", "H")):
        changed = {**params, name: jax.tree.map(lambda x: 1.1 * x, params[name])}
        moved = np.abs(run(changed, pairs(0)) - made).mean((0, 2, 3, 4))
        assert moved[i] > 1e-3
        assert moved[1 - i] == 0
    swapped = run({"F": params["H"], "H": params["F"]}, pairs(0)[:, ::-1])
    np.testing.assert_allclose(swapped[:, ::-1], made, atol=1e-5)


def test_the_discriminators_judge_their_own_domain():
    _, d = players(receptive_field=16, norm="none")
    x, other = pairs(0), pairs(1)
    _, variables = abstract(d, x, x)
    params = random(variables["params"])
    run = jax.jit(lambda x, c: d.apply({"params": params}, x, c, train=True))
    before = run(x, x)
    for i in (0, 1):
        changed = np.array(x)
        changed[:, i] = other[:, i]
        after = run(changed, other)
        np.testing.assert_array_equal(after[1 - i], before[1 - i])
        assert np.abs(after[i] - before[i]).mean() > 1e-3


def test_a_config_reaches_the_fields_and_trains_in_bfloat16():
    space = Pair((2, 28, 28, 1))
    gan = gan_jax.build(
        space,
        space,
        model="cyclegan",
        width=4,
        latent_size=0,
        precision="bfloat16",
        penalties="cycle, identity",
        replay=8,
        generator="blocks=2, norm='none'",
        discriminator="receptive_field=34",
    )
    assert (gan.generator.blocks, gan.generator.norm) == (2, "none")
    assert gan.discriminator.receptive_field == 34
    stored = jax.ShapeDtypeStruct((4, *space.shape), jnp.uint8)
    state = jax.eval_shape(gan_jax.init_state, gan, KEY)
    batch = {"example": stored, "condition": stored}
    after, _ = jax.eval_shape(gan_jax.train_step, gan, state, batch)
    assert after == state


@pytest.mark.parametrize(
    ("shape", "condition", "latents", "message"),
    [
        ((2, 8, 8, 1), None, 0, "^cyclegan translates pairs, .*conditional=True"),
        ((8, 8, 1), None, 0, "^cyclegan translates pairs of images, .*None"),
        ((2, 8, 8, 1), Classes(3), 0, "^cyclegan translates pairs .*Classes"),
        ((8, 8, 1), Images((8, 8, 1)), 0, "^cyclegan translates pairs .*Images"),
        ((2, 8, 8, 1), Pair((2, 8, 8, 3)), 0, r".*shape is \(2, 8, 8, 1\)"),
        ((2, 8, 10, 1), Pair((2, 8, 10, 1)), 0, "^cyclegan halves .* 8x10 .* of 4"),
        ((2, 8, 8, 1), Pair((2, 8, 8, 1)), 3, "without noise: .*latent_size=0"),
    ],
)
def test_what_does_not_fit_is_refused(shape, condition, latents, message):
    g, d = players(shape, condition=condition, receptive_field=16)
    x = jnp.zeros((2, *shape))
    with pytest.raises(UserError, match=message):
        abstract(g, jnp.zeros((2, latents)), x)
    if not latents:
        with pytest.raises(UserError, match=message):
            abstract(d, x, x)
