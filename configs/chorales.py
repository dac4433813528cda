"""Bach's chorales in four voices: MuseGAN (arXiv:1709.06298) on two bars.

    python -m gan_jax.train --config=configs/chorales.py

It needs no data, and took 130 s of processor time. Expect pitches, lengths of notes and
the share in scale as in the chorales, 49 % of steps with a triad where the chorales
have 62 %, and parallel fifths and octaves in 5.7 % of the moves, where they have 0.1 %
(python -m gan_jax.evaluate --workdir=DIR --metrics=music). Beside each sample grid are
a MIDI file and a sound.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    config_lib.variant(arg)
    c = config_lib.default()
    c.num_steps = 4_000
    c.batch_size = 32
    c.model, c.width = "musegan", 32
    c.latent_size = 128
    c.loss = "relativistic"
    c.penalties = "r1(weight=1, every=4), r2(weight=1, every=4)"
    c.optimizer = "adam(learning_rate=1e-3, b1=0.0, b2=0.99)"
    c.data.source, c.data.name = "midi", "chorales(bars=2, beat=2)"
    c.log_every = 50
    c.sample_every = 500
    c.checkpoint_every = 500
    c.eval.every = 500
    c.eval.metrics = "music"
    c.eval.num = 1_000
    return c
