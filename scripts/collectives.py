"""What the devices exchange in a step, read from the compiled program."""

import jax
from jax.sharding import NamedSharding, PartitionSpec
from workloads import WORKLOADS, compiled, setup

from gan_jax import init_state, train_step
from gan_jax.algorithm.replicas import batches
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError
from gan_jax.targets.hlo import Program


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
    costs = Program(_step(name, devices).as_text()).costs()
    result = {"workload": name, "devices": devices}
    for kind in sorted({cost.collective for cost in costs} - {""} | {"all-reduce"}):
        found = [cost for cost in costs if cost.collective == kind]
        result[kind] = sum(cost.times for cost in found)
        sent = sum(cost.times * cost.sent for cost in found)
        result[f"{kind}_mbyte"] = round(sent / 1e6, 6)
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
