"""What a compiled program does, read from its HLO text.

XLA counts the body of a loop once, and nothing of the library calls of a GPU. Here
every instruction counts as often as it runs:

- operations of convolutions and matrix products, also in library calls;
- bytes that an instruction reads and writes in the device's main memory, with the
  padding of layouts. Of an array that is only sliced, the slices count;
- collectives, by kind.

A branch counts as the most expensive one.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_OPERATION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = ")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_KIND = re.compile(r" ?([\w\-]+)\(")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")
_BRANCHES = re.compile(
    r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)"
)
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_NAME = re.compile(r"%([\w.\-]+)")
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "iota", "opt-barrier", "recv"),
    # Of a TPU: they are about where arrays are, or write the padding of one.
    *("ConcatBitcast", "AllocateBuffer", "SliceId", "ZeroCrop"),
}
BETWEEN_SLICES = "between-slices"
_COLLECTIVES = (
    BETWEEN_SLICES,
    *("all-reduce", "all-gather", "all-to-all", "reduce-scatter"),
    *("collective-permute", "collective-broadcast"),
)
_SLICES = ("dynamic-slice", "gather", "slice")


class Tensor(NamedTuple):
    """One array of a program.

    Attributes:
      dtype: as HLO names it.
      shape: of the array.
      layout: what HLO says of it, such as '1,0:T(8,128)S(1)': the axes from the minor
        one on, tiles, and a space other than the main memory.
    """

    dtype: str
    shape: tuple[int, ...]
    layout: str = ""

    @property
    def useful(self) -> float:
        """Bytes without padding; 0 of what is not in main memory."""
        return self._bytes(self.shape)

    @property
    def padded(self) -> float:
        """Bytes with the padding of tiles; 0 of what is not in main memory."""
        order, _, tiles = self.layout.partition(":")
        found = re.match(r"T\(([\d,]+)\)", tiles)
        if not (found and self.shape):
            return self.useful
        sizes = [self.shape[int(axis)] for axis in order.split(",")]  # the minor first
        tile = [int(n) for n in reversed(found[1].split(","))]
        for i, n in enumerate(tile[: len(sizes)]):
            sizes[i] = -(-sizes[i] // n) * n
        return self._bytes(sizes)

    @property
    def size(self) -> float:
        """Bytes without padding, wherever it is."""
        return self._replace(layout="").useful

    def _bytes(self, sizes: Iterable[int]) -> float:
        bits = re.search(r"\d+", self.dtype)
        bits = {"pred": 8, "token": 0}.get(self.dtype) or int(bits[0] if bits else 0)
        return 0.0 if "S(" in self.layout else math.prod(sizes) * bits / 8


class Operation(NamedTuple):
    """One instruction.

    Attributes:
      name: of its result.
      kind: of the instruction; of a library call, its target.
      results: the arrays.
      operands: the names of the instructions whose results it takes.
      text: the rest of its line, from the operands on.
      is_root: whether its result is that of its computation.
    """

    name: str
    kind: str
    results: tuple[Tensor, ...]
    operands: tuple[str, ...]
    text: str
    is_root: bool


class Cost(NamedTuple):
    """What one instruction costs.

    Attributes:
      operation: the instruction.
      times: how often it runs.
      flops: of products, in one run.
      dtype: of the products' operands; '' without products.
      moved: bytes read and written, in one run.
      useful: the same without the padding of layouts.
      collective: of what kind; '' for none.
      sent: bytes of the whole array that a collective is about, in one run: of what it
        gathers, or of what it reduces.
    """

    operation: Operation
    times: int
    flops: float
    dtype: str
    moved: float
    useful: float
    collective: str = ""
    sent: float = 0.0


class Program:
    """A compiled program.

    Args:
      text: its HLO, as `jax.stages.Compiled.as_text` returns it.
    """

    def __init__(self, text: str):
        self._computations: dict[str, dict[str, Operation]] = {}
        self._entry = ""
        current: dict[str, Operation] = {}
        for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
            if found := _OPERATION.match(line):
                root, name = found.groups()
                current[name] = _operation(name, line[found.end() :], bool(root))
            elif found := _COMPUTATION.match(line):
                current = self._computations[found[2]] = {}
                self._entry = found[2] if found[1] else self._entry

    def costs(self) -> list[Cost]:
        """Returns what each instruction costs that costs anything."""
        return list(self._of(self._entry, 1))

    def _of(self, computation: str, times: int) -> Iterator[Cost]:
        for operation in self._computations[computation].values():
            kind, text = operation.kind, operation.text
            if kind == "while":
                body, trips = _CALLED.search(text)[1], self._trips(text)
                yield from self._of(body, times * trips)
            elif kind == "conditional":
                names = [_NAME.findall(a) or [b] for a, b in _BRANCHES.findall(text)]
                branches = [list(self._of(x, times)) for part in names for x in part]
                yield from max(branches, key=lambda costs: sum(c.moved for c in costs))
            elif kind in ("call", "async-start"):
                yield from self._of(_CALLED.search(text)[1], times)
            elif kind not in _FREE and not kind.endswith(("-done", "-update")):
                yield self._cost(computation, operation, times)

    def _trips(self, text: str) -> int:
        """Returns how often a loop runs; 1 if the program does not tell."""
        if found := _TRIPS.search(text):
            return int(found[1])
        condition = self._computations[_CONDITION.search(text)[1]].values()
        limits = [x.text for x in condition if x.kind == "constant"]
        found = [int(n) for text in limits for n in re.findall(r"^\((\d+)\)", text)]
        return max(found, default=1)

    def _cost(self, computation: str, operation: Operation, times: int) -> Cost:
        products = list(self._products(computation, operation))
        arrays = self._traffic(computation, operation)
        return Cost(
            operation,
            times,
            sum(flops for flops, _ in products),
            max(products)[1] if products else "",
            sum(x.padded for x in arrays),
            sum(x.useful for x in arrays),
            *self._exchange(computation, operation),
        )

    def _exchange(self, computation: str, operation: Operation) -> tuple[str, float]:
        """Returns the kind of a collective, and its bytes; '' and 0 if it is none."""
        kind, others = operation.kind.removesuffix("-start"), self._computations
        if kind == "fusion":  # of a TPU
            called = _CALLED.search(operation.text)[1]
            kinds = {x.kind: x for x in others[called].values()}
            inner = next((kinds[kind] for kind in _COLLECTIVES if kind in kinds), None)
            # What overlaps with other work is in a chain of fusions: the first counts.
            later = called.startswith("async_collective")
            later |= "AsyncCollectiveDone" in kinds
            if inner is None or later:
                return "", 0.0
            kind, sent = self._exchange(called, inner)
            return "reduce-scatter" if "all-reduce-scatter" in called else kind, sent
        kind = BETWEEN_SLICES if kind == "send" else kind  # a TPU slice to the others
        if kind not in _COLLECTIVES:
            return "", 0.0
        known = [others[computation][x] for x in operation.operands]
        both = [x for one in known for x in one.results], _outputs(operation)
        return kind, max(sum(x.size for x in arrays) for arrays in both)

    def _products(
        self, computation: str, operation: Operation
    ) -> Iterator[tuple[float, str]]:
        """Yields the operations and the operands' type of each product."""
        kind, others = operation.kind, self._computations[computation]
        if kind == "fusion":
            called = _CALLED.search(operation.text)[1]
            for inner in self._computations[called].values():
                yield from self._products(called, inner)
        operands = [others[x].results[0] for x in operation.operands if x in others]
        if kind == "dot" or "gemm" in kind or "matmul" in kind:
            yield _of_product(operation, operands), operands[0].dtype
        elif kind == "convolution" or "$conv" in kind:
            yield _of_convolution(operation, operands), operands[0].dtype

    def _traffic(self, computation: str, operation: Operation) -> list[Tensor]:
        """Returns the arrays that an instruction reads and writes."""
        others = self._computations[computation]
        operands = [others[x].results for x in operation.operands if x in others]
        if operation.kind == "fusion":
            fused = self._computations[_CALLED.search(operation.text)[1]]
            return _of_fusion(fused, operands, operation.results)
        written = _outputs(operation)
        if operation.kind.removesuffix("-start") in _SLICES:
            operands = [_like(operands[0], written)]
        if operation.kind == "dynamic-update-slice":
            operands, written = operands[1:2], _like(written, operands[1])
        return [x for found in (*operands, written) for x in found]


def _operation(name: str, text: str, is_root: bool) -> Operation:
    """Parses what follows the `=` of an instruction."""
    end = _end(text) if text.startswith("(") else text.index(" ")
    results, rest = text[:end], text[end:]
    found = _KIND.match(rest)
    start = found.end() - 1
    stop = start + _end(rest[start:])
    kind = _TARGET.search(rest)[1] if found[1] == "custom-call" else found[1]
    operands = tuple(_NAME.findall(rest[start:stop]))
    return Operation(name, kind, _tensors(results), operands, rest[start:], is_root)


def _end(text: str) -> int:
    """Returns where the bracket that opens a text is closed."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "({[") - (c in ")}]")
        if not depth:
            return i + 1
    raise ValueError(f"a bracket is not closed: {text[:60]}")


def _tensors(text: str) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(dtype, tuple(int(n) for n in shape.split(",") if n), layout)
        for dtype, shape, layout in _ARRAY.findall(text)
    )


def _outputs(operation: Operation) -> tuple[Tensor, ...]:
    """Returns the results that are no workspace and no copy of an operand."""
    kind, results = operation.kind, operation.results
    if kind in ("copy-start", "send"):
        return results[:1]
    if kind in ("slice-start", "collective-permute-start"):
        return results[1:2]
    if kind.startswith("__cu") and results[-1].dtype in ("u8", "s8"):
        return results[:-1] or results
    if kind.endswith("-start") and len(results) > 1 and kind != "all-reduce-start":
        return results[len(results) // 2 :]
    return results


def _like(sources: tuple[Tensor, ...], parts: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Returns what is read, or written, where parts of an array are used."""
    return tuple(parts) if sources[0].useful else ()


def _of_fusion(
    fused: dict[str, Operation],
    operands: list[tuple[Tensor, ...]],
    results: tuple[Tensor, ...],
) -> list[Tensor]:
    """Returns the arrays that a fusion reads and writes."""
    moved = []
    for operation in fused.values():
        if operation.kind == "parameter":
            number = int(re.match(r"\((\d+)", operation.text)[1])
            moved += _read(fused, operation.name, operands[number])
    root = next(x for x in fused.values() if x.is_root)
    roots = [root]
    if root.kind == "tuple":
        roots = [fused[name] for name in root.operands]
    if len(roots) != len(results):  # the root itself has several results
        return [*moved, *results]
    for one, result in zip(roots, results, strict=True):
        update = one.kind == "dynamic-update-slice"
        parts = fused[one.operands[1]].results if update else [result]
        moved += _like((result,), parts)
    return moved


def _read(
    fused: dict[str, Operation], name: str, whole: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Returns what a fusion reads of an operand: the slices it takes, or all of it."""
    names, parts = [name], []
    for name in names:  # grows by the views of it
        for user in fused.values():
            if name not in user.operands:
                continue
            first = user.operands[0] == name
            if user.kind == "bitcast":
                names.append(user.name)
            elif user.kind in _SLICES and first:
                parts += _like(whole, user.results)
            elif not (user.kind == "dynamic-update-slice" and first):
                return whole
    # Slices that overlap are not read more than once.
    return min(whole, tuple(parts), key=lambda arrays: sum(x.padded for x in arrays))


def _of_product(operation: Operation, operands: list[Tensor]) -> float:
    """Returns the operations of a matrix product."""
    found = re.search(
        r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', operation.text
    )
    axes = [int(axis) for axis in re.findall(r"\d+", found[1])]
    inner = math.prod(operands[0].shape[axis] for axis in axes)
    return 2.0 * inner * math.prod(operation.results[0].shape)


def _of_convolution(operation: Operation, operands: list[Tensor]) -> float:
    """Returns the operations of a convolution: those on the padding do not count.

    The three calls of cuDNN describe the convolution y = x * w that they are a part of,
    whichever of the three is the result.
    """
    x, w, y = operands[0], operands[1], operation.results[0]
    if operation.kind.endswith("convBackwardInput"):
        x, w, y = y, w, x
    elif operation.kind.endswith("convBackwardFilter"):
        x, w, y = x, y, w
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", operation.text)
    lhs, rhs, out = labels.groups()
    # Of a kernel all input channels count: those of one group.
    pairs = y.shape[out.index("b")] * w.shape[rhs.index("i")] * w.shape[rhs.index("o")]
    for axis, settings in enumerate(_window(operation.text)):
        size = x.shape[lhs.index(str(axis))]
        pairs *= _taps(size, y.shape[out.index(str(axis))], settings)
    return 2.0 * pairs


def _window(text: str) -> list[dict[str, list[int]]]:
    """Returns for each axis its settings, such as `{"size": [4], "pad": [1, 1]}`."""
    found = re.search(r"window=\{([^}]*)\}", text)
    fields = dict(part.split("=") for part in found[1].split()) if found else {}
    axes = fields.get("size", "").count("x") + 1 if fields else 0
    return [
        {
            key: [int(n) for n in value.split("x")[i].split("_")]
            for key, value in fields.items()
        }
        for i in range(axes)
    ]


def _taps(size: int, out: int, settings: dict[str, list[int]]) -> int:
    """Returns how many pairs of an input and an output position meet along an axis."""
    (kernel,), (stride,) = settings["size"], settings.get("stride", [1])
    low, (spread,) = settings.get("pad", [0])[0], settings.get("lhs_dilate", [1])
    (gap,) = settings.get("rhs_dilate", [1])
    at = np.arange(out)[:, None] * stride + np.arange(kernel) * gap - low
    return int(((at >= 0) & (at % spread == 0) & (at // spread < size)).sum())
