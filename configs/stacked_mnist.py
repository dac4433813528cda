"""DCGAN on Stacked-MNIST (arXiv:1611.02163, arXiv:1712.04086), smaller than theirs.

    python -m gan_jax.train --config=configs/stacked_mnist.py

Each image is three digits of MNIST, in red, green and blue, and there are 1,000 modes.
It took 12 minutes on 2 CPU cores that other programs used too, so that 75 to 95 GFLOP/s
were left for a matrix product, and 4 minutes of processor time; MNIST was the whole
set, given by --config.data.manual_dir=DIR. Expect 993 modes among 26,000 samples at
step 2,500, at a reverse KL of 0.29, and 998 at the end, at 0.21 (`stacked_modes` and
`stacked_kl`). As many real images have all of them, at 0.02.

--config.pack=2 is PacGAN. A batch holds half as many packs then, and in so few steps
that does not pay: after 3,000 steps 2,000 samples had 612 modes, without it 749, and as
many real images 860 (with --config.num_steps=3000 --config.eval.num=2000
--config.eval.every=500).
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
    c.eval.every, c.eval.num = 2_500, 26_000
    c.log_every = 50
    c.sample_every = 500
    c.checkpoint_every = 2_500
    return c
