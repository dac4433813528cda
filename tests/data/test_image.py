"""Decoding and geometry."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from gan_jax.data.image import decode, fit, own_channels, resize_and_crop

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


@pytest.mark.parametrize("size", [28, 7])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (28, 28, 3)])
def test_arrays_are_made_to_fit_like_files(shape, channels, size):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    file = encoded(Image.fromarray(pixels[..., 0] if shape[2:] == (1,) else pixels))
    assert own_channels(file) == (3 if shape[2:] == (3,) else 1)
    fitted = fit(pixels, size, channels)
    assert fitted.shape == (size, size, channels)
    np.testing.assert_array_equal(fitted, decode(file, size, channels))
    if channels == 3 and shape[2:] != (3,):  # the three are one
        grey = decode(file, size)
        np.testing.assert_array_equal(fitted, np.broadcast_to(grey, fitted.shape))


@pytest.mark.parametrize("cut", [5, 20, 100])
def test_a_png_that_is_cut_short_is_refused(cut):
    """Whether its header says so or not."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    content = encoded(Image.fromarray(pixels))
    start, end = content.index(b"IDAT"), content.index(b"IEND") - 8
    data = content[start + 4 : end]
    for new in (data[:-cut], data[:-cut] + bytes(cut)):
        size, crc = len(new).to_bytes(4), zlib.crc32(b"IDAT" + new).to_bytes(4)
        head, tail = content[: start - 4], content[end + 4 :]
        with pytest.raises(OSError, match=r"truncated|broken"):
            decode(head + size + b"IDAT" + new + crc + tail, 16)
