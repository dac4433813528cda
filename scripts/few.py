r"""A data source of few examples: as many of each class as `data.split` says.

    python -m gan_jax.train --config=configs/mnist.py:conditional \
        --config.data.source=scripts/few.py --config.data.split=100 --config.seed=3

`config.seed` chooses them among the first 50,000 training examples of MNIST or
Fashion-MNIST, `data.name`; the other 10,000 are for validation. A smaller choice is a
part of a greater one. Replicas of a run share the choice of its first seed.
"""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from gan_jax.data import tfds
from gan_jax.data.source import InMemory, fingerprint
from gan_jax.errors import UserError

POOL = 50_000


def load(config: ConfigDict) -> InMemory:
    """Loads the examples, each class in turn.

    Raises:
      UserError: `data.split` is no number, or there are fewer of some class.
    """
    num = config.data.split
    if not (num.isdigit() and int(num)):
        raise UserError(f"data.split is {num!r}: scripts/few.py takes a number, as 100")
    config = config.copy_and_resolve_references()
    config.data.split = "train"
    whole = tfds.load(config)
    rows = balanced(np.asarray(whole.conditions)[:POOL], int(num), config.seed)
    examples, labels = whole.examples[rows], np.asarray(whole.conditions)[rows]
    info = dataclasses.replace(
        whole.info,
        name=f"{whole.info.name}, {num} of each class by seed {config.seed}",
        num_examples=len(rows),
        fingerprint=fingerprint(examples, labels),
    )
    return InMemory(info, examples, labels)


def balanced(labels: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Returns `num` indices of each class, the classes in turn.

    Raises:
      UserError: some class has fewer.
    """
    random = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    if (least := min(map(len, classes))) < num:
        raise UserError(f"a class has only {least} of the {num} examples asked for")
    return np.stack([random.permutation(one)[:num] for one in classes], 1).reshape(-1)
