"""Twenty-five Gaussians on a grid (arXiv:1712.04086).

    python -m gan_jax.train --config=configs/grid.py

94 s on 2 CPU cores, whose matrix product makes 220 GFLOP/s. Expect samples on all 25
modes, 88 % of them within three standard deviations, V = -1.38 and D(x) = 0.50 at the
end.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 10_000
    c.batch_size = 256
    c.model, c.width = "mlp", 256
    c.generator = c.discriminator = "depth=3"
    c.penalties = "r1(weight=0.1)"
    c.optimizer = "adam(learning_rate=1e-3, b1=0.5, b2=0.999)"
    c.latent_size = 2
    c.data.source, c.data.name = "toy", "grid"
    c.log_every = 250
    c.sample_every = 1_000
    c.checkpoint_every = 5_000
    return c
