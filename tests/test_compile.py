"""The command that compiles a run for devices that are not here."""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys

import pytest
from target_tables import ROWS

from gan_jax.compile import largest
from gan_jax.errors import UserError
from gan_jax.targets.target import find

CONFIG = "--config=configs/mnist.py"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "give the machine: --target=h100x8 or --target=v5e:2x4"),
        (("--target=v7x:2x4",), "unknown chip 'v7x'"),
        (("--target=h100", "--precision=float64"), "precision"),
        (("--target=h100", "--batch=0"), "batch_size"),
    ],
)
def test_bad_input_is_one_line(forks, flags, message):
    status, out, err = forks("compile", CONFIG, *flags)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def affine(base, slope, most=math.inf):
    """Memory of a program that grows; what needs more than `most` does not compile."""
    asked = []

    def peak(batch):
        asked.append(batch)
        needs = base + slope * batch
        return needs if needs <= most else math.inf

    return peak, asked


def test_the_largest_batch_is_found_on_a_line():
    peak, asked = affine(base=1000.0, slope=10.0)
    # (50,000 - 1,000) / 10 = 4,900, of which 4,896 is a multiple of 8.
    assert largest(peak, 8, 128, 10**6, usable=50_000.0) == 4896
    assert len(asked) <= 6


@pytest.mark.parametrize("start", [8, 128, 4096])
def test_it_is_near_the_limit_on_a_curve(start):
    def peak(batch):
        return 1000.0 + 10.0 * batch**1.05

    found = largest(peak, 8, start, 10**6, usable=50_000.0)
    best = (4900.0) ** (1 / 1.05)
    assert 0.85 * best < found <= best
    assert found % 8 == 0


@pytest.mark.parametrize("start", [8, 128, 3000, 4096, 2**16])
def test_it_is_near_the_limit_where_larger_ones_do_not_compile(start):
    peak, asked = affine(base=1000.0, slope=10.0, most=50_000.0)
    assert 0.85 * 4900 < largest(peak, 8, start, 10**6, usable=50_000.0) <= 4900
    assert len(asked) == len(set(asked))


def test_the_batch_at_most_twice_the_first_is_kept():
    """Where the line through two batches is far too steep or too flat."""

    def peak(batch):
        return 1000.0 + 10.0 * batch if batch <= 256 else math.inf

    assert largest(peak, 8, 128, 10**6, usable=50_000.0) >= 256


def test_the_first_batch_may_be_too_large():
    peak, _ = affine(base=1000.0, slope=10.0)
    assert 4000 <= largest(peak, 8, 2**20, 2**20, usable=50_000.0) <= 4900


def test_no_more_than_there_are_examples_is_tried():
    peak, asked = affine(base=1000.0, slope=1.0)
    assert largest(peak, 8, 128, 1000, usable=1e9) == 1000
    assert max(asked) == 1000


def test_the_smallest_batch_must_fit():
    peak, _ = affine(base=1000.0, slope=10.0)
    with pytest.raises(UserError, match="not even a batch of 8 fits"):
        largest(peak, 8, 64, 10**6, usable=1050.0)


# --- With the compilers of GPUs and TPUs --------------------------------------------

NEEDS = {"h100": "jax_plugins.xla_cuda12", "v5e": "libtpu"}


def compiled(*flags):
    env = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    command = [sys.executable, "-m", "gan_jax.compile", "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def has(package):
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("target", ["h100x8", "v5e:2x4"])
def test_a_run_compiles_for_eight_devices(target):
    """Its products are those that the networks define, whatever the chip."""
    if not has(package := NEEDS[target[:4].rstrip(":x")]):
        pytest.skip(f"{package} is not installed")
    found = compiled(
        CONFIG,
        f"--target={target}",
        "--batch=128",
        "--example=28x28x1",
        "--config.width=8",
        "--config.chunk=5",
        "--programs=train,draw",
    )
    train, draw = (found["programs"][name] for name in ("train", "draw"))
    assert set(train["collectives"]) == {"all-reduce"}
    assert 0 < train["peak_mib"] < 200
    assert draw["collectives"] == {}
    # 64 samples: a dense layer, and two transposed convolutions of 4x4 by 2.
    of_one = 100 * 49 * 16 + 16 * 8 * taps(14) ** 2 + 8 * 1 * taps(28) ** 2
    assert draw["gflop"] == pytest.approx(64 * 2 * of_one / 1e9, abs=1e-3)


@pytest.mark.slow
def test_more_devices_exchange_no_more_often():
    """With as much on each, only the latency of an exchange grows with their number."""
    if not has(NEEDS["h100"]):
        pytest.skip("jax_plugins.xla_cuda12 is not installed")
    number, sent, work = zip(*map(exchanged, (8, 64, 256)), strict=True)
    # A gradient of each player. G normalises twice: forward, which both updates share,
    # and backward. D has no normalisation.
    assert number == (2 + 2 + 2,) * 3
    assert set(sent) == {sent[0]}
    assert work == pytest.approx([work[0]] * 3, rel=1e-3)


def exchanged(devices):
    """Returns the number of all-reduces, their MB, and a device's GFLOP."""
    found = compiled(
        CONFIG,
        f"--target=h100x{devices}",
        f"--batch={16 * devices}",
        "--example=28x28x1",
        "--config.width=8",
        "--config.chunk=5",
        "--programs=train",
    )
    train = found["programs"]["train"]
    assert set(train["collectives"]) == {"all-reduce"}
    return (
        train["collectives"]["all-reduce"],
        train["collectives_mb"]["all-reduce"],
        train["gflop"],
    )


@pytest.mark.slow
def test_a_lazy_penalty_gathers_nothing():
    """Where it is due, each device computes it for its own examples."""
    if not has(NEEDS["h100"]):
        pytest.skip("jax_plugins.xla_cuda12 is not installed")
    programs = [
        compiled(
            CONFIG,
            f"--target={target}",
            f"--batch={batch}",
            "--example=28x28x1",
            "--config.width=8",
            "--config.chunk=5",
            "--config.penalties=r1(weight=1, every=4)",
            "--programs=train",
        )["programs"]["train"]
        for target, batch in (("h100", 16), ("h100x8", 128))
    ]
    alone, eight = programs
    assert alone["collectives"] == {}
    assert set(eight["collectives"]) == {"all-reduce"}
    assert eight["gflop"] == pytest.approx(alone["gflop"], rel=1e-3)


TERMS = {
    "r1": ("--config.penalties=r1",),
    "gradient_penalty": (
        "--config.penalties=gradient_penalty",
        "--config.loss=wasserstein",
        '--config.discriminator=norm="none"',
    ),
    "unrolled": (
        "--config.step=unrolled(k=2)",
        "--config.optimizer=adam(learning_rate=2e-4, b1=0.5, eps_root=1e-8)",
    ),
    "ada": ("--config.augment=ada",),
    "replicas": ("--config.replicas=8", "--batch=32"),
    "fsdp": ("--config.sharding=fsdp",),
    "accumulate": ("--config.accumulate=4",),
    "bfloat16": ("--precision=bfloat16",),
}
FULL = {name: (row.config, row.batch, row.flags) for name, row in ROWS.items()}
FULL |= {name: ("folder", 32, ("--example=64x64x3", *x)) for name, x in TERMS.items()}


@pytest.mark.compilers
@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("target", ["h100", "h100x8", "v5e:2x4"])
@pytest.mark.parametrize("name", FULL)
def test_every_config_compiles_at_full_size(name, target, slices):
    if not has(package := NEEDS[target[:4].rstrip(":x")]):
        pytest.skip(f"{package} is not installed")
    if slices > 1 and package != "libtpu":
        pytest.skip("slices are of TPUs")
    config, batch, flags = FULL[name]
    whole = batch * find(target, slices).size
    found = compiled(
        "--config=configs/" + re.sub("(:|$)", r".py\1", config, count=1),
        *(f"--target={target}", f"--slices={slices}", f"--batch={whole}"),
        "--programs=train",
        *flags,
    )
    train = found["programs"]["train"]
    assert train["peak_mib"] > 0
    alone = target == "h100" or name == "replicas"
    assert ("all-reduce" in train["collectives"]) != alone
    if target == "h100x8" and not alone and name != "fsdp":
        assert set(train["collectives"]) == {"all-reduce"}


def taps(size):
    """Pairs of positions that meet along an axis: kernel 4, stride 2, padding 1."""
    return sum(0 <= 2 * o + k - 1 < size for o in range(size // 2) for k in range(4))
