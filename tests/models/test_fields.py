"""What the fields of the networks add to them."""

import functools

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.layers.conv import Conv
from gan_jax.models import dcgan, mlp, resnet

MODELS = {"mlp": mlp, "dcgan": dcgan, "resnet": resnet}
SHAPES = {"mlp": (2,), "dcgan": (16, 16, 1), "resnet": (32, 32, 1)}
G, D = "Generator", "Discriminator"
# The model, the player, its fields, and the number of classes. A row compiles a program
# or three, so that one holds several fields where each is still seen apart.
ROWS = [
    ("mlp", G, "dropout=0.5, spectral_norm=True", 0),
    ("mlp", G, "conditioning='concatenation'", 3),
    ("mlp", D, "conditioning='projection'", 3),
    ("mlp", D, "conditioning='concatenation'", 3),
    ("mlp", D, "conditioning='auxiliary', minibatch_std=2, spectral_norm=True", 3),
    ("dcgan", G, "conditioning='concatenation', spectral_norm=True", 3),
    ("dcgan", G, "conditioning='batch_norm', dropout=0.5", 3),
    ("dcgan", D, "conditioning='projection', norm='none'", 3),
    ("dcgan", D, "conditioning='concatenation'", 3),
    ("dcgan", D, "conditioning='auxiliary', minibatch_std=4", 3),
    ("dcgan", D, "minibatch_std=2, norm='none', spectral_norm=True", 0),
    ("resnet", G, "conditioning='concatenation'", 3),
    (
        "resnet",
        G,
        "conditioning='batch_norm', attention=16, spectral_norm=True, dropout=0.5",
        3,
    ),
    ("resnet", D, "conditioning='projection', minibatch_std=2, attention=8", 3),
    ("resnet", D, "conditioning='concatenation'", 3),
    ("resnet", D, "conditioning='auxiliary', spectral_norm=False", 3),
]


def name(row):
    """Returns a row as test reports show it."""
    return "-".join(map(str, row))


def every(rows):
    """Makes a test one of each of some rows."""
    return pytest.mark.parametrize("row", rows, ids=name)


every_row = every(ROWS)
SLOW = pytest.mark.slow
MOVED = ["batch_stats", "spectral", "intermediates"]


def network(model, player, fields, num_classes):
    output = {"output": "linear"} if (model, player) == ("mlp", G) else {}
    return getattr(MODELS[model], player)(
        shape=SHAPES[model],
        num_classes=num_classes,
        width=4,
        **output,
        **eval(f"dict({fields})"),
    )


def inputs(row, seed=0):
    """Returns four examples for the player, and their labels."""
    shape = (6,) if row[1] == G else SHAPES[row[0]]
    labels = np.array([0, 1, 2, 0]) if row[3] else None
    return np.float32(np.random.default_rng(seed).normal(size=(4, *shape))), labels


def pass_(module, variables, x, labels, seed=0):
    """Returns the output, the new statistics, and the weights that were used."""
    weights = []

    def see(call, args, kwargs, context):
        layer = context.module
        if isinstance(layer, nn.Dense | Conv) and context.method_name == "__call__":
            weights.append(layer.variables["params"]["kernel"])
        return call(*args, **kwargs)

    rngs = {"dropout": jax.random.key(seed)}
    with nn.intercept_methods(see):
        output, changed = module.apply(
            variables, x, labels, train=True, mutable=MOVED, rngs=rngs
        )
    return output, changed, weights


compiled = jax.jit(pass_, static_argnames="module")


def apply(module, variables, x, labels, seed=0):
    """Does as `pass_`, in one program for all seeds."""
    return compiled(module, variables, x, labels, seed)


@functools.cache
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
        name, fan_in = path[-1].key, np.prod(like.shape[:-1])
        noise = random.normal(size=like.shape)
        if name in ("var", "scale"):
            return np.float32(1 + 0.1 * noise**2)
        if name in ("bias", "mean"):
            return np.float32(0.1 * noise)
        return np.float32(noise / (np.sqrt(fan_in) if like.ndim > 1 else 1))

    variables = jax.tree_util.tree_map_with_path(draw, abstract(row))
    for _ in range(60 * ("spectral" in variables)):
        _, moved, _ = apply(network(*row), variables, *inputs(row))
        variables = {**variables, "spectral": moved["spectral"]}
    return variables


def leaves(tree):
    return {
        jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(tree)
    }


def low(tree):
    return jax.tree.map(lambda p: np.asarray(p).astype(jnp.bfloat16), tree)


@every_row
def test_shapes_and_types(row):
    module, (x, labels) = network(*row), inputs(row)
    variables = abstract(row)
    wanted = (4,) if row[1] == D else (4, *SHAPES[row[0]])

    def in_bfloat16(variables, x):
        low_params, x = jax.tree.map(
            lambda p: p.astype(jnp.bfloat16), (variables["params"], x)
        )

        def loss(params):
            given = {**variables, "params": params}
            out, moved, _ = pass_(module, given, x, labels)
            return jnp.square(out).sum(), (out, moved)

        return jax.grad(loss, has_aux=True)(low_params)

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


# The slow rows have few features, and those work in bfloat16 in other networks.
@every([pytest.param(row, marks=SLOW) if row[0] == "resnet" else row for row in ROWS])
def test_bfloat16_is_near_float32(row):
    module, (x, labels), variables = network(*row), inputs(row), variables_of(row)
    out = np.asarray(apply(module, variables, x, labels)[0])
    assert np.isfinite(out).all()
    assert out.std() > 0.01
    rounded = {**variables, "params": low(variables["params"])}
    got, *_ = apply(module, rounded, low(x), labels)
    error = np.abs(np.float32(got) - out)
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
    assert added or fields == "dropout=0.5, spectral_norm=True"

    def seen(variables):
        out, moved, _ = apply(module, variables, x, labels)
        found = jax.tree.leaves((out, moved.get("intermediates", {})))
        return [np.asarray(leaf) for leaf in found]

    before = seen(variables)
    for name in added:
        changed = jax.tree_util.tree_map_with_path(
            lambda path, p, name=name: (
                p
                + (jax.tree_util.keystr(path) == name)
                * np.cos(np.arange(p.size, dtype=p.dtype)).reshape(p.shape)
            ),
            variables,
        )
        assert any(
            not np.allclose(a, b) for a, b in zip(before, seen(changed), strict=True)
        ), name


@every([r for r in ROWS if r[3]])
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


@every([r for r in ROWS if r[1] == D])
def test_logits_depend_on_one_example_where_per_example_says_so(row):
    module, (x, labels), variables = network(*row), inputs(row), variables_of(row)
    others = np.concatenate([x[:1], inputs(row, seed=1)[0][1:]])
    (out, *_), (beside, *_) = (apply(module, variables, e, labels) for e in (x, others))
    alone = np.allclose(out[0], beside[0], rtol=1e-4, atol=1e-5)
    assert alone == module.per_example


@every([r for r in ROWS if "dropout" in r[2]])
def test_dropout_lasts_in_sampling_and_uses_its_stream(row):
    module, variables, (x, labels) = network(*row), variables_of(row), inputs(row)
    one, same, other = (apply(module, variables, x, labels, n)[0] for n in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
        jax.eval_shape(lambda: module.apply(variables, x, labels, train=False, rngs={}))


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
