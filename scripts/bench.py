"""Times training steps and says what limits them: `python scripts/bench.py`.

    python scripts/bench.py --workload=all --vs-torch       the table of the README
    python scripts/bench.py --workload=dcgan28 --replicas=1,4,16
    python scripts/bench.py --workload=dcgan28 --devices=1,2,4,8
    python scripts/bench.py --overhead
    python scripts/bench.py --metrics --turns=3

A step is one discriminator and one generator update, each with fresh noise, on one
resident batch; the toy workload draws its data in the step. Steps run in compiled
chunks, as in training, and in single calls; with `--vs-torch` also in PyTorch
(scripts/peer_torch.py, the same networks), in each mode that works there. All take
turns, a burst of steps each, so that other load on the machine slows all of them alike.

For each workload it prints milliseconds a step (median, least and greatest over the
turns), PyTorch's best mode and the ratio to it; operations and bytes of a step by XLA's
count, the time they need at the machine's measured peaks, and how much of that speed is
reached; compilation times and memory. `--replicas` prints what a step costs for each of
N seeds in one program, `--devices` the reductions over devices that XLA put into a
step, `--overhead` what logging, sample grids and checkpoints cost `configs/mnist.py`,
and `--metrics` how long metrics of 10,000 x 2,048 features take, beside their reference
implementations where these are installed. `--json` prints one JSON object a line.
"""

import contextlib
import functools
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags
from collectives import reductions
from metric_speed import metric_speed
from overhead import overhead
from workloads import WORKLOADS, compiled, setup

from gan_jax import cli, train_step
from gan_jax.algorithm import replicas
from gan_jax.errors import UserError, unknown

PEER = Path(__file__).with_name("peer_torch.py")
MODES = ("eager", "channels_last", "compile", "compile+channels_last")

WORKLOAD = flags.DEFINE_list("workload", "dcgan28", "Names of workloads, or all.")
TURNS = flags.DEFINE_integer("turns", 7, "How often each is timed.", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 2.0, "The least that a turn should take.")
VS_TORCH = flags.DEFINE_bool("vs-torch", False, "Time PyTorch's modes in turn.")
REPLICAS = flags.DEFINE_list("replicas", [], "Numbers of seeds in one program.")
DEVICES = flags.DEFINE_list("devices", [], "Numbers of devices to compile for.")
OVERHEAD = flags.DEFINE_bool("overhead", False, "Time what a run's records cost.")
METRICS = flags.DEFINE_bool("metrics", False, "Time metrics and their references.")
JSON = flags.DEFINE_bool("json", False, "Print one JSON object a line.")


# --- What is timed ------------------------------------------------------------------


class Ours:
    """One workload in JAX: compiled chunks of `n` steps, and single steps.

    Args:
      name: of the workload.
      seconds: the least that a chunk should take.
    """

    def __init__(self, name: str, seconds: float):
        self.gan, self.feed, keys = setup(name)
        self.state = _init(self.gan, keys)
        self.step, self.compile_step_s = compiled(
            _step, self.gan, self.state, self.feed
        )
        self.singly(2)
        self.n = max(2, math.ceil(seconds * 1e3 / self.singly(2)))
        self.chunk, self.compile_s = _compiled_chunk(
            self.gan, self.state, self.feed, self.n
        )
        self.chunked()

    def chunked(self) -> float:
        """Returns the milliseconds per step of one chunk."""
        start = time.perf_counter()
        self.state, _ = jax.block_until_ready(
            self.chunk(self.gan, self.state, self.feed)
        )
        return (time.perf_counter() - start) * 1e3 / self.n

    def singly(self, n: int) -> float:
        """Returns the milliseconds per step of `n` single calls."""
        start = time.perf_counter()
        for _ in range(n):
            self.state, metrics = self.step(self.gan, self.state, self.feed)
        jax.block_until_ready((self.state, metrics))
        return (time.perf_counter() - start) * 1e3 / n

    def parameters(self) -> list[int]:
        """Returns how many parameters G and D have."""
        return [
            sum(x.size for x in jax.tree.leaves(player.params))
            for player in (self.state.g, self.state.d)
        ]


def _init(gan, keys):
    return jax.jit(replicas.init_state, static_argnums=0)(gan, keys)


def _step(gan, state, feed):
    """Makes one step of the only replica, as `train_chunk` makes many."""
    batch = replicas.replica(replicas.batches(feed, state.step[0], 1), 0)
    state, metrics = train_step(gan, replicas.replica(state, 0), batch)
    return jax.tree.map(lambda x: x[None], (state, metrics))


def _compiled_chunk(gan, state, feed, n: int):
    chunk = functools.partial(replicas.train_chunk, n=n)
    return compiled(chunk, gan, state, feed)


class Torch:
    """One workload in PyTorch, in a process that waits for its turns.

    Args:
      name: of the workload.
      mode: of PyTorch.

    Raises:
      RuntimeError: it does not work there; says why.
    """

    def __init__(self, name: str, mode: str):
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed in close()
        command = [sys.executable, PEER, "--serve", "--workload", name, "--mode", mode]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.about = self._answer()
        except RuntimeError:
            self.close()
            raise

    def steps(self, n: int) -> float:
        """Returns the milliseconds that each of `n` steps took, their mean."""
        print(n, file=self._process.stdin, flush=True)
        return statistics.fmean(self._answer())

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _answer(self):
        if line := self._process.stdout.readline():
            with contextlib.suppress(ValueError):
                return json.loads(line)
            raise RuntimeError(f"printed {line.strip()!r}")
        self._process.wait()
        self._log.seek(0)
        raise RuntimeError((self._log.read().splitlines() or ["no output"])[-1])


# --- What limits it -----------------------------------------------------------------


@functools.cache
def peaks() -> tuple[float, float]:
    """Returns the machine's peaks: float32 operations, and bytes moved, a second."""
    side, numbers = 2048, 1 << 26
    a, x = jnp.ones((side, side)), jnp.ones(numbers)
    product = jax.jit(lambda a: a @ a / side)
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)  # allocates nothing
    return 2 * side**3 / _least(product, a), 2 * x.nbytes / _least(copy, x)


def _least(function, x) -> float:
    """Returns the least seconds that applying a function once more takes."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        x = jax.block_until_ready(function(x))
        times.append(time.perf_counter() - start)
    return min(times[1:])


def limits(program, ms: float) -> dict:
    """Returns what a compiled step needs, and how near it comes to the peaks.

    Args:
      program: one compiled step.
      ms: how long it takes.
    """
    cost, memory = program.cost_analysis(), program.memory_analysis()
    operations, moved = peaks()
    compute, traffic = cost["flops"] / operations, cost["bytes accessed"] / moved
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return {
        "gflop": round(cost["flops"] / 1e9, 3),
        "gbyte": round(cost["bytes accessed"] / 1e9, 3),
        "peak_gflop_s": round(operations / 1e9),
        "copy_gbyte_s": round(moved / 1e9, 1),
        "floor_ms": round(1e3 * max(compute, traffic), 2),
        "limit": "arithmetic" if compute > traffic else "memory",
        "share_of_floor": round(1e3 * max(compute, traffic) / ms, 2),
        "memory_mb": round(held / 2**20),
    }


# --- The measurements ---------------------------------------------------------------


def measure(name: str, turns: int, seconds: float, against_torch: bool) -> dict:
    """Times one workload.

    Args:
      name: of the workload.
      turns: how often.
      seconds: the least that a turn should take.
      against_torch: whether PyTorch takes turns with it.

    Returns:
      What the command prints.
    """
    ours = Ours(name, seconds)
    with contextlib.ExitStack() as stack:
        peers, failed = _started(stack, ours, name) if against_torch else ({}, {})
        run = {"chunk": ours.chunked, "single": lambda: ours.singly(ours.n)}
        run |= {m: functools.partial(p.steps, ours.n) for m, p in peers.items()}
        times = {key: [] for key in run}
        for _ in range(turns):
            for key, take in run.items():
                times[key].append(take())
    ms = statistics.median(times["chunk"])
    result = {
        "workload": name,
        "parameters": ours.parameters(),
        "ms_per_step": round(ms, 3),
        "min_ms": round(min(times["chunk"]), 3),
        "max_ms": round(max(times["chunk"]), 3),
        "single_ms": round(statistics.median(times["single"]), 3),
        "steps_per_chunk": ours.n,
        "turns": turns,
    }
    if peers:
        result |= _compared(times, peers, failed)
    return result | {
        "compile_s": round(ours.compile_s, 2),
        "compile_step_s": round(ours.compile_step_s, 2),
        **limits(ours.step, ms),
    }


def _started(stack: contextlib.ExitStack, ours: Ours, name: str):
    """Starts PyTorch's modes; returns those that work, and why the others do not."""
    peers, failed = {}, {}
    for mode in MODES:
        try:
            peers[mode] = stack.enter_context(contextlib.closing(Torch(name, mode)))
        except RuntimeError as error:
            failed[mode] = str(error)
    for mode, peer in peers.items():
        if peer.about["parameters"] != ours.parameters():
            raise UserError(
                f"{name} has {ours.parameters()} parameters, PyTorch's {mode} "
                f"{peer.about['parameters']}"
            )
    return peers, failed


def _compared(times: dict, peers: dict, failed: dict) -> dict:
    """Returns the times of PyTorch's modes, and the ratio to the best of them."""
    medians = {mode: statistics.median(times[mode]) for mode in peers}
    best = min(medians, key=medians.get)
    ratios = [a / b for a, b in zip(times["chunk"], times[best], strict=True)]
    return {
        "torch": peers[best].about["version"],
        "torch_ms": {mode: round(ms, 3) for mode, ms in medians.items()},
        "torch_failed": failed,
        "torch_best": best,
        "ratio": round(statistics.median(times["chunk"]) / medians[best], 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }


def replicated(name: str, num: int, turns: int, seconds: float) -> dict:
    """Times `num` replicas of a workload in one program.

    Args:
      name: of the workload.
      num: how many.
      turns: how often.
      seconds: the least that a turn should take.
    """
    gan, feed, keys = setup(name, num)
    state = _init(gan, keys)

    def timed(state, program, n):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(program(gan, state, feed))
        return state, (time.perf_counter() - start) * 1e3 / n

    short, compile_s = _compiled_chunk(gan, state, feed, 2)
    state, _ = timed(state, short, 2)
    state, ms = timed(state, short, 2)
    n = max(2, math.ceil(seconds * 1e3 / ms))
    program, _ = _compiled_chunk(gan, state, feed, n)
    times = []
    for _ in range(turns):
        state, ms = timed(state, program, n)
        times.append(ms)
    ms = statistics.median(times)
    return {
        "workload": name,
        "replicas": num,
        "ms_per_step": round(ms, 3),
        "ms_per_replica": round(ms / num, 3),
        "compile_s": round(compile_s, 2),
    }


def compare_replicas(name: str, numbers: list[int], turns: int, seconds: float):
    """Yields what each number of replicas costs, against as many single programs."""
    one = None
    for num in numbers:
        result = replicated(name, num, turns, seconds)
        one = one or (result if num == 1 else replicated(name, 1, turns, seconds))
        yield result | {
            "cost_to_one": round(result["ms_per_replica"] / one["ms_per_step"], 3),
            "compile_saved_s": round(num * one["compile_s"] - result["compile_s"], 2),
        }


def main() -> None:
    """Runs the command."""
    jax.config.update("jax_enable_compilation_cache", False)
    names = list(WORKLOADS) if WORKLOAD.value == ["all"] else WORKLOAD.value
    for name in names:
        if name not in WORKLOADS:
            raise unknown("workload", name, [*WORKLOADS, "all"])
    if SECONDS.value <= 0:
        raise UserError(f"--seconds={SECONDS.value}: it must be more than 0")
    if VS_TORCH.value and importlib.util.find_spec("torch") is None:
        raise UserError("--vs-torch needs PyTorch: pip install torch")
    seeds, devices = numbers(REPLICAS), numbers(DEVICES)
    if devices and OVERHEAD.value:
        raise UserError("--overhead is of one device: give --devices apart from it")
    if devices:
        virtual_devices(max(devices))
    if OVERHEAD.value:
        show(overhead(TURNS.value))
    for result in metric_speed(TURNS.value) if METRICS.value else ():
        show(result)
    for name in names:
        for num in devices:
            show(reductions(name, num))
        for result in compare_replicas(name, seeds, TURNS.value, SECONDS.value):
            show(result)
        if not (devices or seeds or OVERHEAD.value or METRICS.value):
            show(measure(name, TURNS.value, SECONDS.value, VS_TORCH.value))


def numbers(flag: flags.FlagHolder) -> list[int]:
    """Returns the numbers that a flag lists.

    Raises:
      UserError: one is no whole number from 1 on.
    """
    for text in flag.value:
        if not text.isdecimal() or int(text) < 1:
            raise UserError(f"--{flag.name}={text}: give whole numbers from 1 on")
    return [int(text) for text in flag.value]


def virtual_devices(wanted: int) -> None:
    """Makes eight devices of a CPU, unless the environment says how many.

    Raises:
      UserError: there are fewer than `wanted`.
    """
    is_set = "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not (is_set or "JAX_NUM_CPU_DEVICES" in os.environ):
        jax.config.update("jax_num_cpu_devices", 8)
    if wanted > jax.device_count():
        raise UserError(
            f"--devices={wanted}: there are {jax.device_count()} (of a CPU as many as "
            "JAX_NUM_CPU_DEVICES says)"
        )


def show(result: dict) -> None:
    """Prints one result."""
    if JSON.value:
        print(json.dumps(result), flush=True)
    else:
        print("  ".join(f"{key} {value}" for key, value in result.items()), flush=True)


if __name__ == "__main__":
    cli.run(main)
