"""Penalties on what G makes of pairs that are their own condition (arXiv:1703.10593).

An example x = (a, b) is a `Pair` of images of two domains, and G(x) = (F(b), H(a)).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError
from gan_jax.objective.penalties.shared import Critic
from gan_jax.objective.terms import penalty


@penalty(players=("g",))
def cycle(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    generator: Callable[..., Array],
    latents: Array,
    example: Array,
    sample: Array,
    condition: Array,
    space: Any,
) -> Array:
    r"""Returns $\overline{|G(G(x)) - x|}$: each image comes back from the other domain.

    Zhu et al. 2017 (arXiv:1703.10593), eq. 2, where $G(G(x)) = (F(H(a)), H(F(b)))$. The
    bar is the mean over all coordinates of both images.

    Raises:
      UserError: the example is no pair, or not its own condition.
    """
    _check("cycle", space, condition)
    return _distance(generator(latents, sample), example)


@penalty(weight=5.0, players=("g",))
def identity(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    generator: Callable[..., Array],
    latents: Array,
    example: Array,
    condition: Array,
    space: Any,
) -> Array:
    r"""Returns $\overline{|G(\bar x) - x|}$, with $\bar x = (b, a)$.

    Zhu et al. 2017 (arXiv:1703.10593), section 5.2: an image that is of the wanted
    domain already is left as it is, $G(b, a) = (F(a), H(b))$. The bar over the whole is
    the mean over all coordinates of both images.

    Raises:
      UserError: the example is no pair, or not its own condition.
    """
    _check("identity", space, condition)
    return _distance(generator(latents, example[:, ::-1]), example)


def _distance(made: Array, wanted: Array) -> Array:
    return jnp.abs(made - wanted).mean(range(1, wanted.ndim))


def _check(name: str, space: Any, condition: Array | None) -> None:
    if not space.is_pair:
        raise UserError(
            f"{name} needs pairs of images, as data.source=unpaired has them, and an "
            f"example is {space}"
        )
    if getattr(condition, "shape", ())[1:] != space.shape:
        raise UserError(
            f"{name} needs pairs that are their own condition, as data.source=unpaired "
            "has them: set --config.conditional=True"
        )
