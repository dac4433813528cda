"""Augmentations with the same draws: what they make, and its gradient by the images."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.peers import (
    F,
    gradients,
    mirrored,
    recoloured,
    recorded,
    shifted,
    tensor,
)

from gan_jax.objective import augment

torch = pytest.importorskip("torch")
X = np.float32(np.random.default_rng(0).uniform(-1, 1, (12, 6, 10, 3)))


def with_holes(x, row, column):
    """Of half the sides, 3 x 5: an odd side is centred on a pixel."""
    keep = torch.ones_like(x)
    for i, (down, right) in enumerate(zip(row, column, strict=True)):
        keep[i, max(down - 1, 0) : down + 2, max(right - 2, 0) : right + 3] = 0
    return x * keep


# --- ADA (arXiv:2006.06676, appendix B), all transformations applied ------------------


def matrix(rows):
    """Stacks matrices `[num, n, n]` of entries that are numbers or `[num]`."""
    num = max(len(e) for row in rows for e in row if torch.is_tensor(e))
    return torch.stack(
        [
            torch.stack(
                [torch.as_tensor(e, dtype=torch.float64).expand(num) for e in row], -1
            )
            for row in rows
        ],
        -2,
    )


def translation(down, right):
    return matrix([[1, 0, down], [0, 1, right], [0, 0, 1]])


def scaling(down, right):
    return matrix([[down, 0, 0], [0, right, 0], [0, 0, 1]])


def rotation(angle):
    cos, sin = angle.cos(), angle.sin()
    return matrix([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def normal(uniform):
    return math.sqrt(2) * torch.erfinv(uniform)


def chained(*maps):
    return functools.reduce(torch.matmul, maps)


def warped(x, draws):
    """Samples each pixel where the inverses of the transformations take it."""
    num, height, width, _ = x.shape
    mirror, quarter, whole, scale, before, stretch, after, part = draws[:8]
    scale, stretch, part = (normal(d) for d in (scale, stretch, part))
    scale, stretch = 2 ** (0.2 * scale[0]), 2 ** (0.2 * stretch[0])
    sides = height / 8, width / 8
    inverse = chained(
        scaling(torch.ones(num), torch.where(mirror[0] < 0, -1.0, 1.0)),
        rotation(math.pi / 2 * (2 * quarter[0]).floor()),
        translation(
            *(torch.round(side * d) for side, d in zip(sides, whole, strict=True))
        ),
        scaling(scale, scale),
        rotation(math.pi * before[0]),
        scaling(stretch, 1 / stretch),
        rotation(math.pi * after[0]),
        translation(*(side * d for side, d in zip(sides, part, strict=True))),
    )
    halves = torch.tensor([(height - 1) / 2, (width - 1) / 2])
    grid = torch.meshgrid(
        *(torch.arange(2 * half + 1) - half for half in halves), indexing="ij"
    )
    pixels = torch.stack([*grid, torch.ones(height, width)], -1).double()
    source = torch.einsum("nij,hwj->nhwi", inverse, pixels)[..., :2] / halves
    y = F.grid_sample(
        x.permute(0, 3, 1, 2),
        source.flip(3),  # PyTorch names the column first
        padding_mode="reflection",
        align_corners=True,
    )
    return y.permute(0, 2, 3, 1)


def tinted(x, draws):
    """Maps colours (r, g, b, 1) by a matrix for each image."""
    brightness, contrast, luma, hue, saturation = draws[8:, 0, :, None, None]
    v = torch.tensor([1.0, 1.0, 1.0, 0.0]).double() / math.sqrt(3)
    grey, one, last = torch.outer(v, v), torch.eye(4).double(), torch.zeros(4, 4)
    last[3, 3] = 1
    colours = math.sqrt(3) * torch.outer(v, last[3].double())  # the last column
    flipped, contrast = (luma < 0).double(), 2 ** (0.5 * normal(contrast))
    maps = chained(
        grey + 2 ** normal(saturation) * (one - grey),
        about_grey(math.pi * hue),
        one - 2 * flipped * grey,
        contrast * (one - last) + last,
        one + 0.2 * normal(brightness) * colours,
    )
    # Saturation scales the last entry too, which nothing reads after it.
    homogeneous = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    return torch.einsum("nij,nhwj->nhwi", maps, homogeneous)[..., :3]


def about_grey(angle):
    """Rotations about the axis of greys, by the exponential of a generator."""
    a = torch.tensor([[0, -1, 1, 0], [1, 0, -1, 0], [-1, 1, 0, 0], [0, 0, 0, 0]])
    return torch.matrix_exp(angle * a / math.sqrt(3))


def ada(x, draws):
    values = draws[1:].transpose(0, 1)  # the first number says if it is applied
    return tinted(warped(x, values), values)


ALWAYS = {"memory": {"p": 1.0}}
ROWS = {
    "flip": (augment.flip, mirrored),
    "translation": (augment.translation, shifted),
    "color": (augment.color, recoloured),
    "cutout": (augment.cutout, with_holes),
    "ada": (functools.partial(augment.ada, **ALWAYS), ada),
}


@pytest.mark.parametrize("name", ROWS)
def test_an_augmentation(name, near):
    ours, port = ROWS[name]
    key, weights = jax.random.key(3), np.random.default_rng(1).normal(size=X.shape)

    def total(x):
        y, draws = recorded(ours)(key, x)
        return (y * jnp.float32(weights)).sum(), (y, draws)

    slope, (y, draws) = jax.grad(total, has_aux=True)(X)
    x = tensor(X, requires_grad=True)
    wanted = port(x, *map(tensor, draws))
    near(y, wanted)
    near(slope, gradients((wanted * tensor(weights)).sum(), x))
