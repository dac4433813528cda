import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.layers.patches import FIELDS, PatchLogits
from gan_jax.layers.spectral import SpectralNorm


def abstract(module, *shape):
    """Returns the shape of the logits, and those of the variables."""
    x = jnp.zeros((2, *shape))
    return jax.eval_shape(
        lambda key: module.init_with_output(key, x, train=True), jax.random.key(0)
    )


@pytest.mark.parametrize("field", [16, 34, 70])
def test_a_logit_sees_its_field_and_no_more(field):
    module, side = PatchLogits(2, field, norm="none"), 2 * field + 8
    x = jax.random.normal(jax.random.key(0), (1, side, side, 1))
    variables = jax.jit(module.init, static_argnames="train")(
        jax.random.key(1), x, train=True
    )

    @jax.jit
    def slope(x):
        def middle(x):
            logits = module.apply(variables, x, train=True)
            return logits[0, logits.shape[1] // 2, logits.shape[2] // 2, 0]

        return jax.grad(middle)(x)[0, ..., 0]

    seen = np.argwhere(np.asarray(slope(x)))
    assert (seen.max(0) - seen.min(0) + 1).tolist() == [field, field]


# The maps of logits of the authors' networks at 256x256, and of small images.
@pytest.mark.parametrize(
    ("side", "field", "logits"),
    [
        *[(256, 16, 126), (256, 34, 62), (256, 70, 30), (256, 0, 6), (256, 286, 6)],
        *[(64, 16, 30), (64, 34, 14), (64, 70, 6), (64, 0, 6), (128, 0, 6)],
        *[(28, 16, 12), (28, 34, 5), (28, 70, 1), (28, 0, 5), (8, 0, 2), (6, 0, 1)],
    ],
)
def test_the_map_of_logits(side, field, logits):
    out, _ = abstract(PatchLogits(4, field), side, side, 3)
    assert out.shape == (2, logits, logits, 1)


def test_the_parameters_are_those_of_the_authors():
    """The 70x70 PatchGAN of the pair of two colour images has 2.769 million."""
    _, variables = abstract(PatchLogits(), 256, 256, 6)
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    convs = 16 * (6 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    assert count == convs + 64 + 2 * (128 + 256 + 512) + 1 == 2_768_705
    assert "batch_stats" in variables


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_logits_without_batch_norm_are_of_one_example(norm):
    module = PatchLogits(2, 16, norm=norm, wrap=SpectralNorm)
    x = jax.random.normal(jax.random.key(0), (3, 8, 6, 1))

    @jax.jit
    def run(key, x):
        variables = module.init(key, x, train=True)
        alone = jax.vmap(lambda x: module.apply(variables, x[None], train=False)[0])
        return module.apply(variables, x, train=False), alone(x)

    together, alone = run(jax.random.key(1), x)
    assert together.shape == (3, 2, 1, 1)
    assert together.std() > 0
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "side", "message"),
    [
        ({"receptive_field": 32}, 64, "^receptive_field is 32: it must be 16, 34, 70"),
        ({"receptive_field": 0}, 600, "^receptive_field is 0: .*up to 574 pixels"),
        (
            {"receptive_field": 70},
            20,
            "^receptive_field is 70: images of 20x20 are",
        ),
        ({"norm": "layer"}, 64, "^unknown norm 'layer'"),
    ],
)
def test_other_fields_are_refused(fields, side, message):
    with pytest.raises(UserError, match=message):
        abstract(PatchLogits(4, **fields), side, side, 3)


def test_the_fields_follow_from_the_layers():
    for field, halvings in FIELDS.items():
        side = 1 + 3 + 3  # of a logit, seen back through the two last layers
        for _ in range(halvings):
            side = 2 * side + 2
        assert side == field
