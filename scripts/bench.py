"""Times training steps: `python scripts/bench.py --workload=dcgan28 [--json]`.

A step is one discriminator and one generator update, each with fresh noise, on one
resident batch; the toy workload draws its data in the step. Steps run in compiled
chunks, as in training. Prints `workload`, `ms_per_step` (the median over chunks),
`min_ms`, `steps` timed, and `compile_s`.
"""

import functools
import json
import statistics
import time

import flax.struct
import jax
import jax.numpy as jnp
from absl import flags

from gan_jax import build, cli, init_state, train_chunk
from gan_jax.data import toy
from gan_jax.data.feed import Drawn
from gan_jax.errors import UserError, unknown

# The networks of the DCGAN paper and its 28x28 form, batches of 128 and 32; and an MLP
# on eight Gaussians. Adam(2e-4, b1=0.5, b2=0.999), non-saturating loss.
WORKLOADS = {
    "mlp_ring": {
        "shape": (2,),
        "model": "mlp",
        "width": 128,
        "latent_size": 2,
        "discriminator": "slope=0.0",
        "batch_size": 256,
    },
    "dcgan28": {"shape": (28, 28, 1), "batch_size": 128},
    "dcgan28_r1": {"shape": (28, 28, 1), "batch_size": 128, "penalties": "r1"},
    "dcgan64": {"shape": (64, 64, 3), "batch_size": 32},
}

WORKLOAD = flags.DEFINE_string("workload", "dcgan28", "One of the workloads.")
SECONDS = flags.DEFINE_float("seconds", 10.0, "How long to time, at least 5 chunks.")
JSON = flags.DEFINE_bool("json", False, "Print one JSON object.")


@flax.struct.dataclass
class OneBatch:
    """A feed that gives the same batch in every step."""

    images: jax.Array

    def window(self, step: jax.Array, n: int) -> jax.Array:
        """Returns nothing but the number of steps, as a leading axis."""
        return jnp.arange(n)

    def batch(self, drawn: jax.Array) -> dict[str, jax.Array]:
        """Returns the batch."""
        return {"image": self.images}


def measure(name: str, seconds: float) -> dict:
    """Times one workload.

    Args:
      name: of the workload.
      seconds: for how long.

    Returns:
      What the command prints.
    """
    gan_args = dict(WORKLOADS[name])
    size = gan_args.pop("batch_size")
    gan = build(**gan_args)
    key = jax.random.key(0)
    feed = OneBatch(jax.random.normal(key, (size, *gan.shape)))
    if len(gan.shape) == 1:
        feed = Drawn(key, toy.ring(), size)
    state = jax.jit(init_state)(gan, key)

    n = 200 if len(gan.shape) == 1 else 5
    start = time.perf_counter()
    chunk = jax.jit(functools.partial(train_chunk, n=n), donate_argnums=1)
    chunk = chunk.lower(gan, state, feed).compile()
    compile_s = time.perf_counter() - start

    state, _ = jax.block_until_ready(chunk(gan, state, feed))
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        state, _ = jax.block_until_ready(chunk(gan, state, feed))
        times.append((time.perf_counter() - start) * 1e3 / n)
    return {
        "workload": name,
        "ms_per_step": round(statistics.median(times), 3),
        "min_ms": round(min(times), 3),
        "steps": n * len(times),
        "compile_s": round(compile_s, 2),
    }


def main() -> None:
    """Runs the command."""
    if WORKLOAD.value not in WORKLOADS:
        raise unknown("workload", WORKLOAD.value, WORKLOADS)
    if SECONDS.value <= 0:
        raise UserError(f"--seconds={SECONDS.value}: it must be more than 0")
    result = measure(WORKLOAD.value, SECONDS.value)
    if JSON.value:
        print(json.dumps(result))
    else:
        print("  ".join(f"{key} {value}" for key, value in result.items()))


if __name__ == "__main__":
    cli.run(main)
