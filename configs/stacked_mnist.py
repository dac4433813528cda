"""DCGAN on Stacked-MNIST (arXiv:1611.02163, arXiv:1712.04086).

python -m gan_jax.train --config=configs/stacked_mnist.py
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 5_000
    c.batch_size = 64
    c.width = 32
    c.optimizer = "adam(learning_rate=1e-3, b1=0.5, b2=0.99)"
    c.data.source, c.image_size = "stacked_mnist", 28
    c.eval.features, c.eval.metrics = "mnist_lenet", "stacked_modes"
    c.eval.every, c.eval.num = 5_000, 26_000
    c.log_every = 50
    c.sample_every = 500
    c.checkpoint_every = 2_500
    return c
