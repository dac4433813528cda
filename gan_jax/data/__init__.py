"""Data sources, one file a kind, and the feed that brings them to the device.

A source module has one function, `load(config) -> source`. A source of images is random
access (`len(source)`, `source[i] -> {'image': uint8 HWC, 'label': int}`) with an
`info`; one that is drawn in the compiled step has `info` and `sample(key, n)`.
"""

import sys

from ml_collections import ConfigDict

from gan_jax.build import names as resolve
from gan_jax.errors import UserError, one_line


def load(config: ConfigDict):
    """Opens the source that `config.data.source` names.

    Raises:
      UserError: there is no such source, or it cannot serve what the config asks.
    """
    name, here = config.data.source, sys.modules[__name__]
    skip = ("source", "feed", "idx", "image", "png")
    module = resolve.module("data source", name, here, skip=skip)
    load_one = getattr(module, "load", module)
    if not callable(load_one):
        raise UserError(f"data source {name!r} does not define load(config)")
    try:
        source = load_one(config)
        available = source.info.num_examples
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"data source {name!r} fails: {one_line(error)}") from error
    if available and config.batch_size > available:
        raise UserError(
            f"batch_size is {config.batch_size} and {source.info.name} has only "
            f"{available} examples"
        )
    return source
