import hashlib
import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image
from runs import untrained

import gan_jax
from gan_jax.algorithm.players import render, sample_grid
from gan_jax.build import names
from gan_jax.config import default
from gan_jax.errors import UserError
from gan_jax.run import exported, restore, workdir
from gan_jax.run.files import write_new_folder

KEY = jax.random.key(3)
IMAGES = gan_jax.Images((8, 8, 1))
# A model of the user's own: the condition is an image, there are no latents, and what
# is made is noisy. It says when it is loaded.
MODEL = """
import pathlib
import flax.linen as nn
import jax
pathlib.Path(__file__).with_suffix(".ran").touch()

class Generator(nn.Module):
    width: int

    @nn.compact
    def __call__(self, latents, condition, *, train):
        h = nn.Dense(self.width)(condition)
        noise = jax.random.normal(self.make_rng("noise"), h.shape)
        return nn.tanh(nn.Dense(1)(h + noise))

class Discriminator(nn.Module):
    needed: int

    @nn.compact
    def __call__(self, examples, condition, *, train):
        return nn.Dense(self.needed)(examples + condition)
"""

CLASSES = gan_jax.Classes(3, ("a", "b", "c"))
OF_CLASSES = {"conditional": True, "replicas": 2, "latent": "uniform"}
GAMES = {  # spaces, and keys of a config
    "points": ((gan_jax.Points((2,)),), {"model": "mlp", "seed": 5}),
    "classes": ((IMAGES, CLASSES), {"model": "mlp", **OF_CLASSES}),
    "images": (
        (IMAGES, IMAGES),
        {"conditional": True, "latent_size": 0, "discriminator": "needed=2"},
    ),
    "digits": (
        (gan_jax.Images((28, 28, 1)), CLASSES),
        {"model": "dcgan", "precision": "bfloat16", **OF_CLASSES},
    ),
}
EACH = [
    pytest.param(name, marks=pytest.mark.slow if name in ("digits", "classes") else ())
    for name in GAMES
]
REPLICA = {"classes": 1, "digits": 1}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Returns the folder of a game's run, and that of its exported generator."""
    root = tmp_path_factory.mktemp("exported")
    (root / "mine.py").write_text(MODEL)

    def made(name):
        run, out = root / name, root / f"{name}-generator"
        if not run.exists():
            spaces, keys = GAMES[name]
            config = default()
            config.update({"width": 4, "latent_size": 6, **keys})
            if name == "images":
                config.model = str(root / "mine.py")
            untrained(run, config, *spaces)
            gan, state = opened(run)
            replica = REPLICA.get(name, 0)
            exported.write(out, gan, state, workdir.read(run), replica)
        return run, out

    return made


def model_of(path):
    model = json.loads((path / "config.json").read_text())["config"]["model"]
    return model if names.is_code(model) else None


def opened(run):
    return restore.load(run, replica=REPLICA.get(run.name, 0), model=model_of(run))


def told(gan, num):
    """Returns stored conditions, as what the generator takes after the latents."""
    if gan.condition is None:
        return ()
    random = np.random.default_rng(0)
    most = getattr(gan.condition, "num_classes", 256)
    shape = (num, *gan.condition.shape)
    return (random.integers(0, most, shape).astype(gan.condition.stored_dtype),)


@pytest.mark.parametrize("name", EACH)
def test_an_export_draws_what_its_run_draws(folders, name):
    run, out = folders(name)
    gan, state = opened(run)
    generator = gan_jax.load_generator(out, model_of(run))
    same = ("example", "condition", "latent")
    assert all(getattr(generator, key) == getattr(gan, key) for key in same)
    assert getattr(generator.condition, "names", ()) == getattr(
        gan.condition, "names", ()
    )
    condition = told(gan, 5)
    drawn = generator.sample(KEY, 5, *condition)
    np.testing.assert_array_equal(drawn, gan_jax.draw(gan, state, KEY, 5, *condition))
    assert (drawn.shape, drawn.dtype) == (
        (5, *gan.example.shape),
        gan.example.stored_dtype,
    )
    assert np.std(drawn) > 0
    if name == "classes":
        of_each = generator.sample(KEY, 5, truncation=0.5)
        wanted = gan_jax.draw(gan, state, KEY, 5, truncation=0.5)
        np.testing.assert_array_equal(of_each, wanted)
        grids = (sample_grid(gan, s, 5) for s in (generator.state, state))
        np.testing.assert_array_equal(*grids)  # of the replica's key
    assert generator.state.step == state.step == 7


@pytest.mark.parametrize("name", EACH)
def test_the_program_makes_what_the_run_makes(folders, name):
    run, out = folders(name)
    gan, state = opened(run)
    program = jax.export.deserialize((out / exported.PROGRAM).read_bytes())
    assert program.platforms == exported.PLATFORMS
    latents, condition = gan.latent.sample(KEY, 5), told(gan, 5)
    wanted = render(gan, state, latents, *condition, key=jax.random.key(0))
    generator = gan_jax.load_generator(out, model_of(run))
    by_hand = generator.generate(latents, *condition)
    np.testing.assert_array_equal(by_hand, wanted)
    for num in (5, 1):
        got = program.call(latents[:num], *(c[:num] for c in condition))
        assert (got.shape, got.dtype) == (wanted[:num].shape, wanted.dtype)
        # A level of uint8 may be rounded to the next one.
        near = {"rtol": 1e-5} if name == "points" else {"rtol": 0, "atol": 1}
        np.testing.assert_allclose(np.float32(got), np.float32(wanted[:num]), **near)


def test_the_files_say_what_they_are(folders):
    _, out = folders("classes")
    weights = safetensors.numpy.load_file(out / exported.WEIGHTS)
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    assert {name.split("/")[0] for name in weights} == {"params"}
    about = exported.read(out)
    assert about["program"]["latent"] == {"size": 6, "prior": "uniform"}
    assert about["program"]["condition"]["names"] == ["a", "b", "c"]
    assert [about[key] for key in ("step", "seed", "replica")] == [7, 1, 1]
    assert about["config"]["width"] == 4
    for name, digest in about["sha256"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert {path.name for path in out.iterdir()} == {exported.ABOUT, *about["sha256"]}


# --- What is refused ----------------------------------------------------------------


def of_json(**keys):
    """Returns a change of generator.json."""

    def change(path):
        file = path / exported.ABOUT
        file.write_text(json.dumps(json.loads(file.read_text()) | keys))

    return change


def of_config(**keys):
    def change(path):
        of_json(config=exported.read(path)["config"] | keys)(path)

    return change


def of_weights(edit, honest=True):
    """Returns a change of the weights' bytes; of their checksum too, if honest."""

    def change(path):
        file = path / exported.WEIGHTS
        file.write_bytes(edit(file.read_bytes()))
        if honest:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            of_json(sha256={exported.WEIGHTS: digest})(path)

    return change


def of_arrays(edit):
    def edited(content):
        arrays = safetensors.numpy.load(content)
        edit(arrays)
        return safetensors.numpy.save(arrays)

    return of_weights(edited)


def text(content):
    return lambda path: (path / exported.ABOUT).write_text(content)


def lacking(name):
    return lambda path: (path / name).unlink()


BIAS = "params/Dense_0/bias"
HARM = pickle.dumps(print)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lacking(exported.ABOUT), r"no exported generator: there is no generator.json"),
        (text("{"), r"generator.json is damaged"),
        (text("[" * 10**5), r"generator.json is damaged"),
        (text("[1]"), r"generator.json is damaged"),
        (text('{"format": 1}'), r"generator.json is damaged"),
        (of_json(format=2), r"is of format 2, and this version of gan_jax reads 1"),
        (of_json(format="x" * 10**6), r"is of format 'xxx"),
        (of_json(step=-1), r"generator.json is damaged"),
        (of_json(step=2**31), r"generator.json is damaged"),
        (of_json(seed="0"), r"generator.json is damaged"),
        (of_json(sha256=[]), r"generator.json is damaged"),
        (of_json(data=3), r"generator.json is damaged"),
        (of_json(config={"width": "wide"}), r"generator.json describes no run"),
        (of_config(width=2**40), r"width is 1099511627776"),
        (of_config(model="../mlp"), r"code from outside of gan_jax.*give --model="),
        (of_config(model="os.abort"), r"code from outside of gan_jax.*give --model="),
        (of_config(width=8), r"another generator: it is too large|is another|must be"),
        (of_config(model="mlp", generator="depth=9"), r"it lacks params/Dense_"),
        (lacking(exported.WEIGHTS), r"there is no \S+generator.safetensors"),
        (of_weights(lambda b: b[:-1], honest=False), r"its SHA-256 is not that in gen"),
        (of_weights(lambda b: b[:-1]), r"safetensors is damaged \(SafetensorError: "),
        (of_weights(lambda b: b""), r"safetensors is damaged \(SafetensorError: "),
        (of_weights(lambda b: HARM), r"safetensors is damaged \(SafetensorError: "),
        (of_weights(lambda b: b + bytes(10**5)), r"it is too large for this one"),
        (of_arrays(lambda a: a.pop(BIAS)), rf"it lacks {BIAS}"),
        (of_arrays(lambda a: a.update(x=a[BIAS])), r"it has an unknown array x"),
        (
            of_arrays(lambda a: a.update({BIAS: a[BIAS][:2]})),
            rf"{BIAS} is float32 \[2\], and must be float32 \[4\]",
        ),
        (
            of_arrays(lambda a: a.update({BIAS: a[BIAS].astype(np.float16)})),
            rf"{BIAS} is float16 \[4\], and must be float32 \[4\]",
        ),
    ],
)
def test_what_is_damaged_or_foreign_is_refused(folders, tmp_path, change, message):
    path = tmp_path / "generator"
    shutil.copytree(folders("points")[1], path)
    change(path)
    with pytest.raises(UserError, match=message) as error:
        gan_jax.load_generator(path)
    assert "\n" not in str(error.value)


def test_a_generator_is_no_run_of_other_steps_or_replicas(folders):
    _, out = folders("points")
    with pytest.raises(UserError, match=r"--step=3: \S+ is a generator of step 7"):
        restore.load(out, step=3)
    with pytest.raises(
        UserError, match=r"--replica=1: \S+ is one generator, not a run"
    ):
        restore.load(out, replica=1)
    with pytest.raises(UserError, match=r"--model=x.py: the run's model is mlp"):
        gan_jax.load_generator(out, model="x.py")
    assert restore.load(out, step=7)[1].step == 7


def test_code_is_run_only_where_it_is_named(folders, tmp_path):
    run, out = folders("images")
    shutil.copy(model_of(run), tmp_path / "other.py")
    for model in (None, str(tmp_path / "other.py")):
        with pytest.raises(UserError, match=r"mine.py, code from outside of gan_jax"):
            gan_jax.load_generator(out, model)
    assert not (tmp_path / "other.ran").exists()
    copy = shutil.move(tmp_path / "other.py", tmp_path / "mine.py")
    assert gan_jax.load_generator(out, str(copy)).latent.size == 0
    assert (tmp_path / "mine.ran").exists()


def test_a_generator_of_one_batch_size_alone_is_refused(tmp_path):
    (tmp_path / "fixed.py").write_text(
        "import flax.linen as nn\n"
        "from gan_jax.models.mlp import Discriminator\n"
        "class Generator(nn.Module):\n"
        "    def __call__(self, latents, condition=None, *, train):\n"
        "        rows = [latents[i, :2] for i in range(int(latents.shape[0]))]\n"
        "        return nn.Dense(2, name='out')(rows[0] + 0 * latents[:, :2])\n"
        "    __call__ = nn.compact(__call__)\n"
    )
    gan = gan_jax.build(gan_jax.Points((2,)), model=str(tmp_path / "fixed.py"))
    state = jax.jit(gan_jax.init_state, static_argnums=0)(gan, KEY)
    with pytest.raises(UserError, match=r"must take batches of any size.*fixed.py:5"):
        exported.program(gan, state)


# --- The folder and the commands ----------------------------------------------------


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path):
    out = tmp_path / "a" / "new"
    (tmp_path / "a" / ".new.partial").mkdir(parents=True)
    (tmp_path / "a" / ".new.partial" / "left").touch()  # by a process that was killed
    files = {"x": b"1", "y": b"2"}
    write_new_folder(out, files)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files
    with pytest.raises(OSError, match="not empty"):
        write_new_folder(out, {"z": b"3"})
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"]
    assert not (out / "z").exists()


def test_the_commands(forks, folders, tmp_path):
    run, _ = folders("classes")
    out = tmp_path / "made" / "generator"
    args = [f"--workdir={run}", f"--out={out}"]
    status, said, err = forks("export", *args, "--replica=1")
    assert status == 0, err
    first, second = said.splitlines()
    assert re.fullmatch(rf"{out}: .*kB\), step 7, replica 1", first)
    assert second.startswith(f"use it: gan_jax.load_generator('{out}').sample(")
    assert str(Path.cwd()).encode() not in (out / exported.PROGRAM).read_bytes()
    status, said, err = forks("export", *args)
    assert (status, said) == (2, "")
    assert err == f"error: --out={out}: it is not empty; give a new folder\n"
    grid = tmp_path / "x.png"
    status, said, err = forks("sample", f"--workdir={out}", f"--out={grid}", "--num=6")
    assert (status, said) == (0, f"{grid}: 6 examples, step 7\n"), err
    with Image.open(grid) as picture:
        assert picture.size == (3 * 8, 2 * 8)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--out={}/x"], r"give a run: --workdir=DIR"),
        (["--workdir={run}"], r"give the folder to write: --out=DIR"),
        (["--workdir={run}", "--out={run}"], r"it is not empty; give a new folder"),
        (["--workdir={run}", "--out={run}/config.json/x"], r"is a file, not a folder"),
        (["--workdir={run}", "--out={}/x", "--num=3"], r"--num is of samples"),
        (["--workdir={run}", "--out={}/x", "--step=3"], r"no checkpoint of step 3"),
        (["--workdir={run}", "--out={}/x", "--replica=1"], r"has only replica 0"),
        (["--workdir={}", "--out={}/x"], r"is not a run: there is no \S+config.json"),
    ],
)
def test_the_command_refuses(forks, folders, tmp_path, args, message):
    run = str(folders("points")[0])
    args = [arg.replace("{}", str(tmp_path)).replace("{run}", run) for arg in args]
    status, said, err = forks("export", *args)
    assert (status, said, err.count("\n")) == (2, "", 1)
    assert re.search(message, err)
    assert not list(tmp_path.iterdir())


ALONE = """
import sys
sys.modules["gan_jax"] = sys.modules["flax"] = None  # cannot be imported
import jax, numpy as np
with open(sys.argv[1], "rb") as file:
    program = jax.export.deserialize(file.read())
for num in (1, 4):
    latents = np.linspace(-1, 1, 6 * num, dtype=np.float32).reshape(num, 6)
    np.save(f"{sys.argv[2]}/{num}.npy", program.call(latents, np.arange(num) % 3))
"""


@pytest.mark.slow
def test_the_program_runs_with_jax_alone(folders, tmp_path):
    run, out = folders("classes")
    command = [sys.executable, "-c", ALONE, out / exported.PROGRAM, tmp_path]
    subprocess.run(command, cwd=tmp_path, check=True)
    gan, state = opened(run)
    for num in (1, 4):
        latents = np.linspace(-1, 1, 6 * num, dtype=np.float32).reshape(num, 6)
        wanted = render(gan, state, latents, np.arange(num) % 3)
        got = np.load(tmp_path / f"{num}.npy")
        np.testing.assert_allclose(np.int32(got), np.int32(wanted), atol=1)
