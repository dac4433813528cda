"""Twenty-five Gaussians on a grid.

python -m gan_jax.train --config=configs/grid.py
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 20_000
    c.batch_size = 256
    c.penalties = "r1(weight=0.1)"
    c.model, c.width = "mlp", 128
    c.latent_size = 2
    c.data.source, c.data.name = "toy", "grid"
    c.log_every = 500
    c.sample_every = 5_000
    c.checkpoint_every = 10_000
    return c
