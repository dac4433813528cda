"""The rows that scripts/targets.py compiles, and the tables of what it found."""

import json
import math
from pathlib import Path
from typing import NamedTuple

from gan_jax.targets.target import find


class Row(NamedTuple):
    """A config to compile.

    Attributes:
      config: its name, with the variant.
      batch: of one device.
      flags: of `gan_jax.compile`.
    """

    config: str
    batch: int
    flags: tuple[str, ...] = ()


def _row(config: str, batch: int, example: str = "", *more: str) -> Row:
    return Row(config, batch, (*([f"--example={example}"] if example else []), *more))


ROWS = {
    "ring": _row("ring", 256),
    "mnist_mlp": _row("mnist_mlp", 128, "28x28x1"),
    "mnist": _row("mnist", 128, "28x28x1"),
    "mnist:conditional": _row("mnist:conditional", 128, "28x28x1"),
    "fashion_mnist": _row("fashion_mnist", 128, "28x28x1"),
    "r3gan": _row("r3gan", 64, "28x28x1"),
    "stacked_mnist": _row("stacked_mnist", 64, "28x28x3"),
    "folder": _row("folder", 128, "64x64x3"),
    "folder/bfloat16": _row("folder", 128, "64x64x3", "--precision=bfloat16"),
    "resnet32": _row("resnet32", 64, "32x32x3"),
    "resnet32/bfloat16": _row("resnet32", 64, "32x32x3", "--precision=bfloat16"),
    "cifar10": _row("cifar10", 64, "32x32x3"),
    "pix2pix:256": _row("pix2pix:256", 1, "256x256x3"),
    "cyclegan:256": _row("cyclegan:256", 1, "256x256x3"),
    "moving_mnist:64": _row("moving_mnist:64", 64),
    "chorales": _row("chorales", 32),
    "mri:256": _row("mri:256", 64, "256x256x1"),
}


def tables(folder: Path) -> list[str]:
    """Returns a table for each target of which there are results in a folder."""
    found: dict[tuple, dict[str, list[dict]]] = {}
    for file in sorted(folder.glob("*.json")):
        about = json.loads(file.read_text("utf-8"))
        name = about["row"]
        name += "/bfloat16" if about["precision"] == "bfloat16" else ""
        where = about["target"], about["slices"]
        found.setdefault(where, {}).setdefault(name, []).append(about)
    return [
        _table(*where, {name: rows[name] for name in ROWS if name in rows})
        for where, rows in sorted(found.items())
    ]


def _table(target: str, slices: int, rows: dict[str, list[dict]]) -> str:
    of = f"{slices} slices of {target}" if slices > 1 else target
    head = (
        f"**{of}**\n\n"
        "| config | batch | MiB a device | GFLOP, GB | collectives, MB | ms, at least "
        "| limit | images/s, at most | batch that fits |"
    )
    lines = [_line(name, sorted(both, key=_batch)) for name, both in rows.items()]
    return "\n".join([head, "|---" * 9 + "|", *lines])


def _batch(about: dict) -> int:
    return about["batch_size"]


def _line(name: str, both: list[dict]) -> str:
    one = both[0]
    if "error" in one:
        why = f"does not fit: {one['error']}"
        return f"| `{name}` | {one['batch_size']:,} | {why} |" + " |" * 6
    train = one["programs"]["train"]
    number = sum(train["collectives"].values())
    sent = sum(train["collectives_mb"].values())
    cells = [
        *(f"`{name}`", f"{one['batch_size']:,}", f"{train['peak_mib']:,.0f}"),
        f"{train['gflop']:,.4g}, {train['gbyte']:.3g}",
        f"{number:.3g}, {sent:.3g}" if number else "none",
        *(f"{train['roofline_ms']:.3g}", train["limit"]),
        *(f"{one['images_per_s']:,}", _fits(both)),
    ]
    return f"| {' | '.join(cells)} |"


def _fits(both: list[dict]) -> str:
    """Returns the batch whose memory is the device's, by the line through two.

    It is rounded down to two digits. Where the second batch needs hardly more memory
    than the first, the line tells nothing.
    """
    if len(both) < 2:
        return "?"
    if "error" in both[1]:
        return "less than twice"
    (a, b), (x, y) = (
        [_batch(one) for one in both],
        [one["programs"]["train"]["peak_mib"] for one in both],
    )
    if y < 1.01 * x:
        return "?"
    chip = find(both[0]["target"]).chip
    usable = chip.memory * chip.usable / 2**20
    batch = a + (usable - x) / max((y - x) / (b - a), 1e-9)
    unit = 10 ** max(0, math.floor(math.log10(batch)) - 1)
    return f"{math.floor(batch / unit) * unit:,}"
