"""Machines that a program can be compiled for, without having them.

JAX compiles for a topology (`jax.experimental.topologies`): the compilers of its GPU
and TPU plugins need a description of the devices, and no device.
"""

import dataclasses
import importlib.metadata
import importlib.util
import math
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from gan_jax.errors import UserError, choices, one_line

_CHIPS = Path(__file__).with_name("chips")
_NUM, _SHAPE = re.compile(r"(?:x([1-9]\d*))?"), re.compile(r":([1-9]\d*(?:x[1-9]\d*)*)")


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of device, by the figures of its maker.

    Attributes:
      name: as its maker calls it.
      platform: of JAX, 'cuda' or 'tpu'.
      memory: bytes.
      usable: the share of them that a program can have.
      bandwidth: of the memory, bytes/s.
      fast: bytes/s of one device in one direction, to its host or slice.
      slow: the same, to other hosts or slices.
      per_host: devices.
      most: chips of a TPU slice.
      peak: FLOP/s of matrix products by the type of their operands.
      xla: XLA's description of a GPU.
      options: of a TPU's topology.
    """

    name: str
    platform: str
    memory: float
    usable: float
    bandwidth: float
    fast: float
    slow: float
    per_host: int
    peak: Mapping[str, float]
    xla: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    most: int = 0


@dataclasses.dataclass(frozen=True)
class Target:
    """A machine of equal devices.

    Attributes:
      name: such as 'h100x8' or 'v5e:2x4'.
      chip: of what kind the devices are.
      shape: of the GPUs `(hosts, GPUs of a host)`, of a TPU slice its torus.
      slices: TPU slices.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def size(self) -> int:
        """The number of devices."""
        return math.prod(self.shape) * self.slices

    @property
    def groups(self) -> int:
        """The number of GPU hosts, or of TPU slices: a slow network joins them."""
        return self.shape[0] if self.chip.platform == "cuda" else self.slices

    def devices(self) -> list:
        """Returns the devices, for a mesh.

        Nothing else may have used JAX's devices before in this process.

        Raises:
          UserError: JAX lacks the plugin, or it knows no such topology.
        """
        gpu = self.chip.platform == "cuda"
        check, surround = (_check_gpu, _for_gpu) if gpu else (_check_tpu, _for_tpu)
        check()
        surround()
        jax.config.update("jax_platforms", "cpu")
        jax.devices()  # finds the plugins
        topology, options = "x".join(map(str, self.shape)), dict(self.chip.options)
        if gpu:
            topology = f"1x{topology}"
            options |= {"target_config": self._config, "topology": topology}
        else:
            options |= {"num_slices": self.slices} if self.slices > 1 else {}
            options |= _bounds(self.shape)
            topology = f"{self.name.partition(':')[0]}:{topology}"
        try:
            found = topologies.get_topology_desc(
                topology, self.chip.platform, **options
            )
        except Exception as error:
            why = one_line(error)
            raise UserError(f"--target={self.name}: there is none ({why})") from error
        return list(found.devices)

    @property
    def _config(self) -> str:
        """XLA's description of a GPU, a text proto."""
        fields = dict(self.chip.xla)
        major, minor = fields.pop("cuda_compute_capability").split(".")
        text = " ".join(f"{key}: {value}" for key, value in fields.items())
        memory = f"memory_bandwidth: {self.chip.bandwidth:.0f}"
        memory += f" device_memory_size: {self.chip.memory:.0f}"
        capability = f"cuda_compute_capability {{ major: {major} minor: {minor} }}"
        return (
            f"gpu_device_info {{ {text} {memory} {capability} }} "
            'platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 } '
            f'device_description_str: "{self.chip.name}"'
        )


def find(name: str, slices: int = 1) -> Target:
    """Returns the machine of a name.

    Args:
      name: a GPU with a number, 'h100x8' (more than a host has are several hosts), or a
        TPU slice, 'v5e:2x4'.
      slices: TPU slices of that shape.

    Raises:
      UserError: there is no such chip, or no such number or shape of them.
    """
    names = [file.stem for file in _CHIPS.glob("*.toml")]
    kind = name if name in names else re.sub(r"(:.*|x\d+)$", "", name)
    if kind not in names:
        raise UserError(f"--target={name}: unknown chip {kind!r}{choices(kind, names)}")
    chip = Chip(**tomllib.loads((_CHIPS / f"{kind}.toml").read_text("utf-8")))
    gpu = chip.platform == "cuda"
    found = (_NUM if gpu else _SHAPE).fullmatch(name.removeprefix(kind))
    if not found:
        how = f"{kind} or {kind}x8" if gpu else f"{kind}:2x4, the shape of the slice"
        raise UserError(f"--target={name}: write {how}")
    if gpu and slices > 1:
        raise UserError(f"--slices={slices}: these are of TPUs; write {kind}x16, ...")
    if gpu:
        shape = _hosts(name, int(found[1] or 1), chip)
    else:
        shape = _torus(name, found[1], chip)
    return Target(name, chip, shape, slices)


def _hosts(name: str, num: int, chip: Chip) -> tuple[int, int]:
    per_host = min(num, chip.per_host)
    if num % per_host:
        raise UserError(
            f"--target={name}: a host has {chip.per_host}, so give a multiple of that"
        )
    return num // per_host, per_host


def _torus(name: str, text: str, chip: Chip) -> tuple[int, ...]:
    shape = tuple(int(n) for n in text.split("x"))
    if math.prod(shape) > chip.most:
        raise UserError(f"--target={name}: a slice has at most {chip.most:,} chips")
    return shape


def _bounds(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Returns the part of a slice that one host has, if it is less than usual."""
    if math.prod(shape) >= 4:
        return {}
    return {"chips_per_host_bounds": (*shape, 1, 1)[:3]}


def _for_gpu() -> None:
    """Sets what the GPU's compiler reads from the environment."""
    # Without a device nothing can be timed, so no kernel is chosen by its time.
    flag = "--xla_gpu_autotune_level=0"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    os.environ["PATH"] = f"{_ptxas()}{os.pathsep}{os.environ['PATH']}"


def _for_tpu() -> None:
    """Sets what libtpu reads from the environment; any TPU VM's will do."""
    os.environ |= {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # there is no device to share
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-8",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
    }


def _check_tpu() -> None:
    """Checks that JAX can compile for TPUs.

    Raises:
      UserError: libtpu is missing, or of a version that this JAX does not take.
    """
    mend = f"pip install 'jax[tpu]=={jax.__version__}'"
    if not _folders("libtpu"):
        raise UserError(f"compiling for a TPU needs libtpu: {mend}")
    needs = importlib.metadata.requires("jax") or []
    wanted = next((x for x in needs if x.startswith("libtpu")), "")
    wanted = re.match(r"libtpu\s*==\s*([\d.]+)", wanted)
    found = importlib.metadata.version("libtpu")
    if wanted and not f"{found}.".startswith(f"{wanted[1].rstrip('.')}."):
        raise UserError(
            f"libtpu {found} does not fit JAX {jax.__version__}, which takes "
            f"{wanted[1]}: {mend}"
        )


def _check_gpu() -> None:
    """Checks that JAX can compile for GPUs.

    Raises:
      UserError: the plugin or ptxas is missing, or the plugin is of another version.
    """
    version = jax.__version__
    parts = f"jax-cuda12-plugin=={version} jax-cuda12-pjrt=={version}"
    mend = f"pip install --no-deps {parts} nvidia-cuda-nvcc-cu12"
    if not (_folders("jax_plugins.xla_cuda12") and _ptxas()):
        raise UserError(f"compiling for a GPU needs JAX's CUDA plugin: {mend}")
    found = importlib.metadata.version("jax-cuda12-pjrt")
    if found != version:
        raise UserError(f"the CUDA plugin {found} does not fit JAX {version}: {mend}")


def _ptxas() -> Path | None:
    """Returns the folder of the CUDA compiler's last stage; None if it is missing."""
    found = [folder / "bin" for folder in _folders("nvidia.cuda_nvcc")]
    return next((path for path in found if (path / "ptxas").exists()), None)


def _folders(package: str) -> list[Path]:
    """Returns where a package is installed, without importing it; [] if it is not."""
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return []
    return [] if spec is None else list(map(Path, spec.submodule_search_locations))
