import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.layers.labels import (
    D_CONDITIONING,
    LabelledExamples,
    LabelledLatents,
    Logits,
    classes_by_conditioning,
)

KEY = jax.random.key(0)
LABELS = jnp.array([0, 2, 0])


@pytest.mark.parametrize(
    ("conditioning", "num_classes", "wanted"),
    [
        ("", 0, (0, 0, 0)),
        ("", 5, (5, 0, 0)),
        ("projection", 5, (5, 0, 0)),
        ("concatenation", 5, (0, 5, 0)),
        ("auxiliary", 5, (0, 0, 5)),
    ],
)
def test_all_classes_enter_in_one_way(conditioning, num_classes, wanted):
    labels = LABELS if num_classes else None
    got = classes_by_conditioning(conditioning, num_classes, D_CONDITIONING, labels)
    assert got == dict(zip(D_CONDITIONING, wanted, strict=True))


@pytest.mark.parametrize(
    ("conditioning", "num_classes", "message"),
    [
        (
            "projection",
            0,
            r"^conditioning='projection' needs class labels: set --config",
        ),
        ("projektion", 3, r"^unknown conditioning 'projektion'; .* 'projection'\? "),
        ("batch_norm", 3, r"^unknown conditioning 'batch_norm' "),
    ],
)
def test_other_ways_are_refused(conditioning, num_classes, message):
    with pytest.raises(UserError, match=message):
        classes_by_conditioning(conditioning, num_classes, D_CONDITIONING, LABELS)


@pytest.mark.parametrize(
    ("num_classes", "condition", "message"),
    [
        (3, None, "^a network with 3 classes needs class labels$"),
        (0, LABELS, "^this network takes no condition but class labels: .*--config.m"),
    ],
)
def test_conditions_that_are_not_its_labels_are_refused(
    num_classes, condition, message
):
    with pytest.raises(UserError, match=message):
        classes_by_conditioning("", num_classes, D_CONDITIONING, condition)


def test_latents_may_be_the_label_alone():
    latents = jnp.zeros((3, 0))
    got, variables = jax.jit(LabelledLatents(3).init_with_output)(KEY, latents, LABELS)
    np.testing.assert_array_equal(
        got, variables["params"]["Embed_0"]["embedding"][LABELS]
    )
    with pytest.raises(UserError, match=r"^latent_size is 0 and no class label is app"):
        LabelledLatents(0).apply({}, latents, None)


@pytest.mark.parametrize(
    ("shape", "appended"),
    [((4, 6, 2), (4, 6, 1)), ((2, 4, 3, 2), (2, 4, 3, 1)), ((7,), (50,))],
)
def test_examples_are_shown_with_their_label(shape, appended):
    x = jax.random.normal(KEY, (3, *shape))
    shown, variables = jax.jit(LabelledExamples(3).init_with_output)(KEY, x, LABELS)
    table = np.asarray(variables["params"]["Embed_0"]["embedding"])
    np.testing.assert_array_equal(shown[..., : shape[-1]], x)
    np.testing.assert_array_equal(
        shown[..., shape[-1] :], table[LABELS].reshape(3, *appended)
    )
    np.testing.assert_allclose(table.std(), 1, atol=0.3)


def test_logits_show_their_features_and_the_classifiers_logits():
    features = jax.random.normal(KEY, (3, 4))
    module = Logits(0, auxiliary=5)

    @jax.jit
    def passes(features):
        variables = module.init(KEY, features, None)
        plain = module.apply(variables, features, None)
        shown = module.apply(variables, features, None, mutable="intermediates")
        return variables, plain, *shown

    variables, plain, logits, shown = passes(features)
    assert variables.keys() == {"params"}
    np.testing.assert_array_equal(logits, plain)
    shown, (d, c) = shown["intermediates"], variables["params"].values()
    assert shown.keys() == {"features", "class_logits"}
    np.testing.assert_array_equal(shown["features"], features)
    np.testing.assert_allclose(logits, (features @ d["kernel"])[:, 0], rtol=1e-5)
    np.testing.assert_allclose(
        shown["class_logits"], features @ c["kernel"], rtol=1e-5, atol=1e-6
    )


def test_logits_add_the_projection():
    features = jax.random.normal(KEY, (3, 4))
    module = Logits(3)
    logits, variables = jax.jit(module.init_with_output)(KEY, features, LABELS)
    params, features = jax.tree.map(np.asarray, (variables["params"], features))
    table = params["Embed_0"]["embedding"]
    weight = params["Dense_0"]["kernel"][:, 0]
    for x, label, logit in zip(features, LABELS, logits, strict=True):
        np.testing.assert_allclose(logit, x @ (weight + table[label]), rtol=1e-5)
