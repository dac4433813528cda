"""The original GAN (arXiv:1406.2661): fully connected, on MNIST.

python -m gan_jax.train --config=configs/mnist_mlp.py
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 15_000
    c.conditional = config_lib.variant(arg, "conditional") == "conditional"
    c.model = "mlp"
    c.width = 512
    c.generator = 'depth=2, output="sigmoid"'
    c.discriminator = "depth=2"
    c.latent = "uniform"
    c.data.source, c.data.name = "tfds", "mnist"
    c.image_size = 28
    c.log_every = 250
    c.sample_every = 2_500
    c.checkpoint_every = 5_000
    return c
