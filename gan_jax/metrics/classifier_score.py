"""The classifier accuracy score: what a classifier learns from samples alone."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.scipy.ndimage import map_coordinates

from gan_jax.errors import UserError
from gan_jax.layers.conv import Conv
from gan_jax.metrics import arrays


class Labelled(NamedTuple):
    """Examples and their classes.

    Attributes:
      examples: uint8 images `[n, height, width, channels]`, or floats `[n, k]`.
      labels: `[n]`, integers from 0.
    """

    examples: np.ndarray
    labels: np.ndarray


class Scores(NamedTuple):
    """The accuracy on test examples of a classifier, by what it was trained on.

    Attributes:
      fake: on samples alone, the classifier accuracy score.
      real: on real examples alone.
      both: on real examples and samples; above `real`, they are of use as augmentation.
    """

    fake: float
    real: float
    both: float


class Classifier(nn.Module):
    """A small network: convolutions for images, dense layers for points.

    Attributes:
      num_classes: outputs.
      width: channels of the first convolution; of dense layers four times that.
    """

    num_classes: int
    width: int = 32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[batch, ...]` to logits `[batch, num_classes]`."""
        if x.ndim == 4:
            blocks = max(1, round(math.log2(min(x.shape[1:3]) / 4)))
            for i in range(min(blocks, 5)):
                x = nn.relu(nn.GroupNorm(8)(Conv(self.width * 2 ** min(i, 3))(x)))
        else:
            x = nn.relu(nn.Dense(4 * self.width)(x))
        x = nn.relu(nn.Dense(4 * self.width)(x.reshape(len(x), -1)))
        return nn.Dense(self.num_classes)(x)


def classifier_score(
    fake: Labelled, real: Labelled, test: Labelled, **training: int | float
) -> Scores:
    """Trains a classifier on samples, on real examples and on both; tests it on others.

    Ravuri and Vinyals 2019 (arXiv:1905.10887). The three are trained alike, and for as
    many steps. With this small network a score compares only with the others here.

    Args:
      fake: samples, and the classes that they were asked for.
      real: the training set.
      test: real examples that nothing was trained on.
      **training: settings of `accuracy`.

    Raises:
      UserError: examples or labels do not fit together.
    """
    both = Labelled(*map(np.concatenate, zip(fake, real, strict=True)))
    return Scores(*(accuracy(train, test, **training) for train in (fake, real, both)))


def accuracy(
    train: Labelled,
    test: Labelled,
    *,
    steps: int = 2000,
    batch: int = 128,
    learning_rate: float = 1e-3,
    network: type[nn.Module] = Classifier,
    augment: Callable[[Array, Array], Array] | None = None,
    seed: int = 0,
) -> float:
    """Returns the accuracy on test examples after training a classifier.

    Args:
      train: what it learns from.
      test: what it is tested on. Its greatest label tells how many classes there are.
      steps: of Adam, the learning rate decaying to 0 along a cosine.
      batch: examples in a step.
      learning_rate: the first.
      network: a Flax module with the field `num_classes`.
      augment: changes each batch at random, `(key, x) -> x`: a pure function. Images
        are in [-1, 1]. Test examples stay as they are.
      seed: of the initial parameters, of the batches and of what changes them.

    Raises:
      UserError: examples or labels do not fit together.
    """
    train, test = _checked(train, "training"), _checked(test, "test")
    classes = int(test.labels.max()) + 1
    _fit_together(train, test, classes)
    model, see = network(num_classes=classes), _standardised(train.examples)
    optimizer, random = _adam(learning_rate, steps), np.random.default_rng(seed)
    key = jax.random.key(seed)
    params = jax.jit(model.init)(key, see(train.examples[:1]))
    opt, update = optimizer.init(params), (model, optimizer, augment)
    for step in range(steps):
        rows = random.integers(len(train.labels), size=batch)
        x, labels = see(train.examples[rows]), train.labels[rows]
        params, opt = _update(*update, params, opt, key, step, x, labels)
    return _share_right(lambda x: _logits(model, params, see(x)), test, batch)


def moved(key: Array, images: Array) -> Array:
    """Rotates, scales and shifts each image: up to 15°, 10 % and 2 pixels.

    The classical augmentation of digits, for `accuracy(..., augment=moved)`. Beyond
    the border the pixels at the border go on.

    Args:
      key: a PRNG key.
      images: `[batch, height, width, channels]`.
    """
    num, *size, _ = images.shape
    angle, scale, *shift = jax.random.uniform(key, (4, num, 1, 1), minval=-1)
    angle, scale = jnp.pi / 12 * angle, 1 + 0.1 * scale
    middle = (np.reshape(size, (2, 1, 1)) - 1) / 2
    y, x = np.indices(size) - middle
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    rows = cos * y - sin * x + middle[0] + 2 * shift[0]
    columns = sin * y + cos * x + middle[1] + 2 * shift[1]

    def at(channel, rows, columns):
        return map_coordinates(channel, [rows, columns], order=1, mode="nearest")

    return jax.vmap(jax.vmap(at, (-1, None, None), -1))(images, rows, columns)


def _share_right(logits: Callable, test: Labelled, batch: int) -> float:
    num, right = len(test.labels), []
    for start in range(0, num, batch):
        rows = np.arange(start, start + batch) % num  # all batches have one shape
        found = np.asarray(logits(test.examples[rows])).argmax(-1)
        right.append(found == test.labels[rows])
    return float(np.concatenate(right)[:num].mean())


@functools.cache
def _adam(learning_rate: float, steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _update(model, optimizer, augment, params, opt, key, step, x, labels):
    if augment is not None:
        x = augment(jax.random.fold_in(key, step), x)

    def loss(params):
        losses = optax.softmax_cross_entropy_with_integer_labels
        return losses(model.apply(params, x), labels).mean()

    updates, opt = optimizer.update(jax.grad(loss)(params), opt)
    return optax.apply_updates(params, updates), opt


@functools.partial(jax.jit, static_argnums=0)
def _logits(model, params, x):
    return model.apply(params, x)


def _standardised(examples: np.ndarray) -> Callable[[np.ndarray], Array]:
    """Returns how examples like these enter the network."""
    centre, scale = 127.5, 127.5
    if examples.ndim == 2:
        centre, scale = examples.mean(0), examples.std(0)
        scale = np.where(scale > 0, scale, 1.0)
    return lambda x: jnp.asarray((x - centre) / scale, jnp.float32)


def _checked(data: Labelled, name: str) -> Labelled:
    x = np.asarray(data.examples)
    if not (x.ndim == 4 and x.dtype == np.uint8):
        x = arrays.features(x, f"{name} examples", least=1)
    if not len(x):
        raise UserError(f"there are no {name} examples")
    return Labelled(x, arrays.class_labels(data.labels, len(x), f"{name} labels"))


def _fit_together(train: Labelled, test: Labelled, classes: int) -> None:
    shapes = train.examples.shape[1:], test.examples.shape[1:]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"training examples have shape {shapes[0]} and test examples {shapes[1]}"
        )
    if train.labels.max() >= classes:
        raise UserError(
            f"training label {train.labels.max()} is none of the {classes} classes of "
            "the test examples"
        )
