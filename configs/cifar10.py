"""SNGAN's residual networks on CIFAR-10, hinge loss.

    python -m gan_jax.train --config=configs/cifar10.py

CIFAR-10 is downloaded once (162 MB, into ~/tensorflow_datasets/downloads), or read from
the authors' archive if you have it: put `cifar-10-binary.tar.gz` into a folder DIR and
add `--config.data.manual_dir=DIR`. TensorFlow is not needed.

This is the setting of Miyato et al. 2018 (arXiv:1802.05957) for CIFAR-10: G with 256
and D with 128 channels, D with spectral normalisation, five updates of D to one of G,
Adam without momentum, 100,000 updates of G, and a learning rate that falls linearly to
zero. The paper reports an Inception score of 8.22 ± .05 and an FID of 21.7.
`configs/cifar10.py:conditional` gives both players the classes: by conditional batch
normalisation in G, by projection in D. For this Miyato and Koyama 2018
(arXiv:1802.05637) report an Inception score of 8.62 and an FID of 17.5.

These numbers are the papers', not ours: this config was never run to its end. Two
things differ. The authors' code draws 128 samples for an update of G, and here it is
64, as for D. Samples here are of the averaged G; for the last G, as in the paper, add
`--config.ema_decay=0`.

It is meant for a GPU or TPU: on 2 CPU cores a step took 25 s.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 100_000
    c.batch_size = 64
    c.model = "resnet"
    c.latent_size = 128
    c.loss = "hinge"
    c.d_updates = 5
    c.optimizer = "adam(learning_rate=2e-4, b1=0.0, b2=0.9)"
    c.schedule = "linear"
    if config_lib.variant(arg, "conditional"):
        c.conditional = True
        c.generator = "conditioning='batch_norm'"
    c.data.source, c.data.name = "archive", "cifar10"
    c.image_size = 32
    c.log_every, c.chunk = 100, 10
    c.sample_every = 1_000
    c.checkpoint_every = 1_000
    return c
