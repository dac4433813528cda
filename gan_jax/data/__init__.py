"""Data sources, one file per kind, and the feed that brings examples to the device.

A new source is a file with `load(config) -> source`. A source has an `info` and is
random access, `len(source)` and `source[i] -> {"example": ..., "condition": ...}`, or
is drawn in the compiled step, `sample(key, n)`; docs/your-own-data.md shows each kind.
`contract.py` checks it. The order in `feed.py` is fixed: runs resume by the step alone.
"""

import sys

from ml_collections import ConfigDict

from gan_jax.build import names as resolve
from gan_jax.data import contract
from gan_jax.errors import UserError, one_line

_NOT_SOURCES = (
    *("arrays", "collection", "contract", "download", "feed", "idx", "image"),
    *("jitter", "rolls", "source"),
)


def load(config: ConfigDict):
    """Opens the source that `config.data.source` names, and checks it.

    Raises:
      UserError: there is no such source, it cannot provide what the config asks for,
        or its examples do not fit their spaces.
    """
    name, here = config.data.source, sys.modules[__name__]
    module = resolve.module("data source", name, here, skip=_NOT_SOURCES)
    load_one = getattr(module, "load", module)
    if not callable(load_one):
        raise UserError(f"data source {name!r} does not define load(config)")
    try:
        source = load_one(config)
        contract.check(source, name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"data source {name!r} fails: {one_line(error)}") from error
    available = source.info.num_examples
    if available and config.batch_size > available:
        raise UserError(
            f"batch_size is {config.batch_size} and {source.info.name} has only "
            f"{available} examples: set --config.batch_size to at most {available}"
        )
    return source
