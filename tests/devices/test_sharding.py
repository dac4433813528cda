"""One program on several devices and hosts, against one device."""

import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from runs import MEMORY, ROOT, SHRUNK, TIMES, records

from gan_jax.algorithm.steps import init_state
from gan_jax.devices import hosts
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError

# Adam makes a step of rounding; what is compared must not.
HOW = {
    **SHRUNK,
    "batch_size": 8,
    "num_steps": 4,
    "sample_every": 4,
    "checkpoint_every": 4,
}
HOW |= {"optimizer": "sgd(learning_rate=0.05)", "penalties": "r1(every=2)"}
IMAGES = {"data.source": "packaged", "image_size": 8}
SLOW = {"optimizer": "sgd(learning_rate=0.002)"}


def start(config, path, how, *flags, devices=1, err=subprocess.PIPE):
    args = [f"--config.{key}={value}" for key, value in how.items()]
    env = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "gan_jax.train", f"--config=configs/{config}.py"),
            *(f"--workdir={path}", *args, *flags),
        ],
        cwd=ROOT,
        env=env,
        stderr=err,
        text=True,
    )


def finish(*runs, status=0):
    errs = []
    try:
        for run in runs:
            errs.append(run.communicate(timeout=150)[1])
            assert run.returncode == status, errs[-1]
    finally:
        for run in runs:
            run.kill()
    return errs


def train(*args, **how):
    return finish(start(*args, **how))


def assert_same_numbers(a, b, rtol=2e-3):
    ours, theirs = records(a), records(b)
    assert [r["step"] for r in ours] == [r["step"] for r in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for key in one.keys() - {"data", *TIMES}:
            np.testing.assert_allclose(
                one[key], other[key], rtol=rtol, atol=1e-5, err_msg=key
            )


@pytest.mark.parametrize(
    ("config", "how"),
    [
        ("mnist", {**IMAGES, "sharding": "fsdp", "width": 32}),
        (
            "ring",
            {"replicas": 2, "d_updates": 2, "sharding": "fsdp", "width": 128, **SLOW},
        ),
        ("mnist_mlp", {**MEMORY, **SLOW}),
    ],
    ids=["fsdp", "replicas and fsdp", "memory"],
)
def test_four_devices_train_as_one(config, how, tmp_path):
    how = {**HOW, **how}
    for devices in (1, 4):
        train(config, tmp_path / str(devices), how, devices=devices)
    assert_same_numbers(tmp_path / "4", tmp_path / "1")
    # What four have saved, two go on with.
    longer = {**how, "num_steps": 6}
    train(config, tmp_path / "4", longer, devices=2)
    assert [r["step"] for r in records(tmp_path / "4")] == [*range(1, 7)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_hosts_that_do_not_train_the_same_are_refused(tmp_path):
    runs = [
        start(
            *("ring", tmp_path, {**HOW, "seed": i}, f"--coordinator=127.0.0.1:{port}"),
            *("--num_processes=2", f"--process_id={i}"),
        )
        for port in [free_port()]
        for i in range(2)
    ]
    for err in finish(*runs, status=2):
        assert "error: the hosts do not train the same" in err
    assert not list(tmp_path.iterdir())


def two_hosts(config, path, how):
    where = f"--coordinator=127.0.0.1:{free_port()}"
    return [
        start(
            config,
            path,
            how,
            where,
            "--num_processes=2",
            f"--process_id={i}",
            devices=2,
        )
        for i in range(2)
    ]


@pytest.mark.parametrize(
    ("config", "how"),
    [
        ("mnist", {**IMAGES, "sharding": "fsdp", "width": 32}),
        ("folder", {"image_size": 8, "data.resident_mb": 0, "d_updates": 2}),
        ("folder", {"image_size": 8, "data.resident_mb": 0, "replicas": 2}),
    ],
    ids=["resident", "stream", "replicas"],
)
def test_two_hosts_train_as_one(config, how, tmp_path, images):
    how = {**HOW, **how}
    if config == "folder":
        how["data.data_dir"] = images
    errs = finish(*two_hosts(config, tmp_path / "two", how))
    train(config, tmp_path / "one", how, devices=4)
    assert_same_numbers(tmp_path / "two", tmp_path / "one", rtol=1e-4)
    assert ("done: " in errs[0], "D(x)" in errs[1]) == (True, False)  # the first logs
    assert len(list((tmp_path / "two").glob("events.out.*"))) == 1


def test_hosts_agree_on_when_to_stop(tmp_path):
    """Only the second of them is told to."""
    how = {**HOW, "num_steps": 10**6, "log_every": 500, "chunk": 50}
    how |= {"sample_every": 10**5, "checkpoint_every": 10**5}
    runs = two_hosts("ring", tmp_path, how)
    for line in runs[0].stderr:
        if line.startswith("500/"):
            runs[1].terminate()
            break
    errs = finish(*runs, status=143)
    stopped = {line for err in errs for line in err.splitlines() if "stopped" in line}
    (line,) = stopped  # at the same step
    assert line.startswith("stopped: saved at step ")
    step = int(line.split()[4].rstrip(","))
    assert [int(p.name) for p in (tmp_path / "checkpoints").iterdir()] == [step]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("", 2, 0), "give all of --coordinator"),
        (("host:1", None, 0), "give all of --coordinator"),
        (("host", 2, 0), "--coordinator=host: it must be HOST:PORT"),
        (("host:99999", 2, 0), "it must be HOST:PORT"),
        (("host:1", 0, 0), "--num_processes=0: it must be at least 1"),
        (("host:1", 2, 2), r"--process_id=2: it must lie in \[0, 2\)"),
    ],
)
def test_hosts_refuse(given, message):
    with pytest.raises(UserError, match=message):
        hosts.initialize(*given)


def test_fsdp_splits_the_largest_axis_that_fits(monkeypatch):
    import gan_jax

    gan = gan_jax.build(shape=(32, 32, 3), width=64)
    shapes = jax.eval_shape(init_state, gan, jax.eval_shape(jax.random.key, 0))
    # A mesh of eight, of which nothing is computed.
    mesh = jax.sharding.AbstractMesh((1, 8), (sharding.REPLICA, sharding.DATA))
    lies = sharding.placements(shapes, mesh, 1, "fsdp")
    for leaf, where in zip(jax.tree.leaves(shapes), jax.tree.leaves(lies), strict=True):
        if leaf.size < 2**12:
            assert sharding.DATA not in where.spec
            continue
        axis = where.spec.index(sharding.DATA)
        assert leaf.shape[axis] % 8 == 0
        assert leaf.shape[axis] == max(n for n in leaf.shape if n % 8 == 0)
    kept = sum(
        np.prod(where.shard_shape(leaf.shape))
        for leaf, where in zip(
            jax.tree.leaves(shapes), jax.tree.leaves(lies), strict=True
        )
    )
    assert kept < sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 7
