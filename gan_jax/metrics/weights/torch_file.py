"""Reads the tensors that `torch.save` has written, without PyTorch or a pickle.

Such a file holds raw numbers, and a pickle that says which tensors they are. A pickle
is a program: to load it is to run it. Here its opcodes are only listed, by
`pickletools.genops`, and the few that build dicts, lists, tuples, strings and numbers
are interpreted. All others, and each name that is none of those listed here, are
refused, so that nothing in a file can be called.

There are two formats: a zip archive, and the one of PyTorch before 1.6, of which the
public weights of Inception are. Both are described in `torch/serialization.py`.
"""

import dataclasses
import io
import math
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.errors import UserError, one_line

ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # magic number
_PROTOCOL = 1001

_STORAGES = {
    "torch DoubleStorage": "<f8",
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}


# What a damaged file raises, below.
_DAMAGE = (
    *(ArithmeticError, EOFError, LookupError, OSError, RuntimeError, TypeError),
    *(ValueError, zipfile.BadZipFile),
)


class Refused(Exception):
    """A file holds more than tensors; says what."""


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a dict of tensors, such as a `state_dict`, of either format.

    Args:
      path: of a file that starts with `ZIP` or `LEGACY`.

    Returns:
      Arrays by their names. They may share memory and are read-only.

    Raises:
      UserError: the file is damaged, or holds something else or more.
    """
    try:
        content = Path(path).read_bytes()
        return (_read_zip if content.startswith(ZIP) else _read_legacy)(content)
    except Refused as error:
        raise UserError(
            f"{path} is refused: it holds {error}, and only a dict of tensors is read"
        ) from error
    except _DAMAGE as error:
        raise UserError(f"{path} is damaged ({one_line(error)})") from error


# --- The objects of a pickle --------------------------------------------------------


@dataclasses.dataclass
class _Storage:
    """Raw numbers in the file, `data` once they are read."""

    dtype: np.dtype
    size: int
    data: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def fill(self, data: bytes) -> None:
        if len(data) != self.nbytes:
            raise ValueError(f"{len(data)} bytes in place of {self.nbytes}")
        self.data = np.frombuffer(data, self.dtype)


@dataclasses.dataclass
class _Tensor:
    """A window into a storage: sizes in numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        data, steps = self.storage.data, zip(self.shape, self.strides, strict=True)
        count = math.prod(self.shape)
        last = self.offset + sum((n - 1) * step for n, step in steps)
        # Strides of 0 would make gigabytes of a few numbers.
        if count > data.size or (count and last >= data.size):
            raise ValueError("a tensor reaches beyond its storage")
        return np.lib.stride_tricks.as_strided(
            data[self.offset :],
            self.shape,
            [step * data.itemsize for step in self.strides],
            writeable=False,
        )


@dataclasses.dataclass(frozen=True)
class _Name:
    """A name that a pickle may mention: nothing is imported for it."""

    name: str


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a size is no number")
    return value


def _sizes(values: Any) -> tuple[int, ...]:
    if type(values) is not tuple or len(values) > 32:
        raise ValueError("a shape is no tuple")
    return tuple(map(_size, values))


def _rebuild_tensor(storage, offset, shape, strides, requires_grad, hooks, *_):
    if type(storage) is not _Storage:
        raise ValueError("a tensor without a storage")
    return _Tensor(storage, _size(offset), _sizes(shape), _sizes(strides))


def _rebuild_parameter(tensor, requires_grad, hooks):
    return tensor


def _ordered_dict():
    return {}


_FUNCTIONS = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
}

# --- The opcodes --------------------------------------------------------------------


class _Machine:
    """Interprets the opcodes of a pickle that only build data.

    Attributes:
      storages: that the pickles mention, by their keys.
    """

    def __init__(self):
        self.storages: dict[str, _Storage] = {}

    def run(self, file: io.BytesIO) -> Any:
        """Returns what the next pickle in the file describes."""
        self._stack, self._below, self._memo = [], [], {}
        for opcode, argument, _ in pickletools.genops(file):
            action = _ACTIONS.get(opcode.name)
            if action is None:
                raise Refused(f"the pickle opcode {opcode.name}")
            action(self, argument)
        return self._stack.pop()

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def mark(self, _) -> None:
        self._below.append(self._stack)
        self._stack = []

    def pop_to_mark(self) -> list:
        items, self._stack = self._stack, self._below.pop()
        return items

    def pop(self, num: int) -> list:
        return [self._stack.pop() for _ in range(num)][::-1]

    def memoize(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def recall(self, index: int) -> None:
        self.push(self._memo[index])

    def append(self, items: list) -> None:
        if type(self._stack[-1]) is not list:
            raise Refused("an APPEND to what is no list")
        self._stack[-1].extend(items)

    def set_items(self, items: list) -> None:
        if type(self._stack[-1]) is not dict:
            raise Refused("a SETITEM of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str:
                raise Refused(f"a dict with a key that is a {type(key).__name__}")
            self._stack[-1][key] = value

    def name(self, argument: str) -> None:
        if argument not in _STORAGES and argument not in _FUNCTIONS:
            raise Refused(f"the name {argument.replace(' ', '.')!r}")
        self.push(_Name(argument))

    def reduce(self, _) -> None:
        called, arguments = self.pop(2)
        if type(called) is not _Name or called.name not in _FUNCTIONS:
            raise Refused("a call of what is no function")
        if type(arguments) is not tuple:
            raise Refused("a call without a tuple of arguments")
        self.push(_FUNCTIONS[called.name](*arguments))

    def build(self, _) -> None:
        self.pop(1)  # attributes of the dict: versions of PyTorch's modules
        if type(self._stack[-1]) is not dict:
            raise Refused("a BUILD of what is no dict")

    def storage(self, _) -> None:
        kind, name, key, _, size, *view = self._stack.pop()
        if kind != "storage" or type(name) is not _Name or type(key) is not str:
            raise Refused("a persistent id that is no storage")
        if name.name not in _STORAGES or view not in ([], [None]):
            raise Refused("a storage of an unknown kind")
        new = _Storage(np.dtype(_STORAGES[name.name]), _size(size))
        if self.storages.setdefault(key, new) != new:
            raise ValueError("a storage of two kinds")
        self.push(self.storages[key])


_ACTIONS = {
    "PROTO": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "BININT": _Machine.push,
    "BININT1": _Machine.push,
    "BININT2": _Machine.push,
    "LONG1": _Machine.push,
    "BINUNICODE": _Machine.push,
    "BINPUT": _Machine.memoize,
    "LONG_BINPUT": _Machine.memoize,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "MARK": _Machine.mark,
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop(3))),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: machine.append(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": _Machine.name,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.storage,
}

# --- The two formats ----------------------------------------------------------------


def _read_zip(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise Refused("compressed members")
        (root,) = (
            member.filename.removesuffix("data.pkl")
            for member in members
            if member.filename.endswith("/data.pkl")
        )
        order = f"{root}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise Refused("numbers that are not little-endian")
        machine = _Machine()
        found = machine.run(io.BytesIO(archive.read(f"{root}data.pkl")))
        _check_size(machine, content)
        for key, storage in machine.storages.items():
            storage.fill(archive.read(f"{root}data/{key}"))
    return _arrays(found)


def _read_legacy(content: bytes) -> dict[str, np.ndarray]:
    file, machine = io.BytesIO(content), _Machine()
    machine.run(file)  # the magic number
    if machine.run(file) != _PROTOCOL:
        raise Refused("an unknown version of the format")
    system = machine.run(file)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise Refused("numbers that are not little-endian")
    found, keys = machine.run(file), machine.run(file)
    if sorted(keys) != sorted(machine.storages):
        raise ValueError("the list of storages is another one")
    _check_size(machine, content)
    for key in keys:
        storage = machine.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.size:
            raise ValueError("a storage has another size")
        storage.fill(file.read(storage.nbytes))
    return _arrays(found)


def _check_size(machine: _Machine, content: bytes) -> None:
    """Checks that all storages fit into the file, before memory is allocated."""
    total = sum(storage.nbytes for storage in machine.storages.values())
    if total > len(content):
        raise ValueError("it is shorter than its tensors")


def _arrays(found: Any) -> dict[str, np.ndarray]:
    if type(found) is not dict:
        raise Refused(f"the type {type(found).__name__.strip('_').lower()}")
    for name, tensor in found.items():
        if type(tensor) is not _Tensor:
            raise Refused(f"{name!r}, which is no tensor")
    return {name: tensor.array() for name, tensor in found.items()}
