"""Measures whose slices the samples of a run are near to: does it leak a patient?

    python scripts/nearest_patients.py --workdir=DIR

The run was trained on the source `volumes`. For each sample y, x is the training slice
nearest to it, in pixels, and x' the slice of any other patient that is nearest to x. If
y is nearer to x than x' is, it shows x's patient more closely than anybody else does.
The share of such samples is called near. For comparison it is measured of the slices of
the test split, whose patients were never seen, and of blurred training slices, which
are copies. AuthPct is printed beside it: it compares y with the slice next to x, which
nearly equals x, and so takes many copies for new.
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from scipy.ndimage import gaussian_filter

import gan_jax
from gan_jax import cli
from gan_jax import config as config_lib
from gan_jax.build.names import one_call
from gan_jax.data.volumes import source
from gan_jax.data.volumes.slices import View, images
from gan_jax.metrics.memorisation import authenticity, near_to_group
from gan_jax.run import workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data are, if elsewhere.")
_NUM = flags.DEFINE_integer("num", 1000, "Samples.")
_BLUR = 0.7  # of the copies, in pixels


def slices_of(config: ConfigDict, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the slices of a split, `[n, size, size]`, and whose they are."""
    _, settings = one_call("data.name", config.data.name, "volumes(...)")
    scans, _ = source.split(Path(config.data.data_dir).expanduser(), split)
    found = [
        images(scan.title, scan.read(), View(**settings), config.image_size)
        for scan in scans
    ]
    whose = [scan.patient for scan in scans]
    return np.concatenate(found), np.repeat(whose, [len(one) for one in found])


def rows_of(images: np.ndarray) -> np.ndarray:
    """Returns images as features, in [0, 1]."""
    return images.reshape(len(images), -1) / np.float32(255)


def main() -> None:
    """Prints the shares."""
    run, config = Path(_WORKDIR.value), config_lib.default()
    config.update(workdir.read(run)["config"])
    config.data.data_dir = _DATA_DIR.value or config.data.data_dir
    gan, state = gan_jax.load(run)
    drawn = np.asarray(gan_jax.draw(gan, state, jax.random.key(0), _NUM.value))
    train, patients = slices_of(config, "train")
    test, _ = slices_of(config, "test")
    blurred = gaussian_filter(np.float32(train), (0, _BLUR, _BLUR))
    x = rows_of(train)
    sets = {"samples": drawn[..., 0], "test slices": test, "blurred copies": blurred}
    for name, slices in sets.items():
        y = rows_of(slices)
        index, distance, near = near_to_group(y, x, patients)
        print(
            f"{name}: near {near.mean():.1%}, AuthPct {authenticity(y, x)[0]:.1%}, "
            f"median distance {np.median(distance):.2f}"
        )
        for one in np.unique(patients):
            mine = patients[index] == one
            shares = f"{mine.mean():.1%}, near {(near & mine).mean():.1%}"
            print(f"  nearest to {one}: {shares}")


if __name__ == "__main__":
    cli.run(main)
