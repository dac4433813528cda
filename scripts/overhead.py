"""What logging, sheets and checkpoints cost the run of `configs/mnist.py`."""

import statistics
import tempfile
import time
from pathlib import Path

import jax

from gan_jax import data, from_config, loop, sharding, train, train_chunk
from gan_jax.checkpoint import Checkpoints
from gan_jax.data.feed import open_feed
from gan_jax.resolve import user_object
from gan_jax.writers import Writers


def overhead(turns: int) -> dict:
    """Times `configs/mnist.py` with its records and without, on the packaged sample.

    Args:
      turns: how often either goes from one checkpoint to the next.

    Returns:
      The seconds of either, and the share of the records in those with them.
    """
    root = Path(__file__).parents[1]
    config = user_object("config", f"{root}/configs/mnist.py:get_config")()
    config.data.source = "packaged"
    source = data.load(config)
    gan = from_config(config, source.info.shape, source.info.num_classes)
    mesh, seconds = sharding.make_mesh(), {"with": [], "without": []}
    with jax.set_mesh(mesh), tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        checkpoints = Checkpoints(path / "checkpoints", config.keep_checkpoints)
        writers = Writers(path, 10**6, 0)
        state = train.start(gan, config, checkpoints, sharding.replicated(mesh))
        feed = open_feed(source, config, sharding.copy_of_key(state.key), 0, mesh)
        chunk = jax.jit(train_chunk, static_argnames="n", donate_argnames="state")
        step = 0
        for turn in range(-1, turns):
            # The first turn, a short one, is there to compile.
            steps = config.log_every if turn < 0 else config.checkpoint_every
            start = time.perf_counter()
            config.num_steps = step + steps
            state = loop.run(
                gan, state, step, feed, config, checkpoints, writers, "overhead"
            )
            jax.block_until_ready(state)
            checkpoints.wait()
            step, middle = step + steps, time.perf_counter()
            for _ in range(steps // config.log_every):
                n = config.log_every
                state, _ = chunk(gan, state, feed.at(step, n), n=n)
                step += n
            jax.block_until_ready(state)
            if turn >= 0:
                seconds["with"].append(middle - start)
                seconds["without"].append(time.perf_counter() - middle)
        checkpoints.close()
        writers.close()
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    return {
        "steps": config.checkpoint_every * turns,
        **{f"seconds_{key}": round(sum(v), 1) for key, v in seconds.items()},
        "overhead": round(statistics.median(ratios) - 1, 4),
    }
