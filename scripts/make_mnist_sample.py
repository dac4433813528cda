"""Makes the packaged sample of MNIST from the four original idx files.

    python scripts/make_mnist_sample.py --idx_dir=DIR

takes the first 1,000 training and the first 200 test images of each class, keeps them
in file order, and writes gan_jax/data/mnist_sample/mnist_sample.npz.
"""

import hashlib

import numpy as np
from absl import app, flags

from gan_jax.data import idx, packaged

_DIR = flags.DEFINE_string(
    "idx_dir", None, "where the idx files are, gzipped or not", required=True
)


def first_of_each_class(labels: np.ndarray, number: int) -> np.ndarray:
    """Returns the indices of the first `number` examples of each class, ascending."""
    firsts = [np.flatnonzero(labels == c)[:number] for c in np.unique(labels)]
    return np.sort(np.concatenate(firsts))


def sample(images, labels, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads two idx files and keeps the first `number` examples of each class."""
    images, labels = idx.read(images), idx.read(labels)
    chosen = first_of_each_class(labels, number)
    return images[chosen], labels[chosen]


def main(argv: list[str]) -> None:
    """Writes the sample and prints its size and checksum."""
    del argv
    files = idx.find(_DIR.value)
    train_images, train_labels = sample(*files[:2], 1000)
    test_images, test_labels = sample(*files[2:], 200)
    out = packaged.path("mnist")
    np.savez_compressed(
        out,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    data = out.read_bytes()
    print(f"{out}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    app.run(main)
