"""Inception and its resizes, against pytorch-fid, torch-fidelity and clean-fid."""

import importlib.util
import sys
import types
from unittest import mock

import numpy as np
import pytest

from gan_jax.metrics import resize
from gan_jax.metrics.features.extractor import extract, load_extractor
from gan_jax.metrics.weights import torch_file

torch = pytest.importorskip("torch")

SHAPES = [(32, 32, 3), (28, 28, 1), (299, 299, 3), (75, 120, 3), (512, 400, 3)]


def clean_fid():
    """Returns the resize of clean-fid, without its package, which needs much more."""
    package = types.ModuleType("cleanfid")
    spec = importlib.util.find_spec("cleanfid")
    if not spec:
        pytest.skip("clean-fid is not installed")
    package.__path__ = spec.submodule_search_locations
    with mock.patch.dict(sys.modules, cleanfid=package):
        return importlib.import_module("cleanfid.resize").build_resizer("clean")


@pytest.fixture(scope="module")
def vision():
    """Defines the operators of torchvision that may be missing, and imports it."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float limit) -> Tensor")
    return library, pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def fidelity(vision):
    """The network of torch-fidelity with random weights that keep its values moving."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    layers = ["2048", "logits_unbiased", "logits"]
    with (
        mock.patch.object(module, "load_state_dict_from_url"),
        mock.patch.object(torch.nn.Module, "load_state_dict"),
    ):
        network = module.FeatureExtractorInceptionV3("random", layers)
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data.normal_(0, (2 / layer.weight[0].numel()) ** 0.5)
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.weight.data.uniform_(0.7, 1.3)
            layer.bias.data.normal_(0, 0.3)
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.7, 1.4)
    network.fc.bias.data.normal_()
    return network.eval()


@pytest.fixture(scope="module")
def weights(fidelity, tmp_path_factory):
    """A file in the format of the public one, which is that before PyTorch 1.6."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(fidelity.state_dict(), path, _use_new_zipfile_serialization=False)
    return str(path)


def images(shape, num=3):
    """Returns images of random colours, contrasts and noise, uint8."""
    random = np.random.default_rng(sum(shape))
    colour, contrast = random.uniform(0, 255, (2, num, 1, 1, shape[2]))
    pixels = colour + contrast * random.normal(size=(num, *shape))
    return pixels.clip(0, 255).astype(np.uint8)


def tensor(stored):
    """Returns images as a tensor `[n, 3, h, w]`."""
    rgb = np.broadcast_to(stored, (*stored.shape[:3], 3))
    return torch.tensor(np.moveaxis(rgb, 3, 1).copy())


@pytest.fixture
def near(record_property):
    """Compares arrays by their largest difference, relative to the largest number."""

    def compare(got, wanted, within):
        wanted = np.asarray(wanted, np.float64)
        assert got.shape == wanted.shape
        difference = float(np.abs(got - wanted).max() / np.abs(wanted).max())
        record_property("difference", difference)
        assert difference <= within

    return compare


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torch_fidelity(shape, fidelity, weights, near):
    stored = images(shape)
    features, unbiased, logits = fidelity(tensor(stored))
    found = extract(load_extractor("inception", weights), [stored])
    near(found.features, features, 1e-5)
    near(found.logits, unbiased, 1e-5)
    # Distances are of what differs from image to image.
    near(*(np.asarray(x) - np.asarray(x).mean(0) for x in (found[0], features)), 1e-4)
    if shape == SHAPES[0]:
        found = extract(load_extractor("inception(bias=True)", weights), [stored])
        near(found.logits, logits, 1e-5)


@pytest.mark.parametrize("how", ["tensorflow1", "clean"])
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_pytorch_fid(how, vision, fidelity, weights, near):
    """Its own resize is PyTorch's, between centres of pixels, and is not used here."""
    module = pytest.importorskip("pytorch_fid.inception")
    state = fidelity.state_dict()
    with mock.patch.object(module, "load_state_dict_from_url", return_value=state):
        network = module.InceptionV3(resize_input=False).eval()
    stored = images((40, 30, 3) if how == "clean" else (299, 299, 3))
    seen = np.float32([clean_fid()(x) for x in stored]) if how == "clean" else stored
    # It maps [0, 1] to [-1, 1], and the graph of TensorFlow x to (x - 128) / 128.
    (features,) = network(((tensor(seen).float() - 128) / 128 + 1) / 2)
    extractor = load_extractor(f"inception(resize={how!r})", weights)
    near(extract(extractor, [stored]).features, features[..., 0, 0], 1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tensorflow1_resize(shape, vision, near):
    module = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    stored = images(shape)
    wanted = module.interpolate_bilinear_2d_like_tensorflow1x(
        torch.tensor(np.moveaxis(stored, 3, 1)).float(), (299, 299), align_corners=False
    )
    near(resize.tensorflow1(stored, 299), np.moveaxis(wanted.numpy(), 1, 3), 1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_clean_resize(shape, near):
    stored = images(shape)
    wanted = [clean_fid()(np.broadcast_to(x, (*x.shape[:2], 3))) for x in stored]
    found = np.broadcast_to(resize.clean(stored, 299), (3, 299, 299, 3))
    near(found, wanted, 1e-6)


def test_reads_files_of_torch(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "view": base[1:, ::2],
        "transposed": base.T,
        "parameter": torch.nn.Parameter(base.half()),
        "count": torch.tensor(7),
        "doubles": base.double(),
    }
    for new in (True, False):
        path = tmp_path / f"{new}.pth"
        torch.save(state, path, _use_new_zipfile_serialization=new)
        found = torch_file.read(path)
        assert list(found) == list(state)
        for name, x in state.items():
            np.testing.assert_array_equal(found[name], x.detach().numpy(), strict=True)
