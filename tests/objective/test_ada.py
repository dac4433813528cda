import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

from gan_jax.objective.ada import ada, adapt_p, bgc

KEY = jax.random.key(0)
NUM, SIZE = 2048, (11, 15)


@functools.cache
def compiled(**settings):
    return jax.jit(
        lambda images, p: ada(KEY, images, memory={"p": p}, **settings),
    )


def random(shape):
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((64, 6, 6, 3), jnp.float32),
        ((64, 7, 4, 1), jnp.float32),
        ((64, 1, 5, 3), jnp.bfloat16),
    ],
)
def test_identity_at_zero(shape, dtype):
    images = jnp.asarray(random(shape), dtype)
    same = compiled()(images, jnp.float32(0))
    assert np.array(same).tobytes() == np.array(images).tobytes()


@pytest.mark.parametrize(
    ("settings", "step", "p"),
    [
        ({"p": 0.6}, 0, 0.6),
        ({"p": 0.6, "steps": 100}, 0, 0.0),
        ({"p": 0.6, "steps": 100}, 25, 0.3 * (1 - np.sqrt(0.5))),
        ({"p": 0.6, "steps": 100}, 250, 0.6),
    ],
)
def test_bgc_is_ada_with_a_probability_of_your_own(settings, step, p):
    images = random((64, 6, 6, 3))
    ours = jax.jit(lambda step: bgc(KEY, images, step=step, **settings))
    wanted = compiled()(images, jnp.float32(p))
    np.testing.assert_allclose(ours(jnp.int32(step)), wanted, atol=1e-6)


# --- The geometric part, by what it does to two ramps ---------------------------------


@functools.cache
def geometry(p):
    """Returns the maps `[n, 2, 2]`, `[n, 2]` of result to source, and which they are.

    An image of each pixel's row and column, off the centre, becomes one of sources. The
    border bends some of them; those are left out.
    """
    grid = np.indices(SIZE).transpose(1, 2, 0) - (np.array(SIZE) - 1) / 2
    ramps = np.concatenate([grid, np.zeros((*SIZE, 1))], -1).astype(np.float32)
    images = np.broadcast_to(ramps, (NUM, *SIZE, 3))
    sources = np.array(compiled(color=False)(images, jnp.float32(p)), np.float64)
    middle = sources[:, 4:7, 6:9, :2]
    bends = np.stack([np.diff(middle, 2, 1)[:, :, 1], np.diff(middle, 2, 2)[:, 1]])
    straight = np.flatnonzero(np.abs(bends).max((0, 2, 3)) < 1e-5)
    middle = middle[straight]
    matrix = np.stack(
        [middle[:, 2, 1] - middle[:, 0, 1], middle[:, 1, 2] - middle[:, 1, 0]], -1
    )
    assert len(straight) > 0.9 * NUM
    return matrix / 2, middle[:, 1, 1], straight


def test_images_are_warped_as_by_scipy():
    image = np.array(random((*SIZE, 3)))
    images = np.broadcast_to(image, (NUM, *SIZE, 3))
    warped = np.array(compiled(color=False)(images, jnp.float32(1)))
    matrices, offsets, which = geometry(1.0)
    centre = (np.array(SIZE) - 1) / 2
    for matrix, offset, i in list(zip(matrices, offsets, which, strict=True))[:64]:
        shift = centre + offset - matrix @ centre
        for channel in range(3):
            expected = ndimage.affine_transform(
                image[..., channel], matrix, shift, order=1, mode="mirror"
            )
            np.testing.assert_allclose(warped[i, ..., channel], expected, atol=1e-4)


def split(matrix):
    """Returns log scale, log stretch, mirroring and angle of maps, `[n]` each."""
    mirror = np.sign(np.linalg.det(matrix))
    left, values, right = np.linalg.svd(matrix)
    turn = (left @ right) * np.stack([np.ones_like(mirror), mirror], -1)[:, None]
    logs = np.log2(values)
    angle = np.arctan2(turn[:, 1, 0], turn[:, 0, 0])
    return logs.mean(1), (logs[:, 0] - logs[:, 1]) / 2, mirror, angle


def test_distribution_of_the_maps():
    matrix, offset, _ = geometry(1.0)
    scale, stretch, mirror, angle = split(matrix)
    assert stats.kstest(scale / 0.2, "norm").pvalue > 0.01
    assert stats.kstest(stretch / 0.2, "halfnorm").pvalue > 0.01
    assert stats.kstest(angle / np.pi, "uniform", args=(-1, 2)).pvalue > 0.01
    assert abs((mirror < 0).mean() - 0.5) < 0.04
    # A shift by whole pixels, after another that is turned and scaled.
    size, draw = np.array(SIZE), np.random.default_rng(0)
    angle, logs = draw.uniform(0, 2 * np.pi, NUM), 0.2 * draw.normal(size=(2, NUM))
    x, y = (size / 8 * draw.normal(size=(NUM, 2))).T
    z = (x + 1j * y) * np.exp(1j * angle)
    z = z.real * np.exp2(logs[0] + logs[1]) + 1j * z.imag * np.exp2(logs[0] - logs[1])
    z *= np.exp(1j * draw.permutation(angle))
    z += np.round(size / 8 * draw.uniform(-1, 1, (NUM, 2))) @ [1, 1j]
    for radius in (1, 2, 3):
        within = (np.linalg.norm(offset, axis=1) < radius).sum() / NUM
        assert abs(within - (np.abs(z) < radius).mean()) < 0.04


def test_frequency_of_the_maps():
    p = 0.3
    scale, stretch, mirror, angle = split(geometry(p)[0])
    quarter = np.abs((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)
    for seen, expected in [
        (np.abs(scale) > 1e-5, p),
        (np.abs(stretch) > 1e-5, p),
        (quarter > 1e-5, p),  # of the one or the other rotation
        (mirror < 0, p / 2),  # half of the time it is drawn to be none
    ]:
        assert abs(seen.mean() - expected) < 0.04


def test_flips_and_quarter_turns_move_pixels():
    image = np.array(random((9, 9, 1)))
    images = np.broadcast_to(image, (NUM, 9, 9, 1))
    changed = np.array(compiled(color=False)(images, jnp.float32(0.2)))
    counts = np.zeros((2, 4))
    for flipped in (0, 1):
        for turns in range(4):
            expected = np.rot90(image[:, ::-1] if flipped else image, turns)
            counts[flipped, turns] = (changed == expected).all((1, 2, 3)).sum()
    # The others are not applied with 0.8^5, or a shift that is applied comes to nothing
    # with 1 / 2.25^2; both flip and turn, if applied, are none in part of the cases.
    alone = 0.8**4 * (0.8 + 0.2 / 2.25**2)
    flips, turns = np.array([0.9, 0.1]), np.array([0.85, 0.05, 0.05, 0.05])
    expected = NUM * alone * flips[:, None] * turns
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected) + 1).all()
    assert (counts > 0).all()


# --- The part that changes colours, by what it does to black and the primaries --------


@functools.cache
def colors(p):
    """Returns maps of colours, `[n, 3, 3]` and `[n, 3]`, and of grey, `[n]` each."""
    primaries = np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32)
    images = np.broadcast_to(primaries[:, None], (NUM, 4, 1, 3))
    black, *columns = np.array(
        compiled(geometric=False)(images, jnp.float32(p)), np.float64
    )[:, :, 0].swapaxes(0, 1)
    grey = compiled(geometric=False)(images[:, :2, :, :1], jnp.float32(p))
    low, high = np.array(grey, np.float64)[..., 0, 0].T
    return np.stack([c - black for c in columns], -1), black, high - low, low


def parts(p):
    """Returns brightness, gain of the luma, and of the chroma, a complex number."""
    matrix, offset, *_ = colors(p)
    gain = matrix.sum((1, 2)) / 3
    u = np.array([1, -1, 0]) / np.sqrt(2)
    v = np.cross([1, 1, 1], u) / np.sqrt(3)
    return offset[:, 0] / gain, gain, u @ matrix @ u + 1j * (v @ matrix @ u)


def test_color_maps_are_the_chain_of_the_paper():
    matrices, offsets, *_ = colors(1.0)
    axis = np.ones(3) / np.sqrt(3)
    grey = np.outer(axis, axis)
    for i, (brightness, gain, chroma) in enumerate(zip(*parts(1.0), strict=True)):
        contrast = np.abs(gain)
        matrix = contrast * np.eye(3)
        if gain < 0:
            matrix = (np.eye(3) - 2 * grey) @ matrix
        matrix = Rotation.from_rotvec(np.angle(chroma) * axis).as_matrix() @ matrix
        saturation = np.abs(chroma) / contrast
        matrix = (grey + saturation * (np.eye(3) - grey)) @ matrix
        scale = np.abs(matrix).max()
        np.testing.assert_allclose(matrices[i], matrix, atol=1e-5 * scale)
        shift = matrix @ np.full(3, brightness)
        np.testing.assert_allclose(offsets[i], shift, atol=1e-5 * scale)


def test_luma_flip_keeps_the_chroma():
    matrices, *_ = colors(0.2)
    flip = np.eye(3) - 2 / 3
    flipped = np.abs(matrices - flip).max((1, 2)) < 1e-5
    assert abs(flipped.mean() - 0.1 * 0.8**3) < 0.03


def test_distribution_of_the_colors():
    brightness, gain, chroma = parts(1.0)
    contrast, saturation = np.abs(gain), np.abs(chroma / gain)
    for draw in (brightness / 0.2, np.log2(contrast) / 0.5, np.log2(saturation)):
        assert stats.kstest(draw, "norm").pvalue > 0.01
    turn = np.angle(chroma) / np.pi
    assert stats.kstest(turn, "uniform", args=(-1, 2)).pvalue > 0.01
    assert abs((gain < 0).mean() - 0.5) < 0.04


def test_frequency_of_the_colors():
    p = 0.3
    brightness, gain, chroma = parts(p)
    for seen, expected in [
        (np.abs(brightness) > 1e-6, p),
        (np.abs(np.abs(gain) - 1) > 1e-5, p),
        (gain < 0, p / 2),
        (np.abs(np.angle(chroma)) > 1e-5, p),
        (np.abs(np.abs(chroma / gain) - 1) > 1e-5, p),
    ]:
        assert abs(seen.mean() - expected) < 0.04


def test_grey_images_change_as_the_luma_does():
    *_, high, low = colors(1.0)
    brightness, gain, _ = parts(1.0)
    np.testing.assert_allclose(high, gain, rtol=1e-4)
    np.testing.assert_allclose(low, gain * brightness, atol=1e-4)


# --- How p is moved -------------------------------------------------------------------


def memories(logits, p=0.0, **settings):
    """Returns the memory after each update, of `[updates, judgements]` logits."""
    judgements = settings.pop("judgements", 1)  # of each image
    start = jax.tree.map(jnp.float32, ada.initial | {"p": p})

    def update(memory, logits):
        num = len(logits) // judgements
        memory = adapt_p(memory, logits, num, **settings)
        return memory, memory

    return jax.lax.scan(update, start, jnp.asarray(logits))[1]


@pytest.mark.parametrize(("start", "sign"), [(0.0, 1), (0.0, -1), (1.0, -1), (0.95, 1)])
def test_p_goes_from_end_to_end_in_so_many_images(start, sign):
    p = memories(np.full((80, 10), 3.0 * sign), start, images_to_one=600, every=4)["p"]
    moves = (np.arange(80) + 1) // 4
    np.testing.assert_allclose(
        p, np.clip(start + sign * moves * 40 / 600, 0, 1), atol=1e-6
    )
    assert ((p >= 0) & (p <= 1)).all()


def test_defaults_are_those_of_the_paper():
    p = memories(np.ones((8, 64)))["p"]
    np.testing.assert_allclose(p, np.repeat([0, 256, 512], [3, 4, 1]) / 500_000)


def test_the_sign_is_averaged_from_move_to_move():
    # Means of the signs over two updates: 0.75, then 0.25, then 0.5.
    logits = np.ones((6, 8)) * np.linspace(0.1, 9, 8)
    logits[0, 0] = logits[2, :2] = logits[3, 0] = logits[4, :2] = -1
    logits[0, 0], logits[2, 2] = -7, 0  # their size does not count; nor does zero
    means = np.sign(logits).mean(1).reshape(3, 2).mean(1)
    for target in (0.3, 0.6, 0.8, means[2]):
        p = memories(logits, 0.5, target=target, every=2, images_to_one=160)["p"]
        steps = np.sign(means - target) * 16 / 160
        np.testing.assert_allclose(p[1::2], 0.5 + np.cumsum(steps), atol=1e-6)


def test_p_rests_where_the_sign_is_the_target():
    logits = np.tile([1.0, 2.0, 3.0, -4.0], (9, 1))
    moved = memories(logits, 0.4, target=0.5, every=2)
    np.testing.assert_array_equal(moved["p"], np.float32(0.4))
    np.testing.assert_array_equal(moved["updates"], np.arange(1, 10) % 2)


def test_judgements_count_as_their_images():
    logits = np.random.default_rng(0).normal(size=(8, 24)).astype(np.float32)
    settings = {"every": 2, "images_to_one": 160}
    of_patches = memories(logits, 0.5, judgements=4, **settings)["p"]
    # The mean sign is that of all judgements; there are a quarter as many images.
    moves = np.sign(np.sign(logits).mean(1).reshape(4, 2).mean(1) - 0.6) * 2 * 6 / 160
    np.testing.assert_allclose(of_patches[1::2], 0.5 + np.cumsum(moves), atol=1e-6)


def test_settings_of_both_halves_agree():
    common = adapt_p.__kwdefaults__
    assert common.items() < ada.function.__kwdefaults__.items()
    assert ada.adapt is adapt_p
    logits = jnp.ones(4, jnp.bfloat16)
    memory = adapt_p(ada.initial, logits, 4, geometric=False, color=True, every=1)
    assert set(memory) == set(ada.initial)
    assert all(value.dtype == jnp.float32 for value in memory.values())
