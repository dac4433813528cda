r"""Terms that are added to an objective: `(critic, real, fake, key) -> [batch]`.

`critic` maps a batch of examples to logits `[batch]`; `real` and `fake` are batches of
one shape, as the discriminator sees them, augmented and packed; `key` is a PRNG key for
what the term draws. It returns one value per example, of which the step takes the mean;
what is of the whole batch, such as a norm of parameters, is broadcast. A config names
terms with a weight and how often they are applied:
`penalties = 'r1(weight=10, every=16), lecam'`.

Your own is any such function, named as `my_file.py:name`. A keyword-only argument with
a default is a setting that a config may give, as in `lecam(decay=0.9)`. One without a
default asks for something more by its name:

    real_logits   [batch], the critic's logits of `real`
    fake_logits   [batch], those of `fake`
    labels        [batch] int32, the classes of `real` and of `fake` alike
    features      a function: examples -> [batch, n], the discriminator's last features
    classify      a function: examples -> [batch, num_classes], the logits of the
                  discriminator's auxiliary classifier
    generator     a function: latents [batch, size] -> examples, in training, each of
                  the class that its place in the batch has
    latents       [batch, size], those that the update's samples are made of; `fake`
                  has been augmented since, and may be of earlier samples
    params        a pytree, the parameters of the player that is updated
    memory        a dictionary of float32 arrays that lasts from step to step; the term
                  then returns `([batch], new_memory)`

Its attributes, given by `gan_jax.objective.terms.marked`, say how it is used:

    weight        of its mean in the objective, unless a config says otherwise; 10
    players       whose objective it is part of, ('d',) unless said. A term of both is
                  evaluated in the update of either, and only its gradient by that
                  player's parameters matters; `fake` depends on the generator's in the
                  generator's update alone.
    memory        the initial values, such as `{'real': 0.0}`
    constraint    True for what is no term: a function of the discriminator's
                  parameters, called after its updates, that returns where they must be

Here are those on what the discriminator says; those on parameters and on what the
generator makes, which are named alike, are in gan_jax/objective/regularisers.py.
"""

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.objective import augment, regularisers, terms
from gan_jax.objective.regularisers import (  # noqa: F401
    Critic,
    Memory,
    auxiliary_classifier,
    feature_matching,
    g_orthogonal,
    mode_seeking,
    orthogonal,
    path_length,
    weight_clipping,
    zcr,
)

# --- Gradients of the discriminator -------------------------------------------------


def r1(critic: Critic, real: Array, fake: Array, key: Array) -> Array:
    r"""Returns $\frac12\|\nabla_x D(x)\|^2$ at real examples.

    Its weight is the $\gamma$ of Mescheder et al. 2018 (arXiv:1801.04406), eq. 9.
    """
    return 0.5 * regularisers.squared_norm(_gradient(critic, real))


def r2(critic: Critic, real: Array, fake: Array, key: Array) -> Array:
    r"""Returns $\frac12\|\nabla_x D(x)\|^2$ at generated examples.

    Its weight is the $\gamma$ of Mescheder et al. 2018 (arXiv:1801.04406), eq. 10.
    """
    return 0.5 * regularisers.squared_norm(_gradient(critic, fake))


def gradient_penalty(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    one_sided: bool = False,
    target: float = 1.0,
) -> Array:
    r"""Returns $(\|\nabla_{\hat x} D(\hat x)\| - 1)^2$ between real and fake pairs.

    $\hat x$ is uniform on the segment from one to the other; the weight is the
    $\lambda$ of Gulrajani et al. 2017 (arXiv:1704.00028), eq. 3. Use it with networks
    without batch normalisation, which would mix the examples' gradients.

    Settings:
      one_sided: leaves norms below the target alone, $\max(0, \|\nabla\| - 1)^2$
        (WGAN-LP, Petzka et al. 2018, arXiv:1709.08894).
      target: the norm aimed at in place of 1.

    Raises:
      UserError: the target is negative.
    """
    terms.check_number("gradient_penalty: target", target)
    terms.check_flag("gradient_penalty: one_sided", one_sided)
    excess = regularisers.norm(_gradient(critic, _between(key, real, fake))) - target
    return jnp.square(jnp.maximum(excess, 0) if one_sided else excess)


def zero_centred_gradient_penalty(
    critic: Critic, real: Array, fake: Array, key: Array
) -> Array:
    r"""Returns $\|\nabla_{\hat x} D(\hat x)\|^2$ between real and fake pairs.

    Thanh-Tung et al. 2019 (arXiv:1902.03984); $\hat x$ is that of `gradient_penalty`.
    """
    return regularisers.squared_norm(_gradient(critic, _between(key, real, fake)))


def dragan(critic: Critic, real: Array, fake: Array, key: Array) -> Array:
    r"""Returns $(\|\nabla_{\hat x} D(\hat x)\| - 1)^2$ around real examples.

    Kodali et al. 2017 (arXiv:1705.07215), algorithm 1. $\hat x$ is uniform on the
    segment from $x$ to $x + \frac12 \mathrm{std}(x) u$, with $u$ uniform in [0, 1] in
    each coordinate and the standard deviation that of the batch, as in the authors'
    code.
    """
    noise_key, t_key = jax.random.split(key)
    noise = jax.random.uniform(noise_key, real.shape).astype(real.dtype)
    x = _between(t_key, real, real + 0.5 * real.std() * noise)
    return jnp.square(regularisers.norm(_gradient(critic, x)) - 1)


# --- Logits of the discriminator ----------------------------------------------------


@terms.marked(weight=0.001)
def drift(
    critic: Critic, real: Array, fake: Array, key: Array, *, real_logits: Array
) -> Array:
    r"""Returns $D(x)^2$ at real examples, which holds a Wasserstein critic near zero.

    Its weight is the $\epsilon_\text{drift}$ of Karras et al. 2018 (arXiv:1710.10196),
    appendix A.1.
    """
    return jnp.square(real_logits)


@terms.marked(weight=0.3, memory={"real": 0.0, "fake": 0.0, "weight": 0.0})
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
    of generated examples (Tseng et al. 2021, arXiv:2104.03310, eq. 4). They take in
    this batch first and are freed of the bias to their initial value, so that the first
    ones are its means. (The authors' code drops what is below zero of $D(x) - \alpha_F$
    and of $\alpha_R - D(G(z))$ before squaring; the paper does not.)

    Settings:
      decay: of the averages, in [0, 1).

    Raises:
      UserError: the decay is outside of [0, 1).
    """
    terms.check_number("lecam: decay", decay, below=1)
    means = {"real": real_logits.mean(), "fake": fake_logits.mean()}
    anchor, memory = regularisers.moving_averages(memory, means, decay)
    to_fake = jnp.square(real_logits - anchor["fake"])
    return to_fake + jnp.square(fake_logits - anchor["real"]), memory


# --- Consistency --------------------------------------------------------------------


def cr(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    real_logits: Array,
    scale: float = 0.05,
) -> Array:
    r"""Returns $(D(x) - D(T(x)))^2$ at real examples.

    Consistency regularisation (Zhang et al. 2020, arXiv:1910.12027). $T$ flips
    and shifts images by up to an eighth of their side, and moves points by Gaussian
    noise.

    Settings:
      scale: standard deviation of the noise on points; images do not use it.

    Raises:
      UserError: the scale is no positive number.
    """
    terms.check_number("cr: scale", scale, zero=False)
    return jnp.square(real_logits - critic(_transform(key, real, scale)))


def bcr(
    critic: Critic,
    real: Array,
    fake: Array,
    key: Array,
    *,
    real_logits: Array,
    fake_logits: Array,
    scale: float = 0.05,
) -> Array:
    r"""Returns $(D(x) - D(T(x)))^2 + (D(G(z)) - D(T(G(z))))^2$.

    Balanced consistency regularisation (Zhao et al. 2021, arXiv:2002.04724, algorithm
    1), which takes in generated examples too; $T$ and the settings are those of `cr`.

    Raises:
      UserError: the scale is no positive number.
    """
    terms.check_number("bcr: scale", scale, zero=False)
    real_key, fake_key = jax.random.split(key)
    of_real = real_logits - critic(_transform(real_key, real, scale))
    of_fake = fake_logits - critic(_transform(fake_key, fake, scale))
    return jnp.square(of_real) + jnp.square(of_fake)


# --- What they share ----------------------------------------------------------------


def _gradient(critic: Critic, x: Array) -> Array:
    return jax.grad(lambda x: critic(x).sum())(x)


def _between(key: Array, start: Array, end: Array) -> Array:
    """Draws a point on the segment of each pair, `t` alike in all its coordinates."""
    t = jax.random.uniform(key, (len(start),) + (1,) * (start.ndim - 1))
    return start + t.astype(start.dtype) * (end - start)


def _transform(key: Array, x: Array, scale: float) -> Array:
    if x.ndim != 4:
        return x + scale * jax.random.normal(key, x.shape).astype(x.dtype)
    flip_key, shift_key = jax.random.split(key)
    return augment.translation(shift_key, augment.flip(flip_key, x))
