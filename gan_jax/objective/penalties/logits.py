"""Penalties on the logits of the discriminator."""

import jax.numpy as jnp
from jax import Array

from gan_jax.objective.penalties.shared import Critic, Memory, moving_averages
from gan_jax.objective.terms import check_number, penalty


@penalty(weight=0.001)
def drift(
    critic: Critic, real: Array, fake: Array, key: Array, *, real_logits: Array
) -> Array:
    r"""Returns $D(x)^2$ at real examples, which holds a Wasserstein critic near zero.

    Its weight is the $\epsilon_\text{drift}$ of Karras et al. 2018 (arXiv:1710.10196),
    appendix A.1.
    """
    return jnp.square(real_logits)


@penalty(weight=0.3, initial={"real": 0.0, "fake": 0.0, "weight": 0.0})
def lecam(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    real_logits: Array,
    fake_logits: Array,
    memory: Memory,
    decay: float = 0.99,
) -> tuple[Array, Memory]:
    r"""Returns $(D(x) - \alpha_F)^2 + (D(G(z)) - \alpha_R)^2$.

    The anchors $\alpha_R$ and $\alpha_F$ are moving averages of the logits of real and
    of generated examples (Tseng et al. 2021, arXiv:2104.03310, eq. 4). They include
    this batch and are free of the bias to their initial value, so that the first ones
    are its means. (The authors' code sets negative values of $D(x) - \alpha_F$ and of
    $\alpha_R - D(G(z))$ to zero before squaring; the paper does not.)

    Settings:
      decay: of the averages, in [0, 1).

    Raises:
      UserError: the decay is outside of [0, 1).
    """
    check_number("lecam: decay", decay, below=1)
    means = {"real": real_logits.mean(), "fake": fake_logits.mean()}
    anchor, memory = moving_averages(memory, means, decay)
    to_fake = jnp.square(real_logits - anchor["fake"])
    return to_fake + jnp.square(fake_logits - anchor["real"]), memory
