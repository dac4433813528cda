"""The sources and the commands of docs/your-own-data.md."""

import functools
import importlib.util
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from gan_jax import config as config_lib
from gan_jax import data
from gan_jax.algorithm.spaces import Classes
from gan_jax.data.feed import open_feed
from gan_jax.devices import mesh as sharding

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your-own-data.md").read_text()
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = re.findall(
    r"```sh\npython -m gan_jax\.train (.*)\n```", PAGE.replace("\\\n", "")
)
KEYS = jax.random.key(0)[None]


def configure(tmp_path, command):
    """Returns the config of a command on the page, its file written to a folder."""
    keys = dict(part.removeprefix("--").split("=", 1) for part in command.split())
    path = ROOT / keys.pop("config")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config, name = module.get_config(), keys["config.data.source"]
    (tmp_path / name).write_text(FILES[name])
    keys["config.data.source"] = str(tmp_path / name)
    words = {"True": True, "False": False}
    config.update_from_flattened_dict(
        {key.removeprefix("config."): words.get(x, x) for key, x in keys.items()}
    )
    config_lib.validate(config)
    return config


def test_the_page_has_a_command_for_each_file():
    assert list(FILES) == ["moons.py", "clips.py", "circles.py"]
    named = [re.search(r"data\.source=(\S+)", command)[1] for command in COMMANDS]
    assert named == list(FILES)


@functools.partial(jax.jit, static_argnums=1)
def batches(feed, n):
    window = jax.vmap(lambda feed: feed.window(np.int32(0), n), (feed.axes,), 1)(feed)
    batch = jax.vmap(lambda feed, drawn: feed.batch(drawn), (feed.axes, 0))
    return jax.vmap(batch, (None, 0))(feed, window)


@pytest.mark.parametrize("command", COMMANDS, ids=FILES)
def test_a_source_is_loaded_and_fed(tmp_path, command):
    config = configure(tmp_path, command)
    config.log_every = 1  # a stream reads so far ahead
    source = data.load(config)
    for conditional in (False, True):
        config.conditional = conditional
        feed = open_feed(source, config, KEYS, 0, sharding.make_mesh()).at(0, 2)
        shapes = jax.eval_shape(lambda feed: batches(feed, 2), feed)
        spaces = {"example": source.info.example}
        if conditional:
            spaces["condition"] = source.info.condition
        assert shapes.keys() == spaces.keys()
        for key, space in spaces.items():
            assert shapes[key].shape == (2, 1, config.batch_size, *space.shape)
            assert shapes[key].dtype == space.stored_dtype
    got = jax.tree.map(np.asarray, batches(feed, 2))
    assert isinstance(source.info.condition, Classes)
    assert set(got["condition"].ravel()) == set(
        range(source.info.condition.num_classes)
    )
    assert (
        len(np.unique(got["example"].reshape(2 * config.batch_size, -1), axis=0)) > 40
    )


def test_the_clips_move():
    scope = {}
    exec(FILES["clips.py"], scope)
    clip = scope["Clips"]()[1]["example"][..., 0].astype(int)  # down
    assert clip.max() == 255
    np.testing.assert_array_equal(clip[1:], np.roll(clip[:-1], 2, 1))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=FILES)
def test_a_command_trains(tmp_path, command):
    from gan_jax.run.training import train

    config = configure(tmp_path, command)
    config.update_from_flattened_dict(
        {
            **{"num_steps": 2, "log_every": 1, "sample_every": 2},
            **{"checkpoint_every": 2, "batch_size": 8, "width": 8},
        }
    )
    train(config, tmp_path / "run")
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    source = data.load(config)
    assert written["data"]["name"] == source.info.name
    assert written["data"]["example"]["shape"] == list(source.info.example.shape)
    assert list((tmp_path / "run" / "samples").iterdir())
