"""pix2pix: translates images, here edges of MNIST's digits to digits."""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    size = config_lib.variant(arg, "emoji", "maps", "paper")
    c.model, c.latent_size, c.conditional = "pix2pix", 0, True
    c.penalties = "reconstruction(weight=100)"
    c.data.source = "pairs"
    c.eval.metrics, c.eval.features = "fd", "pixels"
    {None: _digits, "emoji": _emoji, "maps": _maps, "paper": _paper}[size](c)
    return c


def _digits(c):
    c.image_size, c.width, c.batch_size = 28, 32, 32
    c.data.name = "AtoB(mirror=False)"
    c.discriminator = "receptive_field=16"
    c.num_steps = 1_500
    c.log_every, c.sample_every, c.checkpoint_every = 25, 250, 500


def _emoji(c):
    c.image_size, c.width, c.batch_size = 64, 32, 16
    c.data.name = "AtoB"
    c.discriminator = "receptive_field=34"
    c.num_steps = 3_000
    c.log_every, c.sample_every, c.checkpoint_every = 25, 250, 500


def _maps(c):
    _emoji(c)


def _paper(c):
    c.image_size, c.batch_size = 256, 1
    c.data.name = "AtoB"
    c.num_steps = 100_000
