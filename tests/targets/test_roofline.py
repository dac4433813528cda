"""The roofline model against its definition."""

import pytest

from gan_jax.targets import roofline, target
from gan_jax.targets.hlo import Cost, Operation


def cost(**fields):
    empty = {"operation": Operation("x", "x", (), (), "", False), "times": 3}
    empty |= {"flops": 0.0, "dtype": "", "moved": 0.0, "useful": 0.0}
    return Cost(**{**empty, **fields})


def test_an_instruction_takes_the_longer_of_its_two_times():
    one = target.find("h100")
    costs = [
        cost(flops=495e9, dtype="f32", moved=1e6),  # 1 ms of products in TF32
        cost(flops=989e9, dtype="bf16", moved=1e6),
        cost(flops=1e6, dtype="f32", moved=6.7e9),  # 2 ms of bytes
    ]
    found = roofline.times(costs, one, 1)
    assert found.arithmetic == pytest.approx(3 * 2e-3)
    assert found.memory == pytest.approx(3 * 2e-3)
    assert found.network == 0


@pytest.mark.parametrize(
    ("name", "slices", "devices", "kind", "seconds"),
    [
        # A ring of 8 passes 7/8 of the bytes, to reduce and to distribute.
        ("h100x8", 1, 8, "all-reduce", 10e-6 + 2 * 7 / 8 / 450),
        ("h100x8", 1, 4, "all-reduce", 10e-6 + 2 * 3 / 4 / 450),
        ("h100x8", 1, 8, "all-gather", 10e-6 + 7 / 8 / 450),
        # Between 4 hosts each GPU passes on an eighth.
        (*("h100x32", 1, 32, "all-reduce"), 60e-6 + 7 / 4 / 450 + 2 / 8 * 3 / 4 / 50),
        ("v5e:2x4", 1, 8, "all-reduce", 10e-6 + 2 * 7 / 8 / 200),
        ("v5e:2x4", 2, 16, "all-reduce", 10e-6 + 2 * 7 / 8 / 200),
        ("v5e:2x4", 2, 16, "between-slices", 50e-6 + 1 / 3.125),
        # With as many replicas as hosts each has a host, and with twice as many half.
        (*("h100x32", 1, 8, "all-reduce"), 10e-6 + 2 * 7 / 8 / 450),
        (*("h100x32", 1, 4, "all-reduce"), 10e-6 + 2 * 3 / 4 / 450),
        # Two replicas, each on two of four slices.
        ("v5e:2x4", 4, 16, "all-reduce", 10e-6 + 2 * 7 / 8 / 200),
        ("v5e:2x4", 4, 16, "between-slices", 50e-6 + 1 / 3.125),
        ("h100x8", 1, 8, "collective-permute", 10e-6 + 1 / 450),
        ("h100x16", 1, 16, "collective-permute", 50e-6 + 1 / 50),
    ],
)
def test_a_collective_is_a_ring(name, slices, devices, kind, seconds):
    of = target.find(name, slices)
    found = roofline.times([cost(collective=kind, sent=1e9)], of, devices)
    assert found.network == pytest.approx(3 * seconds)


def test_the_bytes_of_a_collective_cross_the_memory_while_they_are_sent():
    found = roofline.times(
        [cost(collective="all-reduce", sent=1e9, moved=2e9)], target.find("h100x8"), 8
    )
    assert found.memory == 0


def test_the_longest_part_is_the_limit():
    assert roofline.Times(1.0, 3.0, 2.0).limit == "memory"
    assert roofline.Times(1.0, 3.0, 2.0).total == 6
