"""What metrics of two sets of features cost, beside their reference implementations."""

import contextlib
import importlib
import io
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.metrics import frechet, kid, manifolds


def metric_speed(turns: int, num: int = 10_000, size: int = 2048) -> Iterator[dict]:
    """Times metrics in turn with each reference that is installed.

    Args:
      turns: how often.
      num: examples in each set.
      size: numbers in a row of features.

    Yields:
      For each metric and reference the median seconds of both, the median ratio, and
      what they found; at the end the peak memory of the neighbours' metric.
    """
    real, fake = features(num, size, 0), features(num, size, 1)
    for metric, (ours, peers) in METRICS.items():
        for name, peer in peers.items():
            with contextlib.suppress(ImportError):
                found = compare(ours, peer, (real, fake), turns)
                yield {"metric": metric, "reference": name} | found
    yield {"metric": "manifolds", "peak_gib": peak(num, size)}


def features(num: int, size: int, seed: int) -> np.ndarray:
    """Draws correlated features like Inception's, float32 and not negative."""
    draw = np.random.default_rng(99).standard_normal
    mixing = draw((size, size), np.float32) / np.float32(size**0.5)
    noise = np.random.default_rng(seed).standard_normal((num, size), np.float32)
    return np.maximum((noise + np.float32(0.02 * seed)) @ mixing, 0)


def compare(ours: Callable, peer: Callable, sets: tuple, turns: int) -> dict:
    """Times two functions of both sets, one after the other, `turns` times."""
    seconds, values = ([], []), {}
    for _ in range(turns):
        for i, function in enumerate((ours, peer)):
            start = time.perf_counter()
            values[i] = float(function(*sets))
            seconds[i].append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(*seconds, strict=True)]
    return {
        "seconds": round(statistics.median(seconds[0]), 2),
        "reference_seconds": round(statistics.median(seconds[1]), 2),
        "ratio": round(statistics.median(ratios), 3),
        "value": values[0],
        "reference_value": values[1],
    }


def peak(num: int, size: int) -> float:
    """Returns the peak memory of a process that measures the neighbours' metric."""
    command = [sys.executable, __file__, str(num), str(size)]
    found = subprocess.run(command, check=True, capture_output=True)
    return round(float(found.stdout), 2)


# --- The references -----------------------------------------------------------------


def reference(name: str) -> Any:
    """Imports a reference.

    Raises:
      ImportError: it is not installed.
    """
    torch = importlib.import_module("torch")
    if name.startswith(("torch_fidelity", "pytorch_fid")):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):  # another torch's torchvision needs them
            with contextlib.suppress(RuntimeError):
                library.define(f"{operator}(Tensor a, Tensor b, float c) -> Tensor")
    with warnings.catch_warnings(action="ignore"):
        return importlib.import_module(name)


def _frechet(real, fake):
    return frechet.frechet_distance(frechet.moments(real), frechet.moments(fake))


def _torch_fidelity_fid(real, fake):
    fid, torch = reference("torch_fidelity.metric_fid"), reference("torch")
    stats = (fid.fid_features_to_statistics(torch.tensor(x)) for x in (fake, real))
    found = fid.fid_statistics_to_metric(*stats, verbose=False)
    return found["frechet_inception_distance"]


def _pytorch_fid(real, fake):
    fid = reference("pytorch_fid.fid_score")
    stats = [(x.mean(0), np.cov(x, rowvar=False)) for x in (real, fake)]
    with warnings.catch_warnings(action="ignore"):
        return fid.calculate_frechet_distance(*stats[0], *stats[1])


def _torch_fidelity_kid(real, fake):
    torch = reference("torch")
    found = reference("torch_fidelity.metric_kid").kid_features_to_metric(
        torch.tensor(fake), torch.tensor(real), verbose=False
    )
    return found["kernel_inception_distance_mean"]


def _prdc(real, fake):
    with contextlib.redirect_stdout(io.StringIO()):
        return reference("prdc").compute_prdc(real, fake, 5)["density"]


METRICS = {
    "frechet": (
        _frechet,
        {"torch-fidelity": _torch_fidelity_fid, "pytorch-fid": _pytorch_fid},
    ),
    "kid": (
        lambda real, fake: kid.kid(real, fake)[0],
        {"torch-fidelity": _torch_fidelity_kid},
    ),
    "manifolds": (
        lambda real, fake: manifolds.manifolds(real, fake).density,
        {"prdc": _prdc},
    ),
}

if __name__ == "__main__":
    sets = (features(*map(int, sys.argv[1:]), seed) for seed in (0, 1))
    manifolds.manifolds(*sets)
    # Not getrusage: its peak includes that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 2**20)
