"""What a run costs besides the algorithm: imports, programs, memory, waiting."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported(code):
    """Returns the modules that a fresh interpreter has after `code`."""
    code += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


HEAVY = {"PIL", "grain", "matplotlib", "orbax", "tensorboardX", "tensorflow_datasets"}


@pytest.mark.parametrize(
    ("code", "used"),
    [
        ("import gan_jax", set()),
        ("import gan_jax.train, gan_jax.sample", set()),
        ("import gan_jax.train\nfrom gan_jax.data import toy", set()),
        ("from gan_jax.data import folder, packaged, tfds", {"PIL"}),
    ],
)
def test_heavy_packages_are_imported_where_they_are_used(code, used):
    assert HEAVY & imported(code) == used


def test_falling_back_needs_no_tfds(tmp_path):
    code = f"""
import gan_jax.data.tfds as source
from gan_jax.config import default
source.unreachable = lambda url: "offline"
config = default()
config.data.data_dir = {str(tmp_path)!r}
assert source.load(config).info.name == "packaged:mnist[train]"
"""
    assert "tensorflow_datasets" not in imported(code)
