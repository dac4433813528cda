"""What the commands share: flags, and errors as one line with exit status 2."""

import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from gan_jax import config as config_lib
from gan_jax.build.names import no_bytecode
from gan_jax.errors import UserError, is_full, one_line
from gan_jax.run import workdir
from gan_jax.run.files import as_path

flags.disclaim_key_flags()  # --help of a command lists those that it has from here

_KINDS = {"int": "a whole number", "float": "a number", "bool": "True or False"}
_KINDS |= {"step": "a whole number or 'best'"}
NO_CONFIG = "give a config: --config=configs/mnist.py"


def run(main: Callable[..., int | None]) -> None:
    """Runs a command: parses its flags, calls `main`, exits with what it returns.

    Args:
      main: takes the arguments that are no flags, one for each parameter; those with a
        default may be left out.
    """
    logging.set_verbosity(logging.WARNING)
    sys.argv = _config_first(sys.argv)  # which ml_collections reads too
    parameters = inspect.signature(main).parameters.values()
    app.run(
        lambda argv: _reported(lambda: main(*argv[1:])),
        flags_parser=lambda argv: _reported(lambda: _parsed(argv, parameters)),
    )


def _reported(call: Callable):
    try:
        return call()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if not is_full(error):
            raise
        print(f"error: {error}: make room and start again", file=sys.stderr)
        sys.exit(4)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(
            "error: the device has too little memory for this: make batch_size, "
            f"width or replicas smaller ({one_line(error)})",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:  # before there was anything to save
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _parsed(argv: list[str], parameters: Iterable[inspect.Parameter] = ()) -> list[str]:
    try:
        with no_bytecode():
            rest = flags.FLAGS(argv)
    except UserError:
        raise
    except flags.Error as error:
        name = getattr(error, "flagname", "")
        if name.startswith("config.") and "config" in flags.FLAGS:
            raise UserError(NO_CONFIG) from error
        if name in config_lib.all_keys() and "config" in flags.FLAGS:
            why = f"unknown flag --{name}: did you mean --config.{name}?"
            raise UserError(why) from error
        raise UserError(_kind(_joined(error))) from error
    except Exception as error:
        for arg in argv:
            if arg.lstrip("-").startswith("config."):
                config_lib.check_key(arg.partition(".")[2].partition("=")[0])
        # The config file fails, or lacks a key.
        path = next((arg for arg in argv if arg.startswith("--config=")), "--config")
        raise UserError(f"{path.removeprefix('--')}: {_joined(error)}") from error
    _, *arguments = rest
    names = [parameter.name.upper() for parameter in parameters]
    needed = sum(parameter.default is parameter.empty for parameter in parameters)
    if len(arguments) > len(names):
        extra = arguments[len(names)]
        raise UserError(f"unexpected argument {extra!r}: flags are --NAME=VALUE")
    if len(arguments) < needed:
        missing = names[len(arguments)]
        raise UserError(f"the argument {missing} is missing; --help says what it is")
    return rest


def _kind(message: str) -> str:
    """Returns absl's message, with the kind of value that a flag needs for its own."""
    found = re.match(r"flag --([\w.]+)=(.*?): ", message)
    if not found or found[1] not in flags.FLAGS:
        return message
    name, value = found.groups()
    kind = _KINDS.get(flags.FLAGS[name].flag_type())
    key = name.removeprefix("config.")
    return f"--{name}={value}: {key} must be {kind}" if kind else message


def _config_first(argv: list[str]) -> list[str]:
    """Moves `--config=FILE` before its overrides, which are flags only after it."""
    program, *args = argv
    for i, arg in enumerate(args):
        name, equals, _ = arg.partition("=")
        if name in ("--config", "-config"):
            end = i + (1 if equals else 2)
            return [program, *args[i:end], *args[:i], *args[end:]]
        if arg == "--":
            break
    return argv


def _joined(error: Exception) -> str:
    """Returns an exception's message on one line."""
    lines = str(error).replace("\\n", "\n").splitlines()
    return " ".join(line.strip() for line in lines if line.strip())


@functools.cache
def workdir_flag() -> flags.FlagHolder:
    """Defines `--workdir=DIR`, once for all commands that have it."""
    return flags.DEFINE_string("workdir", "", "The run's folder, such as runs/first.")


class _StepParser(flags.IntegerParser):
    """Parses the number of a step, or the word 'best'."""

    def parse(self, argument: str | int) -> int | str:
        """Returns the number, or the word."""
        return argument if argument == "best" else super().parse(argument)

    def flag_type(self) -> str:
        """Returns the kind of the flag, for messages."""
        return "step"


class RunFlags(NamedTuple):
    """The flags of commands that open a run."""

    workdir: flags.FlagHolder
    step: flags.FlagHolder
    replica: flags.FlagHolder
    num: flags.FlagHolder
    seed: flags.FlagHolder
    model: flags.FlagHolder
    optimizer: flags.FlagHolder


@functools.cache
def run_flags() -> RunFlags:
    """Defines the flags that open a run, once for all commands that have them."""
    return RunFlags(
        workdir=workdir_flag(),
        step=flags.DEFINE(
            _StepParser(),
            "step",
            None,
            "The step of the checkpoint, or best; default: newest.",
            serializer=flags.ArgumentSerializer(),
        ),
        replica=flags.DEFINE_integer("replica", None, "The replica; the first is 0."),
        num=flags.DEFINE_integer(
            "num", None, "How many examples to draw; by default as many as are needed."
        ),
        seed=flags.DEFINE_integer("seed", 0, "The seed from which latents are drawn."),
        model=flags.DEFINE_string(
            "model",
            None,
            "The file of the run's model, if it is your own; its code is run.",
        ),
        optimizer=flags.DEFINE_list(
            "optimizer",
            [],
            "The FILE:NAME of the run's optimizers, if they are not from optax.",
        ),
    )


@functools.cache
def out_flag() -> flags.FlagHolder:
    """Defines `--out=PATH`, once for all commands that have it."""
    return flags.DEFINE_string(
        "out", None, "The PNG file, or of some commands the new folder, to write."
    )


@functools.cache
def json_flag() -> flags.FlagHolder:
    """Defines `--json`, once for all commands that have it."""
    return flags.DEFINE_bool("json", False, "Print JSON, one object a line.")


@functools.cache
def config_flag() -> flags.FlagHolder:
    """Defines `--config=FILE[:variant]`, once for all commands that have it.

    Its overrides are `--config.KEY=VALUE`.
    """
    return config_flags.DEFINE_config_file(
        "config",
        help_string="The experiment: --config=configs/mnist.py, or with a variant "
        "configs/mnist.py:conditional. --config.KEY=VALUE changes a key, for example "
        "--config.loss=hinge --config.seed=3; gan_jax/config.py lists the keys.",
    )


def check_file(holder: flags.FlagHolder, *suffixes: str) -> None:
    """Checks that the file that a flag names, if it is given, can be written.

    Args:
      holder: of the flag.
      *suffixes: that its name may end with; any without them.

    Raises:
      UserError: it is a folder, or cannot be written, or its name ends otherwise.
    """
    if not holder.value:
        return
    path, name = as_path(holder.value), f"--{holder.name}"
    if suffixes and path.suffix not in suffixes:
        names = " or ".join(f"*{suffix}" for suffix in suffixes)
        raise UserError(f"{name}={path}: name the file {names}")
    if path.is_dir():
        raise UserError(f"{name}={path}: it is a folder")
    workdir.check(path.parent, name)


def is_given(holder: flags.FlagHolder) -> bool:
    """Tells whether a flag was given."""
    return flags.FLAGS[holder.name].present


def config_of(holder: flags.FlagHolder) -> ConfigDict:
    """Returns the config of the `--config` flag.

    Raises:
      UserError: there is none, or its file cannot be used; says why.
    """
    path = config_path(holder)
    file = path.partition(":")[0]
    if not os.path.isfile(file):
        raise UserError(f"there is no config file {file}")
    try:
        config = holder.value
        if isinstance(config, ConfigDict):
            return config
        # ml_collections raises a failed import only when the config is used.
        getattr(config, "seed", None)
    except Exception as error:
        raise UserError(f"config {path}: {one_line(error)}") from error
    raise UserError(f"config {path}: get_config() must return an ml_collections config")


def config_path(holder: flags.FlagHolder) -> str:
    """Returns the text of the `--config` flag."""
    if not is_given(holder):
        raise UserError(NO_CONFIG)
    return config_flags.get_config_filename(flags.FLAGS[holder.name])


def overrides_of(holder: flags.FlagHolder) -> dict[str, Any]:
    """Returns the keys that `--config.KEY=VALUE` set, with their values."""
    return config_flags.get_override_values(flags.FLAGS[holder.name])
