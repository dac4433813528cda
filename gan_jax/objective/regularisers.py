"""Penalties on parameters and on what the generator makes.

They are named with those of penalties.py, which says what a penalty is.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.lax import stop_gradient

from gan_jax.errors import UserError
from gan_jax.objective.terms import check_flag, check_number, marked

Critic = Callable[[Array], Array]
Memory = dict[str, Array]
# --- What the generator makes -------------------------------------------------------


@marked(weight=5.0, players=("d", "g"))
def zcr(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    generator: Callable[[Array], Array],
    latents: Array,
    sigma: float = 0.03,
    gamma: float = 0.1,
) -> Array:
    r"""Returns $(D(x) - D(x'))^2 - \gamma\,\overline{(x - x')^2}$, of near latents.

    Latent consistency regularisation (Zhao et al. 2021, arXiv:2002.04724, algorithm 2),
    for $x = G(z)$ and $x' = G(z + \Delta z)$: D is to give them like logits, and moves
    by the first part alone; G is to make them differ, and moves by the second alone,
    the mean over an example's coordinates.

    Settings:
      sigma: standard deviation of $\Delta z$, which is normal.
      gamma: $\lambda_\text{gen} / \lambda_\text{dis}$; the weight is
        $\lambda_\text{dis}$.

    Raises:
      UserError: sigma is no positive number, or gamma is negative.
    """
    check_number("zcr: sigma", sigma, zero=False)
    check_number("zcr: gamma", gamma)
    noise = jax.random.normal(key, latents.shape).astype(latents.dtype)
    near = generator(latents + sigma * noise)
    made = generator(latents)  # `fake` may be augmented, or of earlier samples
    change = critic(stop_gradient(made)) - critic(stop_gradient(near))
    spread = jnp.square(made - near).mean(range(1, made.ndim))
    return jnp.square(change) - gamma * spread


@marked(weight=1.0, players=("g",))
def feature_matching(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    features: Callable[[Array], Array],
) -> Array:
    r"""Returns $\|\mathbb{E}_x f(x) - \mathbb{E}_z f(G(z))\|^2$ of D's features $f$.

    Salimans et al. 2016 (arXiv:1606.03498), section 3.1; the means are of the batch.
    """
    gap = stop_gradient(features(real)).mean(0) - features(fake).mean(0)
    return jnp.broadcast_to(jnp.square(gap).sum(), len(real))


@marked(weight=2.0, players=("g",), memory={"length": 0.0, "weight": 0.0})
def path_length(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    generator: Callable[[Array], Array],
    latents: Array,
    memory: Memory,
    decay: float = 0.99,
) -> tuple[Array, Memory]:
    r"""Returns $(\|J_z^T y\| - a)^2$, $J_z$ the generator's Jacobian.

    Karras et al. 2020 (arXiv:1912.04958), eq. 4. $y$ is standard normal over the root
    of the number of pixels; $a$ is a moving average of the lengths, this batch's
    included, freed of the bias to its initial value.

    Settings:
      decay: of the average, in [0, 1).

    Raises:
      UserError: the decay is outside of [0, 1).
    """
    check_number("path_length: decay", decay, below=1)
    examples, pull_back = jax.vjp(generator, latents)
    pixels = math.prod(examples.shape[1:-1])
    y = jax.random.normal(key, examples.shape) / math.sqrt(pixels)
    lengths = norm(*pull_back(y.astype(examples.dtype)))
    average, memory = moving_averages(memory, {"length": lengths.mean()}, decay)
    return jnp.square(lengths - average["length"]), memory


@marked(weight=1.0, players=("g",))
def mode_seeking(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    generator: Callable[[Array], Array],
    latents: Array,
) -> Array:
    r"""Returns $\overline{|z - z'|} \big/ \overline{|G(z) - G(z')|}$.

    Mao et al. 2019 (arXiv:1903.05628) maximise the inverse; as in the authors' code,
    $10^{-5}$ is added to it. The bars are means over the batch and all coordinates;
    $z'$ is the latent before $z$ in the batch, and both are made examples of one class.

    Raises:
      UserError: there is only one latent.
    """
    if len(latents) < 2:
        raise UserError("mode_seeking compares latents: take a batch_size of 2 or more")
    others = jnp.roll(latents, 1, axis=0)
    change = jnp.abs(generator(latents) - generator(others)).mean()
    apart = change / jnp.abs(latents - others).mean()
    return jnp.broadcast_to(1 / (apart + 1e-5), len(real))


@marked(weight=1.0, players=("d", "g"))
def auxiliary_classifier(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    classify: Callable[[Array], Array],
    labels: Array,
) -> Array:
    r"""Returns $-\log P(c \mid x) - \log P(c \mid G(z, c))$, which both players lower.

    The negative of $L_C$ of AC-GAN (Odena et al. 2017, arXiv:1610.09585), eq. 3.
    """
    cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels
    return cross_entropy(classify(real), labels) + cross_entropy(classify(fake), labels)


# --- Parameters ---------------------------------------------------------------------


@marked(weight=1e-4)
def orthogonal(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    params,
    relaxed: bool = False,
) -> Array:
    r"""Returns $\sum_W \|W^T W - I\|_F^2$ over the discriminator's weights.

    Brock et al. 2017 (arXiv:1609.07093); BigGAN (arXiv:1809.11096), eq. 2. A kernel is
    seen as a matrix with a column for each output. Embeddings are left out, as by
    BigGAN's authors: their rows are looked up one by one.

    Settings:
      relaxed: leaves the lengths of the columns free, $\|W^T W \odot (1 - I)\|_F^2$
        (ibid., eq. 3).
    """
    check_flag("orthogonal: relaxed", relaxed)
    return jnp.broadcast_to(_orthogonality(params, relaxed), len(real))


@marked(weight=1e-4, players=("g",))
def g_orthogonal(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    params,
    relaxed: bool = False,
) -> Array:
    """Returns what `orthogonal` does, of the generator's weights."""
    check_flag("g_orthogonal: relaxed", relaxed)
    return jnp.broadcast_to(_orthogonality(params, relaxed), len(real))


@marked(constraint=True)
def weight_clipping(params, *, limit: float = 0.01):
    """Returns the discriminator's parameters, each clipped to [-limit, limit].

    Arjovsky et al. 2017 (arXiv:1701.07875), algorithm 1: the parameters are clipped
    after each update of a Wasserstein critic.

    Settings:
      limit: the greatest magnitude.

    Raises:
      UserError: the limit is no positive number.
    """
    check_number("weight_clipping: limit", limit, zero=False)
    return optax.tree.clip(params, -limit, limit)


def _orthogonality(params, relaxed: bool) -> Array:
    total = jnp.float32(0)
    for path, kernel in jax.tree_util.tree_leaves_with_path(params):
        embeds = jax.tree_util.keystr(path[-1:], simple=True) == "embedding"
        if kernel.ndim < 2 or embeds:
            continue
        w = kernel.reshape(-1, kernel.shape[-1])
        gram, identity = w.T @ w, jnp.eye(w.shape[1])
        error = gram * (1 - identity) if relaxed else gram - identity
        total += jnp.square(error).sum()
    return total


# --- What penalties share ------------------------------------------------------------


def squared_norm(x: Array) -> Array:
    """Returns the squared norm of each example, over all its dimensions."""
    return jnp.square(x).sum(range(1, x.ndim))


def norm(x: Array) -> Array:
    """Returns the norm of each example, with a finite derivative at zero."""
    return jnp.sqrt(squared_norm(x) + 1e-12)


def moving_averages(memory: Memory, values: Memory, decay: float):
    """Returns the averages with `values` taken in, constant to the gradient.

    `memory` holds sums that began at zero, and the sum of their weights.
    """
    new = stop_gradient({**values, "weight": jnp.float32(1)})
    new = optax.tree.cast(new, jnp.float32)
    memory = optax.incremental_update(new, memory, 1 - decay)
    return {name: memory[name] / memory["weight"] for name in values}, memory
