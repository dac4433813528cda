"""The folder of a run: its name, its lock and its `config.json`."""

import contextlib
import datetime
import fcntl
import json
import os
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from gan_jax import config as config_lib
from gan_jax.algorithm.spaces import (
    Classes,
    Images,
    Points,
    Space,
    from_description,
)
from gan_jax.algorithm.spaces import describe as describe_space
from gan_jax.data.source import Info
from gan_jax.errors import UserError
from gan_jax.run import buckets
from gan_jax.run.files import answering, in_bucket, write_file

LOCK = "lock"
# Overrides that tell no experiment from another.
_UNTOLD = ("log_every", "sample_every", "checkpoint_every", "keep_checkpoints", "chunk")
# Overrides that tell most, in this order; their text is never cut short.
_FIRST = ("loss", "seed", "replicas")
_WORD, _NAME = 30, 100  # letters of another one, and of a name without its time
_LONGEST = 150  # letters of what comes first; file systems allow a name 255 bytes
_HISTORY = 20  # starts that config.json remembers: the first, and the last ones
LIBRARIES = ("gan_jax", "jax", "jaxlib", "flax", "optax", "numpy")


def name(config_path: str, overrides: dict[str, Any]) -> Path:
    """Returns the name of a new folder, `runs/<config>-<overrides>-<time>`.

    Args:
      config_path: of the config file, with its variant if it has one.
      overrides: the keys that were given other values than the file's. How often
        something is written is left out. The loss, the seed and the replicas come
        first, the number of steps last. What is too long loses words between them.
    """
    file, _, variant = config_path.partition(":")
    words = {k: _safe(_word(k, x)) for k, x in overrides.items() if k not in _UNTOLD}
    last = words.pop("num_steps", "")
    first = [words.pop(key) for key in _FIRST if key in words]
    start = _cut(_joined(_safe(Path(file).stem), _safe(variant), *first), _LONGEST)
    middle = _joined(*(_cut(word, _WORD) for word in words.values()))
    middle = _cut(middle, _NAME - len(_joined(start, last)) - 1)
    text = _joined(start, middle, last)
    now = datetime.datetime.now()
    return Path("runs") / f"{text}-{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}"


def _word(key: str, value: Any) -> str:
    """Returns a few letters for one override: `hinge`, `seed3`, `no_fallback`."""
    key = key.rpartition(".")[2]
    if isinstance(value, str) and value:
        # Of a file, the stem stands for its path.
        return re.sub(r"[^\s,()='\"]*/|\.py\b", "", value.rstrip("/"))
    if isinstance(value, bool) or value == "":
        return key if value else f"no_{key}"
    return f"{key}{value}"


def _safe(text: str) -> str:
    """Replaces what a file name, or a command line, should not contain."""
    return re.sub(r"[^\w.]+", "-", text.replace("=", "")).strip("-.")


def _joined(*words: str) -> str:
    return "-".join(filter(None, words))


def _cut(text: str, room: int) -> str:
    """Drops whole words at the end, so that at most `room` letters are left."""
    if len(text) <= room:
        return text
    return text[: max(room, 0) + 1].rpartition("-")[0]


def check(path: Path, what: str = "workdir") -> None:
    """Checks that a folder at `path` can be written, and writes nothing.

    Args:
      path: it need not exist yet.
      what: its name in messages.

    Raises:
      UserError: it is a file, or cannot be written.
    """
    if in_bucket(path):
        buckets.check(path, what, to_write=True)
        return
    if path.parts[:1] and path.parts[0].endswith(":"):  # s3://BUCKET/...
        raise UserError(
            f"{what} {path}: it must be in the file system, or in a bucket of Google "
            "Cloud Storage: gs://BUCKET/FOLDER"
        )
    parent = path.absolute()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise UserError(f"{what} {path}: {parent} is a file, not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{what} {path}: {parent} is not writable")


def check_readable(path: Path, what: str = "workdir") -> None:
    """Checks that the bucket of a folder, if it is in one, can be read.

    Raises:
      UserError: it cannot.
    """
    if in_bucket(path):
        buckets.check(path, what)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes from training in the folder.

    The operating system holds the lock, on a file that stays: it is released when the
    process ends, even by a kill. In a bucket see `buckets.locked`.

    Raises:
      UserError: another process trains there.
    """
    if in_bucket(path):
        with buckets.locked(path / LOCK):
            yield
        return
    path.mkdir(parents=True, exist_ok=True)
    with (path / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(buckets.busy(path)) from None
        yield


def is_locked(path: Path) -> bool:
    """Tells whether a process trains in the folder."""
    if in_bucket(path):
        return buckets.is_locked(path / LOCK)
    try:
        with (path / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no lock, or it may not be read
        pass
    return False


def describe(config: ConfigDict, info: Info) -> dict:
    """Returns the content of `config.json`: the experiment, data and libraries."""
    classes = isinstance(info.condition, Classes)
    return {
        "config": config.to_dict(),
        "data": {
            "name": info.name,
            "shape": info.example.shape,
            "num_classes": info.condition.num_classes if classes else 0,
            "num_examples": info.num_examples,
            "fingerprint": info.fingerprint,
            "note": info.note,
            "example": describe_space(info.example),
            "condition": describe_space(info.condition),
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that a run depends on."""
    return {library: version(library) for library in LIBRARIES}


def spaces(data: dict) -> tuple[Space, Space | None]:
    """Returns the spaces of examples and conditions from `config.json`'s "data".

    Raises:
      Exception: any; it comes from a file that may hold anything.
    """
    if "example" in data:
        found = from_description(data["example"]), from_description(data["condition"])
        for space in found:
            if space is not None and space.bounds is not None:
                _low, _high = map(float, space.bounds)
        return found
    # A version before spaces knew images and points, with or without classes.
    shape, num_classes = tuple(data["shape"]), data["num_classes"]
    example = (Images if len(shape) == 3 else Points)(shape)
    has_classes = isinstance(num_classes, int) and num_classes > 0
    return example, Classes(num_classes) if has_classes else None


def check_same(path: Path, config: ConfigDict, info: Info | None = None) -> None:
    """Checks that the folder holds no run, or one of the same experiment.

    Args:
      path: the folder.
      config: of the run to come.
      info: its data, None if they are not known yet.

    Raises:
      UserError: it holds another experiment; lists the differences.
    """
    with answering(path):
        if not (path / "config.json").exists():
            return
    old, new = read(path), json.loads(json.dumps(config.to_dict()))
    differing = config_lib.differences(old["config"], new)
    if info and info.fingerprint != old["data"]["fingerprint"]:
        differing.append(f"the data: {old['data']['name']} -> {info.name}")
    if differing:
        raise UserError(
            f"workdir {path} holds a run with another config ({'; '.join(differing)}); "
            "choose another --workdir, or continue in it with --override_config"
        )


def record(path: Path, content: dict, start: dict) -> None:
    """Writes `config.json` at a start, and keeps what it said of earlier ones.

    Its "history" lists the earlier starts, newest last, each with the parts of the
    description that were replaced after it.

    Args:
      path: the folder.
      content: what `describe` returns.
      start: what is known of this start.
    """
    try:
        old, content = read(path), json.loads(json.dumps(content))
    except buckets.NoAnswer:  # what it said is to be kept
        raise
    except UserError:  # the first start, or a damaged file that is overridden
        history = []
    else:
        replaced = {
            key: old.get(key) for key in content if old.get(key) != content[key]
        }
        before, about = old.get("history"), old.get("start")
        history = before if isinstance(before, list) else []
        history = [*history, (about if isinstance(about, dict) else {}) | replaced]
    if len(history) > _HISTORY:
        history = [history[0], *history[1 - _HISTORY :]]
    write(path, content | {"start": start, "history": history})


def write(path: Path, content: dict) -> None:
    """Writes `config.json`."""
    write_file(path / "config.json", json.dumps(content, indent=2).encode() + b"\n")


def read(path: Path) -> dict:
    """Reads the `config.json` of a run, or of a dump.

    Raises:
      UserError: there is none.
    """
    check_readable(path)
    file = path / "config.json"
    try:
        with answering(file):
            content = json.loads(file.read_text())
        config, data = content["config"], content["data"]
        if isinstance(config, dict) and {"name", "fingerprint"} <= data.keys():
            return content
    except OSError:
        raise UserError(f"workdir {path} is not a run: there is no {file}") from None
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        pass
    raise UserError(f"{file} is damaged: it does not hold a config and its data")
