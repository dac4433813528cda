"""How long a compiled program should take on a machine, by the roofline model.

Each instruction takes as long as its products need at the chip's peak, or its bytes at
the memory's rate, whichever is longer (Williams et al. 2009,
doi:10.1145/1498765.1498785). The instructions run one after another, and collectives
overlap with nothing. Real programs are slower: they reach neither rate. A comparison of
two programs, and what limits one of them, is what the model is for.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from gan_jax.targets.hlo import BETWEEN_SLICES, Cost
from gan_jax.targets.target import Target

# Seconds that a collective takes however little it sends: assumed.
_NEAR, _FAR = 10e-6, 50e-6
_TYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "bfloat16"}
# How often the bytes of the result cross a ring of n devices, times n / (n - 1).
_PASSES = {"all-reduce": 2, BETWEEN_SLICES: 2}


class Times(NamedTuple):
    """Seconds of one device.

    Attributes:
      arithmetic: of instructions that their products limit.
      memory: of those that their bytes limit.
      network: of collectives.
    """

    arithmetic: float
    memory: float
    network: float

    @property
    def total(self) -> float:
        """All of them together."""
        return sum(self)

    @property
    def limit(self) -> str:
        """Which of them is the longest."""
        return max(self._fields, key=lambda name: getattr(self, name))


def times(costs: Sequence[Cost], target: Target, devices: int) -> Times:
    """Returns how long a program should take.

    Args:
      costs: of its instructions, see `hlo.Program.costs`.
      target: the machine.
      devices: how many of its devices share a collective.
    """
    arithmetic = memory = network = 0.0
    for cost in costs:
        peak = target.chip.peak[_TYPES.get(cost.dtype, "float32")]
        products, moved = cost.flops / peak, cost.moved / target.chip.bandwidth
        if cost.collective:
            network += cost.times * _collective(cost, target, devices)
        elif products > moved:
            arithmetic += cost.times * products
        else:
            memory += cost.times * moved
    return Times(arithmetic, memory, network)


def _collective(cost: Cost, target: Target, devices: int) -> float:
    """Returns the seconds of one collective, a ring within a host or slice and between.

    A ring over n devices passes (n - 1) / n of the bytes once, or twice to reduce and
    to distribute. Between hosts each device passes on the part that it has reduced.
    """
    chip, sent = target.chip, cost.sent
    # Replicas are split over hosts and slices first: fewer are left to share a batch.
    far = target.groups // math.gcd(target.groups, target.size // devices)
    near = devices // far
    tpu = chip.platform == "tpu"
    if cost.collective == "collective-permute":  # each device sends all to one other
        across = far > 1 and not tpu
        return _FAR + sent / chip.slow if across else _NEAR + sent / chip.fast
    passes = _PASSES.get(cost.collective, 1) * sent
    within = _NEAR + passes * (near - 1) / near / chip.fast
    between = _FAR + passes * (far - 1) / far / chip.slow
    if cost.collective == BETWEEN_SLICES:
        return between
    if tpu or far == 1:
        return within
    return within + _FAR + passes / near * (far - 1) / far / chip.slow
