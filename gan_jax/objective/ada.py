r"""Adaptive discriminator augmentation (ADA).

Karras et al. 2020 (arXiv:2006.06676), section 3 and appendix B. Each transformation is
applied with the probability $p$ to what the discriminator sees, real or generated.
Below p = 0.8 or so these augmentations do not leak into the samples: no other
distribution, augmented, equals the augmented data. The probability $p$ follows how far
the discriminator overfits, measured by $r_t = E[\mathrm{sign}(\ell(x))]$ over the real
examples (ibid., eq. 1): 0 without overfitting, 1 if it recognises them all.

Four things differ from the authors' code. Images are resampled bilinearly; theirs are
enlarged twofold and then reduced with the wavelet filter sym6, which blurs less and
prevents aliasing. Beyond the border an image is mirrored as often as it takes; theirs
is mirrored by at most its own size, and 0, mid-grey, beyond that. Image-space filters
and corruptions are left out, which brought little in the paper (figure 4). p is at most
1; theirs may pass 1, where it changes nothing but how long it takes to fall again.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gan_jax.objective.terms import augmentation, check_flag, check_number

Memory = dict[str, Array]


def adapt_p(
    memory: Memory,
    real_logits: Array,
    num: int,
    *,
    target: float = 0.6,
    images_to_one: float = 500_000,
    every: int = 4,
    **_,
) -> Memory:
    r"""Moves $p$ so that the mean sign of the real logits approaches `target`.

    Called once in each update of the discriminator. After every `every` of them

    $$p \leftarrow \mathrm{clip}_{[0, 1]}\left(
      p + \mathrm{sign}(r_t - \mathrm{target}) \frac{n}{\mathrm{images\_to\_one}}
    \right)$$

    with $r_t$ over the $n$ real images since the last move (ibid., section 3).

    Args:
      memory: `p`, the sum `signs` of the mean signs, and the number of `updates`, both
        since its last move.
      real_logits: `[judgements]` of the augmented real images.
      num: how many images these are.
      target: of the mean sign.
      images_to_one: the number of images in which $p$ can go from 0 to 1.
      every: updates from one move to the next.
      **_: the other settings of `ada`.
    """
    signs = memory["signs"] + jnp.sign(real_logits).mean(dtype=jnp.float32)
    updates = memory["updates"] + 1
    step = updates * (num / images_to_one)
    p = jnp.clip(memory["p"] + step * jnp.sign(signs / updates - target), 0, 1)
    due = updates >= every
    return {
        "p": jnp.where(due, p, memory["p"]),
        "signs": jnp.where(due, 0, signs),
        "updates": jnp.where(due, 0, updates),
    }


@augmentation(
    images_only=True,
    initial={"p": 0.0, "signs": 0.0, "updates": 0.0},
    adapt=adapt_p,
)
def ada(
    key: Array,
    images: Array,
    *,
    memory: Memory,
    geometric: bool = True,
    color: bool = True,
    target: float = 0.6,
    images_to_one: float = 500_000,
    every: int = 4,
) -> Array:
    """Transforms each image at random, each transformation with probability `p`.

    At p = 0 it is the identity, to the last bit.

    Args:
      key: a PRNG key.
      images: `[batch, height, width, channels]` of one or three channels.
      memory: its `p` is read here, its other entries by `adapt_p`.
      geometric: whether to apply flips, rotations, translations and scalings.
      color: whether to apply changes of brightness, contrast and colour.
      target: see `adapt_p`, as are the next two.
      images_to_one: see there.
      every: see there.
    """
    for name, number in (("images_to_one", images_to_one), ("every", every)):
        check_number(f"ada: {name}", number, zero=False)
    return _transformed("ada", key, images, memory["p"], geometric, color)


@augmentation(images_only=True)
def bgc(
    key: Array,
    images: Array,
    *,
    step: Array,
    p: float = 0.5,
    steps: int = 0,
    geometric: bool = True,
    color: bool = True,
) -> Array:
    r"""Transforms images as `ada` does, with a probability that is set beforehand.

    It needs no logit whose sign means something, so it suits relativistic losses.
    R3GAN (arXiv:2501.05441, appendix) lets the probability rise along half a cosine,
    $p_t = \frac{p}{2} (1 - \cos \pi t / T)$ for $t < T$. Its authors' code also halves
    the probability of the changes of colour, and adds `cutout` with the probability p.

    Args:
      key: a PRNG key.
      images: `[batch, height, width, channels]` of one or three channels.
      step: training steps so far, t.
      p: the probability, or the last one.
      steps: T, the steps in which it rises to p; 0 for none.
      geometric: as for `ada`.
      color: as for `ada`.
    """
    check_number("bgc: p", p, below=1 + 1e-9)
    check_number("bgc: steps", steps)
    risen = jnp.clip(step / max(steps, 1), 0, 1) if steps else 1.0
    now = p * (1 - jnp.cos(np.pi * risen)) / 2
    return _transformed("bgc", key, images, now, geometric, color)


def _transformed(
    name: str, key: Array, images: Array, p: Array, geometric: bool, color: bool
) -> Array:
    """Transforms each image at random, each transformation with probability `p`."""
    for setting, flag in (("geometric", geometric), ("color", color)):
        check_flag(f"{name}: {setting}", flag)
    draws, transformed = _draws(key, p, len(images)), images
    if geometric:
        transformed = _warp(transformed, *_geometric_maps(draws[:8], images.shape[1:3]))
    if color:
        matrix, offset = _color_maps(draws[8:], images.shape[-1])
        transformed = _product("nij,nhwj->nhwi", matrix, transformed)
        transformed += offset[:, None, None, None]
    return transformed.astype(images.dtype)


def _draws(key: Array, p: Array, num: int) -> Array:
    """Draws two numbers of U(-1, 1) for each transformation and image.

    They are zero, which leaves the image as it is, unless the transformation is drawn
    to be applied. There is one draw for all: each adds up to a second to compilation.

    Returns:
      `[13, 2, num]`.
    """
    p_rotation = 1 - jnp.sqrt(1 - p)  # so that either of the two occurs with p
    chances = jnp.stack([p, p, p, p, p_rotation, p, p_rotation, *[p] * 6])[:, None]
    above = np.nextafter(np.float32(-1), np.float32(0))  # where a normal is finite
    coin, *values = jax.random.uniform(key, (3, 13, num), minval=above)
    applied = coin < 2 * chances - 1
    return jnp.where(applied[:, None], jnp.stack(values, 1), 0.0)


def _normal(uniform: Array) -> Array:
    """Turns U(-1, 1) into N(0, 1), and 0 into 0."""
    return np.sqrt(2) * lax.erf_inv(uniform)


def _geometric_maps(draws: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Returns affine maps from a pixel of the result to its place in the image.

    Each inverts, in turn: a mirroring, a quarter turn, a translation by whole pixels,
    an isotropic scaling, a rotation, an anisotropic scaling, a rotation, a translation.
    The inverses have the same distributions, and are drawn in their place.

    Args:
      draws: `[8, 2, num]`, in this order; a translation takes both numbers.
      size: height and width.

    Returns:
      Matrices `[num, 2, 2]` and offsets `[num, 2]` for (row, column) off the centre.
    """
    size = np.array(size)[:, None]
    (mirror, _), (quarters, _), whole = draws[:3]
    (scale, _), (first, _), (stretch, _), (second, _), part = draws[3:]
    scale, stretch, part = _normal(scale), _normal(stretch), _normal(part)
    first, second = _rotation(np.pi * first), _rotation(np.pi * second)

    signs = jnp.where(mirror < 0, -1, 1)
    sides = jnp.stack([jnp.ones_like(signs), signs], -1)[..., None]
    blit = sides * jnp.round(_rotation(np.pi / 2 * jnp.floor(2 * quarters)))
    # In rows and in columns, before the second rotation.
    scales = jnp.exp2(0.2 * jnp.stack([scale + stretch, scale - stretch], -1))[:, None]
    linear = _product("nij,njk->nik", first * scales, second)
    offset = _product("nij,jn->ni", linear, size / 8 * part)
    offset += jnp.round(size / 8 * whole).T
    return _product("nij,njk->nik", blit, linear), _product("nij,nj->ni", blit, offset)


def _color_maps(draws: Array, channels: int) -> tuple[Array, Array]:
    """Returns affine maps of colours.

    In turn: brightness, contrast, the flip of the luma, the rotation of the hue, and
    saturation; for grey images the first three. They multiply the luma, which is on the
    axis of greys, and rotate and scale the plane orthogonal to it.

    Args:
      draws: `[5, 2, num]`, in this order; the second numbers are not used.
      channels: 1 or 3.

    Returns:
      Matrices `[num, channels, channels]` and offsets `[num]`, equal in all channels.
    """
    brightness, contrast, luma, hue, saturation = draws[:, 0]
    brightness, contrast = 0.2 * _normal(brightness), jnp.exp2(0.5 * _normal(contrast))
    luma, hue = jnp.where(luma < 0, -1, 1), np.pi * hue
    saturation = jnp.exp2(_normal(saturation))
    along, across, turn = (
        factor[:, None, None]
        for factor in (luma, saturation * jnp.cos(hue), saturation * jnp.sin(hue))
    )
    if channels == 1:
        matrix = along
    else:
        cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
        matrix = across * np.eye(3) + (along - across) / 3 + turn * cross
    return contrast[:, None, None] * matrix, contrast * luma * brightness


def _rotation(angle: Array) -> Array:
    """Returns rotations `[num, 2, 2]`."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)


def _warp(images: Array, matrix: Array, offset: Array) -> Array:
    """Takes each pixel from its place by the map, bilinearly, mirrored at borders."""
    num, height, width, channels = images.shape
    centre = (np.array([height, width]) - 1)[:, None] / 2
    grid = np.indices((height, width)).reshape(2, -1) - centre
    source = _product("nij,jk->nik", matrix, grid) + offset[..., None] + centre
    low = jnp.floor(source)
    (row, column), (down, right) = low.swapaxes(0, 1), (source - low).swapaxes(0, 1)
    pixels, total = images.reshape(num, -1, channels), 0.0
    take = jax.vmap(lambda x, at: x.at[at].get(mode="promise_in_bounds"))
    for i, rows in enumerate((1 - down, down)):
        for j, columns in enumerate((1 - right, right)):
            index = _mirrored(row + i, height) * width + _mirrored(column + j, width)
            total += (rows * columns)[..., None] * take(pixels, index)
    return total.reshape(images.shape)


def _mirrored(index: Array, size: int) -> Array:
    """Reflects indices at 0 and `size - 1` until they are between them."""
    period = max(2 * (size - 1), 1)
    index = index.astype(jnp.int32) % period
    return jnp.minimum(index, period - index)


def _product(subscripts: str, *operands: Array) -> Array:
    # At the default precision of TPUs, bfloat16, coordinates would be off by a pixel.
    return jnp.einsum(subscripts, *operands, precision="highest")
