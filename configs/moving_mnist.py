"""Clips of two moving digits, 16 frames of 32x32: R(2+1)D's layers, DVD-GAN's judges.

    python -m gan_jax.train --config=configs/moving_mnist.py

The 3,000 steps took 23 minutes of processor time on two cores, and 1.7 GB; MNIST was
the whole set, given by --config.data.manual_dir=DIR. Expect strokes and rings as large
as digits that move smoothly and change their shape along the way: fd_frames 0.065
(floor 0.062), fd_motion 0.045 (floor 0.030), speeds 0.043 (floor 0.025) and
accelerations 0.24 (floor 0.006).
`configs/moving_mnist.py:64` is meant for a GPU: 64x64, as the set is usually drawn,
twice the channels and four times the batch. It was never run.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    large = config_lib.variant(arg, "64") == "64"
    c.model, c.width = "video", 64 if large else 32
    c.discriminator = "width=96, frames=8" if large else "width=48, frames=4"
    c.penalties = "r1(weight=0.1, every=4)"
    c.num_steps, c.batch_size = (50_000, 64) if large else (3_000, 16)
    c.optimizer = "adam(learning_rate=1e-3, b1=0.0, b2=0.99)"
    c.data.source, c.data.name = "moving_mnist", "mnist(frames=16, digits=2)"
    c.image_size = 64 if large else 32
    c.log_every = 20
    c.sample_every = 200
    c.checkpoint_every = 200
    c.eval.every, c.eval.num = 400, 500
    c.eval.features, c.eval.metrics = "pixels(side=8)", "frames, speeds"
    return c
