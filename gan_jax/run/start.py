"""What is known of a start of a run: who started what, where and when."""

import datetime
import os
import shlex
import socket
import subprocess
import sys

import jax
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import Classes
from gan_jax.algorithm.state import Player, TrainState
from gan_jax.data.source import Info

_GIT = "git describe --always --dirty --abbrev=40 --exclude=*"
_GIT_SECONDS = 2  # that a start waits for it, at most


def describe(step: int) -> dict:
    """Returns what `config.json` says of a start.

    Args:
      step: from which the run trains.
    """
    return {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "step": step,
        "command": shlex.join(sys.orig_argv),
        **_git(),
        "host": socket.gethostname(),
        "devices": devices(),
    }


def devices() -> str:
    """Returns the number and kind of all devices, and the number of hosts."""
    found, num_hosts = jax.devices(), jax.process_count()
    text = f"{len(found)} {found[0].device_kind}"
    return f"{text} on {num_hosts} hosts" if num_hosts > 1 else text


def _git() -> dict:
    """Returns the commit of the current folder, and whether files differ from it."""
    try:
        done = subprocess.run(
            _GIT.split(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return {}  # there is no git, or no commit
    commit, _, dirty = done.stdout.strip().partition("-")
    return {"git": {"commit": commit, "dirty": bool(dirty)}}


# --- For people ---------------------------------------------------------------------


def summary(config: ConfigDict, info: Info, state: TrainState, step: int) -> list[str]:
    """Returns the lines that tell what runs.

    Args:
      config: the experiment.
      info: of the data.
      state: leaves `[replicas, ...]`.
      step: from which the run trains.
    """
    g, d = (_count(_parameters(player)) for player in (state.g, state.d))
    return [
        f"devices: {devices()}",
        f"data: {_data(info, config.conditional)}",
        f"model: {config.model}, G has {g} parameters, D {d}",
        f"training: {_training(config, step)}",
        *([f"note: {info.note}"] if info.note else []),
    ]


def _training(config: ConfigDict, step: int) -> str:
    """Returns how long a run trains, or what makes a finished one train longer."""
    if step < config.num_steps:
        first = f"resuming from step {step:,} of " if step else ""
        last = config.seed + config.replicas - 1
        seeds = f", {config.replicas} replicas, seeds {config.seed} to {last}"
        return (
            f"{first}{config.num_steps:,} steps, batch size {config.batch_size:,}"
            f"{seeds if config.replicas > 1 else ''}"
        )
    # A schedule that ends with the run gives other steps if that is longer.
    constant = config.schedule.startswith("constant")
    return (
        f"finished already, at step {step:,}; to train longer: --config.num_steps=N"
        f"{'' if constant else ' --override_config'}"
    )


def _data(info: Info, conditional: bool) -> str:
    number, shape = info.num_examples, info.example.shape
    examples = f"{number:,} examples of shape" if number else "drawn without end, shape"
    text = f"{info.name}, {examples} {shape}"
    if info.condition is None:
        return text
    if isinstance(info.condition, Classes):
        conditions = f"{info.condition.num_classes} classes"
    else:
        conditions = f"conditions of shape {info.condition.shape}"
    unused = "" if conditional else ", not used: conditional is False"
    return f"{text}; {conditions}{unused}"


def _parameters(player: Player) -> int:
    """Returns how many parameters one replica of a player has."""
    return sum(leaf.size // len(leaf) for leaf in jax.tree.leaves(player.params))


def _count(number: int) -> str:
    """Returns a number with three digits at most, such as 1.2 M."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " K")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return str(number)
