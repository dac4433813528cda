"""DCGAN on slices of MRI, 64x64.

    python -m gan_jax.train --config=configs/mri.py --config.data.data_dir=DIR

DIR holds NIfTI files or DICOM series of heads. No scan is part of the package: `python
scripts/prepare_mri.py` says how to get some that are open, and makes DIR of them. On
them the 2,400 steps took 389 s of processor time and 1.5 GB, 10 minutes on a busy
machine with 2 cores. The first heads appear at step 400; skulls, eyes and folds are
right at the end. Expect D(x) near 0.52 and V near -1.35: the augmentation keeps D close
to chance.

The samples show the few patients trained on: docs/medical.md has the measures of that,
to be read before a generator is shared. `configs/mri.py:128` and `:256` are larger, for
a GPU, and were not run.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    large = config_lib.variant(arg, "128", "256")
    c.data.source = "volumes"
    c.data.name = 'volumes(axis="axial", field=224)'
    c.image_size = int(large or 64)
    c.augment = "color, translation, cutout"
    c.penalties = "r1(weight=0.5, every=4)"
    c.discriminator = 'norm="none"'
    c.num_steps = 2_400
    c.batch_size, c.width = 32, 32
    c.optimizer = "adam(learning_rate=5e-4, b1=0, b2=0.99)"
    c.ema_decay = 0.995
    if large:
        c.num_steps, c.batch_size, c.width = 30_000, 64, 64
    c.log_every, c.chunk = 50, 10
    c.sample_every = c.checkpoint_every = 400
    return c
