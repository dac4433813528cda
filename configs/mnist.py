"""DCGAN on MNIST.

    python -m gan_jax.train --config=configs/mnist.py

On 2 CPU cores, whose matrix product makes 210 GFLOP/s, the first legible digits appear
at step 400, after 111 s, on the packaged sample; at that rate the run takes 6 minutes.
Expect V between -1.3 and -0.8, D(x) near 0.65, and a Fréchet distance of 2,000 samples
that falls from 174 at step 400 to 103 at the end, in the features of `mnist_lenet`;
between real digits it is 6.
`configs/mnist.py:conditional` trains with class labels.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 1_600
    c.optimizer = "adam(learning_rate=2e-3, b1=0.5, b2=0.99)"
    c.conditional = config_lib.variant(arg, "conditional") == "conditional"
    c.data.source, c.data.name = "tfds", "mnist"
    c.image_size = 28
    c.log_every = 20
    c.sample_every = 100
    c.checkpoint_every = 400
    c.eval.every = 400
    return c
