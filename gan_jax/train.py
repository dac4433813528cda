"""Trains a GAN: `python -m gan_jax.train --config=configs/mnist.py`.

A run leaves its config, metrics, samples and checkpoints in `--workdir`. The same
command again resumes it from its last checkpoint, bit for bit. Without `--workdir` the
folder is `runs/<config>-<overrides>-<time>`; `python -m gan_jax.runs` lists those.
`--config.replicas=N` trains N seeds at once. The same command, started on several
hosts, trains one run on all of them. `--replay=DIR/guard/STEP` replays a step that a
guard has rejected. Exit status: 0 done, 2 bad input, 3 stopped by a guard, 4 the disk
is full, 5 another host is gone, 143 saved after SIGTERM (130 after SIGINT).
"""

import jax
from absl import flags

from gan_jax import cli
from gan_jax.devices import hosts
from gan_jax.errors import Stopped, UserError
from gan_jax.run import dumps, workdir
from gan_jax.run.files import as_path
from gan_jax.run.training import train

CONFIG = cli.config_flag()
WORKDIR = cli.workdir_flag()
OVERRIDE = flags.DEFINE_bool(
    "override_config", False, "Resume even if the config differs from the workdir's."
)
REPLAY = flags.DEFINE_string(
    "replay", "", "Replay the step in this folder, DIR/guard/STEP."
)
COORDINATOR = flags.DEFINE_string("coordinator", "", "The first host, HOST:PORT.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "The number of hosts.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "This host's number, from 0.")


def main() -> int:
    """Runs the command."""
    if REPLAY.value:
        config = cli.config_of(CONFIG) if cli.is_given(CONFIG) else None
        return dumps.replay(as_path(REPLAY.value), config)
    config = cli.config_of(CONFIG)
    hosts.initialize(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if not WORKDIR.value and jax.process_count() > 1:
        raise UserError("several hosts need --workdir=DIR, a folder that they share")
    name = workdir.name(cli.config_path(CONFIG), cli.overrides_of(CONFIG))
    path = as_path(WORKDIR.value or name)
    try:
        train(config, path, override=OVERRIDE.value)
    except Stopped as stop:
        hosts.say(f"stopped: {stop}")
        return stop.status
    hosts.say(f"done: {path}")
    return 0


if __name__ == "__main__":
    cli.run(main)
