"""What a step exchanges between devices, read from the compiled program."""

import math
import re

import jax
from workloads import WORKLOADS, compiled, setup

from gan_jax import init_state, train_step
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError

_COLLECTIVE = re.compile(
    r"= (\(.*?\)|\S+) (all-reduce|all-gather|all-to-all|reduce-scatter|"
    r"collective-permute)(?:-start)?\("
)
_ARRAY = re.compile(r"(f32|f64|s32|u32|bf16|f16|pred|u8)\[([\d,]*)\]")
_BYTES = {"f64": 8, "bf16": 2, "f16": 2, "pred": 1, "u8": 1}


def reductions(name: str, devices: int) -> dict:
    """Compiles a step for some devices, and reads what it exchanges between them.

    Args:
      name: of the workload.
      devices: how many.

    Returns:
      How many collective operations of each kind a step makes, and their bytes.
    """
    gan, key, feed = setup(name)
    if WORKLOADS[name]["batch_size"] % devices:
        raise UserError(
            f"--devices={devices}: {name} has a batch of "
            f"{WORKLOADS[name]['batch_size']}, which they must divide"
        )
    mesh = sharding.make_mesh(devices)
    with jax.set_mesh(mesh):
        place = sharding.replicated(mesh)
        state = jax.jit(init_state, static_argnums=0, out_shardings=place)(gan, key)
        batch = jax.eval_shape(lambda: feed.batch(feed.window(0, 1)[0]))
        split = jax.sharding.NamedSharding(
            mesh, jax.sharding.PartitionSpec(sharding.DATA)
        )
        program, _ = compiled(
            train_step,
            gan,
            state,
            sharding.placed(batch, jax.tree.map(lambda _: split, batch)),
        )
    found = _COLLECTIVE.findall(program.as_text())
    kinds = {kind for _, kind in found}
    result = {"workload": name, "devices": devices}
    for kind in sorted(kinds | {"all-reduce"}):
        shapes = [shape for shape, other in found if other == kind]
        result[kind] = len(shapes)
        result[f"{kind}_mbyte"] = round(sum(map(_size, shapes)) / 1e6, 6)
    return result


def _size(shapes: str) -> int:
    return sum(
        _BYTES.get(kind, 4) * math.prod(int(n) for n in dims.split(",") if n)
        for kind, dims in _ARRAY.findall(shapes)
    )
