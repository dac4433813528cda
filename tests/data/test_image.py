"""Decoding and geometry."""

import io

import numpy as np
import pytest
from PIL import Image

from gan_jax.data import png
from gan_jax.data.image import decode, resize_and_crop

RNG = np.random.default_rng(0)
RED = (255, 0, 0)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, [255]),
        ("L", 7, [7]),
        ("LA", (0, 0), [255]),
        ("LA", (0, 255), [0]),
        ("I;16", 0x1234, [0x12]),
        ("RGB", RED, RED),
        ("RGBA", (*RED, 255), RED),
        ("RGBA", (*RED, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("P", 0, RED),
    ],
)
def test_modes_become_grey_or_rgb(mode, colour, expected):
    image = Image.new(mode, (4, 4), colour)
    if mode == "P":
        image.putpalette(RED)
    pixels = decode(encoded(image), 4)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(
        pixels, np.broadcast_to(expected, (4, 4, len(expected)))
    )


def test_modes_without_a_range_are_refused():
    with pytest.raises(ValueError, match="no fixed range"):
        decode(encoded(Image.new("F", (4, 4)), "TIFF"), 4)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(data, 4), np.broadcast_to(RED, (4, 4, 3)))


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("size", [12, 6, 24])
def test_crop_is_central(wide, size):
    """Of thirds black, grey, white, the middle third is kept."""
    pixels = np.repeat(np.uint8([0, 100, 200]), 12) * np.ones((12, 1), np.uint8)
    image = Image.fromarray(pixels if wide else pixels.T)
    kept = np.asarray(resize_and_crop(image, size)).astype(float)
    assert kept.shape == (size, size)
    assert kept.mean() == pytest.approx(100, abs=0.5)
    assert abs(kept - 100).max() < (40 if size != 12 else 1e-9)


@pytest.mark.parametrize("size", [4, 32, 64])
def test_resize_keeps_the_geometry(size):
    """Half black, half white stays so, and is symmetric, at any scale."""
    pixels = np.repeat(np.uint8([0, 255]), 16) * np.ones((40, 1), np.uint8)
    small = np.asarray(resize_and_crop(Image.fromarray(pixels), size)).astype(int)
    assert small.shape == (size, size)
    assert small.mean() == pytest.approx(127.5, abs=0.5)
    np.testing.assert_allclose(small + small[:, ::-1], 255, atol=1)
    assert (small[:, : size // 4] < 8).all()


def test_resize_is_antialiased():
    """A checkerboard of single pixels becomes even grey, not a pattern."""
    checks = Image.fromarray(np.uint8(np.indices((64, 64)).sum(0) % 2 * 255))
    small = np.asarray(resize_and_crop(checks, 16))
    np.testing.assert_allclose(small[2:-2, 2:-2], 127.5, atol=2)


@pytest.mark.parametrize("shape", [(28, 28), (3, 5), (1, 1)])
def test_plain_png_agrees_with_pillow(shape):
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    data = png.encode(image)
    np.testing.assert_array_equal(png.decode(data), image)
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(np.asarray(opened), image)


def test_plain_png_leaves_the_rest_to_pillow():
    smooth = Image.linear_gradient("L").resize((28, 28))
    for image in (smooth, smooth.convert("RGB"), smooth.convert("1")):
        assert png.decode(encoded(image)) is None
    assert png.decode(encoded(smooth, "JPEG")) is None
    assert png.decode(b"") is None
    np.testing.assert_array_equal(decode(encoded(smooth), 28, 1)[..., 0], smooth)
