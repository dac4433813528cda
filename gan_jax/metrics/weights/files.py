"""Reads files of weights, checks them, and keeps the public ones."""

import hashlib
import tempfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gan_jax.data import download
from gan_jax.errors import UserError, one_line
from gan_jax.metrics.weights import torch_file


class Weights(NamedTuple):
    """Tensors, and where they come from.

    Attributes:
      tensors: by their names.
      sha256: of the file that they come from; of the original if this is a copy.
      path: of the file that has been read.
    """

    tensors: dict[str, np.ndarray]
    sha256: str
    path: Path


class Public(NamedTuple):
    """A public file of weights.

    Attributes:
      url: from where it can be downloaded.
      sha256: its checksum.
      otherwise: what to do if it cannot be had, besides to get it.
    """

    url: str
    sha256: str
    otherwise: str = ""


def read(path: str | Path) -> Weights:
    """Reads a file of tensors: of safetensors or of `torch.save`.

    Raises:
      UserError: there is no such file, or it is damaged or refused.
    """
    path = Path(path).expanduser()
    try:
        with path.open("rb") as file:
            start = file.read(16)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"cannot read the weights {path} ({one_line(error)})"
        ) from error
    if start.startswith((torch_file.ZIP, torch_file.LEGACY)):
        return Weights(torch_file.read(path), sha256, path)
    return Weights(_safetensors(path)[0], sha256, path)


def _safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors and the metadata of a file."""
    try:
        with safe_open(path, "np") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged, or neither of safetensors nor of torch.save "
            f"({one_line(error)})"
        ) from error


def public(source: Public) -> Weights:
    """Returns public weights: downloaded once, or put beside the copy that is kept.

    The copy is of safetensors, with checksums of the original and of its tensors.

    Raises:
      UserError: they cannot be downloaded; or the original or the copy is damaged.
    """
    original = download.cache_folder("weights") / source.url.rpartition("/")[2]
    copy = original.with_suffix(".safetensors")
    try:
        if not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=copy.parent) as temporary:
                _copy(source, original, Path(temporary), copy)
    except OSError as error:
        raise UserError(f"cannot write {copy} ({one_line(error)})") from error
    return _kept(copy, source)


def _copy(source: Public, original: Path, temporary: Path, copy: Path) -> None:
    """Makes the copy, which appears whole."""
    if not original.is_file():
        original = _downloaded(source, original, temporary / original.name)
    found = read(original)
    if found.sha256 != source.sha256:
        raise UserError(
            f"{original} has another checksum than {source.url}: delete it, and it is "
            "downloaded"
        )
    tensors = {name: np.ascontiguousarray(x) for name, x in found.tensors.items()}
    about = {"sha256": source.sha256, "tensors": digest(tensors)}
    save_file(tensors, temporary / copy.name, about)
    (temporary / copy.name).replace(copy)


def _downloaded(source: Public, original: Path, part: Path) -> Path:
    """Downloads the original as `part`."""
    why = download.unreachable(source.url)
    try:
        if not why and download.fetch_file(source.url, part) != source.sha256:
            why = "what comes has another checksum"
    except (OSError, HTTPException) as error:
        why = one_line(error)
    if why:
        advice = f"put that file at {original}, or give its path as the weights"
        advice += source.otherwise and f", {source.otherwise}"
        raise UserError(f"cannot download {source.url} ({why}): {advice}")
    return part


def _kept(path: Path, source: Public) -> Weights:
    """Reads the copy, which says what it is a copy of."""
    tensors, about = _safetensors(path)
    if about != {"sha256": source.sha256, "tensors": digest(tensors)}:
        raise UserError(f"{path} is damaged: delete it, and it is downloaded again")
    return Weights(tensors, source.sha256, path)


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Returns a SHA-256 of names, shapes, types and numbers."""
    found = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        found.update(f"{name} {x.shape} {x.dtype}\n".encode())
        found.update(np.ascontiguousarray(x))
    return found.hexdigest()


def checked(
    weights: Weights, shapes: Mapping[str, tuple[int, ...]], ignored: str = ""
) -> dict[str, np.ndarray]:
    """Returns the tensors that a network has, as float32.

    Args:
      weights: of the network, or so it is hoped.
      shapes: of the network's tensors, by their names.
      ignored: the end of the names of tensors that are left out.

    Raises:
      UserError: a tensor is missing, is none of the network's, or has another shape or
        type, or numbers that are not finite.
    """
    tensors = {
        name: x
        for name, x in weights.tensors.items()
        if not (ignored and name.endswith(ignored))
    }
    missing, others = shapes.keys() - tensors.keys(), tensors.keys() - shapes.keys()
    if missing or others:
        problem = f"lacks {_few(missing)}" if missing else f"also has {_few(others)}"
        raise UserError(f"{weights.path} is of another network: it {problem}")
    for name, shape in shapes.items():
        x = tensors[name]
        if x.shape != tuple(shape) or x.dtype.kind != "f":
            raise UserError(
                f"{weights.path} is of another network: {name!r} is {x.dtype} "
                f"{list(x.shape)} in place of float32 {list(shape)}"
            )
    for name, x in tensors.items():
        if not np.isfinite(x).all():
            raise UserError(f"{weights.path} is damaged: {name!r} has NaN or inf")
    return {name: x.astype(np.float32) for name, x in tensors.items()}


def _few(names: set[str]) -> str:
    """Returns the first three of some names."""
    first = sorted(names)[:3]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, first)) + more
