"""SNGAN's residual networks on your own 32x32 colour images, hinge loss.

    python -m gan_jax.train --config=configs/resnet32.py --config.data.data_dir=DIR

DIR is a tree of images with a sub-folder for each class. For CIFAR-10 there is
configs/cifar10.py.

The networks are those of Miyato et al. 2018 (arXiv:1802.05957), 256 channels in G and
128 in D, with five updates of D to one of G and Adam without momentum. They are meant
for a GPU or TPU: on 2 CPU cores a step takes many seconds.
`configs/resnet32.py:conditional` trains with class labels.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 50_000
    c.batch_size = 64
    c.model = "resnet"
    c.latent_size = 128
    c.loss = "hinge"
    c.d_updates = 5
    c.optimizer = "adam(learning_rate=2e-4, b1=0.0, b2=0.9)"
    c.schedule = "linear"
    c.conditional = config_lib.variant(arg, "conditional") == "conditional"
    c.data.source = "folder"
    c.image_size = 32
    c.log_every, c.chunk = 50, 1
    c.sample_every = 500
    c.checkpoint_every = 500
    return c
