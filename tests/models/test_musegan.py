"""MuseGAN: what its rolls are, and what its discriminator sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.algorithm.spaces import PianoRoll
from gan_jax.data import rolls
from gan_jax.errors import UserError
from gan_jax.models import musegan

SHAPE, KEY = (8, 14, 3), jax.random.key(0)
SPACE = PianoRoll(SHAPE, beat=1)
FIELDS = {"shape": SHAPE, "width": 2, "bar": 4}


def played(random, again):
    """Returns the rolls of random choices, and the choices, -1 for a rest."""
    logits = 3 * random.normal(size=(5, 8, 3, 16)).astype(np.float32)
    logits[:, 4:6] = logits[:, 3:4]  # held for a while
    logits[..., -1] = again
    choices = logits[..., :-1].argmax(-1)
    return musegan._played(jnp.asarray(logits)), np.where(choices < 14, choices, -1)


def test_rolls_are_valid_and_decode_to_the_choices():
    values, choices = played(np.random.default_rng(0), again=-1.0)
    assert set(np.unique(values)) == {-1, 1}
    stored = np.asarray(SPACE.decode(values))
    np.testing.assert_array_equal(rolls.lines(stored), choices)


def test_only_a_pitch_that_sounds_already_is_marked():
    values, choices = played(np.random.default_rng(0), again=1.0)
    stored = np.asarray(SPACE.decode(values))
    np.testing.assert_array_equal(rolls.lines(stored), choices)
    marked = (stored == rolls.AGAIN).any(2)
    held = (choices[:, 1:] == choices[:, :-1]) & (choices[:, 1:] >= 0)
    np.testing.assert_array_equal(marked[:, 1:], held)
    assert held[:, 3:5].any()
    assert not marked[:, 0].any()
    assert set(np.unique(stored)) == {0, rolls.AGAIN, rolls.SOUND}


def test_the_gradient_is_that_of_the_softmax():
    """Of 2 p - 1 by the logits, where p is a softmax over pitches and the rest."""
    logits = jax.random.normal(KEY, (1, 1, 1, 6))
    weights = jnp.arange(4.0)

    def straight(logits):
        return (musegan._played(logits)[0, 0, :, 0] * weights).sum()

    def soft(logits):
        return ((2 * jax.nn.softmax(logits[..., :-1])[..., :-1] - 1) * weights).sum()

    gradient = jax.grad(straight)(logits)
    np.testing.assert_allclose(gradient, jax.grad(soft)(logits), rtol=1e-5)
    assert jnp.abs(gradient[..., :-1]).min() > 0


def test_every_part_of_the_latents_matters():
    module = musegan.Generator(**FIELDS)
    latents = jax.random.normal(KEY, (16, 24))

    @jax.jit
    def changes(latents):
        variables = module.init(KEY, latents, train=True)
        others = [latents.at[:, 6 * i : 6 * i + 6].multiply(-5) for i in range(4)]
        rolls_ = [module.apply(variables, z, train=False) for z in (latents, *others)]
        return [(other != rolls_[0]).mean() for other in rolls_[1:]]

    assert min(changes(latents)) > 0


def test_chroma_is_of_pitch_classes_and_of_the_bass():
    lines = np.zeros((1, 1, 3, 14), np.float32)
    lines[0, 0, 0, 13] = lines[0, 0, 1, 1] = lines[0, 0, 2, 5] = 1
    chroma = musegan._chroma(jnp.asarray(lines))[0, 0]
    assert np.flatnonzero(chroma).tolist() == [1, 5, 12 + 5]
    assert chroma[1] == 2


def test_held_by_hand():
    pitches = np.array([3, 3, 5, -1, -1, 5])
    lines = (np.arange(7) == pitches[:, None]).astype(np.float32)[None, :, None]
    held = musegan._held(jnp.asarray(lines))[0, :, 0]
    assert held.tolist() == [0, 1, 0, 0, 0, 0]


def test_logits_depend_on_one_example_where_per_example_says_so():
    x = 2 * jax.random.bernoulli(KEY, 0.2, (4, *SHAPE)) - 1.0
    for group in (0, 2):
        module = musegan.Discriminator(**FIELDS, minibatch_std=group)

        @jax.jit
        def logits(x, module=module):
            variables = module.init(KEY, x, train=True)
            changed = x.at[1:].multiply(-1)
            return [module.apply(variables, y, train=True)[0] for y in (x, changed)]

        one, same = logits(x)
        assert np.allclose(one, same, rtol=1e-4) == module.per_example


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({"shape": (8, 8)}, 24, "musegan makes piano rolls and the data has shape"),
        ({"bar": 3}, 24, "8 steps are no whole bars of 3 steps"),
        ({"bar": 0}, 24, "8 steps are no whole bars of 0 steps"),
        ({}, 20, "latent_size is 20: it must be a multiple of 12"),
    ],
)
def test_refuses(fields, size, message):
    module = musegan.Generator(**FIELDS | fields)
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lambda: module.init(KEY, jnp.zeros((2, size)), train=True))
