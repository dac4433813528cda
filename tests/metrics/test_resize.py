import numpy as np
import pytest
from PIL import Image

from gan_jax.errors import UserError
from gan_jax.metrics import resize

RANDOM = np.random.default_rng(0)


def test_tensorflow1_reads_at_multiples_of_the_ratio():
    """Output i lies at i * old / new, and beyond the last pixel is the last pixel."""
    row = np.float32([0, 10, 30])
    image = np.broadcast_to(row[None, :, None], (1, 2, 3, 1))
    found = resize.tensorflow1(image, 6)[0, :, :, 0]
    np.testing.assert_allclose(found, [[0, 5, 10, 20, 30, 30]] * 6, atol=1e-5)
    smaller = resize.tensorflow1(np.arange(16.0).reshape(1, 4, 4, 1), 2)[0, :, :, 0]
    np.testing.assert_array_equal(smaller, [[0, 2], [8, 10]])  # not averaged
    same = RANDOM.integers(0, 256, (2, 5, 5, 3), np.uint8)
    np.testing.assert_array_equal(resize.tensorflow1(same, 5), same)


def test_clean_is_pillows_bicubic():
    image = RANDOM.integers(0, 2, (2, 13, 20, 3), np.uint8) * 255  # it overshoots
    for size in (7, 13, 31):
        expected = [
            [
                Image.fromarray(np.float32(x[..., i])).resize((size, size), 3)
                for i in range(3)
            ]
            for x in image
        ]
        expected = np.asarray([[np.asarray(y) for y in x] for x in expected])
        expected = expected.transpose(0, 2, 3, 1)
        assert expected.min() < 0 < 255 < expected.max() or size == 7
        found = resize.clean(image, size)
        np.testing.assert_allclose(found, expected.clip(0, 255), atol=2e-4)


def test_grey_images_are_repeated():
    grey = RANDOM.integers(0, 256, (2, 5, 6, 1), np.uint8)
    found = resize.rgb(grey, 7, resize.clean, "mine")
    colour = resize.rgb(grey.repeat(3, 3), 7, resize.clean, "mine")
    np.testing.assert_allclose(found, colour, atol=1e-4)
    for shape in ((2, 5, 6, 2), (2, 5)):
        with pytest.raises(UserError, match=r"'mine' are of images .* \[2, 5"):
            resize.rgb(np.zeros(shape), 7, resize.clean, "mine")
