"""DCGAN on MNIST.

    python -m gan_jax.train --config=configs/mnist.py

On 2 CPU cores, with other work on them, the packaged sample took 4 minutes; the first
legible digits appear at step 400. Expect V = -1.34 and D(x) = 0.51 at the end, near the
equilibrium, and a Fréchet distance of 2,000 samples that falls from 155 at step 400 to
53 on the full MNIST (158 to 44 on the packaged sample), in the features of
`mnist_lenet`; between real digits it is 6.
`configs/mnist.py:conditional` trains with class labels.
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
    c.data.source, c.data.name = "tfds", "mnist"
    c.image_size = 28
    c.log_every = 20
    c.sample_every = 100
    c.checkpoint_every = 400
    c.eval.every = 400
    return c
