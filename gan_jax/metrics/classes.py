"""Which classes of the data samples belong to, by their nearest real examples."""

import numpy as np


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
    return labels[_squared_distances(samples, examples).argmin(1)]


def leave_one_out_accuracy(examples: np.ndarray, labels: np.ndarray) -> float:
    """Returns how often the nearest other example has the same label.

    It tells whether `nearest_labels` can be trusted with such data.
    """
    distances = _squared_distances(examples, examples)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(1)] == labels).mean())


def shares(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the share of each class among labels `[num]`, `[num_classes]`."""
    return np.bincount(labels, minlength=num_classes) / len(labels)


def _squared_distances(samples: np.ndarray, examples: np.ndarray) -> np.ndarray:
    x, y = (a.reshape(len(a), -1).astype(np.float32) for a in (samples, examples))
    middle = y.mean(0)  # the products of centred numbers lose fewer digits
    x, y = x - middle, y - middle
    return np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
