"""Names of machines, and what is missing to compile for them."""

from pathlib import Path

import pytest

from gan_jax.errors import UserError
from gan_jax.targets import target
from gan_jax.targets.target import find


@pytest.mark.parametrize(
    ("name", "slices", "shape", "size", "groups"),
    [
        ("h100", 1, (1, 1), 1, 1),
        ("h100x8", 1, (1, 8), 8, 1),
        ("a100x32", 1, (4, 8), 32, 4),
        ("rtx4090", 1, (1, 1), 1, 1),
        ("rtx4090x2", 1, (1, 2), 2, 1),
        ("v5e:2x4", 1, (2, 4), 8, 1),
        ("v5e:16x16", 2, (16, 16), 512, 2),
        ("v5p:2x2x2", 1, (2, 2, 2), 8, 1),
    ],
)
def test_a_name_says_how_many_there_are(name, slices, shape, size, groups):
    found = find(name, slices)
    assert (found.shape, found.size, found.groups) == (shape, size, groups)


@pytest.mark.parametrize(
    ("name", "slices", "message"),
    [
        ("h10", 1, "unknown chip 'h10'; did you mean 'h100'?"),
        ("v5", 1, "unknown chip 'v5'; did you mean 'v5"),
        ("h100x12", 1, "a host has 8, so give a multiple of that"),
        ("h100x0", 1, "write h100 or h100x8"),
        ("h100:2x4", 1, "write h100 or h100x8"),
        ("v5e", 1, "write v5e:2x4, the shape of the slice"),
        ("v5ex8", 1, "write v5e:2x4, the shape of the slice"),
        ("v5e:2x", 1, "write v5e:2x4, the shape of the slice"),
        ("v5e:32x16", 1, "a slice has at most 256 chips"),
        ("h100x8", 2, "--slices=2: these are of TPUs; write h100x16"),
    ],
)
def test_a_wrong_name_is_refused(name, slices, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        find(name, slices)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h100", "needs JAX's CUDA plugin: pip install .*jax-cuda12-pjrt=="),
        ("v5e:2x4", r"needs libtpu: pip install 'jax\[tpu\]=="),
    ],
)
def test_a_missing_compiler_is_named_with_what_installs_it(name, message, monkeypatch):
    monkeypatch.setattr(target, "_folders", lambda package: [])
    with pytest.raises(UserError, match=message):
        find(name).devices()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h100", "the CUDA plugin 0.1.2 does not fit JAX"),
        ("v5e:2x4", "libtpu 0.1.2 does not fit JAX .*, which takes"),
    ],
)
def test_a_compiler_of_another_version_is_refused(name, message, monkeypatch):
    monkeypatch.setattr(target, "_folders", lambda package: [Path(package)])
    monkeypatch.setattr(target, "_ptxas", lambda: Path("bin"))
    monkeypatch.setattr(target.importlib.metadata, "version", lambda name: "0.1.2")
    with pytest.raises(UserError, match=message):
        find(name).devices()


def test_every_chip_has_figures_that_make_sense():
    for file in target._CHIPS.glob("*.toml"):
        name = file.stem if "cuda" in file.read_text() else f"{file.stem}:2x2x1"
        chip = find(name).chip
        assert 0.5 < chip.usable < 1
        assert chip.slow < chip.fast < chip.bandwidth < chip.peak["float32"]
        assert chip.peak["float32"] <= chip.peak["bfloat16"]
