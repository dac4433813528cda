"""Metrics against torch-fidelity, pytorch-fid, prdc and torchmetrics, on equal arrays.

The features are like Inception's, float32 and not negative, correlated, and of unequal
variance. Metrics of a random choice are given the same one: ours draws as
torch-fidelity does.
"""

import contextlib

import numpy as np
import pytest

from gan_jax.algorithm.latents import Latent
from gan_jax.metrics.diversity import ms_ssim, num_scales
from gan_jax.metrics.frechet import frechet_distance, moments
from gan_jax.metrics.inception_score import inception_score
from gan_jax.metrics.kid import kid
from gan_jax.metrics.manifolds import manifolds
from gan_jax.metrics.path_length import perceptual_path_length

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # of theirs
# The torchvision of another torch lacks operators that it registers on import.
LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    with contextlib.suppress(RuntimeError):
        LIBRARY.define(
            f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )

RANDOM = np.random.default_rng(0)
MIXING = RANDOM.normal(size=(64, 64)) * RANDOM.uniform(0.05, 1, 64)


def features(n, shift=0.0):
    noise = RANDOM.normal(size=(n, 64)) + shift
    return np.float32(np.maximum(noise @ MIXING / 8 + 0.3, 0))


REAL, FAKE = features(1200), features(1000, shift=0.3)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


# --- Fréchet distance ---------------------------------------------------------------


def test_frechet_distance_of_torch_fidelity(near):
    metric = pytest.importorskip("torch_fidelity.metric_fid")
    theirs = [metric.fid_features_to_statistics(torch.tensor(x)) for x in (FAKE, REAL)]
    wanted = metric.fid_statistics_to_metric(*theirs, verbose=False)
    got = frechet_distance(moments(REAL), moments(FAKE))
    near(got, wanted["frechet_inception_distance"], within=1e-5)


def test_frechet_distance_of_pytorch_fid(near):
    metric = pytest.importorskip("pytorch_fid.fid_score")
    theirs = [(x.mean(0), np.cov(x, rowvar=False)) for x in (REAL, FAKE)]
    wanted = metric.calculate_frechet_distance(*theirs[0], *theirs[1])
    near(frechet_distance(moments(REAL), moments(FAKE)), wanted, within=1e-5)


# --- KID and the Inception score ----------------------------------------------------


@pytest.mark.parametrize(("subsets", "size"), [(10, 1000), (20, 300)])
def test_kid_of_torch_fidelity(near, dtype, subsets, size):
    metric = pytest.importorskip("torch_fidelity.metric_kid")
    wanted = metric.kid_features_to_metric(
        *(torch.tensor(x.astype(dtype)) for x in (FAKE, REAL)),
        kid_subsets=subsets,
        kid_subset_size=size,
        verbose=False,
    )
    value, deviation = kid(REAL, FAKE, subsets, size)
    near(value, wanted["kernel_inception_distance_mean"], within=1e-5)
    within = 1e-5 if dtype == "float64" else 1e-3  # of rounding in their float32
    assert deviation == pytest.approx(
        wanted["kernel_inception_distance_std"], rel=within
    )


@pytest.mark.parametrize("splits", [1, 10, 7])
def test_inception_score_of_torch_fidelity(near, splits):
    metric = pytest.importorskip("torch_fidelity.metric_isc")
    logits = np.float32(3 * RANDOM.normal(size=(503, 20)))
    wanted = metric.isc_features_to_metric(torch.tensor(logits), splits)
    mean, deviation = inception_score(logits, splits)
    near(mean, wanted["inception_score_mean"], within=1e-5)
    if splits > 1:
        near(deviation, wanted["inception_score_std"], within=1e-5)


# --- Precision, recall, density, coverage -------------------------------------------


@pytest.mark.parametrize("save_cpu_ram", [True, False])
def test_precision_and_recall_of_torch_fidelity(near, save_cpu_ram):
    """There the generated features come first; precision means the same as ours."""
    metric = pytest.importorskip("torch_fidelity.metric_prc")
    wanted = metric.prc_features_to_metric(
        *(torch.tensor(x) for x in (FAKE, REAL)),
        save_cpu_ram=save_cpu_ram,
        verbose=False,
    )
    got = manifolds(REAL, FAKE)
    near(got.precision, wanted["precision"], within=1e-5)
    near(got.recall, wanted["recall"], within=1e-5)
    assert got.precision != got.recall


@pytest.mark.parametrize("k", [3, 5])
def test_all_four_of_prdc(near, k):
    """There the real features come first; all four mean the same as ours."""
    wanted = pytest.importorskip("prdc").compute_prdc(REAL, FAKE, k)
    near(manifolds(REAL, FAKE, k, k)._asdict(), wanted, within=1e-5)


# --- Path length and MS-SSIM --------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "prior"), [("slerp_any", "normal"), ("lerp", "uniform")]
)
def test_path_length_of_torchmetrics(near, monkeypatch, method, prior):
    """Of 101 paths the percentiles are values: torchmetrics rounds the upper down."""
    module = pytest.importorskip("torchmetrics.functional.image.perceptual_path_length")
    monkeypatch.setattr(module, "_TORCHVISION_AVAILABLE", True)
    latents, weights = RANDOM.normal(size=(2, 101, 8)), RANDOM.normal(size=(8, 48))
    latents = np.float32(latents)

    class Generator(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.latents = [torch.tensor(x, dtype=torch.float64) for x in latents]

        def sample(self, num):
            return self.latents.pop(0)

        def forward(self, z):
            images = 255 * torch.sigmoid(z @ torch.tensor(weights))
            return images.reshape(-1, 3, 4, 4)

    class Squares(torch.nn.Module):
        def forward(self, x, y):
            return (x - y).square().sum((1, 2, 3))

    mean, deviation, kept = module.perceptual_path_length(
        Generator(), 101, epsilon=0.05, interpolation_method=method, sim_net=Squares()
    )
    got = perceptual_path_length(
        lambda z: 2 / (1 + np.exp(-np.asarray(z, np.float64) @ weights)),
        *latents,
        epsilon=0.05,
        path=Latent(8, prior).interpolate,
    )
    near(got, (float(mean), float(deviation) / len(kept) ** 0.5), within=1e-5)


@pytest.mark.parametrize(
    "shape", [(176, 176, 3), (181, 208, 1), (100, 120, 3), (64, 64, 3), (28, 28, 1)]
)
def test_ms_ssim_of_torchmetrics(near, shape):
    module = pytest.importorskip("torchmetrics.functional.image.ssim")
    x = RANDOM.integers(0, 256, (3, *shape), np.uint8)
    y = np.clip(x + RANDOM.normal(size=x.shape) * 40, 0, 255).astype(np.uint8)
    betas = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][: num_scales(*shape[:2])])
    wanted = module.multiscale_structural_similarity_index_measure(
        *(torch.tensor(z.transpose(0, 3, 1, 2) / 1.0) for z in (x, y)),
        data_range=255.0,
        reduction="none",
        betas=tuple((betas / betas.sum()).tolist()),
    )
    near(ms_ssim(x, y), wanted, within=1e-5)
