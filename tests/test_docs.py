"""README and the pages in docs/: what they name exists, and their code runs."""

import ast
import functools
import importlib
import inspect
import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

import gan_jax
from gan_jax import cli, data
from gan_jax import config as config_lib
from gan_jax.algorithm import dynamics
from gan_jax.build import names
from gan_jax.build.names import parse_keywords
from gan_jax.build.objectives import build_loss, build_penalties, build_step
from gan_jax.build.preflight import check
from gan_jax.data.source import Info
from gan_jax.devices.mesh import make_mesh
from gan_jax.errors import UserError
from gan_jax.metrics import named
from gan_jax.metrics.features.extractor import extract, load_extractor
from gan_jax.metrics.metric import Comparison, Metric
from gan_jax.objective import augment, losses, penalties, targets
from gan_jax.objective.terms import Family, Term
from gan_jax.run import exported, workdir
from gan_jax.run.evaluation import build_metrics

ROOT = Path(__file__).parents[1]
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LANGUAGES = ("python", "sh", "text")
# Programs that are not ours, and how their arguments begin.
OTHERS = {
    "gcloud": (
        "auth login",
        "compute tpus queued-resources ",
        "compute tpus tpu-vm ",
        "config set ",
        "services enable ",
        "storage ",
    ),
    "pip": ("install ", "download "),
    "npm": "install ",
    "pytest": "",
    "tensorboard": "--logdir=",
}


def folder(page):
    return ROOT if page == "README.md" else ROOT / "docs"


def blocks(page, language):
    return [code for name, code in FENCE.findall(PAGES[page]) if name == language]


def prose(page):
    return FENCE.sub("", PAGES[page])


def spans(text):
    """Returns the inline code of a text."""
    return re.findall(r"`([^`\n]+)`", text)


def section(page, title):
    return PAGES[page].split(f"## {title}\n")[1].split("\n## ")[0]


def rows(text):
    """Returns the cells of each row of the tables in a text."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    found = [[c.strip() for c in line.strip("|").split(" | ")] for line in lines]
    return [row for row in found if len(row) > 1 and not row[0].startswith("--")]


def files(page):
    """Returns the files that a page shows, `# NAME.py` in their first line."""
    named = (re.match(r"# (\w+\.py)\n", code) for code in blocks(page, "python"))
    return {found[1]: found.string for found in named if found}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Moves to a folder with the shipped configs and the files of a page."""

    def lay(page):
        for name, code in (files("adding.md") | files(page)).items():
            (tmp_path / name).write_text(code)
        (tmp_path / "configs").symlink_to(ROOT / "configs")
        monkeypatch.chdir(tmp_path)

    return lay


# --- Text ---------------------------------------------------------------------------


def test_readme_is_read_in_five_minutes():
    assert len(PAGES["README.md"].split()) <= 1800


def test_readme_leads_to_the_algorithm_and_to_every_page():
    links = re.findall(r"\]\(([^)#]+)", PAGES["README.md"])
    assert links[0] == "gan_jax/algorithm/steps.py"
    assert {f"docs/{name}" for name in PAGES if name != "README.md"} <= set(links)


def anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, part = link.partition("#")
        if "://" in path:
            continue
        target = folder(page) / path if path else folder(page) / page
        assert target.exists(), link
        if part:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert part in map(anchor, headings), link


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_in_passing_exists(page):
    for span in spans(prose(page)):
        path = re.match(
            r"(?:--config=)?((gan_jax|tests|scripts|configs|docs)/[\w/.-]+)", span
        )
        assert path is None or (ROOT / path[1]).exists(), span
        for key in re.findall(
            r"--config\.(?!KEY)([\w.]+)|^((?:data|guard)\.\w+)", span
        ):
            assert is_key(*filter(None, key)), span
        if re.fullmatch(r"gan_jax(\.\w+)+", span):
            resolve(span)
        if re.fullmatch(r"test_\w+", span):
            tests = "".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
            assert f"def {span}(" in tests, span


def is_key(name):
    config = config_lib.default()
    for part in name.split("."):
        if part not in config:
            return False
        config = config[part]
    return True


def resolve(name):
    """Imports a dotted name."""
    found = gan_jax
    for i, part in enumerate(parts := name.split(".")[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(["gan_jax", *parts[: i - 1]]))
        found = getattr(found, part)
    return found


# --- Commands -----------------------------------------------------------------------


class Command(NamedTuple):
    page: str
    words: tuple[str, ...]

    def __str__(self):
        return f"{self.page}: {' '.join(self.words)}"


def commands(page):
    for code in blocks(page, "sh"):
        for line in code.replace("\\\n", "").splitlines():
            for command in line.partition(" #")[0].split(" && "):
                if command.strip():
                    yield Command(page, tuple(shlex.split(command)))


# ml_collections loads config files in a way that a later Python will not have.
loads_configs = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
COMMANDS = [command for page in PAGES for command in commands(page)]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_checked(page):
    assert {language for language, _ in FENCE.findall(PAGES[page])} <= set(LANGUAGES)
    assert PAGES[page].count("```") == 2 * len(FENCE.findall(PAGES[page]))


def test_the_two_commands_of_readme():
    first, *_ = blocks("README.md", "sh")
    assert first.splitlines() == [
        "pip install -e . && python -m gan_jax.train --config=configs/mnist.py",
        "pip install -e '.[test]' && pytest",
    ]


@loads_configs
@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_names_what_exists(command, desk):
    desk(command.page)
    read(*command.words)


def read(program, *words):
    """Checks a command as far as it can be done without running it."""
    if program in OTHERS:
        assert " ".join(words).startswith(OTHERS[program])
        return
    if program.endswith(".sh"):
        assert (ROOT / program).is_file()
        file = ROOT / "gan_jax/train.py"  # to which it passes its flags on
    else:
        assert program == "python"
        if words[0] == "-m":
            words = [words[1].replace(".", "/") + ".py", *words[2:]]
        file, *words = ROOT / words[0], *words[1:]
    known = flags_of(file.read_text("utf-8"))
    for word in words:
        name = re.match(r"--(?:no)?([\w-]+)", word)
        assert name is None or name[1] in known or word[2:] in known, word
    if file.name == "check.py":
        (name, _), *_ = names.parse_calls(words[0])
        key = names.key_of(names.any_object("", name)) or "loss"
        builders = {"penalties": build_penalties, "step": build_step}
        builders.get(key, build_loss)(words[0])
    if any(word.startswith("--config=") for word in words):
        build_experiment(words)


def flags_of(source):
    """Returns the flags that the text of a command defines."""
    names = set(re.findall(r'DEFINE_\w+\(\s*"([\w-]+)"', source))
    shared = cli.RunFlags._fields if "cli.run_flags()" in source else ()
    return names | set(shared) | set(re.findall(r"cli\.(\w+)_flag\(\)", source))


def build_experiment(words):
    """Reads the config of a command as absl would, and builds its GAN."""
    words = ["x", *(word for word in words if word.startswith("--config"))]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file(
        "config", flag_values=values, sys_argv=words
    )
    values(words)
    config = holder.value
    config_lib.validate(config)
    known = ("archive", "folder", "hf", "stacked_mnist", "tfds", "volumes")
    if config.data.source in known:
        example = gan_jax.Images((config.image_size, config.image_size, 1))
        condition = gan_jax.Classes(10)
    elif config.data.source == "pairs":
        example = condition = gan_jax.Images((config.image_size, config.image_size, 3))
    elif config.data.source == "unpaired":
        side = config.image_size
        example = condition = gan_jax.Pair((2, side, side, 3))
    elif config.data.source in ("moving_mnist", "video"):
        example = gan_jax.Video((16, config.image_size, config.image_size, 3))
        condition = None
    else:
        if config.data.source == "midi":  # the packaged music stands for any folder's
            config.data.data_dir = ""
        info = data.load(config).info
        example, condition = info.example, info.condition
    return gan_jax.from_config(config, example, condition)


@loads_configs
@pytest.mark.parametrize(
    "wrong",
    [
        "python -m gan_jax.train --config=configs/no.py",
        "python -m gan_jax.train --config=configs/ring.py --config.lost=hinge",
        "python -m gan_jax.train --config=configs/ring.py --config.loss=hing",
        "python -m gan_jax.train --config=configs/ring.py --config.width=wide",
        "python -m gan_jax.sample --replay=DIR",
        "python -m gan_jax.trian --config=configs/ring.py",
        "cat README.md",
    ],
)
def test_a_command_with_a_mistake_is_found(wrong, desk):
    desk("adding.md")
    with pytest.raises(
        (AssertionError, AttributeError, OSError, UserError, flags.Error)
    ):
        read(*wrong.split())


# --- Python -------------------------------------------------------------------------


def test_python_blocks_are_python():
    for page in PAGES:
        for code in blocks(page, "python"):
            ast.parse(code)


def run(gan, batch):
    """Makes a state and one step of it."""
    state = jax.jit(gan_jax.init_state)(gan, jax.random.key(0))
    return jax.jit(gan_jax.train_step)(gan, state, batch)


SMALL = {"width": 8, "latent_size": 2}


def test_readmes_loss_is_a_loss(desk):
    desk("README.md")
    points = gan_jax.Points((2,))
    gan = gan_jax.build(points, model="mlp", loss="my_losses.py:pearson", **SMALL)
    check(gan, 4, make_mesh(1))
    # Its optimum at D = 0 on both sides: 1/2 + 1/2 for D, 0 for G.
    zeros = np.zeros(3)
    np.testing.assert_array_equal(gan.loss.d(zeros, zeros), 1)
    np.testing.assert_array_equal(gan.loss.g(zeros, zeros), 0)
    assert files("README.md")["my_losses.py"] in files("adding.md")["my_losses.py"]


def test_the_loss_and_the_penalty_of_adding_train(desk):
    desk("adding.md")
    gan = gan_jax.build(
        gan_jax.Points((2,)),
        model="mlp",
        loss="my_losses.py:tilted(k=2.0)",
        penalties="my_penalties.py:steady(decay=0.5, weight=0.2, every=2)",
        **SMALL,
    )
    check(gan, 4, make_mesh(1))
    assert gan.penalties[0].weight == 0.2
    state, metrics = run(gan, {"example": np.ones((4, 2), np.float32)})
    assert all(np.isfinite(x) for x in jax.device_get(metrics).values())
    # The logits of four equal points are one number l: its mean is remembered as l / 2.
    mean = float(state.memory["steady"]["mean"])
    assert mean != 0
    np.testing.assert_allclose(metrics["penalty_steady"], 2 * mean**2, rtol=1e-4)


def test_the_network_the_source_and_the_step_of_adding_train(desk):
    desk("adding.md")
    config = config_lib.default()
    config.data.source = "my_data.py"
    source = data.load(config)
    gan = gan_jax.build(
        source.info.example,
        source.info.condition,
        model="my_net.py",
        discriminator="depth=3",
        step="my_steps.py:watched",
        **SMALL,
    )
    check(gan, 4, make_mesh(1))
    batch = source.sample(jax.random.key(1), 4)
    np.testing.assert_allclose(np.linalg.norm(batch["example"], axis=1), 1, rtol=1e-5)
    state, metrics = run(gan, batch)
    assert state.step == 1
    assert metrics["g_move"] > 0
    images = gan_jax.build(gan_jax.Images((8, 8, 1)), model="my_net.py", **SMALL)
    check(images, 4, make_mesh(1))


def test_the_blocks_of_metrics_run():
    random = np.random.default_rng(0)
    names = {"real": random.normal(size=(20, 3)), "fake": random.normal(size=(20, 3))}
    for block in blocks("metrics.md", "python"):
        exec(block, names)
    assert np.isfinite([names[name] for name in ("distance", "mean", "recall")]).all()
    means = names["real"].mean(0), names["fake"].mean(0)
    assert names["gap"](names["real"], names["fake"]) == np.linalg.norm(
        means[0] - means[1]
    )


def test_the_metric_of_adding(desk):
    desk("adding.md")
    (spread,) = build_metrics("my_metrics.py:spread(power=1)")
    fake = np.array([[1.0, 0], [3, 0], [5, 5], [5, 11]])
    sides = {"fake_labels": np.array([0, 0, 1, 1])}
    found = spread.measure(Comparison(fake[:2], fake, **sides))
    assert found == {"spread": (2.0, pytest.approx(0.5**0.5))}
    with pytest.raises(UserError, match="needs samples with classes"):
        spread.measure(Comparison(fake, fake))


@pytest.mark.slow
def test_the_extractor_of_adding(desk):
    desk("adding.md")
    mine = load_extractor("my_features.py:thumbnails(size=2)")
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    assert extract(mine, [image]).features.tolist() == [[2.5, 4.5, 10.5, 12.5]]


@pytest.mark.slow
def test_the_notebook_page_runs_as_printed(monkeypatch, capsys):
    small = functools.partial(gan_jax.build, model="mlp", **SMALL)
    monkeypatch.setattr(gan_jax, "build", small)
    *shown, _ = blocks("notebook.md", "python")  # the last needs a run on disk
    plain, conditional, loop, players, judge, seeds, export = shown
    names = {}
    exec(plain, names)
    assert names["samples"].shape == (16, 28, 28, 1)
    assert names["samples"].dtype == np.uint8
    assert np.isfinite(jax.device_get(names["metrics"]["g_loss"]))
    exec(conditional, names)
    assert names["sevens"].shape == (16, 28, 28, 1)
    exec(loop, names)
    assert names["state"].step == 101
    assert len(capsys.readouterr().out.splitlines()) == 4
    exec(players, names)
    assert names["state"].step == 151
    assert np.isfinite([*map(float, capsys.readouterr().out.split())]).all()
    exec(judge, names)
    assert (names["real"].shape, names["fake"].shape) == ((128,), (16,))
    exec(seeds, names)
    found = jax.device_get(names["metrics"]["g_loss"])
    assert found.shape == (4,)
    assert len(set(found.tolist())) == 4
    exec(export, names)
    wanted = names["generator"](names["latents"], np.array([1, 2, 3]))
    np.testing.assert_array_equal(names["three"], wanted)


NOTEBOOK = ROOT / "docs" / "first_gan.ipynb"


def cells(kind):
    content = json.loads(NOTEBOOK.read_text("utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def test_the_finished_notebook_is_finished():
    assert NOTEBOOK.stat().st_size < 300_000
    assert [c["execution_count"] for c in cells("code")] == list(
        range(1, len(cells("code")) + 1)
    )
    outputs = [output for cell in cells("code") for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    text = "".join("".join(cell["source"]) for cell in cells("markdown"))
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link


@pytest.mark.slow
def test_the_finished_notebook_runs(monkeypatch, capsys):
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
    names = {}
    for cell in cells("code"):
        exec("".join(cell["source"]), names)
    assert names["state"].step == 500
    assert "D " in capsys.readouterr().out
    # Digits by class: on average closer to the mean of their class than to any other.
    data, samples = names["data"], np.float32(names["samples"])
    means = np.stack([data.examples[data.conditions == i].mean(0) for i in range(10)])
    found = samples.reshape(-1, 10, 28, 28, 1).mean(0)
    distances = np.square(found[:, None] - means[None]).mean((2, 3, 4))
    assert (distances.argmin(1) == np.arange(10)).sum() >= 8


def test_what_is_shown_of_a_run_on_disk_runs(monkeypatch):
    gan = gan_jax.build(gan_jax.Points((2,)), model="mlp", **SMALL)
    state = jax.jit(gan_jax.init_state)(gan, jax.random.key(0))
    signature = inspect.signature(gan_jax.load)

    def load(*args, **kwargs):
        assert signature.bind(*args, **kwargs).arguments["replica"] == 2
        return gan, state

    monkeypatch.setattr(gan_jax, "load", load)
    shown = [
        (page, code)
        for page in PAGES
        for code in blocks(page, "python")
        if "gan_jax.load(" in code
    ]
    assert {page for page, _ in shown} == {"adding.md", "notebook.md"}
    for _, code in shown:
        names = {"gan_jax": gan_jax, "jax": jax}
        exec(code, names)
        assert names["samples"].shape == (2500, 2)


@pytest.mark.slow
def test_the_page_of_exports_runs_as_printed(tmp_path, monkeypatch):
    space, config = gan_jax.Images((28, 28, 1)), config_lib.default()
    config.update(model="mlp", width=2)
    gan = gan_jax.from_config(config, space, None)
    state = jax.jit(gan_jax.init_state)(gan, jax.random.key(0))
    info = Info(
        name="x", example=space, condition=None, num_examples=1, fingerprint="x"
    )
    run = workdir.describe(config, info)
    exported.write(tmp_path / "GENERATOR", gan, state, run, 0)
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks("export.md", "python"):
        exec(code, names)
    assert names["path"].shape == (8, 28, 28, 1)
    assert names["samples"].shape == (16, 28, 28, 1)
    wanted = names["generator"].generate(names["latents"])
    np.testing.assert_allclose(np.int32(names["samples"]), np.int32(wanted), atol=1)


# --- Tables -------------------------------------------------------------------------


def ours():
    """Returns every public loss, term and step, by name."""
    return {
        name: value
        for module in (losses, targets, penalties, augment, dynamics)
        for name, value in vars(module).items()
        if isinstance(value, losses.Loss | Term) and not name.startswith("_")
    }


@pytest.mark.parametrize("name", ours())
def test_every_objective_is_named_with_its_settings(name):
    table = [row for row in rows(PAGES["objectives.md"]) if len(row) > 1]
    named = [row for row in table if name in re.findall(r"\w+", row[0])]
    assert named, f"{name} has no row"
    found = {}
    for span in spans(" | ".join(named[0])):
        settings = re.fullmatch(r"\w+\((.*)\)", span) or [None, span]
        if re.search(r"\w=", settings[1]):
            found |= dict.fromkeys(re.findall(r"(\w+)=", settings[1]))
            try:
                found |= parse_keywords(settings[1])
            except UserError:  # `ratio=`, a name alone
                continue
    value = ours()[name]
    for setting in getattr(value, "setting_names", ()):
        assert setting in found, f"the row of {name} lacks {setting}"
        default = inspect.signature(value.function).parameters[setting].default
        if found[setting] is not None:
            want = list(default) if isinstance(default, tuple) else default
            assert found[setting] == want, setting


def test_the_table_of_coverage_has_every_loss():
    text = section("objectives.md", "What the losses cover")
    table = re.search(
        r"<!-- (\S+ --table=ring): start -->(.*)<!-- \1: end -->", text, re.DOTALL
    )[2]
    named = {re.match(r"`(\w+)", row[0])[1] for row in rows(table)[1:]}
    found = {n for n, x in ours().items() if isinstance(x, losses.Loss | Family)}
    assert found == named
    shown = rows(section("README.md", "Measure it"))
    assert all(row in rows(table) for row in shown)
    assert len(shown) == 4


def test_the_table_of_metrics_says_what_is_better():
    table = rows(section("metrics.md", "Measure a run"))
    ends = [i for i, row in enumerate(table) if "=`" in row[0]]  # headers
    table = table[1 : ends[1]]
    ours = {name for name, x in vars(named).items() if isinstance(x, Metric)}
    assert ours == {name for cell, *_ in table for name in spans(cell)}
    for cell, *cells in table:
        (name,) = spans(cell)
        (metric,) = build_metrics(name)
        found = {"↓": [], "↑": []}
        for text, arrow in re.findall("([^↓↑]*)([↓↑])", " ".join(cells)):
            found[arrow] += [n for n in spans(text) if "=" not in n] or [name]
        assert (found["↓"], found["↑"]) == ([*metric.lower], [*metric.higher])


def test_every_config_is_listed_and_states_its_command():
    for path in (ROOT / "configs").glob("*.py"):
        assert f"`{path.name}`" in PAGES["configs.md"]
        command = f"python -m gan_jax.train --config=configs/{path.name}"
        assert command in ast.get_docstring(ast.parse(path.read_text("utf-8")))


TIPS = [row for row in rows(PAGES["tips.md"]) if row[0][0].isdigit()]


def test_all_seventeen_tips_are_answered():
    assert [int(tip.split(".")[0]) for tip, _ in TIPS] == list(range(1, 18))


@pytest.mark.parametrize("line", [line for _, line in TIPS])
def test_the_line_of_a_tip_is_a_config_that_can_be_trained(line):
    snippets = [code for code in spans(line) if "=" in code]
    assert snippets or any(w in line for w in ("none is offered", "default", "guard"))
    for snippet in snippets:
        config = config_lib.default()
        config.conditional = "conditioning" in snippet
        for key, value in (word.split("=", 1) for word in shlex.split(snippet)):
            if value:
                kind = type(config[key])
                config[key] = value == "True" if kind is bool else kind(value)
        classes = gan_jax.Classes(3) if config.conditional else None
        gan = gan_jax.from_config(config, gan_jax.Images((8, 8, 1)), classes)
        check(gan, 8, make_mesh(1))
