# ruff: noqa: E501 (a row of what is refused is a line)
"""Mistakes in the user's own losses and terms: each is one line, before training."""

import pytest

from gan_jax import Points, build
from gan_jax.algorithm.spaces import Space
from gan_jax.build.preflight import check
from gan_jax.devices.mesh import make_mesh
from gan_jax.errors import UserError, unknown

MINE = """\
import jax
import jax.numpy as jnp
from gan_jax import Loss, penalty

# Penalties.
def swapped(real, fake, critic, key): return critic(real)
def short(critic, real): return critic(real)
def positional(critic, real, fake, key, step, scale): return critic(real)
def keyless(critic, real, fake, real_logits): return real_logits
def whole(critic, real, fake, key): return critic(real).mean()
def nothing(critic, real, fake, key): critic(real)
def per_value(critic, real, fake, key): return real
def asking(critic, real, fake, key, *, epoch): return critic(real)
def remembering(critic, real, fake, key, *, memory): return critic(real)
def raising(critic, real, fake, key): return {}["step"] * critic(real)
@penalty
def undeclared(critic, real, fake, key): return critic(real), {"mean": 0.0}
@penalty(initial={"mean": 0.0})
def forgotten(critic, real, fake, key, *, memory): return critic(real)
@penalty(initial=0)
def counting(critic, real, fake, key, *, memory): return critic(real), memory + 1

# Losses.
right = Loss(d=lambda real, fake: fake - real, g=lambda fake, real: -fake)
reversed_d = Loss(d=lambda fake_logits, real_logits: fake_logits, g=right.g)
reversed_g = Loss(d=right.d, g=lambda real, fake: -fake)
for_both = Loss(d=right.d, g=right.d)  # f(fake, real), as of relativistic GANs
unary = Loss(d=right.d, g=lambda fake: -fake)
a_mean = Loss(d=lambda real, fake: (fake - real).mean(), g=right.g)
half = lambda real, fake: fake - real
a_dict = {"d": right.d, "g": right.g}
def family(k=1.0): right
def costly(real, fake): return jnp.dot(real, jnp.ones(3))
broken = Loss(d=costly, g=right.g)

# Augmentations.
def alone(examples): return examples
def mirrored(examples, key): return examples
"""
IMPORTS = {
    "asks.py": "from gan_jax import penalty\n@penalty\ndef p(critic, real, fake, key, *, x): ...",
    "option.py": "from gan_jax import penalty\n@penalty(wieght=3)\ndef p(critic): ...",
    "number.py": "from gan_jax import penalty\n@penalty(3)\ndef p(critic): ...",
    "name.py": "import gan_jax\n\nx = undefined",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("code")
    for name, text in {"mine.py": MINE, **IMPORTS}.items():
        (root / name).write_text(text)
    return root


def line(start):
    """Returns a pattern of the place of a line of `MINE`."""
    number = MINE[: MINE.index(start)].count("\n") + 1
    return rf" \(\S+/mine.py:{number}\)$"


def checked(**settings):
    settings = {"model": "mlp", "width": 4, "latent_size": 2} | settings
    check(build(Points((2,)), **settings), 4, make_mesh(1))


WRONG_ORDER = (
    r"takes \(real, fake, critic, key\), and must take \(critic, real, fake, key\)"
)
ONE_EACH = r"it must return \(4,\), one value per judgement"


@pytest.mark.parametrize(
    ("key", "name", "message"),
    [
        ("penalties", "mine.py:swapped", WRONG_ORDER + line("def swapped")),
        ("penalties", "mine.py:short", r"must take \(critic, real, fake, key\)" + line("def short")),
        ("penalties", "mine.py:positional", r"and must take \(critic, real, fake, key, \*, step, scale=\.\.\.\)"),
        ("penalties", "mine.py:keyless", r"and must take \(critic, real, fake, key, \*, real_logits\)"),
        ("penalties", "mine.py:whole", rf"'whole' returns shape \(\) for a batch of 4; {ONE_EACH}: drop .mean\(\)" + line("def whole")),
        ("penalties", "mine.py:nothing", rf"'nothing' returns nothing for a batch of 4; {ONE_EACH}" + line("def nothing")),
        ("penalties", "mine.py:per_value", rf"'per_value' returns shape \(4, 2\) for a batch of 4; {ONE_EACH}"),
        ("penalties", "mine.py:asking", r"asks for an unknown 'epoch' \(valid: classify, .*\)" + line("def asking")),
        ("penalties", "mine.py:remembering", r"asks for memory: say in its decorator what it starts as, initial="),
        ("penalties", "mine.py:raising", r"the penalty 'raising' fails: KeyError: 'step'" + line("def raising")),
        ("penalties", "mine.py:undeclared", r"'undeclared' returns a tuple and has no memory: return the values alone, or say what the memory starts as, @penalty\(initial=...\)"),
        ("penalties", "mine.py:forgotten", r"'forgotten' has a memory: it must return \(values, new memory\)"),
        ("penalties", "mine.py:right", r"mine.py:right' is a loss and no penalty: it goes into --config.loss$"),
        ("penalties", "mine.py:rihgt", r"mine.py does not define 'rihgt'; did you mean 'right'\? \(valid: "),
        ("penalties", "mine.py", r"mine.py' is a whole file: write \S+mine.py:NAME \(valid: a_dict, a_mean, "),
        ("penalties", "mine:whole", r"a file has its ending, as in '\S+/mine.py:whole'"),
        ("penalties", "hinge", r"^'hinge' is a loss and no penalty: it goes into --config.loss$"),
        ("penalties", "color", r"^'color' is an augmentation and no penalty: it goes into --config.augment$"),
        ("penalties", "label_smoothing", r"^'label_smoothing' is a transform of the loss and no penalty: it goes into --config.loss$"),
        ("penalties", "asks.py:p", r"asks.py fails on import: penalty 'p' asks for an unknown 'x' \(valid: [^)]*\) \(\S+asks.py:2\)$"),
        ("penalties", "option.py:p", r"option.py fails on import: unknown option of @penalty 'wieght'; did you mean 'weight'\? \(valid: every, initial, players, weight\) \(\S+option.py:2\)$"),
        ("penalties", "number.py:p", r"number.py fails on import: @penalty\(3\): write its options as NAME=VALUE"),
        ("penalties", "name.py:p", r"name.py fails on import: NameError: name 'undefined' is not defined \(\S+name.py:3\)$"),
        ("loss", "mine.py:reversed_d", r"d takes \(fake_logits, real_logits\), and is called as d\(real, fake\)" + line("reversed_d")),
        ("loss", "mine.py:reversed_g", r"the loss's g takes \(real, fake\), and is called as g\(fake, real\)"),
        ("loss", "mine.py:unary", r"the loss's g takes \(fake\), and is called as g\(fake, real\)" + line("unary")),
        ("loss", "mine.py:a_mean", rf"the loss's d returns shape \(\) for a batch of 4; {ONE_EACH}: drop .mean\(\)" + line("a_mean")),
        ("loss", "mine.py:half", r"mine.py:half' is a function of real, fake: give them as settings, or make it a gan_jax.Loss\(d=..., g=...\)" + line("half")),
        ("loss", "mine.py:a_dict", r"the loss, of type dict, has no function 'd': make it a gan_jax.Loss\(d=..., g=...\)$"),
        ("loss", "mine.py:family", r"the loss, of type NoneType, has no function 'd': make it a gan_jax.Loss\(d=..., g=...\)$"),
        ("loss", "mine.py:broken", r"the loss's d fails: TypeError: .*" + line("def costly")),
        ("loss", "mine.py:whole", r"mine.py:whole' is a penalty and no loss: it goes into --config.penalties$"),
        ("loss", "mine.py:forgotten", r"mine.py:forgotten' is a penalty and no loss"),
        ("loss", "r1", r"^'r1' is a penalty and no loss: it goes into --config.penalties$"),
        ("loss", "extragradient", r"^'extragradient' is a step and no loss: it goes into --config.step$"),
        ("augment", "mine.py:alone", r"takes \(examples\), and must take \(key, examples\)" + line("def alone")),
        ("augment", "mine.py:mirrored", r"takes \(examples, key\), and must take \(key, examples\)"),
        ("augment", "mine.py:whole", r"is a penalty and no augmentation: it goes into --config.penalties$"),
        ("step", "mine.py:right", r"mine.py:right' is a loss and no step: it goes into --config.loss$"),
        ("step", "mine.py:short", r"step '\S+' takes \(critic, real\), and must take \(gan, state, batch\)"),
        ("optimizer", "adam(lr=1e-3)", r"unknown option of optimizer 'adam' 'lr'; did you mean 'learning_rate'\?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(root, key, name, message):
    if "mine" in name or name.split(":")[0] in IMPORTS:
        name = f"{root}/{name}"
    with pytest.raises(UserError, match=message) as error:
        checked(**{key: name})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "name"),
    [("penalties", "counting"), ("loss", "for_both")],
)
def test_what_may_look_like_a_mistake_is_let_through(root, key, name):
    checked(**{key: f"{root}/mine.py:{name}"})


def test_an_example_needs_an_axis():
    with pytest.raises(UserError, match=r"has no axis: give its shape one, .*\(1,\)"):
        build(Space(()), model="mlp")


def test_the_nearest_name_may_be_meant_by_its_initials():
    error = unknown("option", "wd", ["width", "weight_decay", "wide"])
    assert "did you mean 'weight_decay'?" in str(error)
