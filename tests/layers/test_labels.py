import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.layers.labels import (
    D_CONDITIONING,
    LabelledExamples,
    Logits,
    classes_by_conditioning,
)

KEY = jax.random.key(0)
LABELS = jnp.array([0, 2, 0])


@pytest.mark.parametrize(
    ("given", "num_classes", "wanted"),
    [
        ("", 0, (0, 0, 0)),
        ("", 5, (5, 0, 0)),
        ("projection", 5, (5, 0, 0)),
        ("concatenation", 5, (0, 5, 0)),
        ("auxiliary", 5, (0, 0, 5)),
    ],
)
def test_all_classes_enter_in_one_way(given, num_classes, wanted):
    got = classes_by_conditioning(given, num_classes, D_CONDITIONING)
    assert got == dict(zip(D_CONDITIONING, wanted, strict=True))


@pytest.mark.parametrize(
    ("given", "num_classes", "message"),
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
def test_other_ways_are_refused(given, num_classes, message):
    with pytest.raises(UserError, match=message):
        classes_by_conditioning(given, num_classes, D_CONDITIONING)


@pytest.mark.parametrize(("shape", "appended"), [((4, 6, 2), (4, 6, 1)), ((7,), (50,))])
def test_examples_are_shown_with_their_label(shape, appended):
    x = jax.random.normal(KEY, (3, *shape))
    shown, variables = LabelledExamples(3).init_with_output(KEY, x, LABELS)
    table = variables["params"]["Embed_0"]["embedding"]
    np.testing.assert_array_equal(shown[..., : shape[-1]], x)
    np.testing.assert_array_equal(
        shown[..., shape[-1] :], table[LABELS].reshape(3, *appended)
    )
    np.testing.assert_allclose(table.std(), 1, atol=0.3)


def test_logits_show_their_features_and_the_classifiers_logits():
    features = jax.random.normal(KEY, (3, 4))
    module = Logits(0, auxiliary=5)
    variables = module.init(KEY, features, None)
    assert variables.keys() == {"params"}
    plain = module.apply(variables, features, None)
    logits, shown = module.apply(variables, features, None, mutable="intermediates")
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
    logits, variables = module.init_with_output(KEY, features, LABELS)
    params = variables["params"]
    table = params["Embed_0"]["embedding"]
    weight = params["Dense_0"]["kernel"][:, 0]
    for x, label, logit in zip(features, LABELS, logits, strict=True):
        np.testing.assert_allclose(logit, x @ (weight + table[label]), rtol=1e-5)
