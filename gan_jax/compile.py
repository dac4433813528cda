"""Compiles a run for devices that are not here: `python -m gan_jax.compile`.

    python -m gan_jax.compile --config=configs/mnist.py --target=h100x8
    python -m gan_jax.compile --config=configs/mnist.py --target=v5e:2x4 --fit
    python -m gan_jax.compile --config=configs/mnist.py --target=v5e:2x4 --slices=2

The compilers of GPUs and TPUs need no device. This command gives them the programs of a
run, those that training itself uses: a chunk of steps, a sample grid, and a batch of an
evaluation. It prints the memory that each needs on a device, and of a step: operations,
bytes, collectives, and the time that the chip's data sheet allows for them. `--fit`
finds the largest batch that fits. No data are needed if `--example` says their shape.

It needs JAX's plugin for the target: `pip install 'jax[tpu]'`, or for GPUs what the
message of this command says. A target is a GPU with a number (h100x8, a100, rtx4090,
l4), or a TPU with the shape of the slice (v5e:2x4, v4:2x2x1, v5p:2x2x2, v6e:2x4).
docs/scaling.md has the results for the configs. Exit status: 0 done, 2 bad input or a
program that does not fit.
"""

import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gan_jax import cli, data
from gan_jax import config as config_lib
from gan_jax.algorithm.spaces import Classes, Images, Pair
from gan_jax.build import names
from gan_jax.data.source import Info
from gan_jax.devices import mesh as devices
from gan_jax.errors import UserError, one_line, unknown
from gan_jax.run import programs
from gan_jax.run.training import assembled
from gan_jax.targets import hlo, roofline
from gan_jax.targets import target as targets
from gan_jax.targets.target import Target

CONFIG = cli.config_flag()
TARGET = flags.DEFINE_string("target", None, "The machine, such as h100x8 or v5e:2x4.")
SLICES = flags.DEFINE_integer("slices", 1, "TPU slices of that shape.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", None, "The whole batch; default: the config's.")
PRECISION = flags.DEFINE_enum(
    "precision", None, ["float32", "bfloat16"], "Default: the config's."
)
EXAMPLE = flags.DEFINE_string(
    "example", None, "The shape of an example, 64x64x3, if its data are not here."
)
PROGRAMS = flags.DEFINE_list("programs", ["all"], "Of train, draw and evaluate.")
FIT = flags.DEFINE_bool("fit", False, "Find the largest batch that fits.")
JSON = cli.json_flag()

_TRIES = 4  # programs to compile in search of the largest batch, after two others
_GIB = 2**30


def main() -> None:
    """Runs the command."""
    config, target = _config(), _target()
    mesh = devices.make_mesh(replicas=config.replicas, devices=target.devices())
    source = _source(config)
    if FIT.value:
        config.batch_size = _largest(config, source, target, mesh)
    _, gan = assembled(config, mesh, source)
    found = {"target": target.name, "slices": target.slices, "devices": target.size}
    found |= {"chip": target.chip.name, "batch_size": config.batch_size}
    found |= {"replicas": config.replicas, "precision": config.precision}
    found["programs"] = {}
    with jax.set_mesh(mesh):
        lowered = programs.lowered(config, source, gan, mesh)
        for name in _names(lowered):
            compiled, seconds = _compiled(name, lowered[name], target)
            steps = programs.chunk_length(config, 0) if name == "train" else 1
            about = described(compiled, target, mesh.shape[devices.DATA], steps)
            found["programs"][name] = {"compile_s": round(seconds, 1), **about}
            _check_memory(name, about, target)
    if "train" in found["programs"]:
        images = config.batch_size * config.d_updates * config.replicas
        per_step = found["programs"]["train"]["roofline_ms"] / 1e3
        found["images_per_s"] = round(images / per_step)
    print(json.dumps(found) if JSON.value else "\n".join(_lines(found, target)))


def described(
    compiled: jax.stages.Compiled, target: Target, devices: int, steps: int
) -> dict[str, Any]:
    """Returns what a program needs of each device, by what its step needs.

    Args:
      compiled: the program.
      target: the machine that it is compiled for.
      devices: how many share a batch.
      steps: that one call of it makes.
    """
    memory, costs = compiled.memory_analysis(), hlo.Program(compiled.as_text()).costs()
    times = roofline.times(costs, target, devices)
    flops, moved, useful = (
        sum(cost.times * part(cost) for cost in costs) / steps
        for part in (lambda c: c.flops, lambda c: c.moved, lambda c: c.useful)
    )
    numbers, sizes = Counter(), Counter()
    for cost in costs:
        if cost.collective:
            numbers[cost.collective] += cost.times / steps
            sizes[cost.collective] += cost.times * cost.sent / steps / 1e6
    peaks = target.chip.peak
    return {
        "arguments_mib": round(memory.argument_size_in_bytes / 2**20, 1),
        "temporaries_mib": round(memory.temp_size_in_bytes / 2**20, 1),
        "peak_mib": round(_peak(memory) / 2**20, 1),
        "gflop": round(flops / 1e9, 3),
        "gbyte": round(moved / 1e9, 4),
        "padding": round(1 - useful / moved, 3) if moved else 0.0,
        "collectives": {kind: round(n, 2) for kind, n in sorted(numbers.items())},
        "collectives_mb": {kind: round(n, 3) for kind, n in sorted(sizes.items())},
        "roofline_ms": round(1e3 * times.total / steps, 4),
        "arithmetic_ms": round(1e3 * times.arithmetic / steps, 4),
        "memory_ms": round(1e3 * times.memory / steps, 4),
        "network_ms": round(1e3 * times.network / steps, 4),
        "limit": times.limit,
        "share_of_peak": round(flops * steps / max(peaks.values()) / times.total, 3),
    }


def _config() -> ConfigDict:
    """Returns the config, with what the flags change in it.

    Raises:
      UserError: there is none, or it is invalid.
    """
    config = cli.config_of(CONFIG)
    if PRECISION.value:
        config.precision = PRECISION.value
    if BATCH.value is not None:
        config.batch_size = BATCH.value
    config_lib.validate(config)
    return names.with_absolute_files(config)


def _target() -> Target:
    if not TARGET.value:
        raise UserError("give the machine: --target=h100x8 or --target=v5e:2x4")
    return targets.find(TARGET.value, SLICES.value)


def _source(config: ConfigDict) -> Any:
    """Returns the data, or what stands in for data of which the shape is known.

    Raises:
      UserError: they cannot be used.
    """
    if not EXAMPLE.value:
        try:
            return data.load(config)
        except UserError as error:
            hint = "; or give the shape of an image, --example=64x64x3, and no data"
            raise UserError(f"{error}{hint}") from error
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", EXAMPLE.value):
        raise UserError(f"--example={EXAMPLE.value}: write the shape as 64x64x3")
    shape = tuple(int(n) for n in EXAMPLE.value.split("x"))
    return SimpleNamespace(info=_info(config, shape))


def _info(config: ConfigDict, shape: tuple[int, ...]) -> Info:
    """Returns the description of images that are not here; they are streamed.

    Raises:
      UserError: it is the shape of no image.
    """
    if len(shape) != 3:
        raise UserError(f"--example={EXAMPLE.value}: it is for images, such as 64x64x3")
    example, condition = Images(shape), Classes(10)
    if config.data.source == "pairs":
        condition = example
    elif config.data.source == "unpaired":
        example = condition = Pair((2, *shape))
    return Info(
        name="stand-in",
        example=example,
        condition=condition,
        num_examples=10**9,
        fingerprint="stand-in",
    )


def _names(lowered: dict[str, Callable]) -> Sequence[str]:
    wanted = list(lowered) if PROGRAMS.value == ["all"] else PROGRAMS.value
    for name in wanted:
        if name not in lowered:
            raise unknown("program", name, [*lowered, "all"])
    return wanted


def _compiled(
    name: str, lower: Callable, target: Target
) -> tuple[jax.stages.Compiled, float]:
    """Compiles a program; returns it and the seconds.

    Raises:
      UserError: it does not fit into the memory of the target's chips.
    """
    start = time.perf_counter()
    try:
        program = lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = re.search(r"Used (\S+) of (\S+)", str(error))
        why = f"{used[1]} of {used[2]}" if used else one_line(error)
        raise _too_large(name, why, target) from error
    return program, time.perf_counter() - start


def _check_memory(name: str, about: dict[str, Any], target: Target) -> None:
    """Checks that a program fits.

    Raises:
      UserError: it does not.
    """
    usable = target.chip.memory * target.chip.usable / 2**20
    if about["peak_mib"] > usable:
        needs = f"{about['peak_mib'] / 1024:.1f} GiB of {usable / 1024:.1f} GiB"
        raise _too_large(name, needs, target)


def _too_large(name: str, needs: str, target: Target) -> UserError:
    less = "--precision=bfloat16 and fewer --config.replicas need less"
    if name == "train":
        less = (
            "a smaller --batch, --precision=bfloat16, --config.accumulate=2 and "
            "--config.sharding=fsdp need less, and --fit finds the largest batch"
        )
    where = f"the program {name!r} does not fit into the memory of {target.chip.name}"
    return UserError(f"{where}: it needs {needs}; {less}")


def _peak(memory: Any) -> int:
    """Returns the bytes that a program needs at once."""
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    own = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return max(held + own, memory.peak_memory_in_bytes)


# --- The largest batch --------------------------------------------------------------


def _largest(config: ConfigDict, source: Any, target: Target, mesh: Mesh) -> int:
    """Returns the largest batch that was found to fit.

    Raises:
      UserError: not even the smallest batch fits.
    """
    config = config.copy_and_resolve_references()
    unit = mesh.shape[devices.DATA] * config.accumulate * config.pack
    start = max(unit, config.batch_size // unit * unit)

    def peak(batch: int) -> float:
        config.batch_size = batch
        _, gan = assembled(config, mesh, source)
        try:
            with jax.set_mesh(mesh):
                lowered = programs.lowered(config, source, gan, mesh)
                program, _ = _compiled("train", lowered["train"], target)
            found = _peak(program.memory_analysis())
        except UserError:
            found = math.inf
        print(f"batch {batch}: {found / _GIB:.2f} GiB", file=sys.stderr, flush=True)
        return found

    most = (source.info.num_examples or 10**9) // unit * unit
    usable = target.chip.memory * target.chip.usable
    return largest(peak, unit, min(start, most), most, usable)


def largest(
    peak: Callable[[int], float], unit: int, start: int, most: int, usable: float
) -> int:
    """Returns the largest multiple of `unit` that was found to fit.

    Memory is nearly affine in the batch, until the compiler saves some by computing
    things twice: two batches give a line, and its end is the next to try; then halves.

    Args:
      peak: the bytes that a batch needs; inf if it cannot be compiled.
      unit: what a batch is a multiple of.
      start: the first to try.
      most: the greatest to try.
      usable: bytes.

    Raises:
      UserError: the smallest batch does not fit.
    """
    known = {start: peak(start)}
    low, high = start, most + unit
    while low > unit and known[low] > usable:
        low, high = max(unit, low // 2 // unit * unit), low
        known[low] = peak(low)
    if known[low] > usable:
        raise UserError(f"not even a batch of {low} fits")
    batch = _next(known, low, high, usable) if high in known else 2 * low
    for _ in range(_TRIES + 1):
        batch = min(max(int(batch) // unit * unit, low + unit), high - unit)
        if batch <= low:
            break
        known[batch] = peak(batch)
        low, high = (batch, high) if known[batch] <= usable else (low, batch)
        batch = _next(known, low, high, usable)
    return low


def _next(known: dict[int, float], low: int, high: int, usable: float) -> float:
    """Returns the batch to try between one that fits and one that may not.

    It is where the line through two batches has the bytes that are usable, or half way
    to one that cannot be compiled.
    """
    if known.get(high) == math.inf:
        return (low + high) / 2
    finite = sorted(batch for batch, needs in known.items() if needs < math.inf)
    at = min(finite.index(low) + 1, len(finite) - 1)
    a, b = finite[at - 1], finite[at]
    slope = (known[b] - known[a]) / (b - a)
    return low + (usable - known[low]) / max(slope, 1.0)


# --- What is printed ----------------------------------------------------------------


def _lines(found: dict[str, Any], target: Target) -> list[str]:
    chip, size = target.chip, found["devices"]
    lines = [
        f"target: {size} {chip.name} of {chip.memory / _GIB:.0f} GiB"
        + (f", {target.slices} slices" if target.slices > 1 else ""),
        f"batch size {found['batch_size']:,}, {found['precision']}"
        + (f", {found['replicas']} replicas" if found["replicas"] > 1 else ""),
    ]
    for name, about in found["programs"].items():
        lines += _of_program(name, about, chip)
    if "images_per_s" in found:
        lines.append(f"at most {found['images_per_s']:,} images/s by the roofline")
    return lines


def _of_program(name: str, about: dict[str, Any], chip: targets.Chip) -> list[str]:
    sent = [
        f"{about['collectives'][kind]:g} {kind} of {mb:.3g} MB"
        for kind, mb in about["collectives_mb"].items()
    ]
    share = about["peak_mib"] * 2**20 / chip.memory
    of = "of a step, " if name == "train" else ""
    return [
        f"{name}: compiled in {about['compile_s']} s",
        f"  memory       {about['peak_mib']:,.0f} MiB at once, {share:.1%} of a device "
        f"(arguments {about['arguments_mib']:,.0f}, temporaries "
        f"{about['temporaries_mib']:,.0f})",
        f"  work         {of}{about['gflop']:,.4g} GFLOP and {about['gbyte']:.3g} GB, "
        f"{about['padding']:.0%} of the bytes are padding",
        f"  collectives  {', '.join(sent) or 'none'}",
        f"  time         {about['roofline_ms']:.3g} ms by the roofline: arithmetic "
        f"{about['arithmetic_ms']:.3g}, memory {about['memory_ms']:.3g}, network "
        f"{about['network_ms']:.3g}",
        f"  limit        {about['limit']}; {about['share_of_peak']:.0%} of the "
        "bfloat16 peak",
    ]


if __name__ == "__main__":
    cli.run(main)
