"""R3GAN's objective (arXiv:2501.05441) on MNIST: relativistic pairs, R1 and R2.

    python -m gan_jax.train --config=configs/r3gan.py

About 15 minutes on 2 CPU cores, at 0.6 to 1.5 s a step (measured over 340 steps on a
busy machine). The penalties' weight is the paper's gamma, and D has no batch
normalisation. Expect legible digits from step 300 on, and V to rise from -3 to about
-1.4 by then.
`configs/r3gan.py:conditional` trains with class labels.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 800
    c.loss = "relativistic"
    c.penalties = "r1(weight=1), r2(weight=1)"
    c.optimizer = "adam(learning_rate=1e-3, b1=0.0, b2=0.99)"
    c.discriminator = 'norm="none"'
    c.conditional = config_lib.variant(arg, "conditional") == "conditional"
    c.data.source, c.data.name = "tfds", "mnist"
    c.image_size = 28
    c.log_every = 20
    c.sample_every = 100
    c.checkpoint_every = 400
    return c
