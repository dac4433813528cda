import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gan_jax.errors import UserError
from gan_jax.objective import augment
from gan_jax.objective.terms import Augmentation

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 2)
POINTS, GREY, RGB = (8, 2), (8, 7, 6, 1), (8, 6, 6, 3)

# (augmentation, its settings, the arrays that it asks for, the shapes it works on)
AUGMENTATIONS = [
    ("flip", {}, {}, (RGB, GREY)),
    ("translation", {"ratio": 0.3}, {}, (RGB, GREY)),
    ("color", {}, {}, (RGB, GREY)),
    ("cutout", {}, {}, (RGB, GREY)),
    ("instance_noise", {}, {"step": jnp.int32(10)}, (RGB, GREY, POINTS)),
    ("bgc", {"p": 1.0}, {"step": jnp.int32(0)}, (RGB, GREY)),
    ("ada", {}, {"memory": {"p": jnp.float32(1)}}, (RGB, GREY)),
]
SETTINGS = {name: settings for name, settings, *_ in AUGMENTATIONS}
every_case = pytest.mark.parametrize(
    ("name", "asked", "shape"),
    [
        pytest.param(name, asked, shape, id=f"{name}-{'x'.join(map(str, shape))}")
        for name, _, asked, shapes in AUGMENTATIONS
        for shape in shapes
    ],
)
each_once = pytest.mark.parametrize(
    ("name", "asked", "shape"),
    [
        pytest.param(name, asked, shapes[0], id=name)
        for name, _, asked, shapes in AUGMENTATIONS
    ],
)


def plain(name):
    return functools.partial(getattr(augment, name), **SETTINGS[name])


compiled = functools.cache(lambda name: jax.jit(plain(name)))


def random(shape, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_every_augmentation_has_a_row():
    found = {n for n, x in vars(augment).items() if isinstance(x, Augmentation)}
    assert found == set(SETTINGS) == set(augment.__all__)


@pytest.mark.parametrize(("name", "asked"), [(a[0], a[2]) for a in AUGMENTATIONS])
def test_its_type_says_how_it_is_used(name, asked):
    term = getattr(augment, name)
    assert (term.name, set(term.asks)) == (name, set(asked))
    assert term.real_only == (name == "flip")
    assert term.images_only == (name != "instance_noise")
    assert (term.initial is not None) == (term.adapt is not None) == (name == "ada")


@every_case
def test_the_key_decides(name, asked, shape):
    images, run = random(shape), compiled(name)
    first = run(KEY, images, **asked)
    assert (first.shape, first.dtype) == (shape, jnp.float32)
    assert (first == run(KEY, images, **asked)).all()
    assert (first != run(jax.random.key(1), images, **asked)).any()


@every_case
def test_each_image_has_its_own_draw(name, asked, shape):
    images = np.broadcast_to(random(shape[1:]), shape)
    changed = compiled(name)(KEY, images, **asked)
    kinds = len(np.unique(np.array(changed).reshape(len(images), -1), axis=0))
    assert kinds == 2 if name == "flip" else kinds >= 6
    others = np.concatenate([images[:1], images[1:] / 2])
    first = compiled(name)(KEY, others, **asked)[0]
    np.testing.assert_allclose(first, changed[0], atol=1e-6)


@functools.cache
def transformed(name, shape):
    """Runs an augmentation in half precision, on replicas, and differentiated.

    It is one program: compiling takes long.
    """
    asked = {row[0]: row[2] for row in AUGMENTATIONS}[name]
    by_replica = jax.tree.map(lambda x: jnp.stack([x // 2, x]), asked)  # p of 0 and 1

    def run(key, x, asked=asked):
        return plain(name)(key, x, **asked)

    def derivatives(x, v, u):
        f = functools.partial(run, KEY)
        y, jv = jax.jvp(f, (x,), (v,))
        energy = jax.grad(lambda x: 0.5 * jnp.square(f(x)).sum())
        back = jax.vjp(f, x)[1]
        hv = jax.jvp(energy, (x,), (v,))[1]
        return f(x + v) - y, jv, back(u)[0], hv, back(jv)[0]

    @jax.jit
    def everything(x, v, u):
        return {
            "half": run(KEY, x.astype(jnp.bfloat16)),
            "replicas": jax.vmap(run)(KEYS, jnp.stack([x, v]), by_replica),
            "derivatives": derivatives(x, v, u),
        }

    return everything(*random((3, *shape))), by_replica


@each_once
def test_bfloat16_is_kept(name, asked, shape):
    half = transformed(name, shape)[0]["half"]
    assert half.dtype == jnp.bfloat16
    # The draws are the same, whatever the type.
    full = compiled(name)(KEY, random((3, *shape))[0], **asked)
    np.testing.assert_allclose(np.asarray(half, np.float32), full, atol=0.05)


@each_once
def test_replicas_by_vmap(name, asked, shape):
    found, by_replica = transformed(name, shape)
    for i, images in enumerate(random((3, *shape))[:2]):
        of_one = jax.tree.map(lambda x: x[i], by_replica)  # noqa: B023
        alone = compiled(name)(KEYS[i], images, **of_one)
        np.testing.assert_allclose(found["replicas"][i], alone, atol=5e-6)


@each_once
def test_derivatives_are_finite_differences(name, asked, shape):
    """Each is affine in the images: differences are exact at any distance."""
    _, v, u = random((3, *shape))
    found = map(np.asarray, transformed(name, shape)[0]["derivatives"])
    difference, jv, ju, hv, jjv = found
    assert np.abs(jv).max() > 0.1
    np.testing.assert_allclose(jv, difference, atol=2e-5)
    np.testing.assert_allclose((ju * v).sum(), (u * difference).sum(), rtol=1e-3)
    np.testing.assert_allclose(hv, jjv, atol=2e-5)


@pytest.mark.parametrize("name", ["flip", "translation", "color", "cutout"])
def test_eager_is_compiled(name):
    images = random(RGB)
    first = compiled(name)(KEY, images)
    np.testing.assert_allclose(plain(name)(KEY, images), first, atol=5e-6)


def frequencies(rows):
    """Returns how often each distinct row occurs, least often first."""
    rows = np.array(rows).reshape(len(rows), -1)
    return np.sort(np.unique(rows, axis=0, return_counts=True)[1] / len(rows))


@pytest.mark.parametrize("name", ["flip", "translation", "color", "cutout"])
def test_p_is_how_often_an_image_is_changed(name):
    images, ps = random((400, 4, 4, 3)), (0, 0.3, 1.0)
    run = jax.jit(lambda x: [plain(name)(KEY, x, p=p) for p in ps])
    for p, changed in zip(ps, run(images), strict=True):
        share = (np.asarray(changed) != images).any((1, 2, 3)).mean()
        if p == 0:
            assert share == 0
        elif name in ("flip", "color"):  # the others may also draw what changes nothing
            np.testing.assert_allclose(share, p, atol=0.08)
        else:
            assert 0.6 * p < share < 1.3 * p
    with pytest.raises(UserError, match=r"p must be a number in \[0, 1\], not 2"):
        plain(name)(KEY, images, p=2)


def test_flip_mirrors_half_of_the_images():
    images = np.broadcast_to(random((1, 3, 4, 1)), (4096, 3, 4, 1))
    flipped = np.asarray(compiled("flip")(KEY, images))
    whole = (flipped == images).all((1, 2, 3))
    assert (whole | (flipped == images[:, :, ::-1]).all((1, 2, 3))).all()
    assert abs(whole.mean() - 0.5) < 0.04


def test_translation_shifts_uniformly_within_its_reach():
    image = np.array(random((7, 5)))
    padded = np.pad(image, ((2, 2), (1, 1)))  # a quarter of 7 and of 5, rounded
    expected = [padded[i : i + 7, j : j + 5] for i in range(5) for j in range(3)]
    images = np.broadcast_to(image[None, ..., None], (4096, 7, 5, 1))
    shift = functools.partial(augment.translation, ratio=0.25)
    shifted = jax.jit(shift)(KEY, images)
    kinds = np.unique(np.reshape(shifted, (4096, -1)), axis=0)
    np.testing.assert_array_equal(
        kinds, np.unique(np.reshape(expected, (15, -1)), axis=0)
    )
    np.testing.assert_allclose(frequencies(shifted), np.full(15, 1 / 15), atol=0.02)


@pytest.mark.parametrize(
    # The sizes are an even number of pixels, centred on an edge, and an odd one.
    ("side", "ratio", "size", "centres"),
    [(8, 0.5, 4, range(9)), (6, 0.5, 3, np.arange(6) + 0.5), (5, 0.3, 2, range(6))],
)
def test_cutout_is_a_square_centred_anywhere(side, ratio, size, centres):
    images = random((8192, side, side, 2))
    cut = jax.jit(functools.partial(augment.cutout, ratio=ratio))
    cut = np.array(cut(KEY, images))
    hidden = (cut == 0).all(-1)
    np.testing.assert_array_equal(cut, np.where(hidden[..., None], 0, images))
    pixels = np.arange(side) + 0.5
    spans = np.array([np.abs(pixels - centre) < size / 2 for centre in centres])
    squares = (spans[:, None, :, None] & spans[None, :, None]).reshape(-1, side**2)
    kinds, counts = np.unique(hidden.reshape(8192, -1), axis=0, return_counts=True)
    np.testing.assert_array_equal(kinds, np.unique(squares, axis=0))
    np.testing.assert_allclose(counts / 8192, 1 / len(squares), atol=0.008)


@pytest.mark.parametrize("channels", [1, 3])
def test_color_is_brightness_then_saturation_then_contrast(channels):
    images = np.array(random((2048, 3, 4, channels)))
    changed = np.array(jax.jit(augment.color)(KEY, images))

    def parts(x):
        whole, grey = x.mean((1, 2, 3), keepdims=True), x.mean(3, keepdims=True)
        return whole, grey - whole, x - grey

    (mean, luma, chroma), (new_mean, new_luma, new_chroma) = map(
        parts, (images, changed)
    )
    brightness = new_mean - mean
    contrast = (new_luma * luma).sum((1, 2, 3)) / np.square(luma).sum((1, 2, 3))
    draws = [brightness.ravel() + 0.5, contrast - 0.5]
    saturation = np.ones_like(brightness)
    if channels == 3:
        chroma_scale = (new_chroma * chroma).sum((1, 2, 3))
        chroma_scale /= np.square(chroma).sum((1, 2, 3))
        draws.append(chroma_scale / contrast / 2)
        saturation = (chroma_scale / contrast)[:, None, None, None]
    for draw in draws:
        assert stats.kstest(draw, "uniform").pvalue > 0.01
    assert np.abs(np.corrcoef(draws) - np.eye(len(draws))).max() < 0.06

    x = images + brightness
    grey = x.mean(3, keepdims=True)
    x = grey + (x - grey) * saturation
    x = (x - x.mean((1, 2, 3), keepdims=True)) * contrast[:, None, None, None]
    x += new_mean
    np.testing.assert_allclose(changed, x, atol=1e-5)


noise_at = jax.jit(functools.partial(augment.instance_noise, scale=0.5, until=100))


@pytest.mark.parametrize(
    ("step", "sigma"),
    [(0, 0.5), (25, 0.375), (50, 0.25), (99, 0.005), (100, 0), (2_000_000, 0)],
)
@pytest.mark.parametrize("shape", [(8192, 2), (16, 32, 32, 1)])
def test_instance_noise_falls_along_a_line(step, sigma, shape):
    x = random(shape)
    noisy = noise_at(KEY, x, step=jnp.int32(step))
    noise = np.array(noisy - x).ravel()
    np.testing.assert_allclose(noise.std(), sigma, rtol=0.02)
    assert not sigma or stats.kstest(noise / sigma, "norm").pvalue > 0.01
