"""The original GAN (arXiv:1406.2661), fully connected, on MNIST.

    python -m gan_jax.train --config=configs/mnist_mlp.py

On 2 CPU cores, whose matrix product makes 140 to 190 GFLOP/s, 3,000 steps take 100 s,
half of the run (on the packaged sample). Expect legible digits by then, and V = -1.18
at the end.
R1 replaces the paper's dropout: without it (--config.penalties=) this discriminator
wins within 3,500 steps, D(x) > 0.99, and the samples collapse to one.
`configs/mnist_mlp.py:conditional` trains with class labels.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 6_000
    c.conditional = config_lib.variant(arg, "conditional") == "conditional"
    c.model = "mlp"
    c.width = 512
    c.generator = 'depth=2, output="sigmoid"'
    c.discriminator = "depth=2"
    c.latent = "uniform"
    c.penalties = "r1(weight=1)"
    c.data.source, c.data.name = "tfds", "mnist"
    c.image_size = 28
    c.log_every = 100
    c.sample_every = 1_000
    c.checkpoint_every = 2_000
    return c
