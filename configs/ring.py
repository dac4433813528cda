"""Eight Gaussians on a ring, the usual test for mode collapse."""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 10_000
    c.batch_size = 256
    c.model, c.width = "mlp", 128
    c.latent_size = 2
    c.data.source, c.data.name = "toy", "ring"
    c.log_every = 250
    c.sample_every = 2_500
    c.checkpoint_every = 5_000
    return c
