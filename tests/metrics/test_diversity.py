import numpy as np
import pytest
from scipy.spatial.distance import pdist

from gan_jax.errors import UserError
from gan_jax.metrics.diversity import (
    mean_distance,
    ms_ssim,
    ms_ssim_diversity,
    num_scales,
)

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (6, 28, 24, 1), np.uint8)


def test_mean_distance_over_all_pairs():
    x = np.float32(RANDOM.normal(size=(30, 4)) + 100)
    np.testing.assert_allclose(mean_distance(x), pdist(x.astype(float)).mean())
    assert mean_distance(np.ones((4, 3))) == 0


def test_equal_images_are_wholly_similar():
    np.testing.assert_allclose(ms_ssim(IMAGES, IMAGES), 1, rtol=1e-12)
    assert (ms_ssim(IMAGES, IMAGES[::-1]) < 0.5).all()


def test_constant_images_differ_in_luminance_alone():
    a, b = (np.full((1, 28, 28, 1), level, np.uint8) for level in (100, 200))
    c1 = 2.55**2
    luminance = (2 * 100 * 200 + c1) / (100**2 + 200**2 + c1)
    weight = 0.2856 / (0.0448 + 0.2856)  # of the coarser of two scales
    np.testing.assert_allclose(ms_ssim(a, b), luminance**weight, rtol=1e-10)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        (11, 1),
        (21, 1),
        (22, 2),
        (28, 2),
        (64, 3),
        (128, 4),
        (175, 4),
        (176, 5),
        (512, 5),
    ],
)
def test_scales_by_size(size, wanted):
    assert num_scales(size, size + 9) == wanted


def test_diversity_of_each_class():
    images = np.concatenate([IMAGES, IMAGES[:1].repeat(4, 0)])
    found = ms_ssim_diversity(images, np.array([0] * 6 + [3] * 4), pairs=10)
    assert found.keys() == {0, 3}
    assert found[0] < 0.5  # an image is never paired with itself
    np.testing.assert_allclose(found[3], 1)
    assert ms_ssim_diversity(IMAGES, pairs=4).keys() == {0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ms_ssim(IMAGES / 255, IMAGES), "float64"),
        (lambda: ms_ssim(IMAGES, IMAGES[:3]), "cannot be compared"),
        (lambda: ms_ssim(IMAGES[:, :10], IMAGES[:, :10]), "too small"),
        (lambda: ms_ssim_diversity(IMAGES, np.arange(6)), "class 0 has one image"),
        (lambda: ms_ssim_diversity(IMAGES, np.arange(5)), "labels have shape"),
        (lambda: mean_distance(IMAGES), "features as"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UserError, match=message):
        call()
