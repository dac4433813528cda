"""Runs on every kind of example and condition: trained, sampled, resumed, guarded."""

import games
import jax
import numpy as np
import pytest
from PIL import Image
from runs import TIMES, records

from gan_jax import draw
from gan_jax.build.names import is_code
from gan_jax.config import default
from gan_jax.errors import Stopped
from gan_jax.run import dumps, restore
from gan_jax.run.training import train


def config_of(name, **overrides):
    config = default()
    config.update_from_flattened_dict({**games.SMALL, **games.GAMES[name], **overrides})
    return config


def model_of(name):
    """Returns the user's file that a run needs to be restored; None for our models."""
    model = games.GAMES[name]["model"]
    return model if is_code(model) else None


@pytest.fixture(scope="module", params=["clips", "pairs", "masks"])
def run(request, tmp_path_factory):
    """A run of a game that is neither of points nor of classes, never stopped."""
    path = tmp_path_factory.mktemp(request.param) / "run"
    train(config_of(request.param), path)
    return request.param, path


def test_resumes_bit_for_bit(run, tmp_path):
    name, whole = run
    train(config_of(name, num_steps=2), tmp_path / "parts")
    train(config_of(name), tmp_path / "parts")
    ours, theirs = (
        [{k: v for k, v in r.items() if k not in TIMES} for r in records(path)]
        for path in (whole, tmp_path / "parts")
    )
    assert ours == theirs
    states = [
        restore.load(path, model=model_of(name))[1]
        for path in (whole, tmp_path / "parts")
    ]
    plain = [s.replace(key=jax.random.key_data(s.key)) for s in states]
    jax.tree.map(np.testing.assert_array_equal, *plain)
    grids = [
        (path / "samples" / "000004.png").read_bytes()
        for path in (whole, tmp_path / "parts")
    ]
    assert grids[0] == grids[1]


def test_is_sampled_and_shown(run, tmp_path):
    name, path = run
    gan, state = restore.load(path, model=model_of(name))
    condition = None
    if gan.condition is not None:
        space = gan.condition
        condition = np.random.default_rng(0).integers(
            0, 256, (3, *space.shape), np.uint8
        )
    samples = draw(gan, state, jax.random.key(0), 3, condition)
    assert samples.shape == (3, *gan.example.shape)
    assert samples.dtype == np.uint8
    # 5 clips of 3 frames, 4 pairs beside theirs, or 6 images beside what they are made
    # from: in a row, and as many rows of 8 pixels.
    images = {"clips": 5 * 3, "pairs": 4 * 4, "masks": 6 * 2}[name]
    grid, real = (
        np.asarray(Image.open(path / file)).reshape(images * 8, images * 8, -1)
        for file in ("samples/000004.png", "real.png")
    )
    assert grid.std() > 0
    if name in ("pairs", "masks"):  # what is translated is the same in both
        cell = {"pairs": 8 * 4, "masks": 8 * 2}[name]
        same = (grid == real).reshape(images * 8, -1, cell, grid.shape[-1])
        assert same[:, :, : cell // 2].all()
        assert not same[:, :, cell // 2 :].all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clips", "masks"])
def test_the_guard_dumps_and_replays_the_step(name, tmp_path):
    loss = tmp_path / "loss.py"
    loss.write_text(
        "from gan_jax import Loss\nimport jax.numpy as jnp\n"
        "bad = Loss(d=lambda r, f: jnp.log(-jnp.exp(r)), g=lambda f, r: -f)\n"
    )
    config = config_of(name, loss=f"{loss}:bad", penalties="")
    with pytest.raises(Stopped, match="is not finite at step 1"):
        train(config, tmp_path / "run")
    with np.load(tmp_path / "run" / "guard" / "000001" / "arrays.npz") as arrays:
        batch = {key for key in arrays.files if key.startswith("batch/")}
    wanted = (
        {"batch/example", "batch/condition"}
        if config.conditional
        else {"batch/example"}
    )
    assert batch == wanted
    assert dumps.replay(tmp_path / "run" / "guard" / "000001", config) == 3
