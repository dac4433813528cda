"""The Inception score: how sure a classifier is, and how much its answers vary."""

import itertools

import numpy as np
from scipy.special import log_softmax, logsumexp

from gan_jax.errors import UserError
from gan_jax.metrics import arrays


def inception_score(
    logits: np.ndarray, splits: int = 10, shuffle: bool = True, seed: int = 2020
) -> tuple[float, float]:
    r"""Returns the score's mean over splits of the samples, and its spread.

    $\exp E_x KL(p(y|x) \,\|\, p(y))$ (Salimans et al. 2016, arXiv:1606.03498, section
    4), from 1 to the number of classes. It does not look at the data. Defaults and
    shuffle are those of torch-fidelity. The score grows with the size of a split:
    compare only equal ones.

    Args:
      logits: of a classifier on the samples, `[n, classes]`.
      splits: parts of the samples, on each of which p(y) is estimated.
      shuffle: whether the samples are shuffled before they are split.
      seed: of the shuffle.

    Returns:
      The mean, and the standard deviation over splits.

    Raises:
      UserError: there are less samples than splits.
    """
    x = arrays.features(logits, "logits", least=max(1, splits)).astype(np.float64)
    if splits < 1:
        raise UserError(f"splits is {splits}: it must be at least 1")
    if shuffle:
        x = x[np.random.RandomState(seed).permutation(len(x))]
    edges = [i * len(x) // splits for i in range(splits + 1)]
    log_p = log_softmax(x, axis=1)
    scores = [_score(log_p[start:stop]) for start, stop in itertools.pairwise(edges)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(log_p: np.ndarray) -> float:
    log_marginal = logsumexp(log_p, axis=0) - np.log(len(log_p))
    return np.exp((np.exp(log_p) * (log_p - log_marginal)).sum(1).mean())
