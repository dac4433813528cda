"""Each application that has a config of its own: replicas, resume, guard, commands."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from runs import assert_same_run, config_of, records

from gan_jax import draw
from gan_jax.algorithm.spaces import Classes
from gan_jax.errors import Stopped
from gan_jax.run import restore
from gan_jax.run.training import train

SMALL = {"num_steps": 4, "replicas": 2, "image_size": 8, "eval.features": "pixels"}
CLIPS = {"image_size": 16, "data.name": "mnist(frames=4)", "discriminator": "frames=2"}
# Without a schedule, which would depend on the number of steps.
ONE_BLOCK = {"image_size": 12, "generator": "blocks=1", "schedule": "constant"}
# A config, its variant and what makes it small; what measures it, and one number of it.
ROWS = {
    "mnist": ("conditional", {"data.source": "packaged"}, "--metrics=kid", "kid"),
    "pix2pix": (None, {"image_size": 12}, "--metrics=paired", "l1"),  # SSIM needs 11
    "cyclegan": (None, ONE_BLOCK, "--metrics=paired", "l1_to_b"),
    "moving_mnist": (None, CLIPS, "--metrics=frames", "fd_motion"),
    "chorales": (None, {"width": 2}, "--metrics=music", "triads"),
    "mri": (None, {}, "--metrics=kid", "kid"),
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=ROWS)
def application(request, tmp_path_factory):
    """A row: its name, its config for given keys, and a run of two replicas."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    arg, small, *_ = ROWS[name]
    if name in ("mri", "moving_mnist"):  # if the folder is empty, the packaged digits
        small = {**small, "data.data_dir": str(folder)}
    if name == "mri":
        from volume_files import ramp, write  # which need an extra

        write(folder / "head.nii", ramp(32, 32, 12), 8 * np.eye(4))

    def make(**keys):
        return config_of(name, arg, **{**SMALL, **small, **keys})

    train(make(), folder / "run")
    return name, make, folder / "run"


def test_replicas_resume_bit_for_bit(application, tmp_path):
    _, make, whole = application
    assert all(len(record["d_loss"]) == 2 for record in records(whole))
    assert len(set(records(whole)[-1]["d_loss"])) == 2
    train(make(num_steps=2), tmp_path / "parts")
    train(make(), tmp_path / "parts")
    assert_same_run(whole, tmp_path / "parts")


def test_the_guard_rejects_a_step_and_dumps_it(application, tmp_path):
    """tests/run/test_spaces.py replays such a step of each kind of game."""
    _, make, _ = application
    loss = tmp_path / "loss.py"
    loss.write_text(
        "from gan_jax import Loss\nimport jax.numpy as jnp\n"
        "bad = Loss(d=lambda r, f: jnp.log(-jnp.exp(r)), g=lambda f, r: -f)\n"
    )
    with pytest.raises(Stopped, match="not finite at step 1") as stop:
        train(make(loss=f"{loss}:bad"), tmp_path / "run")
    assert stop.value.status == 3
    dumped = {path.name for path in (tmp_path / "run" / "guard").iterdir()}
    assert dumped == {"000001-0", "000001-1"}


def test_is_sampled_and_evaluated(application, forks, tmp_path):
    name, _, path = application
    gan, state = restore.load(path, replica=1)
    args, condition = [f"--workdir={path}", "--replica=1"], None
    if gan.condition is not None and not isinstance(gan.condition, Classes):
        condition = np.zeros((3, *gan.condition.shape), np.uint8)
        np.save(tmp_path / "condition.npy", condition)
        args += [f"--condition={tmp_path}/condition.npy"]
    samples = draw(gan, state, jax.random.key(0), 3, condition)
    assert samples.shape == (3, *gan.example.shape)
    status, out, err = forks("sample", *args, "--num=3", f"--out={tmp_path}/x.png")
    assert (status, err) == (0, "")
    with Image.open(tmp_path / "x.png") as grid:
        assert np.asarray(grid).std() > 0

    _, _, metrics, number = ROWS[name]
    split = (
        ["--split=test"] if name == "cyclegan" else []
    )  # where pairs belong together
    args = [f"--workdir={path}", "--num=40", "--json", metrics, *split]
    status, out, err = forks("evaluate", *args)
    assert status == 0, err
    found = json.loads(out)
    assert np.isfinite(found[number]["value"])
    assert len(found[number]["replicas"]) == 2
