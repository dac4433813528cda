from types import SimpleNamespace

import numpy as np
import pytest

from gan_jax.algorithm.spaces import Images, Pair
from gan_jax.errors import UserError
from gan_jax.metrics import named
from gan_jax.metrics.metric import Comparison
from gan_jax.metrics.paired import l1, psnr, ssim

RANDOM = np.random.default_rng(0)


def images(*shape):
    x = RANDOM.integers(0, 256, shape, np.uint8)
    noise = RANDOM.normal(size=shape) * 40
    return x, np.clip(x + noise, 0, 255).astype(np.uint8)


def test_errors_by_hand():
    x = np.array([[[[0], [10]]], [[[255], [255]]]], np.uint8)
    y = np.array([[[[51], [10]]], [[[255], [255]]]], np.uint8)
    np.testing.assert_allclose(l1(x, y), [0.1, 0])
    np.testing.assert_allclose(
        psnr(x, y), 10 * np.log10([255**2 / (51**2 / 2), 255**2 * 12])
    )


def test_ssim_of_one_window_is_its_definition():
    x, y = images(70, 11, 11, 1)  # more than a batch
    at = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(at, at)[..., None] / at.sum() ** 2

    def mean(z):
        return (weights * z).sum((1, 2, 3))

    a, b = np.float64(x), np.float64(y)
    variances = mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    covariance = mean(a * b) - mean(a) * mean(b)
    c1, c2 = 2.55**2, 7.65**2
    wanted = (2 * mean(a) * mean(b) + c1) * (2 * covariance + c2)
    wanted /= (mean(a) ** 2 + mean(b) ** 2 + c1) * (variances + c2)
    np.testing.assert_allclose(ssim(x, y), wanted, rtol=1e-9)
    np.testing.assert_allclose(ssim(x, x), 1)


@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 48, 3), (11, 13, 3)])
def test_values_are_those_of_scikit_image(shape):
    theirs = pytest.importorskip("skimage.metrics")
    x, y = images(3, *shape)
    how = {"data_range": 255, "channel_axis": -1, "gaussian_weights": True}
    how |= {"sigma": 1.5, "use_sample_covariance": False}
    similar = [
        theirs.structural_similarity(a, b, **how) for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(ssim(x, y), similar, rtol=1e-12)
    near = [theirs.peak_signal_noise_ratio(a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(psnr(x, y), near, rtol=1e-12)


def measured(examples, samples, conditions, told, space=Images, **of_source):
    info = SimpleNamespace(example=space(examples.shape[1:]))
    sides = {"source": SimpleNamespace(info=info, **of_source)}
    sides |= {"real_examples": examples, "fake_examples": samples}
    sides |= {"real_conditions": conditions, "fake_conditions": told}
    features = (np.zeros((len(x), 1)) for x in (examples, samples))
    return named.paired.measure(Comparison(*features, **sides))


def test_each_sample_meets_its_partner_and_the_input_is_the_baseline():
    examples, samples = images(4, 12, 12, 3)
    conditions, _ = images(4, 12, 12, 3)
    found = measured(examples, samples, conditions, conditions)
    for name, of in (("l1", l1), ("psnr", psnr), ("ssim", ssim)):
        for key, x in ((name, samples), (f"{name}_of_input", conditions)):
            values = of(x, examples)
            error = values.std(ddof=1) / 2
            np.testing.assert_allclose(found[key], (values.mean(), error))
    assert len(found) == 6

    again = [0, 1, 2, 3, 0, 1]  # more samples than pairs
    twice = measured(examples, examples[again], conditions, conditions[again])
    assert twice["l1"].value == 0
    assert twice["ssim"].value == pytest.approx(1)

    grey = conditions[..., :1]  # the input is no candidate
    assert measured(examples, samples, grey, grey).keys() == {"l1", "psnr", "ssim"}


def test_pairs_are_translated_in_both_directions():
    """G(a, b) = (F(b), H(a)): F(b) should be a, and its input is b."""
    pairs, samples = images(4, 2, 12, 12, 1)
    samples[:, 1] //= 2
    found = measured(pairs, samples, pairs, pairs, Pair, partners=True)
    for side, other, domain in ((0, 1, "to_a"), (1, 0, "to_b")):
        for name, of in (("l1", l1), ("psnr", psnr), ("ssim", ssim)):
            made, inputs = (
                of(x, pairs[:, side]) for x in (samples[:, side], pairs[:, other])
            )
            assert found[f"{name}_{domain}"].value == pytest.approx(made.mean())
            wanted = pytest.approx(inputs.mean())
            assert found[f"{name}_{domain}_of_input"].value == wanted
    assert len(found) == 18
    for name, of_input in (("l1", ""), ("psnr", "_of_input")):
        each = [found[f"{name}_to_{domain}{of_input}"].value for domain in "ab"]
        assert found[f"{name}{of_input}"].value == pytest.approx(np.mean(each))
    with pytest.raises(UserError, match=r"^metric 'paired' needs images that belong"):
        measured(pairs, samples, pairs, pairs, Pair, partners=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda e, s, c, t: (e, s, c, t[::-1]),
            "samples of the reference's conditions",
        ),
        (lambda e, s, c, t: (e, s, c, None), "needs a run whose condition is no class"),
        (lambda e, s, c, t: (e, s * 1.0, c, t), r"examples are float64 \[4, 8, 8, 1\]"),
        (
            lambda e, s, c, t: (e, s, c, t),
            "images of 8x8 pixels are too small for SSIM",
        ),
    ],
)
def test_refuses(change, message):
    examples, samples = images(4, 8, 8, 1)
    conditions, _ = images(4, 8, 8, 3)
    with pytest.raises(UserError, match=message):
        measured(*change(examples, samples, conditions, conditions))
