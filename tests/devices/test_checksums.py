"""CRC-32 of arrays in parts equals zlib's of the whole."""

import itertools
import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from gan_jax.devices.checksums import checksums, partial

DTYPES = [np.float32, np.int32, np.uint32, np.uint8, jnp.bfloat16]


@st.composite
def divided(draw):
    """An array, its parts of several hosts, and a size of blocks."""
    shape = tuple(draw(st.lists(st.integers(0, 7), max_size=4)))
    seed, num_hosts = draw(st.integers(0, 99)), draw(st.integers(1, 4))
    random = np.random.default_rng(seed)
    whole = random.integers(0, 256, shape).astype(draw(st.sampled_from(DTYPES)))
    cuts = [
        sorted({0, n, *draw(st.lists(st.integers(0, n), max_size=2))}) for n in shape
    ]
    boxes = [()]  # the grid of parts that the cuts make
    for axis in cuts:
        slices = [slice(*pair) for pair in itertools.pairwise(axis)]
        boxes = [(*box, part) for box in boxes for part in slices]
    hosts = [[] for _ in range(num_hosts)]
    for box in boxes:
        start = tuple(part.start for part in box)
        hosts[random.integers(num_hosts)].append((start, whole[box]))
    return whole, hosts, draw(st.integers(1, 200))


@given(divided())
@settings(max_examples=200, deadline=None)
def test_the_parts_of_hosts_give_the_whole(drawn):
    whole, hosts, block = drawn
    shares = [
        partial(whole.shape, whole.dtype, parts, first=i == 0, block=block)
        for i, parts in enumerate(hosts)
    ]
    assert np.bitwise_xor.reduce(shares) == zlib.crc32(np.ascontiguousarray(whole))


def test_a_host_holds_no_more_than_a_block(monkeypatch):
    whole, held = np.arange(6 * 50 * 40, dtype=np.float32).reshape(6, 50, 40), []

    def zeros(shape, dtype):
        held.append(np.empty(shape, dtype).nbytes)
        return np.empty_like(whole, shape=shape) * 0

    monkeypatch.setattr(np, "zeros", zeros)
    found = partial(whole.shape, whole.dtype, [((0, 0, 0), whole)], True, 1000)
    assert found == zlib.crc32(whole)
    assert max(held) <= 1000


@pytest.mark.parametrize(
    "spec", [(), ("a",), (None, "a"), (None, None, "a"), ("a", None, "b"), ("b", "a")]
)
def test_arrays_of_this_host_are_their_bytes(spec):
    devices = np.array([jax.devices()[0]]).reshape(1, 1)
    mesh = jax.sharding.Mesh(devices, ("a", "b"))
    x = np.random.default_rng(0).normal(size=(4, 6, 8)).astype(np.float32)
    array = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
    key = jax.random.key(3)
    found = checksums([array, jnp.float32(2), key])
    data = np.asarray(jax.random.key_data(key))
    assert found == [zlib.crc32(x), zlib.crc32(np.float32(2)), zlib.crc32(data)]


# Two hosts of two devices save a state that is split over all four, and restore it;
# then a byte is damaged. Each prints how large the arrays were that hosts exchanged.
TWO_HOSTS = """
import json, sys
from pathlib import Path
import jax, numpy as np
from jax.experimental import multihost_utils

address, index, folder = sys.argv
from gan_jax.devices import hosts
hosts.initialize(address, 2, int(index))

from gan_jax.algorithm.state import Player, TrainState
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError
from gan_jax.run.checkpoint import Checkpoints

exchanged = []
gather = multihost_utils.process_allgather
def counted(x, *args, **kwargs):
    exchanged.extend(leaf.nbytes for leaf in jax.tree.leaves(x))
    return gather(x, *args, **kwargs)
multihost_utils.process_allgather = counted

random = np.random.default_rng(0)
kernel = random.normal(size=(1, 64, 128)).astype(np.float32)
params = {"kernel": kernel, "turned": kernel.transpose(0, 2, 1).copy(),
          "bias": kernel[:, 0], "deep": kernel.reshape(1, 4, 4, 16, 32)}
player = Player(params, {}, {"count": np.int32([3])})
state = TrainState(np.int32([1]), np.uint32([[0, 7]]), player, player, {}, {})
mesh = sharding.make_mesh()
shardings = sharding.shardings(state, mesh, "fsdp")
state = jax.tree.map(sharding.put, state, shardings)
assert not state.g.params["kernel"].is_fully_addressable
like = sharding.placed(state, shardings)

checkpoints = Checkpoints(Path(folder), 3)
for step in (1, 2):
    checkpoints.save(state, step, {"step": step})
checkpoints.wait()
hosts.wait_for_all("saved")
saved = Checkpoints(Path(folder)).restore(like)
assert (saved.step, saved.carried) == (2, {"step": 2})
for found, wanted in zip(jax.tree.leaves(saved.state), jax.tree.leaves(state)):
    assert found.sharding == wanted.sharding
    for a, b in zip(found.addressable_shards, wanted.addressable_shards):
        np.testing.assert_array_equal(a.data, b.data)
if hosts.is_first():
    files = [p for p in (Path(folder) / "2").rglob("*") if p.is_file()]
    file = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
hosts.wait_for_all("damaged")
assert Checkpoints(Path(folder)).restore(like).step == 1
checkpoints.close()
text = json.loads((Path(folder) / "1/_CHECKPOINT_METADATA").read_text())
print(json.dumps([max(exchanged), text["custom_metadata"]["text"]]))
"""


def test_two_hosts_check_their_shards_and_gather_nothing(spawn, tmp_path, free_port):
    address = f"127.0.0.1:{free_port}"
    args = [(address, i, tmp_path / "checkpoints") for i in range(2)]
    runs = [spawn(TWO_HOSTS, *arg, devices=2) for arg in args]
    for run in runs:
        assert run.wait() == 0, run.err
    (largest, text), (_, same) = (json.loads(run.out.splitlines()[-1]) for run in runs)
    assert text == same
    arrays = json.loads(text)["arrays"]
    assert largest <= 4 * len(arrays)  # four bytes for each array at most
    kernel = np.random.default_rng(0).normal(size=(64, 128)).astype(np.float32)
    assert arrays["g/params/kernel"] == [[64, 128], zlib.crc32(kernel)]
    turned = np.ascontiguousarray(kernel.T)
    assert arrays["g/params/turned"] == [[128, 64], zlib.crc32(turned)]
