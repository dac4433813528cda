"""Whatever is given, the answer is a result or one line."""

import contextlib
import gzip
import io
import struct
import sys
import time
import zlib

import numpy as np
import pytest
from absl import flags
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ml_collections import config_flags
from PIL import Image

from gan_jax import cli, data, from_config
from gan_jax import config as config_lib
from gan_jax.build import names
from gan_jax.build.preflight import check
from gan_jax.data import folder, idx, tfds
from gan_jax.data.image import decode
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError

# ml_collections loads config files by it.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def fuzz(number):
    """Tries so many examples, the same ones each time."""
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def answer(call):
    """Returns what a call returns, or None where it is refused in a line; in time."""
    start, result, line = time.process_time(), None, ""
    try:
        result = call()
    except UserError as error:
        line = str(error)
    assert line.isprintable()
    assert time.process_time() - start < 20
    return result


# Overrides of a config.

MISTYPED = [
    "sed",
    "data.nmae",
    "data.name.x",
    "seed.x",
    "",
    ".",
    "a[0]",
    "seed[0]",
    "ü",
]
NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.integers(),
    st.sampled_from([2**31 - 1, 2**31, 2**32, 2**63, 2**64, 10**9, 10**12, 10**30]),
    st.floats(),
)
NAMES = st.sampled_from(
    (
        *("dcgan", "mlp", "resnet", "toy", "packaged", "tfds", "ring", "grid", "mnist"),
        *("hinge", "wasserstein", "r1", "adam", "linear", "cosine", "uniform", "train"),
        *("swiss_roll", "sgd(learning_rate=0.1)", "lbfgs(learning_rate=1.0)"),
    )
)
# Pieces of what the keys hold, in any order.
GRAMMAR = st.lists(
    st.one_of(
        st.sampled_from(
            [*"()[]{}'\"=,:.-/\\ \n#*~$%", "**", "((((", "depth=", "width="]
        ),
        st.sampled_from(["r1(", "weight=", "every=", "adam(learning_rate=", "lambda"]),
        st.sampled_from(["../", "/etc/passwd", "x.py", "x.py:y", "os.path", "None"]),
        NAMES,
        NUMBERS.map(str),
    ),
    max_size=6,
).map("".join)
TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
LITERALS = st.one_of(NUMBERS.map(str), st.sampled_from(["'tanh'", "None", "{1}", "()"]))
WORDS = ["depth", "width", "output", "slope", "weight", "every", "b1", "nesterov"]
KEYWORDS = st.tuples(st.sampled_from(WORDS), LITERALS).map("=".join)
CALLS = st.tuples(
    st.sampled_from(["r1", "gradient_penalty", "adam", "rmsprop", "sgd", "noisy_sgd"]),
    st.sampled_from(["learning_rate=0.1", "every=2", "weight=2"]),
    KEYWORDS,
).map(lambda parts: f"{parts[0]}({parts[1]}, {parts[2]})")
VALUES = st.one_of(NAMES, KEYWORDS, CALLS, GRAMMAR, TEXT, NUMBERS.map(str))
KEYS = config_lib.default().to_dict()
for group in ("data", "guard"):
    KEYS |= {f"{group}.{key}": value for key, value in KEYS.pop(group).items()}
OF_TYPE = {
    int: st.integers(1, 9) | st.integers(-1, 300) | NUMBERS,
    float: st.floats(0, 1) | NUMBERS,
    bool: st.booleans(),
}
OVERRIDES = st.lists(
    st.sampled_from([*KEYS, *KEYS, *MISTYPED, "data"]).flatmap(
        lambda key: st.tuples(
            st.just(key), OF_TYPE.get(type(KEYS.get(key)), VALUES).map(str)
        )
    ),
    min_size=1,
    max_size=3,
).map(dict)


def configure(overrides):
    """Parses a command line as gan_jax.train does, and checks all before it starts."""
    argv = ["train", "--config=configs/ring.py"]
    argv += [f"--config.{key}={value}" for key, value in overrides.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)
        patch.setattr(flags, "FLAGS", flags.FlagValues())
        holder = config_flags.DEFINE_config_file("config", flag_values=flags.FLAGS)
        cli._parsed(argv)
        config = cli.config_of(holder)
    config_lib.validate(config)
    config = names.with_absolute_files(config)
    if config.data.source == "folder":  # which would read what lies here
        config.data.data_dir = "/nowhere"
    info = data.load(config).info
    gan = from_config(config, info.example, info.condition)
    check(gan, config.batch_size, sharding.make_mesh(1))
    hash(gan)
    return gan


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(tfds, "unreachable", lambda url: "offline")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))


DEEP = 10**5
FOUND = [  # what once raised or did not end
    {"generator": "(" * DEEP},
    {"generator": "depth=" + "-" * DEEP + "1"},
    {"generator": "depth=" + "1+" * DEEP + "1"},
    {"generator": "depth={[]: 1}"},
    {"generator": "depth=1) + f(depth=2"},
    {"generator": "depth=1000000000"},
    {"penalties": "r1" + " " * DEEP + "r2"},
    {"penalties": "a," * DEEP},
    {"optimizer": "adam(learning_rate=1, mu_dtype='x')"},
    {"penalties": "r1(every=2147483648)"},
    {"penalties": f"r1(weight={10**400})"},
    {"penalties": "r1(weight=1e400)"},
    {"discriminator": "slope={1}"},
]


@pytest.mark.parametrize("overrides", FOUND, ids=lambda x: str(x)[:40])
def test_what_was_found(overrides):
    assert answer(lambda: configure(overrides)) is None


def test_a_command_line_is_parsed():
    gan = configure({"width": "7", "data.name": "grid", "penalties": "r1(every=4)"})
    assert (gan.generator.width, gan.penalties[0].every) == (7, 4)


@fuzz(40)
@given(overrides=OVERRIDES)
@example({"latent_size": str(10**12)})
@example({"width": str(10**30)})
@example({"replicas": str(10**9)})
@example({"num_steps": str(2**63), "schedule": "cosine"})
@example({"batch_size": str(10**30)})
@example({"data.source": "packaged", "data.name": "mnist", "image_size": str(2**40)})
@example({"data": "{'name': 3}"})
def test_overrides(offline, overrides):
    answer(lambda: configure(overrides))


@pytest.mark.slow
@fuzz(400)
@given(overrides=OVERRIDES)
def test_many_overrides(offline, overrides):
    answer(lambda: configure(overrides))


# Bytes of images.

SIZE = 8


def encoded(kind, mode="RGB", size=(12, 10), **options):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


PLAIN = encoded("PNG", "L", (SIZE, SIZE))
VALID = [
    PLAIN,
    encoded("PNG", "P", transparency=3),
    encoded("PNG", "RGBA"),
    encoded("JPEG"),
    encoded("JPEG", "CMYK", progressive=True),
    encoded("GIF", "P"),
    encoded("WEBP", "RGBA", lossless=True),
    encoded("WEBP"),
    encoded("BMP"),
    encoded("TIFF"),
    encoded("TIFF", "L", compression="tiff_lzw"),
    encoded("TIFF", "RGB", compression="tiff_adobe_deflate"),
    encoded("TIFF", "1", compression="group4"),
]


@st.composite
def mutated(draw, valid):
    """Some of the valid files with bytes changed, put in, left out, or cut off."""
    content = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        new = draw(
            st.binary(max_size=4)
            | st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff", b"\x80\0\0\0"])
        )
        old = draw(st.sampled_from([0, len(new), len(new), len(new), 1, 100]))
        content[at : at + old] = new
    return bytes(content)


@st.composite
def with_checksums(draw):
    """A PNG whose chunks were changed before they were summed."""
    content, out, at = draw(st.sampled_from(VALID[:3])), VALID[0][:8], 8
    while at < len(content):
        (size,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        if draw(st.booleans()):
            body = draw(mutated([body or b"0"]))
        crc = struct.pack(">I", zlib.crc32(kind + body))
        out += struct.pack(">I", len(body)) + kind + body + crc
        at += size + 12
    return out


FILES = st.one_of(mutated(VALID), with_checksums(), st.binary(max_size=60))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@fuzz(1000)
@given(content=FILES, channels=st.sampled_from([0, 1, 3]))
def test_images(content, channels):
    pixels = None
    with contextlib.suppress(Exception):  # a source makes a line of it
        pixels = decode(content, SIZE, channels)
    if pixels is not None:
        assert pixels.dtype == np.uint8
        assert pixels.shape[:2] == (SIZE, SIZE)


def test_valid_images_are_images():
    for content in VALID:
        assert decode(content, SIZE, 3).shape == (SIZE, SIZE, 3)


@fuzz(30)
@given(contents=st.lists(FILES, min_size=1, max_size=5), resident=st.booleans())
def test_folders(tmp_path_factory, contents, resident):
    root = tmp_path_factory.mktemp("images")
    for i, content in enumerate([PLAIN, *contents]):
        (root / f"{i}.png").write_bytes(content)
    config = config_lib.default()
    config.update_from_flattened_dict({"image_size": SIZE, "data.data_dir": str(root)})
    config.data.resident_mb = int(resident)
    source = answer(lambda: folder.load(config))
    assert source is None or len(source) == source.info.num_examples


IDX = struct.pack(">HBB2I", 0, 8, 2, 3, 4) + bytes(12)
IDXS = [IDX, gzip.compress(IDX), struct.pack(">HBBI", 0, 8, 1, 2) + b"ab"]


@fuzz(300)
@given(
    content=mutated(IDXS) | st.binary(max_size=40) | st.binary().map(IDX[:4].__add__)
)
def test_idx(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "idx"
    path.write_bytes(content)
    array = answer(lambda: idx.read(path))
    if array is not None:
        assert array.dtype == np.uint8
        assert array.size <= len(content) * 1032  # what deflate can make of it
