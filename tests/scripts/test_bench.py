import functools
import importlib.util
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from gan_jax.algorithm import replicas

ROOT = Path(__file__).parents[2]
COMMON = {"workload", "ms_per_step"}
TIMED = {
    *COMMON,
    *("parameters", "min_ms", "max_ms", "single_ms", "steps_per_chunk", "turns"),
    *("compile_s", "compile_step_s", "gflop", "gbyte", "peak_gflop_s", "copy_gbyte_s"),
    *("floor_ms", "limit", "share_of_floor", "memory_mb"),
}
BENCH = """
import os, sys
for name in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES"):  # they set the number of devices
    os.environ.pop(name, None)
sys.path.insert(0, "scripts")
import bench
from gan_jax import cli
cli.run(bench.main)
"""


@pytest.fixture
def bench(spawn):
    def run(*args):
        done = spawn(BENCH, "bench.py", *args)
        done.wait()
        return done

    return run


@pytest.fixture
def results(bench):
    def run(*args):
        done = bench(*args, "--seconds=0.01", "--turns=2", "--json")
        assert done.status == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]

    return run


@pytest.mark.slow
def test_times_a_workload_and_says_what_limits_it(results):
    (result,) = results("--workload=mlp_ring")
    assert result.keys() == TIMED
    assert result["parameters"] == [17154, 17025]
    assert 0 < result["min_ms"] <= result["ms_per_step"] <= result["max_ms"]
    assert result["limit"] in ("arithmetic", "memory")
    # Forward and backward: G once and thrice, D thrice for two batches and for G's.
    macs = 256 * (4 * (2 * 128 + 128**2 + 2 * 128) + 9 * (2 * 128 + 128**2 + 128))
    assert result["gflop"] == pytest.approx(2e-9 * macs, rel=0.2)


@pytest.mark.slow
def test_replicas_cost_and_compile(results):
    one, three = results("--workload=mlp_ring", "--replicas=1,3")
    assert one.keys() == three.keys()
    assert one.keys() > COMMON
    assert (one["replicas"], three["replicas"]) == (1, 3)
    assert three["ms_per_replica"] == pytest.approx(three["ms_per_step"] / 3, rel=0.01)


@pytest.mark.parametrize("num", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_replicas_of_any_workload_can_be_trained(num):
    from workloads import WORKLOADS, setup

    for name in WORKLOADS if num == 2 else ["mlp_ring", "dcgan28"]:
        gan, feed, keys = setup(name, num)
        state = jax.eval_shape(functools.partial(replicas.init_state, gan), keys)
        chunk = functools.partial(replicas.train_chunk, gan, n=3)
        after, metrics = jax.eval_shape(chunk, state, feed)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        assert {m.shape for m in metrics.values()} == {(3, num)}


def test_peers_have_as_many_parameters():
    torch = pytest.importorskip("torch")
    import peer_torch
    from workloads import WORKLOADS, setup

    assert peer_torch.WORKLOADS.keys() == WORKLOADS.keys()
    for name, workload in peer_torch.WORKLOADS.items():
        gan, _, keys = setup(name)
        state = jax.eval_shape(functools.partial(replicas.init_state, gan), keys)
        ours = [
            sum(math.prod(x.shape) for x in jax.tree.leaves(player.params))
            for player in (state.g, state.d)
        ]
        with torch.device("meta"):
            nets = workload["nets"]()
        assert [sum(p.numel() for p in net.parameters()) for net in nets] == ours


@pytest.mark.slow
def test_devices_exchange_gradients_and_nothing_that_grows_with_the_batch(results):
    one, two = results("--workload=mlp_ring", "--devices=1,2")
    assert (one["all-reduce"], one["all-reduce_mbyte"]) == (0, 0)
    assert two.keys() == one.keys()  # all-reduces and no other kind
    assert two["all-reduce"] == 2  # one of each player's gradient
    # The gradients of both players, float32, and some means.
    assert 4 * 34179 <= 1e6 * two["all-reduce_mbyte"] <= 4 * 34179 + 400


BAD = [
    (("--workload=dcgan29",), "unknown workload 'dcgan29'; did you mean 'dcgan28'"),
    (("--replicas=0",), "--replicas=0: give whole numbers from 1 on"),
    (("--replicas=two",), "--replicas=two: give whole numbers from 1 on"),
    (("--devices=16",), "--devices=16: there are 8"),
    (("--devices=3", "--workload=dcgan64"), "--devices=3: dcgan64 has a batch of 32"),
    (("--devices=2", "--overhead"), "--overhead is of one device"),
    (("--seconds=0",), "--seconds=0.0: it must be more than 0"),
    pytest.param(
        ("--vs-torch",),
        "--vs-torch needs PyTorch: pip install torch",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("torch") is not None, reason="PyTorch is there"
        ),
    ),
]


@pytest.mark.parametrize(("args", "message"), BAD)
def test_refuses(args, message, bench):
    done = bench(*args)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: {message}")
    assert done.err.count("\n") == 1
