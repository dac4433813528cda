"""Penalties on the logits of the discriminator."""

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.objective.penalties.shared import Critic, Memory, moving_averages
from gan_jax.objective.terms import check_flag, check_number, penalty


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
    step: Array,
    memory: Memory,
    decay: float = 0.99,
    start: int = 0,
    relu: bool = False,
) -> tuple[Array, Memory]:
    r"""Returns $(D(x) - \alpha_F)^2 + (D(G(z)) - \alpha_R)^2$.

    The anchors $\alpha_R$ and $\alpha_F$ are moving averages of the logits of real and
    of generated examples (Tseng et al. 2021, arXiv:2104.03310, eq. 4). They include
    this batch and are free of the bias to their initial value, so that the first ones
    are its means.

    Settings:
      decay: of the averages, in [0, 1).
      start: the step before which it is 0, and the anchors are the means of the last
        batch; the averages start from there, as in the authors' code.
      relu: whether negative values of $D(x) - \alpha_F$ and of $\alpha_R - D(G(z))$ are
        set to zero before squaring, as in the authors' code; the paper does not.

    Raises:
      UserError: a setting is out of its range.
    """
    check_number("lecam: decay", decay, below=1)
    check_number("lecam: start", start)
    check_flag("lecam: relu", relu)
    means = {"real": real_logits.mean(), "fake": fake_logits.mean()}
    decay = jnp.where(step < start, 0.0, decay)
    anchor, memory = moving_averages(memory, means, decay)
    gaps = real_logits - anchor["fake"], anchor["real"] - fake_logits
    to_fake, to_real = (jax.nn.relu(gap) if relu else gap for gap in gaps)
    values = jnp.square(to_fake) + jnp.square(to_real)
    return jnp.where(step >= start, values, 0.0), memory
