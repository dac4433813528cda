"""Files from elsewhere: they run no code, fill no memory, and lead nowhere else."""

import ast
import io
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from gan_jax import data, draw
from gan_jax.algorithm.spaces import Classes
from gan_jax.config import default
from gan_jax.data import folder, packaged
from gan_jax.data.image import decode
from gan_jax.data.source import MAX_PIXELS
from gan_jax.errors import UserError, printable
from gan_jax.objective import losses
from gan_jax.run import restore
from gan_jax.run.training import train

ROOT = Path(__file__).parents[1]


def config_of(**keys):
    config = default()
    config.update_from_flattened_dict(keys)
    return config


def refused(call, message):
    """Returns the one line with which a call is refused."""
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert str(caught.value).isprintable()
    return str(caught.value)


# Pickles.


def test_nothing_is_unpickled():
    """No module of the package names pickle, and np.load always says so."""
    for path in (ROOT / "gan_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names}
                names.add(getattr(node, "module", None))
                unsafe = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib"}
                assert not names & unsafe, path
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load":
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert given.get("allow_pickle") == "False", path


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('this ran')",)


def test_a_packaged_array_of_objects_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "sample.npz"
    np.savez(file, train_images=np.array([Evil()]), train_labels=np.zeros(1))
    monkeypatch.setattr(packaged, "path", lambda name: file)
    refused(lambda: packaged.load(config_of()), "sample.npz .ValueError: Object arr")


# Bombs: files of at most megabytes that stand for gigabytes.

MIB = bytes(2**20)
ZLIB, GZIP = 15, 31  # what a stream is wrapped in


def packed(wrap, mib, start=b""):
    """Compresses so many MiB of zeros; only the checksum at the end is wrong."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wrap)
    first = packer.compress(start + MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + block * (mib - 1) + packer.flush()


def chunk(kind, content):
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


def png_of(width, height, mib, colour=0):
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", packed(ZLIB, mib)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def tiff_of(width, height, mib):
    content = packed(ZLIB, mib)
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1}
    tags |= {278: height, 279: len(content)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 8 + len(content)) + content + directory


def resized(kind, old, new):
    """Encodes an image of 16x16 and writes another size into its header."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind)
    assert old in file.getvalue()
    return file.getvalue().replace(old, new, 1)


def idx_of(*shape):
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


TOO_MANY = r"^ValueError: (\d+x\d+ pixels, )?more than the 64 megapixels"
IMAGES = {
    "plain.png": (png_of(60000, 60000, 3500), TOO_MANY),
    "colour.png": (png_of(60000, 60000, 64, 2), TOO_MANY),
    "warned.png": (png_of(10000, 10000, 300, 2), TOO_MANY),  # of which Pillow warns
    "quiet.png": (png_of(9000, 9000, 240, 2), TOO_MANY),  # and of which it does not
    "thin.png": (png_of(1, 2**31 - 1, 3500), TOO_MANY),
    "empty.png": (png_of(0, 2**32 - 1, 3500), "^UnidentifiedImageError: cannot iden"),
    "stuffed.png": (png_of(16, 16, 3500), "^decoded"),
    "a.gif": (resized("GIF", b"\x10\0\x10\0", b"\xff" * 4), TOO_MANY),
    "a.jpg": (resized("JPEG", b"\0\x10\0\x10", b"\xff\xdc" * 2), TOO_MANY),
    "a.bmp": (resized("BMP", b"\x10\0\0\0" * 2, b"\0\0\1\0" * 2), TOO_MANY),
    "a.webp": (resized("WEBP", b"\x10\0\x10\0", b"\xff\x3f" * 2), TOO_MANY),
    "a.tif": (tiff_of(50000, 50000, 64), TOO_MANY),
}
ASKS, HOLDS = "^UserError: .*asks for more than 256 MiB", "more than 235200 bytes of da"
IDX = {
    "asks": (idx_of(2**31, 28, 28), ASKS),
    "asks.gz": (packed(GZIP, 3500, idx_of(2**31, 28, 28)), ASKS),
    "holds.gz": (packed(GZIP, 3500, idx_of(300, 28, 28)), HOLDS),
    "nothing": (idx_of(2**32 - 1, 2**32 - 1, 0), ASKS),
    "a_dimension_too_many": (idx_of(1, 1, 1, 1) + b"0", "is not an idx file"),
}
MOST = 2**29  # bytes, an eighth of what the files stand for

# The address space is limited where the operating system can do so.
READ = f"""
import resource, sys, time
from pathlib import Path
from gan_jax.data.idx import read
from gan_jax.data.image import decode

Path("/proc/self/statm").exists() and resource.setrlimit(resource.RLIMIT_AS, (
    int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    + {MOST}, -1))
for path in map(Path, sys.argv[1:]):
    start = time.process_time()
    try:
        if path.parent.name == "images":
            print("decoded", decode(path.read_bytes(), 16, channels=1).shape)
        else:
            read(path)
    except Exception as error:
        print(f"{{type(error).__name__}}: {{error}}")
    assert time.process_time() - start < 5, path
"""


def test_bombs_take_neither_memory_nor_time(tmp_path):
    paths, messages = [], []
    for kind, bombs in (("images", IMAGES), ("idx", IDX)):
        (tmp_path / kind).mkdir()
        for name, (content, message) in bombs.items():
            paths.append(tmp_path / kind / name)
            paths[-1].write_bytes(content)
            messages.append(message)
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    for message, line in zip(messages, done.stdout.splitlines(), strict=True):
        assert re.search(message, line)


def test_warnings_of_pillow_do_not_leak(tmp_path):
    file = io.BytesIO()
    Image.new("L", (8, 8), 7).save(file, "TIFF", description="of the image")
    count = struct.pack("<HHI", 270, 2, 13)
    content = file.getvalue().replace(count, struct.pack("<HHI", 270, 2, 10**6))
    assert content != file.getvalue()
    with pytest.warns(UserWarning, match="Tag data larger than file"):
        decode(content, 8)
    (tmp_path / "a.tif").write_bytes(content)
    config = config_of(image_size=8, **{"data.data_dir": str(tmp_path)})
    assert (folder.load(config).examples == 7).all()


def test_a_folder_counts_bombs_as_unreadable(tmp_path):
    for name, (content, _) in IMAGES.items():
        (tmp_path / name).write_bytes(content)
    files = len(IMAGES) - 1  # what is within the bounds of its header can be read
    refused(
        lambda: folder.load(config_of(**{"data.data_dir": str(tmp_path)})),
        f"{files} of the {len(IMAGES)} images .*64 megapixels",
    )


def test_an_image_size_has_bounds_too(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    size = {"image_size": 2**20}
    refused(
        lambda: folder.load(config_of(**size, **{"data.data_dir": str(tmp_path)})),
        "1048576x1048576 pixels, more than the 64 megapixels",
    )
    refused(lambda: packaged.load(config_of(**size)), r"can be enlarged to 655$")


def test_images_within_the_bounds_are_as_before():
    side = math.isqrt(MAX_PIXELS)
    file = io.BytesIO()
    Image.new("L", (side, side), 7).save(file, "PNG", compress_level=1)
    assert (decode(file.getvalue(), 4) == 7).all()


def test_programs_are_not_run_for_images(tmp_path):
    """Pillow would hand this one to Ghostscript."""
    path = tmp_path / "a.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(UnidentifiedImageError):
        decode(str(path), 8)


# Names that lead elsewhere.

ELSEWHERE = ["../../x", "/etc/passwd", "mnist/../../x", "mnist/..", "mnist/config=../x"]


@pytest.mark.parametrize("name", [*ELSEWHERE, "", ".", "a\nb", "\x1b[2J", "\udcff"])
@pytest.mark.parametrize("source", ["tfds", "packaged", "toy", "archive"])
def test_a_name_is_no_path(tmp_path, monkeypatch, source, name):
    home = tmp_path / "a" / "b"
    home.mkdir(parents=True)
    monkeypatch.setenv("TFDS_DATA_DIR", str(home))
    config = config_of(**{"data.source": source, "data.name": name})
    config.data.data_dir = str(home)
    refused(lambda: data.load(config), "unknown|cannot read")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", home]


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), len(path.name)).save(path)


def load(root):
    config = config_of(image_size=8, **{"data.data_dir": str(root)})
    return folder.load(config)


def test_odd_names_of_files_stay_in_a_line(tmp_path):
    for name in ("a\nb", "\x1b[2J", "..a", "\udcff", "…"):
        image(tmp_path / "good" / name / "1.png")
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / f"{name}.png").write_bytes(bytes(60))
    assert load(tmp_path / "good").info.condition == Classes(4)  # ..a is hidden
    line = refused(lambda: load(tmp_path / "bad"), "4 of the 4 images")
    assert r"\x1b[2J" in line


def test_what_is_printed_of_a_text():
    assert printable("a b…'é") == "a b…'é"
    assert printable("\n\x1b\u2028\udcff\x00") == r"\n\x1b\u2028\udcff\x00"
    assert str(UserError("two\nlines")) == r"two\nlines"


def test_links_in_circles_end(tmp_path):
    root = tmp_path / "root"
    for name in ("a/1.png", "b/2.png", "b/deep/3.png"):
        image(root / name)
    for name, target in {
        "a/self": ".",
        "a/up": "..",
        "a/other": "../b",
        "b/deep/out": tmp_path,
        "b/never": "never",
        "c": "a",
    }.items():
        (root / name).symlink_to(target)
    source = load(root)
    assert (len(source), source.info.condition) == (3, Classes(2))
    assert source.conditions.tolist() == [0, 1, 1]


def test_links_to_folders_are_followed_once(tmp_path):
    root = tmp_path / "root"
    for name in ("far/1.png", "far/deep/2.png", "root/.kept/3.png", "root/z/4.png"):
        image(tmp_path / name)
    (tmp_path / "far" / "circle").symlink_to(tmp_path / "far" / "deep")
    for name, target in {
        "a": tmp_path / "far" / "deep",
        "b": tmp_path / "far",
        "c": ".kept",
        "d": "z",
    }.items():
        (root / name).symlink_to(target)
    source = load(root)
    assert source.conditions.tolist() == [0, 1, 2, 3]  # the folders a, b, c and z
    (tmp_path / "link").symlink_to(root)
    assert len(load(tmp_path / "link")) == 4


def test_a_pipe_is_not_waited_for(tmp_path):
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "x.png")
    refused(lambda: load(tmp_path), r"a/x.png: ValueError: it is not a file")


# Runs from elsewhere.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the ring whose objective, model and optimizer are the user's own."""
    path = tmp_path_factory.mktemp("run")
    code = path / "mine.py"
    code.write_text(MINE.format(ran=str(path / "ran")))
    config = config_of(
        **{"num_steps": 1, "log_every": 1, "sample_every": 1, "checkpoint_every": 1},
        **{"width": 4, "batch_size": 4, "latent_size": 2},
        **{"data.source": "toy", "data.name": "ring"},
        **{"loss": f"{code}:loss", "penalties": f"{code}:penalty(weight=2), r1"},
        **{"model": str(code), "optimizer": f"{code}:adam(learning_rate=1e-3)"},
    )
    train(config, path / "run")
    (path / "ran").unlink()
    return path / "run"


MINE = """
import pathlib
import optax
from gan_jax.objective.losses import hinge as loss
from gan_jax.models.mlp import Discriminator, Generator
pathlib.Path({ran!r}).touch()
def penalty(critic, real, fake, key):
    return critic(real)
def adam(learning_rate):
    return optax.adam(learning_rate)
"""


def again(tmp_path, name="code.py"):
    """Writes the code of the run to another file, which has not been loaded yet."""
    code = tmp_path / name
    code.write_text(MINE.format(ran=str(tmp_path / "ran")))
    return code


def changed(run, tmp_path, change):
    """Copies a run, with another config.json."""
    copy = shutil.copytree(run, tmp_path / "run")
    content = json.loads((run / "config.json").read_text())
    content = change(content) or content
    text = content if isinstance(content, str) else json.dumps(content)
    (copy / "config.json").write_text(text)
    return copy


@pytest.mark.parametrize("key", ["model", "optimizer", "d_optimizer"])
def test_code_that_a_run_names_is_not_run(run, tmp_path, key):
    ours = {"model": "mlp", "optimizer": "adam(learning_rate=1e-3)"}
    code = again(tmp_path)
    theirs = {"model": f"{code}", "optimizer": f"{code}:adam(learning_rate=1)"}
    name = theirs[key.removeprefix("d_")]

    def change(content):
        content["config"] |= {**ours, key: name}

    path = changed(run, tmp_path, change)
    kind, name = key.removeprefix("d_"), name.partition("(")[0]
    refused(
        lambda: restore.load(path), f"run's {kind} is {name}, .* give --{kind}={name}"
    )
    refused(lambda: restore.load(path, model="other.py"), "other.py|, code from outs")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["{}", "{}:name", "this", "os.abort", "antigravity.x"])
@pytest.mark.parametrize("key", ["loss", "penalties", "source"])
def test_what_does_not_matter_to_samples_is_not_loaded(run, tmp_path, key, name):
    given = name.format(again(tmp_path))

    def change(content):
        config = content["config"]
        config |= {"model": "mlp", "optimizer": "adam(learning_rate=1e-3)"}
        (config["data"] if key == "source" else config)[key] = given

    path = changed(run, tmp_path, change)
    if key != "source" and "." not in given:
        refused(lambda: restore.load(path), "unknown (loss|penalty) 'this'")
    else:
        assert restore.load(path)[1].step == 1
    assert not (tmp_path / "ran").exists()
    assert not {"this", "antigravity"} & set(sys.modules)


def test_code_is_loaded_from_where_the_user_says(run, tmp_path):
    """The same file elsewhere; what the run itself names is not touched."""
    (tmp_path / "elsewhere").mkdir()
    theirs = again(tmp_path / "elsewhere", "mine.py")
    code = {"model": str(theirs), "optimizers": [f"{theirs}:adam"]}
    gan, state = restore.load(run, **code)
    assert draw(gan, state, jax.random.key(0), 3).shape == (3, 2)
    assert gan.loss == losses.non_saturating
    assert (tmp_path / "elsewhere" / "ran").exists()
    assert not (run.parent / "ran").exists()


def test_the_command_takes_the_code(forks, run, tmp_path):
    code = run.parent / "mine.py"
    args = [f"--workdir={run}", f"--out={tmp_path}/x.png"]
    status, out, err = forks("sample", *args, f"--model={code}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"--optimizer={code}:adam" in err
    status, _, err = forks(
        "sample", *args, f"--model={code}", f"--optimizer={code}:adam"
    )
    assert (status, err) == (0, "")
    assert (tmp_path / "x.png").exists()


def setting(**keys):
    """Returns a change of the config to a plain model with these keys."""

    def change(content):
        config = content["config"]
        config |= {"model": "mlp", "optimizer": "adam(learning_rate=1e-3)"}
        config |= {"loss": "hinge", "penalties": "", **keys}

    return change


def of_data(**keys):
    """Returns a change of what a version before spaces wrote of the data."""

    def change(content):
        setting()(content)
        del content["data"]["example"], content["data"]["condition"]
        content["data"] |= keys

    return change


def of_space(conditional=False, **keys):
    """Returns a change of the space of the condition, or of the examples."""

    def change(content):
        setting(conditional=conditional)(content)
        content["data"]["condition" if conditional else "example"] |= keys

    return change


HUGE = 10**30
WILD = [
    lambda content: "[" * 10**6,
    lambda content: '{"config": ' * 10**5,
    lambda content: f'{{"config": {"9" * 5000}, "data": 0}}',
    lambda content: '{"config": {}, "data": {}}',
    lambda content: '{"config": [], "data": []}',
    lambda content: '{"config": null, "data": null}',
    lambda content: '{"config": {"data": 3}, "data": {}}',
    lambda content: '"config data"',
    lambda content: "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"),
    setting(width="wide"),
    setting(width=None),
    setting(width=HUGE),
    setting(width=-1),
    setting(width=True),
    setting(width=float("nan")),
    setting(latent_size=HUGE),
    setting(latent_size=2**40),
    setting(replicas=10**9),
    setting(replicas=HUGE),
    setting(seed=HUGE),
    setting(loss=None),
    setting(loss=3),
    setting(penalties=["r1"]),
    setting(penalties={"r1": {}}),
    setting(model=None),
    setting(model=""),
    setting(model="../mlp"),
    setting(model="mlp\nmlp"),
    setting(optimizer=""),
    setting(optimizer="adam(learning_rate=" + "(" * 10**5),
    setting(optimizer="adam, os.abort"),
    setting(optimizer="adam(learning_rate=1, b1='x')"),
    setting(generator="(" * 10**5),
    setting(generator="depth=" + "-" * 10**5 + "1"),
    setting(generator="depth=10000000000"),
    setting(generator="depth='x'"),
    setting(generator="__import__('os').abort()"),
    setting(generator="depth=1) + f(depth=2"),
    setting(data={"source": 3}),
    setting(data=None),
    setting(nothing=3),
    setting(**{"a.b": 3}),
    setting(conditional="yes"),
    setting(conditional=True),
    of_data(shape=None),
    of_data(shape=3),
    of_data(shape="ab"),
    of_data(shape=[]),
    of_data(shape=[0]),
    of_data(shape=[3]),
    of_data(shape=[-1, -1, 3]),
    of_data(shape=[8, 8, 3]),
    of_data(shape=[HUGE, HUGE, 3]),
    of_data(shape=[[[2]]]),
    of_data(shape=[float("inf"), 1, 1]),
    *(of_space(shape=shape) for shape in (None, 3, "ab", [], [0], [3], [-1], [HUGE])),
    of_space(kind="Images"),
    of_space(kind=["Points"]),
    of_space(kind="Pair", shape=[2, HUGE, HUGE, 3]),
    of_space(kind="Space", shape=[1] * 1000),
    of_space(kind="Classes", num_classes=3),
    of_space(bounds=3),
    of_space(bounds=["a", "b"]),
    of_space(bounds=[0, 1, 2]),
    of_space(conditional=True, num_classes=HUGE),
    of_space(conditional=True, num_classes=-1),
    of_space(conditional=True, num_classes="x"),
    of_space(conditional=True, kind="Points", shape=[HUGE]),
]


@pytest.mark.parametrize("index", range(len(WILD)))
def test_a_wild_config_json_is_refused(run, tmp_path, index):
    path = changed(run, tmp_path, WILD[index])
    refused(lambda: restore.load(path), ".")
    assert sorted(p.name for p in path.iterdir()) == sorted(
        p.name for p in run.iterdir()
    )


def test_a_plain_config_is_not_wild(run, tmp_path):
    plain = [{"num_classes": -1}, {"num_classes": "x"}, {"shape": [2.0]}]
    changes = [of_data(**keys) for keys in ({}, *plain, {"shape": {"2": 2}})]
    changes += [of_space(), of_space(kind=None), of_space(kind="MyOwn")]
    for i, change in enumerate(changes):
        path = changed(run, tmp_path / str(i), change)
        assert restore.load(path)[1].step == 1
