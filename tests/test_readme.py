import re
from pathlib import Path

import jax
import numpy as np
import pytest

from gan_jax import build, sharding
from gan_jax.preflight import check

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code.replace("\\\n", "") for language, code in BLOCKS if not language]


def test_the_users_loss_is_a_loss(tmp_path):
    file = tmp_path / "my_losses.py"
    file.write_text(next(code for code in PYTHON if "pearson" in code))
    gan = build(shape=(2,), model="mlp", loss=f"{file}:pearson")
    check(gan, 4, sharding.make_mesh(1))
    # Its optimum at D = 0 on both sides: 1/2 + 1/2 for D, 0 for G.
    zeros = np.zeros(3)
    np.testing.assert_array_equal(gan.loss.d(zeros, zeros), 1)
    np.testing.assert_array_equal(gan.loss.g(zeros, zeros), 0)


def test_the_notebook_runs():
    (code,) = (code for code in PYTHON if "gan_jax.build" in code)
    names = {"images": np.zeros((4, 28, 28, 1), np.uint8)}
    exec(code.replace("shape=(28, 28, 1)", "shape=(28, 28, 1), width=2"), names)
    assert names["samples"].shape == (16, 28, 28, 1)
    assert np.isfinite(jax.device_get(names["metrics"]["g_loss"]))
    (seeds,) = (code for code in PYTHON if "vmap" in code)
    exec(seeds, names)
    losses = jax.device_get(names["metrics"]["g_loss"])
    assert losses.shape == (4,)
    assert len(set(losses.tolist())) == 4


def test_every_config_is_listed_and_states_its_command():
    for path in (ROOT / "configs").glob("*.py"):
        assert f"`{path.name}`" in TEXT
        assert (
            f"python -m gan_jax.train --config=configs/{path.name}" in path.read_text()
        )


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_commands_name_files_and_modules_that_exist():
    words = [word for block in SHELL for word in block.split()]
    files = {w.partition("=")[2].partition(":")[0] for w in words if "--config=" in w}
    scripts = {w for w in words if w.startswith("scripts/")}
    modules = {w.replace(".", "/") + ".py" for w in words if w.startswith("gan_jax.")}
    assert files
    assert modules
    for path in files | scripts | modules:
        assert (ROOT / path).is_file(), path
