r"""Adversarial losses: pairs of pure functions on logits.

The discriminator's logit $\ell$ stands for $D = \sigma(\ell)$ where the loss makes it a
log-odds, see `estimates_log_odds`; with any other loss D is a critic, and its logits
are logged as they are. Every function returns one value per judgement, shape
`[judgements]`, to be minimised; the step takes the mean. Your own is a `Loss` of two
such functions, named in a config as `my_file.py:name`.

A function that returns a `Loss` is a family of losses, `least_squares(c=0.5)`;
targets.py has what changes a loss, `non_saturating, label_smoothing`.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.nn import logsumexp, relu, softplus

from gan_jax.errors import UserError, unknown
from gan_jax.objective.terms import MAX, family

# Maps targets `[judgements]`, 1 for real and 0 for generated examples, to other ones:
# those of one update with its key, or the mean ones without a key.
Target = Callable[[Array | None, Array], Array]


class Loss(NamedTuple):
    """What each player minimises.

    Attributes:
      d: `(real_logits, fake_logits) -> [judgements]`, the discriminator's loss.
      g: `(fake_logits, real_logits) -> [judgements]`, the generator's loss; only
        relativistic losses read the second.
      cost: `(logits, target) -> [judgements]` of a loss with labels: the
        discriminator's is `cost(real_logits, 1) + cost(fake_logits, 0)`. The target is
        a number or `[judgements]`.
      target: `(key, targets) -> targets`, what takes the place of these labels, drawn
        with the key; with None as the key, their mean. None: they stay as they are.
        `d` takes the mean targets. Its gradient is then exactly the expectation of the
        drawn one where the derivative of the cost is affine in the target, as it is for
        cross-entropy and least squares.
    """

    d: Callable[[Array, Array], Array]
    g: Callable[[Array, Array], Array]
    cost: Callable[[Array, Array | float], Array] | None = None
    target: Target | None = None

    def draw(self, key: Array) -> "Loss":
        """Returns the loss of one update, with targets drawn for it."""
        if self.target is None:
            return self
        of_real, of_fake = jax.random.split(key)
        return self._replace(d=_d_cost(self.cost, self.target, of_real, of_fake))


def labelled(cost: Callable, g: Callable, target: Target | None = None) -> Loss:
    """Returns the loss of a discriminator that pays `cost` for its answers.

    Args:
      cost: `(logits, target) -> [judgements]`.
      g: the generator's loss.
      target: what takes the place of the labels, see `Loss`.
    """
    return Loss(d=_d_cost(cost, target), g=g, cost=cost, target=target)


def _d_cost(
    cost: Callable,
    target: Target | None,
    of_real: Array | None = None,
    of_fake: Array | None = None,
) -> Callable:
    """Returns D's loss with the targets that two keys draw, or with the mean ones."""
    if target is None:
        return lambda real, fake: cost(real, 1.0) + cost(fake, 0.0)

    def d(real: Array, fake: Array) -> Array:
        ones, zeros = jnp.ones_like(real), jnp.zeros_like(fake)
        return cost(real, target(of_real, ones)) + cost(fake, target(of_fake, zeros))

    return d


@functools.cache  # a run builds its GAN more than once
def estimates_log_odds(loss: Loss) -> bool:
    r"""Tells whether D's best logit is the log-odds $\ell = \log p(x) / q(x)$.

    Then $\sigma(\ell)$ is the probability that x is real. It is so if that logit is
    stationary, $p\,\partial_{\ell_x} L_D + q\,\partial_{\ell_{G(z)}} L_D = 0$, for
    every ratio p/q of the densities (arXiv:1406.2661, proposition 1). Transforms of
    the targets, such as label smoothing, do not matter.
    """
    d = loss.d if loss.cost is None else _d_cost(loss.cost, None)

    def of_one(real: Array, fake: Array) -> Array:
        return d(real[None], fake[None]).sum()

    @jax.jit
    def log_odds(logits: Array) -> Array:
        by_real, by_fake = jax.vmap(jax.grad(of_one, (0, 1)))(logits, logits)
        balanced = jnp.allclose(jnp.exp(logits) * by_real, -by_fake, rtol=1e-3)
        return balanced & (by_fake != 0).all()

    return bool(log_odds(np.array([-2.3, -0.6, 0.4, 1.7], np.float32)))


def ignores_constants(loss: Loss) -> bool:
    """Tells whether D's loss stays the same if a constant is added to all logits.

    So it is with relativistic losses and with Wasserstein's. Then the sign of a logit
    means nothing.
    """
    return bool(np.isclose(_of_d(loss, 0.7, -1.3), _of_d(loss, 1.7, -0.3), rtol=1e-4))


def compares(loss: Loss) -> bool:
    """Tells whether D's loss sees only differences of real and generated logits.

    So it is with relativistic losses. (Wasserstein's loss ignores constants too, but is
    a sum over real and over generated examples.)
    """
    pairs = _of_d(loss, 0.7, -1.3) + _of_d(loss, 2.1, 0.4)
    others = _of_d(loss, 0.7, 0.4) + _of_d(loss, 2.1, -1.3)
    return ignores_constants(loss) and not np.isclose(pairs, others, rtol=1e-4)


def _of_d(loss: Loss, real: float, fake: float) -> float:
    return float(loss.d(jnp.array([real]), jnp.array([fake])).mean())


def _d_logistic(real: Array, fake: Array) -> Array:
    r"""$-\log D(x) - \log(1 - D(G(z)))$, the binary cross-entropy."""
    return softplus(-real) + softplus(fake)


# Goodfellow et al. 2014 (arXiv:1406.2661), eq. 1: G minimises log(1 - D(G(z))), which
# saturates where D rejects the samples with confidence.
minimax = Loss(
    d=_d_logistic,
    g=lambda fake, real: -softplus(fake),
    cost=optax.sigmoid_binary_cross_entropy,
)

# Ibid., section 3: G minimises -log D(G(z)); same fixed point, stronger gradients.
non_saturating = minimax._replace(g=lambda fake, real: softplus(-fake))

# Lim and Ye 2017 (arXiv:1705.02894); Miyato et al. 2018 (arXiv:1802.05957), eq. 16-17.
hinge = Loss(
    d=lambda real, fake: relu(1 - real) + relu(1 + fake),
    g=lambda fake, real: -fake,
)

# Arjovsky et al. 2017 (arXiv:1701.07875), eq. 2. The critic must be kept Lipschitz:
# add `--config.penalties=gradient_penalty`.
wasserstein = Loss(d=lambda real, fake: fake - real, g=lambda fake, real: -fake)


@family
def least_squares(a: float = 0.0, b: float = 1.0, c: float = 1.0) -> Loss:
    r"""Returns the loss of LSGAN (Mao et al. 2017, arXiv:1611.04076).

    D minimises $\frac12(\ell_x - b)^2 + \frac12(\ell_{G(z)} - a)^2$ and G
    $\frac12(\ell_{G(z)} - c)^2$ (its eq. 2; the defaults are eq. 9). With $b - c = 1$
    and $b - a = 2$ (eq. 8), G minimises Pearson's $\chi^2$ between the sum of both
    distributions and twice the generated one.

    Args:
      a: D's target for generated examples.
      b: D's target for real examples, greater than `a`.
      c: G's target for generated examples.

    Raises:
      UserError: these are not three numbers with a < b.
    """
    if not (all(map(is_number, (a, b, c))) and a < b):
        raise UserError(
            f"least_squares(a={a!r}, b={b!r}, c={c!r}): it needs numbers, a less than b"
        )
    return labelled(
        lambda logits, target: 0.5 * jnp.square(logits - (a + (b - a) * target)),
        g=lambda fake, real: 0.5 * jnp.square(fake - c),
    )


# Decreasing functions of the lead of one logit over another.
_DECREASING = {
    "logistic": lambda x: softplus(-x),
    "hinge": lambda x: relu(1 - x),
    "least_squares": lambda x: jnp.square(x - 1),
}


@family
def relativistic(f: str | Callable[[Array], Array] = "logistic") -> Loss:
    r"""Returns RpGAN's loss (Jolicoeur-Martineau 2018, arXiv:1807.00734, section 4).

    Real and generated examples are paired. D minimises $f(\ell_x - \ell_{G(z)})$: it
    learns to give the real one the greater logit. G minimises
    $f(\ell_{G(z)} - \ell_x)$.

    Args:
      f: 'logistic', $\log(1 + e^{-x})$; 'hinge', $\max(0, 1 - x)$; 'least_squares',
        $(x - 1)^2$; or your own decreasing function.

    Raises:
      UserError: there is no such `f`.
    """
    f = _decreasing("relativistic", f)
    return Loss(
        d=lambda real, fake: f(real - fake),
        g=lambda fake, real: f(fake - real),
    )


@family
def relativistic_average(f: str | Callable[[Array], Array] = "logistic") -> Loss:
    r"""Returns RaGAN's loss (Jolicoeur-Martineau 2018, arXiv:1807.00734, section 4).

    Each logit is compared with the mean logit of the other kind over the batch: D
    minimises $f(\ell_x - \mathbb E\,\ell_{G(z)}) + f(\mathbb E\,\ell_x - \ell_{G(z)})$,
    and G the same with real and generated examples exchanged.

    Args:
      f: as for `relativistic`.

    Raises:
      UserError: there is no such `f`.
    """
    f = _decreasing("relativistic_average", f)

    def lead(first: Array, second: Array) -> Array:
        return f(first - second.mean()) + f(first.mean() - second)

    return Loss(d=lead, g=lead)


def _contrast(real: Array, fake: Array) -> Array:
    r"""$\log(1 + \sum_j e^{f_j - r_i}) + \log(1 + \sum_j e^{f_i - r_j})$."""
    return softplus(logsumexp(fake) - real) + softplus(fake + logsumexp(-real))


# Yu et al. 2021 (arXiv:2103.16748), section 3: D contrasts each real logit with all the
# generated ones of the batch, and each generated one with all the real ones. The game
# is zero-sum: G maximises what D minimises.
dual_contrastive = Loss(
    d=_contrast, g=lambda fake, real: jnp.negative(_contrast(real, fake))
)

# Above this point exp is continued by its tangent: at a logit of 1e4 it would be
# infinite, and one such logit would end the run. e^20 keeps the gradient and its
# square, which Adam and the norm of the gradient need, finite; f_gan is exact for
# density ratios below it.
_TANGENT_FROM = 20.0


def _exp(x: Array) -> Array:
    start = _TANGENT_FROM
    tangent = math.exp(start) * (1 + x - start)
    return jnp.where(x < start, jnp.exp(jnp.minimum(x, start)), tangent)


# Of each divergence, v -> -g_f(v) and v -> f*(g_f(v)), from tables 2 and 6 of f-GAN.
_DIVERGENCES = {
    "kl": (jnp.negative, lambda v: _exp(v - 1)),
    "reverse_kl": (lambda v: _exp(-v), lambda v: v - 1),
    "pearson": (jnp.negative, lambda v: 0.25 * jnp.square(v) + v),
    "squared_hellinger": (lambda v: _exp(-v) - 1, lambda v: _exp(v) - 1),
    "jensen_shannon": (
        lambda v: softplus(-v) - math.log(2),
        lambda v: softplus(v) - math.log(2),
    ),
    "gan": (lambda v: softplus(-v), softplus),
}


@family
def f_gan(divergence: str = "kl", saturating: bool = False) -> Loss:
    r"""Returns the loss of f-GAN (Nowozin et al. 2016, arXiv:1606.00709).

    With the critic $T = g_f(\ell)$, D maximises the bound (its eq. 4)
    $\mathbb E\,T(x) - \mathbb E\,f^*(T(G(z))) \le D_f(P \| Q)$, reached at
    $T = f'(p/q)$. Each $g_f$ and $f^*$ (tables 6 and 2) is written out in the logit.

    Args:
      divergence: of the data P from the generator's Q: 'kl', 'reverse_kl', 'pearson',
        'squared_hellinger', 'jensen_shannon' (by the generator of table 1, the sum of
        both divergences from the mixture) or 'gan' (that less $\log 4$).
      saturating: whether G minimises the bound, $-\mathbb E\,f^*(T(G(z)))$, or else, as
        in section 3.2, $-\mathbb E\,T(G(z))$.

    Raises:
      UserError: there is no such divergence.
    """
    if divergence not in _DIVERGENCES:
        raise unknown("divergence", str(divergence), _DIVERGENCES)
    if not isinstance(saturating, bool):
        raise UserError(f"f_gan: saturating is {saturating!r}: it is True or False")
    of_real, of_fake = _DIVERGENCES[divergence]
    return Loss(
        d=lambda real, fake: of_real(real) + of_fake(fake),
        g=lambda fake, real: -of_fake(fake) if saturating else of_real(fake),
    )


def _decreasing(name: str, f: str | Callable) -> Callable:
    if callable(f):
        return f
    if f not in _DECREASING:
        raise unknown(f"f of {name}", str(f), _DECREASING)
    return _DECREASING[f]


def is_number(x) -> bool:
    """Tells whether a setting is a finite number that float32 can hold."""
    return type(x) in (int, float) and abs(x) <= MAX
