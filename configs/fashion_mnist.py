"""DCGAN on Fashion-MNIST.

    python -m gan_jax.train --config=configs/fashion_mnist.py

All but the data is that of configs/mnist.py; shirts, trousers and shoes can be told
apart from step 400 on. Without internet access, give it the four idx
files by --config.data.manual_dir=DIR (Debian's package dataset-fashion-mnist has them
in /usr/share/datasets/fashion-mnist).
`configs/fashion_mnist.py:conditional` trains with class labels.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 4_000
    c.width = 32
    c.discriminator = 'norm="none"'
    c.penalties = "r1(weight=1)"
    c.optimizer = "adam(learning_rate=2e-3, b1=0.0, b2=0.99)"
    c.conditional = config_lib.variant(arg, "conditional") == "conditional"
    c.data.source, c.data.name = "tfds", "fashion_mnist"
    c.image_size = 28
    c.log_every = 20
    c.sample_every = 100
    c.checkpoint_every = 400
    return c
