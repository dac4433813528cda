r"""Adversarial losses: pairs of pure functions on logits.

The discriminator's logit $\ell$ stands for $D = \sigma(\ell)$. Every function returns
one value per example, shape `[batch]`, to be minimised; the step takes the mean. Your
own is a `Loss` of two such functions, named in a config as `my_file.py:name`.
Where the logits have another meaning (`least_squares`, `wasserstein`), the reported
D(x), V and accuracy, which take their sigmoid, are monitors and no probabilities.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.nn import relu, softplus


class Loss(NamedTuple):
    """What each player minimises.

    Attributes:
      d: `(real_logits, fake_logits) -> [batch]`, the discriminator's loss.
      g: `(fake_logits, real_logits) -> [batch]`, the generator's loss; only
        relativistic losses read the second.
    """

    d: Callable[[Array, Array], Array]
    g: Callable[[Array, Array], Array]


def drawn(loss: Loss, key: Array) -> Loss:
    """TEMPORARY until merged."""
    return loss


def _d_logistic(real: Array, fake: Array) -> Array:
    r"""$-\log D(x) - \log(1 - D(G(z)))$, the binary cross-entropy."""
    return softplus(-real) + softplus(fake)


# Goodfellow et al. 2014 (arXiv:1406.2661), eq. 1: G minimises log(1 - D(G(z))), which
# saturates where D rejects the samples with confidence.
minimax = Loss(d=_d_logistic, g=lambda fake, real: -softplus(fake))

# Ibid., section 3: G minimises -log D(G(z)); same fixed point, stronger gradients.
non_saturating = Loss(d=_d_logistic, g=lambda fake, real: softplus(-fake))

# Lim and Ye 2017 (arXiv:1705.02894); Miyato et al. 2018 (arXiv:1802.05957), eq. 16-17.
hinge = Loss(
    d=lambda real, fake: relu(1 - real) + relu(1 + fake),
    g=lambda fake, real: -fake,
)

# Mao et al. 2017 (arXiv:1611.04076), eq. 9: targets 1 for real, 0 for fake.
least_squares = Loss(
    d=lambda real, fake: 0.5 * jnp.square(real - 1) + 0.5 * jnp.square(fake),
    g=lambda fake, real: 0.5 * jnp.square(fake - 1),
)

# Arjovsky et al. 2017 (arXiv:1701.07875), eq. 2. The critic must be kept Lipschitz:
# add `--config.penalties=gradient_penalty`.
wasserstein = Loss(d=lambda real, fake: fake - real, g=lambda fake, real: -fake)
