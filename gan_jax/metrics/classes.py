"""Which classes of the data samples belong to, by their nearest real examples."""

import numpy as np

from gan_jax.metrics.arrays import neighbours


def nearest_labels(
    samples: np.ndarray, examples: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Returns the label of the example nearest to each sample.

    The nearest-neighbour rule of Cover and Hart 1967, in the distance of the numbers
    themselves.

    Args:
      samples: `[num, ...]`.
      examples: `[count, ...]`, of the same shape each.
      labels: `[count]`, of the examples.

    Returns:
      `[num]`.
    """
    return labels[neighbours(_flat(samples), _flat(examples)).indices[:, 0]]


def leave_one_out_accuracy(examples: np.ndarray, labels: np.ndarray) -> float:
    """Returns how often the nearest other example has the same label.

    It tells whether `nearest_labels` can be trusted with such data.
    """
    x = _flat(examples)
    nearest = neighbours(x, x, itself=True).indices[:, 0]
    return float((labels[nearest] == labels).mean())


def shares(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the share of each class among labels `[num]`, `[num_classes]`."""
    return np.bincount(labels, minlength=num_classes) / len(labels)


def _flat(examples: np.ndarray) -> np.ndarray:
    return examples.reshape(len(examples), -1).astype(np.float32)
