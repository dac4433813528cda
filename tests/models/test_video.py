"""The networks of clips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax.algorithm import players
from gan_jax.algorithm.spaces import Classes, Video
from gan_jax.build.preflight import check
from gan_jax.devices.mesh import make_mesh
from gan_jax.errors import UserError
from gan_jax.models import video

KEY = jax.random.key(0)


def shapes(module, x, labels=None):
    """Returns the shapes of a module's output."""
    made, _ = jax.eval_shape(
        lambda: module.init_with_output(KEY, x, labels, train=True)
    )
    return jax.tree.map(jnp.shape, made)


@pytest.mark.parametrize(
    ("shape", "stages"),
    [
        ((16, 32, 32, 1), (4, 3, 2)),
        ((6, 64, 64, 3), (4, 4, 1)),
        ((5, 28, 28, 1), (7, 2, 0)),
        ((8, 16, 16, 2), (4, 2, 1)),  # one layer doubles space, and so time once
        ((1, 16, 16, 1), (4, 2, 0)),
    ],
)
@pytest.mark.parametrize("num_classes", [0, 3])
def test_shapes(shape, stages, num_classes):
    assert video.stages(shape) == stages
    labels = jnp.zeros(4, jnp.int32) if num_classes else None
    fields = {"shape": shape, "num_classes": num_classes, "width": 2}
    made = shapes(video.Generator(**fields), jnp.zeros((4, 5)), labels)
    assert made == (4, *shape)
    made = shapes(video.Discriminator(**fields), jnp.zeros((4, *shape)), labels)
    assert made == ((4,), (4,))


def test_parameter_counts():
    """Counted by hand from the definitions."""

    def count(module, x):
        made = jax.eval_shape(lambda: module.init(KEY, x, train=True)["params"])
        return sum(leaf.size for leaf in jax.tree.leaves(made))

    shape, w = (16, 32, 32, 1), 8
    norm = 2 * (10 + 1)  # of each channel: a gain and a bias, linear in 10 latents
    g = 10 * 4 * 4 * 4 * 4 * w + norm * 4 * w
    for i, o in ((4 * w, 2 * w), (2 * w, w)):
        g += 16 * i * o + norm * o + 3 * o * o + norm * o
    assert count(video.Generator(shape, width=w), jnp.zeros((2, 10))) == (
        g + 16 * w + 1
    )
    frames = 16 * w + w + 16 * w * 2 * w + 2 * w + 16 * 2 * w * 4 * w + 4 * w
    frames += 16 * 4 * w + 1
    clip = 4 * 4 * 4 * 2 * w + 1
    for side, i, o in ((3, 1, w), (4, w, w), (4, w, 2 * w)):
        clip += side**2 * i * o + o + 3 * o * o + o
    judge = video.Discriminator(shape, width=w)
    assert count(judge, jnp.zeros((2, *shape))) == frames + clip


def test_frames_are_drawn_anew_and_the_clip_is_seen_whole():
    shape = (6, 16, 16, 1)
    x = jax.random.normal(KEY, (3, *shape))
    judge = video.Discriminator(shape, width=2, frames=2)
    variables = judge.init(KEY, x, train=True)

    @jax.jit
    def judged(x, seed):
        rngs = {"frames": jax.random.key(seed)}
        return judge.apply(variables, x, train=True, rngs=rngs)

    first, again, other = (judged(x, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != other[0]).any()
    np.testing.assert_array_equal(first[1], other[1])
    # Each logit depends on its own clip alone, as `per_example` says.
    changed = judged(x.at[1].add(1.0), 0)
    moved = [np.asarray(a != b) for a, b in zip(first, changed, strict=True)]
    assert all((m == [False, True, False]).all() for m in moved)


def test_the_logit_of_the_frames_is_a_sum_over_different_ones():
    shape = (4, 16, 16, 1)
    x = jax.random.normal(KEY, (2, *shape))
    two, whole, one = (video.Discriminator(shape, width=2, frames=n) for n in (2, 9, 1))
    variables = whole.init(KEY, x, train=True)
    of_two, _ = jax.jit(lambda: two.apply(variables, x, train=False))()
    of_all, _ = jax.jit(
        lambda: whole.apply(variables, x, train=True, rngs={"frames": KEY})
    )()

    @jax.jit
    def alone(t):  # a clip that is one frame all the time
        still = jnp.broadcast_to(x[:, t, None], x.shape)
        return one.apply(variables, still, train=False)[0]

    each = np.array([alone(t) for t in range(4)])
    np.testing.assert_allclose(of_all, each.sum(0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(of_two, each[1] + each[3], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("condition", [None, Classes(3)])
def test_fits_losses_and_terms(condition):
    """The features that terms read are those of the clip, a row for each."""
    gan = gan_jax.build(
        Video((4, 16, 16, 3)),
        condition=condition,
        **{"model": "video", "width": 4, "latent_size": 3, "pack": 1},
        **{"discriminator": "spectral_norm=True, frames=3"},
        penalties="r1, feature_matching, lecam",
        precision="bfloat16",
    )
    check(gan, 4, make_mesh(1))
    d = jax.eval_shape(gan_jax.init_state, gan, KEY).d.variables
    x = gan.example.zeros(4)
    told = None if condition is None else condition.zeros(4)
    judged = jax.eval_shape(
        lambda d: players.judge(gan, d, x, told, ["features"], key=KEY)[:2], d
    )
    assert judged[0].shape == (8,)
    assert judged[1]["features"].shape == (4, 4 * 4 * 4 * 2)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((32, 32, 1), r"video makes clips \(time, .* data has shape \(32, 32, 1\)"),
        ((16, 8, 8, 1), "video cannot make frames of 8x8: image_size must be at least"),
        ((16, 24, 24, 1), "cannot make 24x24 images: image_size must be 4 or 7 times"),
    ],
)
def test_refuses(shape, message):
    with pytest.raises(UserError, match=message):
        video.stages(shape)


def test_judges_at_least_one_frame():
    judge = video.Discriminator((4, 16, 16, 1), width=2, frames=0)
    with pytest.raises(UserError, match="frames is 0: D judges at least one"):
        shapes(judge, jnp.zeros((2, 4, 16, 16, 1)))
