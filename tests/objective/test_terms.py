# ruff: noqa: E501 (a row of what is refused is a line)
"""The types of terms: what they ask for, their settings, and their names in a config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.build.objectives import build_augment, build_penalties
from gan_jax.errors import UserError
from gan_jax.objective import penalties, terms
from gan_jax.objective.terms import Context

MINE = """
import jax.numpy as jnp
from gan_jax.objective.terms import augmentation, constraint, penalty

@penalty(weight=2, players=["d", "g"], initial={"count": 0.0})
def counted(critic, real, fake, key, *, memory, real_logits, by=1.0):
    return by * real_logits, {"count": memory["count"] + 1}

def plain(critic, real, fake, key, *, step, latents, scale=3.0):
    return scale * critic(real) + step

@constraint
def halved(params, *, by=2.0):
    return params

def shifted(key, examples, *, step, by=1.0):
    return examples + by * step

@augmentation(real_only=True)
def marked(key, examples):
    return examples

def forgetful(critic, real, fake, key, *, memory):
    return real, memory

def of_labels(critic, real, fake, key, *, lables):
    return real

def of_latents(key, examples, *, latents):
    return examples

number = 3
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return f"{tmp_path}/mine.py"


def context(**fields):
    """Returns a context whose other fields hold their names."""
    return Context(**{name: name for name in Context._fields} | fields)


def test_a_penalty_gets_what_it_asks_for_and_its_settings(mine):
    (counted, plain), _ = build_penalties(
        f"{mine}:counted(by=3, every=4), {mine}:plain(weight=0.5)"
    )
    assert (counted.name, plain.name) == ("counted", "plain")
    assert (counted.weight, counted.every, counted.players) == (2, 4, ("d", "g"))
    assert (plain.weight, plain.every, plain.players) == (0.5, 1, ("d",))
    assert (counted.initial, plain.initial) == ({"count": 0.0}, None)
    assert (set(counted.asks), counted.setting_names) == (
        {"memory", "real_logits"},
        ("by",),
    )
    values, memory = counted.values(
        context(real_logits=np.ones(2), memory={"count": 4.0})
    )
    np.testing.assert_array_equal(values, 3)
    assert memory == {"count": 5.0}
    values, memory = plain.values(
        context(critic=lambda x: 2 * x, real=np.ones(3), step=7)
    )
    np.testing.assert_array_equal(values, 13)
    assert memory is None


def test_no_gradient_passes_through_memory():
    """What a step remembers is a constant to the next, as `unrolled` needs it."""

    @terms.penalty(initial=0.0)
    def leaky(critic, real, fake, key, *, real_logits, memory):
        mean = 0.5 * memory + 0.5 * real_logits.mean()
        return jnp.square(real_logits - mean), mean

    def values_and_memory(logits):
        return leaky.values(context(real_logits=logits, memory=3.0))

    logits = np.array([1.0, 2.0, 6.0], np.float32)
    slopes, through_memory = jax.jit(jax.jacobian(values_and_memory))(logits)
    np.testing.assert_array_equal(through_memory, 0)
    # That of the values is the user's: it has the mean of this update's logits in it.
    off = logits - 3
    wanted = 2 * off[:, None] * (np.eye(3) - 0.5 / 3)
    np.testing.assert_allclose(slopes, wanted, rtol=1e-6)


def test_an_augmentation_gets_the_step_and_its_settings(mine):
    shifted, marked = build_augment(f"{mine}:shifted(by=2), {mine}:marked")
    assert (shifted.name, shifted.real_only, marked.real_only) == (
        "shifted",
        False,
        True,
    )
    got = shifted.apply(None, np.ones(3), jnp.int32(5), None)
    np.testing.assert_array_equal(got, 11)
    np.testing.assert_array_equal(marked.apply(None, np.ones(3), 0, None), 1)


def test_constraints_are_apart_from_penalties(mine):
    text = f"r1, {mine}:halved(every=3), weight_clipping(limit=0.5), drift(weight=0)"
    found, constraints = build_penalties(text)
    assert [term.name for term in found] == ["r1", "drift"]
    assert [term.name for term in constraints] == ["halved", "weight_clipping"]
    assert [term.every for term in constraints] == [3, 1]
    assert found[1].weight == 0
    np.testing.assert_array_equal(constraints[1](np.full(2, 3.0)), 0.5)


def test_terms_are_values():
    """They are static arguments of compiled functions: equal ones share programs."""
    text = "lecam(decay=0.5, weight=2), gradient_penalty(target=[1, 2])"
    first, second = build_penalties(text)[0], build_penalties(text)[0]
    assert first == second
    assert hash(first) == hash(second)
    assert first[0] != penalties.lecam
    assert first[1].settings == (("target", (1, 2)),)
    assert penalties.lecam.settings == ()  # ours stays as it is
    assert penalties.lecam.with_settings(decay=0.5) == penalties.lecam.with_settings(
        decay=0.9
    ).with_settings(decay=0.5)


def test_a_term_stays_callable_and_documented():
    @terms.penalty
    def doubled(critic, real, fake, key, *, by=2):
        """Doubles."""
        return by * real

    assert doubled(None, 3, None, None) == 6
    assert doubled.with_settings(by=5)(None, 3, None, None) == 15
    assert doubled.with_settings(by=5)(None, 3, None, None, by=1) == 3
    assert doubled.__doc__ == "Doubles."
    assert (doubled.name, doubled.weight) == ("doubled", 10.0)


@pytest.mark.parametrize(
    ("build", "text", "message"),
    [
        (build_penalties, "r3", r"unknown penalty 'r3'; did you mean 'r\d'\? \(valid: auxiliary_classifier, .*, r1, r2, reconstruction, weight_clipping, zcr, zero_centred"),
        (build_penalties, "gradients", r"unknown penalty 'gradients'"),
        (build_penalties, "penalty", r"unknown penalty 'penalty'"),
        (build_penalties, "r1(wait=3)", r"unknown setting of penalty 'r1' 'wait'.*\(valid: every, weight\)"),
        (build_penalties, "lecam(memory=3)", r"unknown setting of penalty 'lecam' 'memory'.*\(valid: decay, every, relu, start, weight\)"),
        (build_penalties, "weight_clipping(weight=1)", r"unknown setting of penalty 'weight_clipping' 'weight' \(valid: every, limit\)"),
        (build_penalties, "r1(every=0)", r"penalty 'r1': every must be a whole number from 1 on"),
        (build_penalties, "r1(every=2.0)", r"penalty 'r1': every must be a whole number"),
        (build_penalties, "weight_clipping(every=0)", r"penalty 'weight_clipping': every must be"),
        (build_penalties, "r1(weight=-1)", r"penalty 'r1': weight must be a number from 0 on"),
        (build_penalties, "r1(weight='x')", r"penalty 'r1': weight must be a number"),
        (build_penalties, "r1(weight=1e39)", r"penalty 'r1': weight must be a number"),
        (build_penalties, "r1, r1(weight=2)", r"penalty 'r1' is given twice"),
        (build_penalties, "r1, gan_jax.objective.penalties.r1", r"penalty 'r1' is given twice"),
        (build_penalties, "{}:number", r"penalty '\S+:number' is no function"),
        (build_penalties, "{}:marked", r"'\S+:marked' is an augmentation and no penalty"),
        (build_penalties, "builtins.max", r"penalty 'builtins.max' is no Python function"),
        (build_penalties, "{}:of_labels", r"penalty '\S+:of_labels' asks for an unknown 'lables'.*\(valid: classify, condition, "),
        (build_penalties, "{}:forgetful", r"penalty '\S+:forgetful' asks for memory: say in its decorator what it starts as"),
        (build_augment, "colour", r"unknown augmentation 'colour'; did you mean 'color'\?"),
        (build_augment, "color(q=1)", r"unknown setting of augmentation 'color' 'q' \(valid: p\)"),
        (build_augment, "flip, flip(p=1)", r"augmentation 'flip' is given twice"),
        (build_augment, "{}:of_latents", r"augmentation '\S+:of_latents' asks for an unknown 'latents' \(valid: memory, step\)"),
        (build_augment, "{}:counted", r"'\S+:counted' is a penalty and no augmentation"),
    ],
)  # fmt: skip
def test_refuses_in_one_line(mine, build, text, message):
    with pytest.raises(UserError, match=message) as error:
        build(text.replace("{}", mine))
    assert "\n" not in str(error.value)


def test_the_nearest_name_is_offered_where_a_term_asks_for_none():
    with pytest.raises(
        UserError, match="unknown 'real_logit'; did you mean 'real_logits'"
    ):

        @terms.penalty
        def mine(critic, real, fake, key, *, real_logit):
            return real

    with pytest.raises(UserError, match="unknown player of penalty"):
        terms.penalty(lambda *args: 0, players=["both"])
