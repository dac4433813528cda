"""What the GPU's compiler makes of the layers."""

import json
import subprocess
import sys

import pytest
from test_compile import NEEDS, has

# The gradient of a strided convolution by its input; its kernel is computed first.
CODE = """
import json, jax, jax.numpy as jnp
from gan_jax.targets.target import find
devices = find("h100").devices()
from gan_jax.devices import mesh
from gan_jax.layers.conv import ConvPool
from gan_jax.targets.hlo import Program

def loss(x, w):
    return jnp.sum(ConvPool(40)._apply(x, w / jnp.linalg.norm(w)) ** 2)

sharding = mesh.replicated(mesh.make_mesh(devices=devices))
shapes = (32, 16, 16, 24), (3, 3, 24, 40)
args = [jax.ShapeDtypeStruct(s, jnp.float32, sharding=sharding) for s in shapes]
program = jax.jit(jax.grad(loss)).lower(*args).compile()
costs = Program(program.as_text()).costs()
print(json.dumps([(c.operation.kind, c.flops) for c in costs if c.flops]))
"""


@pytest.mark.slow
def test_an_input_gradient_is_one_call_without_operations_on_zeros():
    if not has(NEEDS["h100"]):
        pytest.skip(f"{NEEDS['h100']} is not installed")
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    pairs = sum(0 <= 2 * o + k - 1 < 16 for o in range(8) for k in range(4)) ** 2
    calls = json.loads(done.stdout)
    assert {flops for _, flops in calls} == {2 * 32 * 24 * 40 * pairs}
    assert calls[1][0] == "__cudnn$convBackwardInput"
    assert len(calls) == 2
