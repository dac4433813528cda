"""MNIST."""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 1600
    c.log_every = 20
    c.sample_every = 200
    c.checkpoint_every = 400
    return c
