"""What every format offers of a volume, and the packages that read them."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from gan_jax.errors import UserError

MAX_VOXELS = 2**29  # a header of a few bytes may ask for any number


class Scan(NamedTuple):
    """A volume that is not read yet.

    Attributes:
      title: what messages call it, a path in the folder of the data.
      patient: whose it is; volumes of one patient are never in two splits.
      read: reads it, as an image of nibabel with three axes.
    """

    title: str
    patient: str
    read: Callable[[], Any]


def library(name: str) -> ModuleType:
    """Imports a package of the extra `medical`.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"the data source volumes needs {name}: pip install 'gan_jax[medical]'"
        ) from None


def check_size(title: str, number: int) -> None:
    """Checks the number of voxels before memory is allocated for them.

    Raises:
      UserError: there are none, or more than `MAX_VOXELS`.
    """
    if not 0 < number <= MAX_VOXELS:
        raise UserError(
            f"{title} has {number:,} voxels: it may have from 1 to {MAX_VOXELS:,}"
        )
