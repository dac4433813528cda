"""Times (2+1)D convolutions of clips against XLA's, in three dimensions.

    python scripts/clip_speed.py --turns=5

Both compute the gradients of one layer by its inputs and its two kernels, in a jitted
loop as in a training chunk, and take turns. A row is a layer of `models/video.py` at a
batch of 16 clips of 16 frames; prints a table with the medians of the turns.
"""

import functools
import statistics
import time

import jax
import jax.numpy as jnp
from absl import app, flags
from jax import lax

from gan_jax.layers.clips import on_frames, temporal_conv
from gan_jax.layers.conv import conv2d

TURNS = flags.DEFINE_integer("turns", 5, "Turns of each form.", lower_bound=1)

BATCH, TIME, STEPS = 16, 16, 3
LAYERS = ((32, 1, 32), (16, 32, 64), (8, 64, 128))  # side, channels, features


def factorised(x, w, v):
    """Convolves space with stride 2, then time, by folded 2-D convolutions."""
    h = on_frames(lambda x: conv2d(x, w, stride=2, padding=1), x)
    return temporal_conv(jnp.tanh(h), v)


def plain(x, w, v):
    """Computes the same by convolutions in three dimensions."""
    conv = functools.partial(
        lax.conv_general_dilated, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    h = conv(x, w[None], (1, 2, 2), [(0, 0), (1, 1), (1, 1)])
    return conv(jnp.tanh(h), v[:, None, None], (1,) * 3, [(1, 1), (0, 0), (0, 0)])


@functools.partial(jax.jit, static_argnums=0)
def descend(layer, *args):
    """Makes some steps along the gradient."""
    slope = jax.grad(lambda *args: jnp.square(layer(*args)).mean(), (0, 1, 2))

    def step(_, args):
        return tuple(a - 1e-3 * s for a, s in zip(args, slope(*args), strict=True))

    return lax.fori_loop(0, STEPS, step, args)


def seconds(layer, args) -> float:
    """Returns the time of a step."""
    start = time.perf_counter()
    jax.block_until_ready(descend(layer, *args))
    return (time.perf_counter() - start) / STEPS


def main(_):
    """Prints the table."""
    print("side  channels  features   2-D, ms   3-D, ms   ratio")
    for side, channels, features in LAYERS:
        shapes = (
            (BATCH, TIME, side, side, channels),
            (4, 4, channels, features),
            (3, features, features),
        )
        args = [0.1 * jax.random.normal(jax.random.key(0), shape) for shape in shapes]
        for layer in (factorised, plain):
            seconds(layer, args)
        turns = [
            [seconds(layer, args) for layer in (factorised, plain)]
            for _ in range(TURNS.value)
        ]
        ours, theirs = (1e3 * statistics.median(t) for t in zip(*turns, strict=True))
        ratio = statistics.median(a / b for a, b in turns)
        print(
            f"{side:4}{channels:10}{features:10}{ours:10.1f}{theirs:10.1f}{ratio:8.3f}"
        )


if __name__ == "__main__":
    app.run(main)
