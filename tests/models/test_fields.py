"""What the fields of the networks add to them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import build
from gan_jax.errors import UserError
from gan_jax.layers.conv import Conv

SHAPES = {"mlp": (2,), "dcgan": (16, 16, 1), "resnet": (32, 32, 1)}
G, D = "generator", "discriminator"
# The model, the player, its fields, and the number of classes.
ROWS = [
    *[(model, G, "dropout=0.5", 0) for model in ("mlp", "dcgan")],
    *[(model, G, "spectral_norm=True", 0) for model in ("mlp", "dcgan")],
    *[(model, G, "conditioning='concatenation'", 3) for model in SHAPES],
    ("dcgan", G, "conditioning='batch_norm'", 3),
    ("resnet", G, "conditioning='batch_norm'", 3),
    ("resnet", G, "attention=16, spectral_norm=True, dropout=0.5", 0),
    ("mlp", D, "minibatch_std=2, spectral_norm=True", 0),
    ("dcgan", D, "norm='none'", 0),
    ("dcgan", D, "minibatch_std=2, norm='none', spectral_norm=True", 0),
    ("dcgan", D, "minibatch_std=4", 0),
    ("resnet", D, "minibatch_std=2, attention=8", 0),
    ("resnet", D, "spectral_norm=False", 0),
    *[(model, D, "conditioning='projection'", 3) for model in SHAPES],
    *[(model, D, "conditioning='concatenation'", 3) for model in SHAPES],
    *[(model, D, "conditioning='auxiliary'", 3) for model in SHAPES],
]
every_row = pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: "-".join(map(str, row))
)
MOVED = ["batch_stats", "spectral", "intermediates"]
FAST = {"xla_backend_optimization_level": "0"}  # to compile


def network(model, player, fields, num_classes):
    how = {"num_classes": num_classes, "width": 4, player: fields}
    return getattr(
        build(shape=SHAPES[model], model=model, latent_size=6, **how), player
    )


def inputs(row, seed=0):
    """Returns four examples for the player, and their labels."""
    shape = (6,) if row[1] == G else SHAPES[row[0]]
    labels = jnp.array([0, 1, 2, 0]) if row[3] else None
    return jax.random.normal(jax.random.key(seed), (4, *shape)), labels


def pass_(module, variables, x, labels, seed=0, train=True):
    """Returns the output, what moved (in training), and the weights multiplied by."""
    weights = []

    def see(call, args, kwargs, context):
        layer = context.module
        if isinstance(layer, nn.Dense | Conv) and context.method_name == "__call__":
            weights.append(layer.variables["params"]["kernel"])
        return call(*args, **kwargs)

    moved = MOVED if train else ["intermediates"]
    how = {"train": train, "mutable": moved, "rngs": {"dropout": jax.random.key(seed)}}
    with nn.intercept_methods(see):
        return *module.apply(variables, x, labels, **how), weights


apply = jax.jit(pass_, static_argnames=("module", "train"), compiler_options=FAST)


def abstract(row):
    module, (x, labels) = network(*row), inputs(row)
    return jax.eval_shape(
        lambda key: module.init(key, x, labels, train=True), jax.random.key(0)
    )


@functools.cache
def variables_of(row):
    """Draws variables of which none is at a special value, such as a gain of zero."""
    random = np.random.default_rng(0)

    def draw(path, like):
        name, fan_in = (
            path[-1].key,
            max(like.size // like.shape[-1], 1) if like.shape else 1,
        )
        noise = random.normal(size=like.shape)
        if name in ("var", "scale"):
            return jnp.float32(1 + 0.1 * noise**2)
        if name in ("bias", "mean"):
            return jnp.float32(0.1 * noise)
        return jnp.float32(noise / (np.sqrt(fan_in) if like.ndim > 1 else 1))

    variables = jax.tree_util.tree_map_with_path(draw, abstract(row))
    for _ in range(20 * ("spectral" in variables)):
        _, moved, _ = apply(network(*row), variables, *inputs(row))
        variables = {**variables, "spectral": moved["spectral"]}
    return variables


def leaves(tree):
    return {
        jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(tree)
    }


def low(tree):
    return jax.tree.map(lambda p: p.astype(jnp.bfloat16), tree)


@every_row
def test_shapes_and_types(row):
    module, (x, labels) = network(*row), inputs(row)
    variables = abstract(row)
    wanted = (4,) if row[1] == D else (4, *SHAPES[row[0]])

    def in_bfloat16(variables, x):
        variables = {**variables, "params": low(variables["params"])}

        def loss(params):
            given = {**variables, "params": params}
            out, moved, _ = pass_(module, given, low(x), labels)
            return jnp.square(out).sum(), (out, moved)

        return jax.grad(loss, has_aux=True)(variables["params"])

    gradient, (out, moved) = jax.eval_shape(in_bfloat16, variables, x)
    assert (out.shape, out.dtype) == (wanted, jnp.bfloat16)
    assert {g.dtype for g in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.bfloat16)}
    moved.pop("intermediates", None)
    assert {m.dtype for m in jax.tree.leaves(moved)} <= {jnp.dtype(jnp.float32)}

    two = jax.tree.map(
        lambda v: jax.ShapeDtypeStruct((2, *v.shape), v.dtype), (variables, x)
    )
    out, *_ = jax.eval_shape(
        jax.vmap(lambda variables, x: pass_(module, variables, x, labels)), *two
    )
    assert out.shape == (2, *wanted)


@every_row
def test_bfloat16_is_near_float32(row):
    module, (x, labels), variables = network(*row), inputs(row), variables_of(row)
    out, *_ = apply(module, variables, x, labels)
    assert np.isfinite(out).all()
    assert out.std() > 0.01
    rounded = {**variables, "params": low(variables["params"])}
    got, *_ = apply(module, rounded, low(x), labels)
    error = jnp.abs(got.astype(jnp.float32) - out)
    assert error.max() < 0.15 * abs(out).max()
    assert error.mean() < 0.03 * abs(out).max()


@every_row
def test_all_that_is_added_matters(row):
    """Changing any parameter that the plain network lacks changes what is returned."""
    model, player, fields, _ = row
    module, (x, labels), variables = network(*row), inputs(row), variables_of(row)
    plain = leaves(abstract((model, player, "", 0)))
    added = {
        name
        for name, leaf in leaves(abstract(row)).items()
        if name.startswith("['params']")
        and (name not in plain or plain[name].shape != leaf.shape)
    }
    # What these do without parameters is seen below.
    assert added or fields in (
        "dropout=0.5",
        "spectral_norm=True",
        "spectral_norm=False",
    )

    def seen(variables):
        out, moved, _ = apply(module, variables, x, labels)
        return jax.tree.leaves((out, moved.get("intermediates", {})))

    before = seen(variables)
    for name in added:
        changed = jax.tree_util.tree_map_with_path(
            lambda path, p, name=name: (
                p
                + (jax.tree_util.keystr(path) == name)
                * jnp.cos(jnp.arange(p.size)).reshape(p.shape)
            ),
            variables,
        )
        assert any(
            not np.allclose(a, b) for a, b in zip(before, seen(changed), strict=True)
        ), name


@pytest.mark.parametrize("row", [r for r in ROWS if r[3]], ids=str)
def test_labels_matter_but_to_the_auxiliary_classifier(row):
    module, (x, labels), variables = network(*row), inputs(row), variables_of(row)
    (out, moved, _), (other, *_) = (
        apply(module, variables, x, given) for given in (labels, (labels + 1) % 3)
    )
    auxiliary = "auxiliary" in row[2]
    assert np.array_equal(out, other) == auxiliary
    if row[1] == D:
        shown = moved["intermediates"]["Logits_0"]
        assert shown.keys() == {"features"} | ({"class_logits"} if auxiliary else set())
        assert shown["features"].shape[0] == 4
        if auxiliary:
            assert shown["class_logits"].shape == (4, 3)


@pytest.mark.parametrize("row", [r for r in ROWS if r[1] == D], ids=str)
def test_per_example_is_so_where_it_is_said(row):
    module, (x, labels), variables = network(*row), inputs(row), variables_of(row)
    others = x.at[1:].set(inputs(row, seed=1)[0][1:])
    (out, *_), (beside, *_) = (apply(module, variables, e, labels) for e in (x, others))
    alone = np.allclose(out[0], beside[0], rtol=1e-4, atol=1e-5)
    assert alone == module.per_example


@pytest.mark.parametrize("row", [r for r in ROWS if "dropout" in r[2]], ids=str)
def test_dropout_lasts_at_test_and_is_of_its_stream(row):
    module, variables = network(*row), variables_of(row)
    one, same, other = (
        apply(module, variables, *inputs(row), seed, train=False)[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


@every_row
def test_normalised_weights_have_singular_value_one(row):
    model, player, fields, _ = row
    module, (x, labels), variables = network(*row), inputs(row), variables_of(row)
    weights = apply(module, variables, x, labels)[2]
    tops = [
        np.linalg.svd(np.reshape(w, (-1, w.shape[-1])), compute_uv=False)[0]
        for w in weights
    ]
    by_default = (model, player) == (
        "resnet",
        D,
    ) and "spectral_norm=False" not in fields
    normalised = by_default or "spectral_norm=True" in fields
    assert all(0.999 < top < 1.05 for top in tops) == normalised
    kernels = [k for k in leaves(variables["params"]) if k.endswith("['kernel']")]
    assert len(weights) == len(kernels)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("mlp", G, "dropout=1.0", 0), "dropout is 1.0: "),
        (("mlp", G, "conditioning='batch_norm'", 3), ".* mlp has no batch norm"),
        (("dcgan", G, "conditioning='projection'", 3), "unknown conditioning 'projec"),
        (("dcgan", G, "conditioning='batch_norm'", 0), ".* needs class labels: set --"),
        (("resnet", D, "conditioning='auxiliary'", 0), ".* needs class labels: set --"),
        (("dcgan", D, "norm='layer'", 0), "unknown norm 'layer' .*batch, none"),
        (("dcgan", D, "minibatch_std=3", 0), "minibatch_std is 3: it must divide "),
        (
            ("resnet", G, "attention=4", 0),
            "attention is 4: .* G .* have side 8, 16, 32 ",
        ),
        (("resnet", D, "attention=4", 0), "attention is 4: .* D .* have side 8, 16 "),
    ],
)
def test_fields_that_cannot_be_are_refused(row, message):
    with pytest.raises(UserError, match=f"^{message}"):
        abstract(row)
