"""Prints the lowest release that setup.py allows of each requirement, for `pip -c`."""

import sys
from importlib.metadata import requires

from packaging.requirements import Requirement

for requirement in map(Requirement, requires("gan_jax")):
    if requirement.marker and not requirement.marker.evaluate({"extra": "test"}):
        continue
    lowest = [x.version for x in requirement.specifier if x.operator == ">="]
    if not lowest:
        sys.exit(f"setup.py gives {requirement.name} no lower bound")
    print(f"{requirement.name}=={lowest[0]}")
