# ruff: noqa: E501 (a row of what is refused is a line)
"""The user's own networks: those that work, and those that are refused in one line."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import assert_same_run, config_of

import gan_jax
from gan_jax import Points, build
from gan_jax.algorithm import players, replicas
from gan_jax.build.preflight import check
from gan_jax.devices.mesh import make_mesh
from gan_jax.errors import UserError
from gan_jax.run.training import train

LINEN = """
import flax.linen as nn
import jax.numpy as jnp
from gan_jax.models.mlp import Discriminator, Generator


class no_train:
    Generator = Generator

    class Discriminator(nn.Module):
        @nn.compact
        def __call__(self, x, condition=None):
            return nn.Dense(1)(x)


class no_condition:
    Generator = Generator

    class Discriminator(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return nn.Dense(1)(x)


class batch_norm:
    Discriminator = Discriminator

    class Generator(nn.Module):
        @nn.compact
        def __call__(self, z, condition=None, *, train):
            return nn.BatchNorm(use_running_average=False)(nn.Dense(2)(z))


class batch_norm_of_d:
    Generator = Generator

    class Discriminator(nn.Module):
        @nn.compact
        def __call__(self, x, condition=None, *, train):
            return nn.BatchNorm(use_running_average=False)(nn.Dense(1)(x))


class two_modes:
    Discriminator = Discriminator

    class Generator(nn.Module):
        @nn.compact
        def __call__(self, z, condition=None, *, train):
            return nn.Dense(2, name="a" if train else "b")(z)


class two_shapes:
    Discriminator = Discriminator

    class Generator(nn.Module):
        @nn.compact
        def __call__(self, z, condition=None, *, train):
            x = nn.Dense(2)(z)
            return x if train else x[:, 0]


class raising:
    Generator = Generator

    class Discriminator(nn.Module):
        @nn.compact
        def __call__(self, x, condition=None, *, train):
            return nn.Dense(3)(x) @ jnp.ones((5, 1))


class unfinished:
    Generator = Generator

    class Discriminator(nn.Module):
        hidden: int

        def __call__(self, x, condition=None, *, train):
            return x


class an_object:
    Generator = Generator
    Discriminator = nn.Dense(1)


class not_flax:
    Generator = Generator

    class Discriminator:
        def __call__(self, x, condition=None, *, train):
            return x


class misspelt:
    Generator = Generator

    class Discrimnator(nn.Module):
        pass


class batch_norm_per_example:
    Generator = Generator

    class Discriminator(nn.Module):
        per_example = True

        @nn.compact
        def __call__(self, x, condition=None, *, train):
            return nn.BatchNorm(not train)(nn.Dense(1)(x))
"""

NNX = """
import jax
from flax import nnx


class Generator(nnx.Module):
    def __init__(self, shape, latent_size, width=8, output="sigmoid", *, rngs):
        sizes = latent_size, width
        self.layers = nnx.List([nnx.Linear(*sizes, rngs=rngs)])
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.last = nnx.Linear(width, *shape, rngs=rngs)
        self.rngs = rngs

    def __call__(self, latents, condition=None, *, train):
        h = self.norm(self.layers[0](latents))
        noise = jax.random.normal(self.rngs.style(), h.shape)
        return self.last(h + noise if train else h)


class Discriminator(nnx.Module):
    per_example = True

    def __init__(self, shape, width=8, *, rngs):
        self.first = nnx.Linear(*shape, width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, examples, condition=None, *, train):
        return self.last(self.drop(nnx.relu(self.first(examples))))


class no_train:
    Generator = Generator

    class Discriminator(nnx.Module):
        def __init__(self, shape, *, rngs):
            self.only = nnx.Linear(*shape, 1, rngs=rngs)

        def __call__(self, examples, condition=None):
            return self.only(examples)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("networks")
    (root / "linen.py").write_text(LINEN)
    (root / "nnx.py").write_text(NNX)
    return root


def built(model, **settings):
    return build(Points((2,)), model=model, latent_size=2, width=8, **settings)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("linen.py:no_train", r"no_train.Discriminator has __call__\(self, x, condition=None\), and must have __call__\(self, examples, condition=None, \*, train\) \(\S+linen.py:11\)"),
        ("linen.py:no_condition", r"has __call__\(self, x, \*, train\), and must have "),
        ("linen.py:batch_norm", r"the model's Generator, called with train=False, changes its statistics, as nn.BatchNorm does: pass it use_running_average=not train \(\S+linen.py:31\)"),
        ("linen.py:batch_norm_of_d", r"the model's Discriminator, called with train=False, changes"),
        ("linen.py:batch_norm_per_example", r"Discriminator has per_example = True and normalises over the batch.*remove per_example"),
        ("linen.py:two_modes", r"Generator, called with train=False, has parameters that it has not with train=True"),
        ("linen.py:two_shapes", r"Generator returns shape \(4,\) with train=False for a batch of 4; it must return \(4, 2\)"),
        ("linen.py:raising", r"Discriminator fails: TypeError: dot_general .* \(\S+linen.py:68\)"),
        ("linen.py:unfinished", r"unfinished.Discriminator needs hidden: give it a default, or a value by --config.discriminator='hidden=...' \(\S+linen.py:7\d\)"),
        ("linen.py:an_object", r"an_object.Discriminator must be the class of a Flax module, not an object"),
        ("linen.py:not_flax", r"not_flax.Discriminator is no Flax module: derive it from flax.linen.Module"),
        ("linen.py:misspelt", r"linen.py:misspelt does not define 'Discriminator'; did you mean 'Discrimnator'\?"),
        ("nnx.py:no_train", r"no_train.Discriminator has __call__\(self, examples, condition=None\), and must have"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_used_is_refused_before_training(
    files, model, message
):
    with pytest.raises(UserError, match=message) as error:
        check(built(f"{files}/{model}"), 4, make_mesh(1))
    assert "\n" not in str(error.value)


def test_defaults_of_nnx_modules_are_fields(files):
    gan = build(gan_jax.Images((4, 4, 1)), model=f"{files}/nnx.py")
    assert gan.example.bounds == (0, 1)  # as its output is 'sigmoid'


def forward(linear, x):
    return x @ linear["kernel"] + linear["bias"]


def test_nnx_modules_train_and_sample(files):
    gan = built(f"{files}/nnx.py")
    check(gan, 4, make_mesh(1))
    assert gan.discriminator.per_example
    batch = {"example": jnp.ones((4, 2))}

    @jax.jit
    def two_runs(keys):
        states = replicas.init_state(gan, keys)
        step = functools.partial(gan_jax.train_step, gan, batch=batch)
        return states, *jax.vmap(step)(states)

    before, after, metrics = two_runs(replicas.root_keys(3, 2))
    assert (metrics["d_grad_norm"] > 0).all()
    assert len(set(np.ravel(metrics["g_loss"]))) == 2
    norms = [state.g.stats["batch_stats"]["norm"] for state in (before, after)]
    assert (norms[0]["mean"] != norms[1]["mean"]).all()
    alone = replicas.replica(after, 1)

    # Without training there is no dropout and no noise, and the statistics are fixed.
    params, stats = alone.g.params, alone.g.stats["batch_stats"]["norm"]
    z = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
    h = forward(params["layers"][0], z)
    h = (h - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    h = h * params["norm"]["scale"] + params["norm"]["bias"]
    samples, moved = players.generate(gan, alone.g.variables, z, train=False)
    np.testing.assert_allclose(samples, forward(params["last"], h), atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, moved, alone.g.stats)
    params = alone.d.params
    wanted = forward(params["last"], np.maximum(forward(params["first"], z), 0))[:, 0]
    judged = functools.partial(players.discriminate, gan, alone.d.variables, z)
    np.testing.assert_allclose(judged(train=False)[0], wanted, atol=1e-5)
    dropped = [judged(key=jax.random.key(i))[0] for i in (0, 0, 1)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert (dropped[0] != dropped[2]).any()
    assert (dropped[0] != wanted).any()


@pytest.mark.slow
def test_a_run_of_nnx_modules_resumes(files, tmp_path):
    how = {"model": f"{files}/nnx.py", "replicas": 2, "penalties": "r1"}
    train(config_of("ring", **how, num_steps=4), tmp_path / "whole")
    for steps in (2, 4):
        train(config_of("ring", **how, num_steps=steps), tmp_path / "parts")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
