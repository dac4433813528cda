"""Eight Gaussians on a ring, the usual test for mode collapse (arXiv:1611.02163).

    python -m gan_jax.train --config=configs/ring.py

26 s on 2 CPU cores, whose matrix product makes 220 GFLOP/s. Expect samples on all eight
modes, 86 % of them within three standard deviations, V = -1.34 and D(x) = 0.52 at the
end: close to the equilibrium, -1.386 and 0.5.
`configs/ring.py:conditional` trains with the mode of each point as its label.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 10_000
    c.batch_size = 256
    c.conditional = config_lib.variant(arg, "conditional") == "conditional"
    c.model, c.width = "mlp", 128
    c.latent_size = 2
    c.data.source, c.data.name = "toy", "ring"
    c.log_every = 250
    c.sample_every = 1_000
    c.checkpoint_every = 5_000
    return c
