"""One program on several devices and hosts, against one device."""

import json
import signal
import time

import jax
import numpy as np
import pytest
from runs import MEMORY, SHRUNK, TIMES, records

import gan_jax
from gan_jax.algorithm import replicas
from gan_jax.devices import hosts
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError
from gan_jax.run import restore

# Adam makes a step of rounding; what is compared must not.
SMALL = {**SHRUNK, "batch_size": 8, "sample_every": 3, "checkpoint_every": 3}
SMALL |= {"num_steps": 3, "optimizer": "sgd(learning_rate=0.005)"}
# Batch normalisation and convolutions; the other rows are fully connected.
IMAGES = {"data.source": "packaged", "image_size": 8, "width": 16}
POINTS = {"width": 64}  # kernels that are large enough to be split
TRAIN = "from gan_jax import cli, train; cli.run(train.main)"


def arguments(config, path, keys):
    args = [f"--config.{key}={value}" for key, value in keys.items()]
    return ["train", f"--config=configs/{config}.py", f"--workdir={path}", *args]


def finish(*runs, status=0):
    """Waits for runs, and returns what they printed on stderr."""
    for run in runs:
        assert run.wait() == status, "".join(r.err for r in runs)
    return [run.err for run in runs]


@pytest.fixture
def train(spawn):
    def run(config, path, keys, devices):
        finish(spawn(TRAIN, *arguments(config, path, keys), devices=devices))

    return run


@pytest.fixture
def two_hosts(spawn, free_port):
    """Starts a run on two hosts of two devices each."""

    def start(config, path, *keys):
        common = [f"--coordinator=127.0.0.1:{free_port}", "--num_processes=2"]
        return [
            spawn(
                TRAIN,
                *arguments(config, path, keys[i % len(keys)]),
                *common,
                f"--process_id={i}",
                devices=2,
            )
            for i in range(2)
        ]

    return start


def assert_same_numbers(a, b, rtol=2e-3):
    ours, theirs = records(a), records(b)
    assert [r["step"] for r in ours] == [r["step"] for r in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for key in one.keys() - {"data", *TIMES}:
            np.testing.assert_allclose(
                one[key], other[key], rtol=rtol, atol=1e-5, err_msg=key
            )


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ("mnist", {**IMAGES, "sharding": "fsdp"}),
        pytest.param("mnist_mlp", MEMORY, marks=pytest.mark.slow),
    ],
    ids=["fsdp", "memory"],
)
def test_four_devices_train_as_one(config, keys, tmp_path, train):
    keys = {**SMALL, **keys}
    for devices in (1, 4):
        train(config, tmp_path / str(devices), keys, devices)
    assert_same_numbers(tmp_path / "4", tmp_path / "1")


@pytest.mark.slow
def test_other_devices_resume(tmp_path, train):
    """Four devices train replicas, split, as one does; two resume what four saved."""
    keys = {**SMALL, **POINTS, "replicas": 2, "d_updates": 2, "sharding": "fsdp"}
    keys |= {"penalties": "r1(every=2)", "sample_every": 2}
    train("ring", tmp_path / "one", keys, 1)
    train("ring", tmp_path / "more", {**keys, "num_steps": 2}, 4)
    train("ring", tmp_path / "more", keys, 2)
    assert_same_numbers(tmp_path / "more", tmp_path / "one")


# What a step costs each device: of one replica on one, and of four replicas on four.
SEEDS = """
import json
import jax
import gan_jax
from gan_jax import config as config_lib
from gan_jax.devices import mesh as devices
from gan_jax.run import programs, training
from gan_jax.targets.hlo import Program

config = config_lib.default()
config.data.source, config.image_size, config.width = "packaged", 16, 4
config.batch_size, config.penalties = 8, "r1(every=2)"
for num in (1, 4):
    config.replicas = num
    mesh = devices.make_mesh(num, replicas=num)
    source, gan = training.assembled(config, mesh)
    with jax.set_mesh(mesh):
        program = programs.lowered(config, source, gan, mesh)["train"]().compile()
    costs = Program(program.as_text()).costs()
    often = [c.collective for c in costs if c.collective and c.times > 1]
    print(json.dumps([sum(c.times * c.flops for c in costs), often]))
"""


def test_replicas_on_devices_of_their_own_exchange_nothing(spawn):
    run = spawn(SEEDS, devices=4)
    finish(run)
    (one, none), (four, exchanged) = map(json.loads, run.out.splitlines())
    assert one == four > 0
    assert none == exchanged == []


# A discriminator of clips and the gradients of its logits, split over two devices.
CLIPS = """
import jax, jax.numpy as jnp
from gan_jax.devices import mesh as devices
from gan_jax.models.video import Discriminator
from gan_jax.targets.hlo import Program
from jax.sharding import NamedSharding, PartitionSpec

net = Discriminator(shape=(8, 16, 16, 1), width=4, frames=3)
mesh = devices.make_mesh(2)
split = NamedSharding(mesh, PartitionSpec(devices.DATA))
whole = NamedSharding(mesh, PartitionSpec())
x = jax.ShapeDtypeStruct((4, *net.shape), jnp.float32, sharding=split)
keys = {"params": jax.random.key(0), "frames": jax.random.key(1)}
variables = jax.eval_shape(lambda x: net.init(keys, x, train=True), x)

def loss(variables, x):
    of_frames, of_clip = net.apply(variables, x, train=True, rngs=keys)
    return (of_frames**2 + of_clip**2).sum()

gradients = jax.jit(jax.grad(loss, (0, 1)), in_shardings=(whole, split))
costs = Program(gradients.lower(variables, x).compile().as_text()).costs()
print(*sorted({c.collective for c in costs if c.collective}))
print(sum(c.sent for c in costs), sum(4 * x.size for x in jax.tree.leaves(variables)))
"""


def test_frames_are_chosen_where_their_clips_are(spawn):
    run = spawn(CLIPS, devices=2)
    finish(run)
    kind, sent, parameters = run.out.split()
    assert kind == "all-reduce"
    assert float(sent) == float(parameters)  # the gradient of each, and nothing else


# Saves a state from each layout, and reads each of them into each layout. A line says
# whether it is the same to the last bit, and how many of its arrays are split.
MOVES = """
import contextlib, itertools, json, pathlib, sys
import jax, numpy as np
import gan_jax
from gan_jax.algorithm import replicas
from gan_jax.devices import mesh as devices
from gan_jax.run.checkpoint import Checkpoints

layouts = [*itertools.product((1, 2, 4), ("replicated", "fsdp"))]
gan = gan_jax.build(gan_jax.Points((2,)), model="mlp", width=64)
init = lambda: replicas.init_state(gan, replicas.root_keys(0, 1))
state = jax.jit(init)()

def shardings(num, how):
    return devices.shardings(state, devices.make_mesh(num), how)

def numbers(x):
    return np.asarray(devices.fetch(x)).tobytes()

for source in layouts:
    path = pathlib.Path(sys.argv[1], *map(str, source))
    with contextlib.closing(Checkpoints(path, keep=1)) as saved:
        saved.save(jax.device_put(state, shardings(*source)), 7, {})
    for target in layouts:
        like = devices.placed(state, shardings(*target))
        read = Checkpoints(path).restore(like).state
        pairs = zip(jax.tree.leaves(state), jax.tree.leaves(read), strict=True)
        same = all(numbers(a) == numbers(b) for a, b in pairs)
        split = sum(not x.is_fully_replicated for x in jax.tree.leaves(read))
        print(json.dumps([source, target, same, split]))
"""


@pytest.mark.slow
def test_a_checkpoint_moves_between_numbers_of_devices_and_shardings(spawn, tmp_path):
    run = spawn(MOVES, "moves", tmp_path, devices=4)
    assert run.wait() == 0, run.err
    rows = [json.loads(line) for line in run.out.splitlines()]
    assert len(rows) == (3 * 2) ** 2
    for source, (num, how), same, split in rows:
        assert same, f"{source} -> {num, how}"
        assert (split > 0) == (num > 1 and how == "fsdp")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ("mnist_mlp", {**IMAGES, "width": 64, "sharding": "fsdp"}),
        ("folder", {"data.resident_mb": 0, "d_updates": 2}),
        ("folder", {"data.resident_mb": 0, "replicas": 2}),
    ],
    ids=["resident", "stream", "replicas"],
)
def test_two_hosts_train_as_one(config, keys, tmp_path, images, train, two_hosts):
    keys = {**SMALL, **keys}
    if config == "folder":
        keys |= {"model": "mlp", "image_size": 8, "data.data_dir": images}
    errs = finish(*two_hosts(config, tmp_path / "two", keys))
    train(config, tmp_path / "one", keys, 4)
    assert_same_numbers(tmp_path / "two", tmp_path / "one", rtol=1e-4)
    assert ("done: " in errs[0], "D(x)" in errs[1]) == (True, False)  # the first logs
    assert len(list((tmp_path / "two").glob("events.out.*"))) == 1


@pytest.mark.parametrize(
    ("second", "messages"),
    [
        ({"seed": 1}, ["the hosts do not train the same"] * 2),
        ({"loss": "hinges"}, ["it failed on another host", "unknown loss 'hinges'"]),
    ],
    ids=["differs", "refused"],
)
def test_hosts_stop_together_at_bad_input(second, messages, tmp_path, two_hosts):
    runs = two_hosts("ring", tmp_path, SMALL, {**SMALL, **second})
    for err, message in zip(finish(*runs, status=2), messages, strict=True):
        assert f"error: {message}" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_hosts_agree_on_when_to_stop(tmp_path, two_hosts):
    """Only the second of them gets the signal."""
    keys = {**SMALL, "num_steps": 10**6, "log_every": 20, "chunk": 10}
    keys |= {"sample_every": 10**5, "checkpoint_every": 10**5}
    runs, end = two_hosts("ring", tmp_path, keys), time.monotonic() + 100
    while "20/" not in runs[0].err and time.monotonic() < end:
        time.sleep(0.02)
    runs[1].signal(signal.SIGTERM)
    errs = finish(*runs, status=143)
    stopped = {line for err in errs for line in err.splitlines() if "stopped" in line}
    (line,) = stopped  # at the same step
    assert line.startswith("stopped: saved at step ")
    step = int(line.split()[4].rstrip(","))
    assert [int(p.name) for p in (tmp_path / "checkpoints").iterdir()] == [step]


WAVE = """
import numpy as np
from gan_jax.metrics.metric import metric

@metric(higher="wave")
def wave(real, fake):
    return np.sin(1e3 * fake.mean())
"""


@pytest.mark.slow
def test_hosts_evaluate_and_agree_on_the_best(tmp_path, two_hosts):
    """It is saved at steps with an ordinary checkpoint, and at others."""
    (tmp_path / "mine.py").write_text(WAVE)
    path, keys = tmp_path / "run", {**SMALL, "num_steps": 8, "checkpoint_every": 2}
    keys |= {"eval.every": 1, "eval.num": 50, "eval.best": "wave"}
    keys |= {"eval.metrics": f"{tmp_path}/mine.py:wave"}
    finish(*two_hosts("ring", path, keys))
    lines = (path / "evaluations.jsonl").read_text().splitlines()
    found = [json.loads(line)["wave"] for line in lines]
    records = [step for step in range(1, 9) if found[step - 1] == max(found[:step])]
    assert len(records) > 2  # so many were saved
    assert [kept.name for kept in (path / "best").iterdir()] == [str(records[-1])]
    assert restore.load(path, "best")[1].step == records[-1]


# What Slurm tells the process of that number of two, each on one device.
SLURM = """
import os, sys
number, port = sys.argv.pop(), sys.argv.pop()
os.environ |= {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost"}
os.environ |= {"SLURM_NTASKS": "2", "SLURM_PROCID": number, "SLURM_LOCALID": number}
os.environ |= {"JAX_COORDINATOR_PORT": port}
"""


def test_slurm_says_which_hosts_there_are(tmp_path, spawn, free_port):
    runs = []
    for i in range(2):  # of two experiments: only hosts that have met can tell
        args = arguments("ring", tmp_path, {**SMALL, "seed": i})
        runs.append(spawn(SLURM + TRAIN, *args, free_port, i))
    for err in finish(*runs, status=2):
        assert "error: the hosts do not train the same" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("", 2, 0), "give all of --coordinator"),
        (("host:1", None, 0), "give all of --coordinator"),
        (("host", 2, 0), "--coordinator=host: it must be HOST:PORT"),
        (("host:99999", 2, 0), "it must be HOST:PORT"),
        (("host:1", 0, 0), "--num_processes=0: it must be at least 1"),
        (("host:1", 2, 2), r"--process_id=2: it must lie in \[0, 2\)"),
    ],
)
def test_hosts_refuse(args, message):
    with pytest.raises(UserError, match=message):
        hosts.initialize(*args)


def test_fsdp_splits_the_largest_axis_that_fits():
    gan = gan_jax.build(gan_jax.Images((32, 32, 3)), width=64)
    state = jax.eval_shape(lambda: replicas.init_state(gan, replicas.root_keys(0, 1)))
    # A mesh of eight, on which nothing is computed.
    mesh = jax.sharding.AbstractMesh((1, 8), (sharding.REPLICA, sharding.DATA))
    split = jax.tree.leaves(sharding.shardings(state, mesh, "fsdp"))
    leaves, kept = jax.tree.leaves(state), 0
    for leaf, leaf_sharding in zip(leaves, split, strict=True):
        kept += np.prod(leaf_sharding.shard_shape(leaf.shape))
        if leaf.size < 2**12:
            assert sharding.DATA not in leaf_sharding.spec
            continue
        axis = leaf_sharding.spec.index(sharding.DATA)
        assert axis > 0  # the first is that of the replicas
        assert leaf.shape[axis] == max(n for n in leaf.shape if n % 8 == 0)
    assert kept < sum(leaf.size for leaf in leaves) / 7
