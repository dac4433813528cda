"""Combinations that are known to fail, found before the first step.

They are allowed, since it may be the failure that is studied: a run prints them as
warnings.
"""

from collections.abc import Collection

import jax
import numpy as np
from jax import Array

from gan_jax.algorithm.gan import GAN
from gan_jax.diagnostics import game
from gan_jax.layers.norm import COLLECTION as BATCH
from gan_jax.layers.spectral import COLLECTION as SPECTRAL
from gan_jax.objective.losses import Loss

_SCALE = 10.0  # within which means and standard deviations of points should be
_FAR = 1e3
_NEAR = 0.1

# Penalties of D that do not keep its logits from growing.
_NOT_BOUNDING = {"auxiliary_classifier", "bcr", "cr", "orthogonal", "zcr"}
# Penalties on the gradient of D by each single example.
_OF_GRADIENTS = {
    *("dragan", "gradient_penalty", "r1", "r2", "zero_centred_gradient_penalty"),
}


def warnings(gan: GAN, d_stats: Collection[str], own_loss: bool = False) -> list[str]:
    """Returns what is known to be wrong with a GAN, one line each.

    Args:
      gan: the static half.
      d_stats: names of the discriminator's collections of statistics.
      own_loss: whether the loss is the user's own, and may be wrong in itself.
    """
    found = _of_loss(gan.loss) if own_loss else []
    return found + _unbounded(gan, d_stats) + _mixing(gan, d_stats)


def of_points(points: np.ndarray) -> list[str]:
    """Tells whether points lie where networks learn slowly.

    Args:
      points: `[num, coordinates]`, of the data.
    """
    mean, deviation = points.mean(0), points.std(0)
    off = np.abs(mean).max() > _SCALE or deviation.max() > _SCALE
    if not off and deviation.max() >= 1 / _SCALE:
        return []
    at, most = np.abs(mean).argmax(), deviation.max()
    return [
        f"the data have a coordinate of mean {mean[at]:.3g}, and their greatest "
        f"standard deviation is {most:.3g}: networks learn best with mean 0 and "
        "deviation 1, so shift and scale them in your data source"
    ]


def _of_loss(loss: Loss) -> list[str]:
    """Tells whether both players play, and against each other."""
    point = game.fixed_point(loss)
    logit = point.logit if point else 0.0
    real, fake = (np.full(1, logit + lead, np.float32) for lead in (_NEAR, -_NEAR))
    slopes = jax.jit(
        lambda: (*game.d_slopes(loss, real, fake), game.g_slopes(loss, fake, real))
    )
    by_real, by_fake, of_g = (float(slope[0]) for slope in slopes())
    if of_g == 0:
        return [
            "G's loss does not depend on the logits of generated examples, so G learns "
            "nothing: a loss's g takes (fake_logits, real_logits), in this order"
        ]
    if by_real == 0 or by_fake == 0:
        kind = "real" if by_real == 0 else "generated"
        return [
            f"D's loss does not depend on the logits of {kind} examples: a loss's d "
            "takes (real_logits, fake_logits), in this order"
        ]
    if (by_fake > 0) == (of_g > 0):
        return [
            "both players push the logits of generated examples the same way, so they "
            "do not compete: a loss's d takes (real_logits, fake_logits), and its g "
            "(fake_logits, real_logits)"
        ]
    return []


def _unbounded(gan: GAN, d_stats: Collection[str]) -> list[str]:
    r"""Tells whether D's logits can grow for ever, as without a Lipschitz bound.

    Where real and generated examples do not overlap, D can lower a loss without a lower
    bound by larger and larger logits (arXiv:1701.07875, section 3).
    """
    for_d = {term.name for term in gan.penalties if "d" in term.players}
    if gan.constraints or SPECTRAL in d_stats or for_d - _NOT_BOUNDING:
        return []

    @jax.jit
    @jax.vmap
    def d_loss(logits: Array) -> Array:
        return gan.loss.d(logits[:1], logits[1:]).mean()

    corners = np.array([[_FAR, -_FAR], [_FAR, 0], [0, -_FAR]], np.float32)
    if np.asarray(d_loss(corners)).min() > -_FAR / 2:
        return []
    return [
        "D's loss has no lower bound, and nothing keeps D's logits from growing: add a "
        "penalty such as --config.penalties=gradient_penalty or r1, or spectral norm"
    ]


def _mixing(gan: GAN, d_stats: Collection[str]) -> list[str]:
    """Tells whether D's judgement of an example depends much on the others.

    A penalty on the gradient by each example then constrains another function than
    the one that is meant (arXiv:1704.00028, section 4). It is so with batch
    normalisation. `minibatch_std` mixes examples too, but changes that gradient by
    0.05 % where batch normalisation changes it by 12 % (dcgan at initialisation, 32
    digits), and ProGAN and StyleGAN combine it with such penalties.
    """
    return [
        f"penalty {term.name!r} is on D's gradient by each single example, and D mixes "
        "the examples of a batch (batch normalisation): use a discriminator without, "
        "such as --config.discriminator='norm=\"none\"' for dcgan"
        for term in gan.penalties
        if BATCH in d_stats and term.name in _OF_GRADIENTS
    ]
