"""The folder of a run: what names it, and when a run may go on in it."""

import dataclasses
import json
import os
import time
from importlib.metadata import version
from pathlib import Path

from ml_collections import ConfigDict

from gan_jax import config as config_lib
from gan_jax.data.source import Info
from gan_jax.errors import UserError
from gan_jax.writers import write_file

LIBRARIES = ("gan_jax", "jax", "jaxlib", "flax", "optax", "numpy")


def name(config_path: str) -> Path:
    """Returns the name of a new folder for a config file, `runs/<config>-<time>`."""
    stem = Path(config_path.partition(":")[0]).stem
    return Path("runs") / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def check(path: Path) -> None:
    """Checks that a run can be written at `path`, and writes nothing.

    Raises:
      UserError: it is a file, or cannot be written.
    """
    there = path.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise UserError(f"workdir {path}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"workdir {path}: {there} is not writable")


def claim(path: Path, config: ConfigDict, info: Info, override: bool) -> None:
    """Makes the folder and its `config.json`, or finds that of the same experiment.

    Args:
      path: the folder.
      config: the run's, resolved.
      info: the data that it trains on.
      override: go on although they differ from what the folder holds.

    Raises:
      UserError: the folder holds another experiment; lists the differences.
    """
    new = {
        "config": config.to_dict(),
        "data": dataclasses.asdict(info),
        "versions": {library: version(library) for library in LIBRARIES},
    }
    new = json.loads(json.dumps(new))  # as it will be read back: lists for tuples
    if (path / "config.json").exists():
        differing = _differences(read(path), new)
        if differing and not override:
            raise UserError(
                f"workdir {path} holds a run with another config "
                f"({'; '.join(differing)}); choose another --workdir, or go on in it "
                "with --override_config"
            )
    write_file(path / "config.json", json.dumps(new, indent=2).encode() + b"\n")


def read(path: Path) -> dict:
    """Reads the `config.json` of a run: its config, data and library versions.

    Raises:
      UserError: there is none.
    """
    file = path / "config.json"
    try:
        return json.loads(file.read_text())
    except OSError:
        raise UserError(f"workdir {path} is not a run: there is no {file}") from None
    except ValueError:
        raise UserError(f"{file} is damaged: it is no JSON") from None


def _differences(old: dict, new: dict) -> list[str]:
    found = config_lib.differences(old["config"], new["config"])
    a, b = old["data"], new["data"]
    if a["fingerprint"] != b["fingerprint"]:
        found.append(f"the data: {a['name']} -> {b['name']}")
    return found
