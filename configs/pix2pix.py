"""pix2pix (arXiv:1611.07004): translates images, here edges of digits to digits.

    python -m gan_jax.train --config=configs/pix2pix.py

It needs no data, and took 67 s of processor time. Expect an L1 of 0.034 on the test
digits, where the edges themselves have 0.137, and a PSNR of 20.7 (python -m
gan_jax.evaluate --workdir=DIR --split=test --metrics=paired).

`configs/pix2pix.py:emoji` translates pairs of 64x64 in --config.data.data_dir=DIR, such
as those of scripts/prepare_emoji.py: 224 s of processor time, an L1 of 0.148 on the
test pairs and 0.174 of the input. Colours and shapes are right there, details are not.
`configs/pix2pix.py:maps` is for scripts/prepare_maps.py: 146 s, an L1 of 0.065, and
0.376 of the input. Sea and coasts are right there, and land is blurred.
`configs/pix2pix.py:256` has the sizes of the paper, for a GPU, and was not run to its
end.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    variant = config_lib.variant(arg, "emoji", "maps", "256")
    c.model, c.latent_size, c.conditional = "pix2pix", 0, True
    c.penalties = "reconstruction(weight=100)"
    c.data.source, c.data.name = "pairs", "AtoB(mirror=False)"
    c.image_size, c.width, c.batch_size = 28, 32, 32
    c.discriminator = "receptive_field=16"
    c.num_steps = 1_500
    c.log_every, c.chunk = 25, 5
    c.sample_every, c.checkpoint_every = 250, 500
    if variant:
        c.image_size, c.width, c.batch_size = 64, 24, 16
        c.discriminator = "receptive_field=34"
        c.data.name = "AtoB"
        c.num_steps = {"emoji": 1_500, "maps": 750}.get(variant, c.num_steps)
        c.sample_every, c.checkpoint_every = 125, 250
        c.eval.features = "pixels"
    if variant == "256":  # the paper's, for a GPU; its batch norm on one image
        c.image_size, c.width, c.batch_size = 256, 64, 1
        c.generator = 'norm="instance"'
        c.discriminator = 'norm="instance", receptive_field=70'
        c.num_steps = 80_000
        c.log_every, c.sample_every, c.checkpoint_every = 100, 2_000, 2_000
    return c
