"""DCGAN on your own images, 64x64.

    python -m gan_jax.train --config=configs/folder.py --config.data.data_dir=DIR

DIR is a tree of images, with a sub-folder for each class. Images are scaled and cropped
to the central square; grey ones among others in colour are converted. A step takes
about two seconds on 2 CPU cores at batch 64: the 20,000 steps are meant for a GPU or
TPU; on a CPU stop when the samples are good enough.
`configs/folder.py:conditional` trains with class labels.
"""

from gan_jax import config as config_lib


def get_config(arg=None):
    c = config_lib.default()
    c.num_steps = 20_000
    c.batch_size = 64
    c.conditional = config_lib.variant(arg, "conditional") == "conditional"
    c.data.source = "folder"
    c.image_size = 64
    c.log_every, c.chunk = 50, 5
    c.sample_every = 500
    c.checkpoint_every = 500
    return c
