import inspect
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest

from gan_jax import build, from_config
from gan_jax import config as config_lib
from gan_jax.algorithm import dynamics
from gan_jax.build.preflight import check
from gan_jax.devices import mesh as sharding
from gan_jax.objective import augment, losses, penalties

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


def section(title):
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_objective_is_named():
    named = set(re.findall(r"\b\w+\b", section("Change the objective")))
    homes = (
        "gan_jax.objective.losses",
        "gan_jax.objective.penalties",
        "gan_jax.objective.regularisers",
    )
    ours = {*augment.__all__, *dynamics.__all__} | {
        name
        for name, value in {**vars(losses), **vars(penalties)}.items()
        if isinstance(value, losses.Loss)
        or (inspect.isfunction(value) and value.__module__ in homes)
    }
    assert {name for name in ours if not name.startswith("_")} <= named


HACKS = [row.split("|")[1:3] for row in section("The tips of GAN hacks").splitlines()]
HACKS = [row for row in HACKS if row and row[0].strip()[:1].isdigit()]


def test_all_seventeen_tips_are_answered():
    assert [int(tip.split(".")[0]) for tip, _ in HACKS] == list(range(1, 18))


@pytest.mark.parametrize(("tip", "line"), HACKS)
def test_the_line_of_a_tip_is_a_config_that_can_be_trained(tip, line):
    snippets = [code for code in re.findall(r"`([^`]*)`", line) if "=" in code]
    assert snippets or "none is offered" in line or "default" in line or "guard" in line
    for snippet in snippets:
        config = config_lib.default()
        config.conditional = "conditioning" in snippet
        pairs = (word.split("=", 1) for word in shlex.split(snippet))
        for key, value in pairs:
            if value:
                kind = type(config[key])
                config[key] = value == "True" if kind is bool else kind(value)
        gan = from_config(config, (8, 8, 1), 3)
        check(gan, 8, sharding.make_mesh(1))
