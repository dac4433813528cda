"""What the devices exchange in a step, read from the compiled program."""

import math
import re

import jax
from jax.sharding import NamedSharding, PartitionSpec
from workloads import WORKLOADS, compiled, setup

from gan_jax import init_state, train_step
from gan_jax.algorithm.replicas import batches
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError

_COLLECTIVE = re.compile(
    r"= (\(.*?\)|\S+) (all-reduce|all-gather|all-to-all|reduce-scatter|"
    r"collective-permute)(?:-start)?\("
)
_ARRAY = re.compile(r"(f32|f64|s32|u32|bf16|f16|pred|u8)\[([\d,]*)\]")
_BYTES = {"f64": 8, "bf16": 2, "f16": 2, "pred": 1, "u8": 1}


def reductions(name: str, devices: int) -> dict:
    """Compiles a step for several devices, and reads what they exchange in it.

    Args:
      name: of the workload.
      devices: how many.

    Returns:
      The number of collective operations of each kind in a step, and their bytes.
    """
    size = WORKLOADS[name]["batch_size"]
    if size % devices:
        raise UserError(
            f"--devices={devices}: {name} has a batch of {size}, which they must divide"
        )
    found = _COLLECTIVE.findall(_step(name, devices).as_text())
    result = {"workload": name, "devices": devices}
    for kind in sorted({kind for _, kind in found} | {"all-reduce"}):
        shapes = [shape for shape, other in found if other == kind]
        result[kind] = len(shapes)
        result[f"{kind}_mbyte"] = round(sum(map(_size, shapes)) / 1e6, 6)
    return result


def _step(name: str, devices: int) -> jax.stages.Compiled:
    """Compiles a step with its batch split over the devices."""
    gan, feed, keys = setup(name)
    mesh = sharding.make_mesh(devices)
    split = NamedSharding(mesh, PartitionSpec(sharding.DATA))
    with jax.set_mesh(mesh):
        everywhere = sharding.replicated(mesh)
        init = jax.jit(init_state, static_argnums=0, out_shardings=everywhere)
        batch = jax.eval_shape(lambda: batches(feed, 0, 1))
        batch = {  # of the only replica
            key: jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=split)
            for key, x in batch.items()
        }
        program, _ = compiled(train_step, gan, init(gan, keys[0]), batch)
    return program


def _size(shapes: str) -> int:
    return sum(
        _BYTES.get(kind, 4) * math.prod(int(n) for n in dims.split(",") if n)
        for kind, dims in _ARRAY.findall(shapes)
    )
