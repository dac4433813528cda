"""What data.load refuses of a source: each case one line, nothing compiled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import data
from gan_jax.algorithm.spaces import Classes, Images, Points, Video
from gan_jax.build import names as resolve
from gan_jax.config import default
from gan_jax.data.source import Info, InMemory
from gan_jax.errors import UserError


def info(example, condition=None, number=12, **keys):
    about = {"name": "mine", "num_examples": number, "fingerprint": ""} | keys
    return Info(example=example, condition=condition, **about)


class Lazy:
    """Random access to one example, again and again."""

    def __init__(self, about, example, number=12):
        self.info, self._example, self._number = about, example, number

    def __len__(self):
        return self._number

    def __getitem__(self, index):
        return self._example() if callable(self._example) else self._example


@dataclasses.dataclass(frozen=True)
class Density:
    """Draws what it is told to."""

    info: Info
    draw: object

    def sample(self, key, n):
        return self.draw(key, n)


class Unhashable(Density):
    __hash__ = None


def load(monkeypatch, source):
    config = default()
    config.batch_size, config.data.source = 4, "mine.py"
    monkeypatch.setattr(resolve, "user_object", lambda *args: lambda config: source)
    return data.load(config)


POINT, GREY, TEN = Points((2,)), Images((4, 4, 1)), Classes(10)
X = np.zeros((12, 2), np.float32)
PIXELS = np.zeros((12, 4, 4, 1), np.uint8)
LABELS = np.arange(12) % 10
ONE = {"example": X[0]}


def normal(key, n):
    return {"example": jax.random.normal(key, (n, 2))}


def labelled(key, n):
    return normal(key, n) | {"condition": jnp.zeros(n, jnp.int32)}


def uint8(key, n):
    return {"example": jnp.zeros((n, 4, 4, 1), jnp.uint8)}


@pytest.mark.parametrize(
    "source",
    [
        InMemory(info(POINT), X),
        InMemory(info(POINT, TEN), X, LABELS),
        InMemory(info(POINT, TEN), X, LABELS.astype(np.uint8)),
        InMemory(info(POINT, Classes(10, tuple("abcdefghij"))), X, LABELS),
        InMemory(info(GREY, GREY), PIXELS, PIXELS),
        InMemory(info(POINT, POINT), X, X),
        Lazy(info(POINT), ONE),
        Lazy(info(POINT, TEN), ONE | {"condition": 9}),
        Lazy(info(POINT, TEN), ONE | {"condition": np.int64(0)}),
        Lazy(info(POINT, GREY), ONE | {"condition": PIXELS[0]}),
        Lazy(info(POINT), ONE | {"condition": "not asked for"}),
        Density(info(POINT, number=0), normal),
        Density(info(POINT, TEN, 0), labelled),
        Density(info(GREY, number=0), uint8),
    ],
)
def test_accepts(monkeypatch, source):
    assert load(monkeypatch, source) is source


def raising():
    raise FileNotFoundError("no such\nfile")


WRONG = [
    # Descriptions.
    (X, "'mine.py': its info is of type NoneType; it must be a gan_jax.data.source.I"),
    (Lazy({"name": "x"}, ONE), "its info is of type dict; it must be a gan_jax.data."),
    (Lazy(info((2,)), ONE), "mine: info.example is of type tuple; it must be a Space"),
    (Lazy(info(None), ONE), "info.example is of type NoneType; it must be a Space"),
    (Lazy(info(POINT, 10), ONE), "info.condition is of type int; it must be a Space"),
    (Lazy(info(POINT, Classes(0)), ONE), "mine: info.condition has no classes"),
    (Lazy(info(POINT, Classes(3, ("a", "b"))), ONE), "has 3 classes and 2 names$"),
    (Lazy(info(POINT, Classes(2, ("a", "a"))), ONE), "has 2 classes of the name 'a'$"),
    (Lazy(info(POINT, Classes(2, ("a", 1))), ONE), "names of classes must be strings"),
    (Lazy(info(POINT), ONE, 0), "^mine has no examples$"),
    (Lazy(info(POINT), ONE, 13), r"num_examples is 12 and len\(source\) is 13"),
    (Lazy(info(POINT, number=3), ONE, 3), "batch_size is 4 and mine has only 3 exam"),
    (
        type("NoLength", (), {"info": info(POINT)})(),
        r"mine has no len\(source\) and no sample\(key, n\)",
    ),
    # In memory.
    (
        InMemory(info(POINT), X[:, :1]),
        r"examples has shape \(12, 1\) and type float32;",
    ),
    (InMemory(info(POINT), X.astype(float)), "and type float64; Points.*type float32"),
    (InMemory(info(GREY), PIXELS[..., 0]), r"shape \(12, 4, 4, 1\) and type uint8$"),
    (InMemory(info(GREY), PIXELS / 255), "type float64; Images.*type uint8"),
    (InMemory(info(Video((2, 4, 4, 1))), PIXELS), r"shape \(12, 2, 4, 4, 1\)"),
    (InMemory(info(POINT, TEN), X), "info.condition is Classes.* and conditions is N"),
    (InMemory(info(POINT, TEN), X, LABELS[:5]), r"conditions has shape \(5,\)"),
    (InMemory(info(POINT, TEN), X, LABELS[:, None]), r"conditions has shape \(12, 1\)"),
    (InMemory(info(POINT, TEN), X, LABELS / 1.0), "conditions.* and type float64"),
    (InMemory(info(POINT, TEN), X, LABELS + 1), "holds the class 10: they go from 0 t"),
    (InMemory(info(POINT, TEN), X, LABELS - 1), "holds the class -1: they go from 0 t"),
    (InMemory(info(POINT, GREY), X, X), r"conditions has shape \(12, 2\)"),
    # By random access.
    (Lazy(info(POINT), X[0]), "mine: example 0 is of type ndarray; it must be a dict"),
    (Lazy(info(POINT), {"image": X[0]}), "mine: example 0 has no 'example', and info"),
    (
        Lazy(info(POINT), {"example": X}),
        r"example 0 has shape \(12, 2\) and type float",
    ),
    (Lazy(info(POINT), {"example": [0.0, 0.0]}), "example 0 has .* type float64"),
    (Lazy(info(POINT), {"example": [[1], [1, 2]]}), "example 0 is no array .ValueErr"),
    (Lazy(info(POINT, TEN), ONE), "mine: example 0 has no 'condition', and info.cond"),
    (Lazy(info(POINT, TEN), ONE | {"condition": 10}), "its condition holds the class"),
    (Lazy(info(POINT, TEN), ONE | {"condition": 0.5}), "its condition .* type float64"),
    (Lazy(info(POINT, GREY), ONE | {"condition": 3}), r"its condition has shape \(\)"),
    (
        Lazy(info(POINT), raising),
        r"0 cannot be read .FileNotFoundError: no such .*test_contract.py:\d+..$",
    ),
    # Drawn.
    (Unhashable(info(POINT), normal), "mine must be hashable, .* frozen dataclass"),
    (Density(info(POINT), lambda key: 0), "mine: sample fails: TypeError: "),
    (Density(info(POINT), lambda key, n: X[:n]), r"sample\(key, 2\) is of type "),
    (Density(info(GREY), normal), r"sample\(key, 2\)\['example'\] has shape \(2, 2\)"),
    (Density(info(POINT, TEN), normal), r"sample\(key, 2\) has no 'condition'"),
    (Density(info(POINT, POINT), labelled), r"\['condition'\] has shape \(2,\)"),
    (
        Density(info(POINT), lambda key, n: {"example": jax.random.bits(key, (n, 2))}),
        "and type uint32; Points",
    ),
]


@pytest.mark.parametrize("row", range(len(WRONG)))
def test_refuses(monkeypatch, row):
    source, message = WRONG[row]
    with pytest.raises(UserError, match=message) as caught:
        load(monkeypatch, source)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda key, batch: batch["x"], "mine: augment fails: KeyError: 'x'"),
        (
            lambda key, batch: {"example": batch["example"] / 2},
            r"augment makes {'example': 'float32\[2, 4, 4, 1\]'} of {'example': 'uint8",
        ),
        (lambda key, batch: batch | {"condition": 0 * batch["example"]}, "must keep"),
    ],
)
def test_an_augmentation_of_the_source_keeps_what_a_batch_is(
    monkeypatch, augment, message
):
    load(monkeypatch, InMemory(info(GREY), PIXELS, augment=lambda key, batch: batch))
    with pytest.raises(UserError, match=message):
        load(monkeypatch, InMemory(info(GREY), PIXELS, augment=augment))
