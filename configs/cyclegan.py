"""CycleGAN (arXiv:1703.10593): translates without pairs, here digits and their edges.

    python -m gan_jax.train --config=configs/cyclegan.py

It needs no data, and took 9 minutes on a busy machine, 136 s of processor time, with
1.4 GB. Expect an L1 of 0.095 from the digits that it makes of test edges to the true
ones, where the edges themselves have 0.137; and of 0.151 the other way, which is no
better than the input (python -m gan_jax.evaluate --workdir=DIR --split=test
--metrics=paired).

`configs/cyclegan.py:emoji` is for two domains of 64x64 in --config.data.data_dir=DIR,
such as those of scripts/prepare_emoji.py: 393 s of processor time and 1.8 GB. Expect
other colours and outlines on shapes that stay, with a checkerboard pattern, and an L1
of 0.176 and 0.182, which is no better than the input's 0.174.
`configs/cyclegan.py:256` has the sizes of the paper, for a GPU, and was not run to its
end.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    variant = config_lib.variant(arg, "emoji", "256")
    c.model, c.latent_size, c.conditional = "cyclegan", 0, True
    c.loss, c.replay = "least_squares", 50
    # Beside this loss, whose squares are halved, the authors' weights 10 and 5.
    c.penalties = "cycle(weight=5), identity(weight=2.5)"
    c.optimizer = "adam(learning_rate=1e-3, b1=0.5)"
    c.schedule = "linear(hold=0.5)"
    c.ema_decay = 0.99  # of the translations that are shown: the run is short
    c.data.source, c.data.name = "unpaired", "AandB(enlarge=1, mirror=False)"
    c.image_size, c.width, c.batch_size = 28, 16, 8
    c.generator, c.discriminator = "blocks=3", "receptive_field=16"
    c.num_steps = 1_500
    c.log_every, c.chunk = 25, 5
    c.sample_every, c.checkpoint_every = 250, 500
    if variant == "emoji":
        c.image_size, c.batch_size = 64, 4
        c.generator, c.discriminator = "blocks=4", "receptive_field=34"
        c.data.name = "AandB"
    if variant == "256":  # the paper's, for a GPU
        c.image_size, c.width, c.batch_size = 256, 64, 1
        c.generator, c.discriminator = "blocks=9", "receptive_field=70"
        c.optimizer, c.ema_decay = "adam(learning_rate=2e-4, b1=0.5)", 0.999
        c.data.name = "AandB"
        c.num_steps = 250_000
        c.log_every, c.chunk = 100, 20
        c.sample_every, c.checkpoint_every = 2_000, 5_000
    return c
