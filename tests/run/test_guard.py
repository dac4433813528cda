"""Guards: NaN and infinity, collapse, rolling back, dumps and their replay."""

import json
import os
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import ROOT, assert_same_run, config_of, records, states_of

from gan_jax import data, from_config
from gan_jax.algorithm.keys import purpose_key
from gan_jax.algorithm.replicas import root_keys
from gan_jax.algorithm.spaces import Classes, Points
from gan_jax.data.feed import open_feed
from gan_jax.data.source import Info, InMemory
from gan_jax.devices import mesh as devices
from gan_jax.errors import Stopped, UserError
from gan_jax.run import alarms, dumps, workdir
from gan_jax.run.checkpoint import Checkpoints
from gan_jax.run.training import train

SHORT = {"log_every": 2, "sample_every": 4, "checkpoint_every": 2, "num_steps": 8}


def trap(tmp_path, *places):
    """A penalty that is NaN if (step, stream of noise) is one of `places`.

    It knows them by its key, which is a function of them.
    """
    variates = []
    for step, stream in places:
        purpose = "penalty/trap" + (f"/{stream}" if stream else "")
        key = jax.random.fold_in(purpose_key(jax.random.key(0), step - 1, purpose), 0)
        variates.append(float(jax.random.uniform(key)))
    path = tmp_path / f"trap{zlib.crc32(repr(places).encode())}.py"
    path.write_text(
        "import jax, jax.numpy as jnp\n"
        "def trap(critic, real, fake, key):\n"
        f"    hit = (jax.random.uniform(key) == jnp.array({variates})).any()\n"
        "    return jnp.sqrt(jnp.where(hit, -1, 1) * (1 + critic(fake) ** 2))\n"
    )
    return f"{path}:trap"


def test_a_rejected_step_is_dumped_and_replayed(tmp_path, forks):
    penalty, path = trap(tmp_path, (5, 0)), tmp_path / "run"
    with pytest.raises(Stopped) as stop:
        train(config_of("ring", **SHORT, penalties=penalty), path)
    assert stop.value.status == 3
    why = str(stop.value)
    assert (
        "penalty_trap is not finite at step 5: the discriminator's update would" in why
    )
    assert "put NaN or infinity into d/params/Dense_0/bias, one of 6 of its 6" in why
    replay = (
        f"(replay it: the same command with --replay={path}/guard/000005); a smaller"
    )
    assert replay in why
    assert Checkpoints(path / "checkpoints").latest() == 4
    dump = path / "guard" / "000005"
    assert [p.name for p in path.joinpath("guard").iterdir()] == ["000005"]
    about = json.loads((dump / "config.json").read_text())
    assert (about["step"], about["noise_stream"]) == (5, 0)

    # Its config names the user's code, which is only loaded if it is given too.
    status, out, err = forks("train", f"--replay={dump}")
    assert (status, out) == (2, "")
    assert "uses its own code (penalties: " in err
    relative = os.path.relpath(penalty, ROOT)
    given = {**SHRUNK, **SHORT, "penalties": relative}
    args = [f"--config.{key}={value}" for key, value in given.items()]
    status, out, err = forks(
        "train", f"--replay={dump}", "--config=configs/ring.py", *args
    )
    assert status == 3, err
    assert "penalty_trap nan" in out
    assert f"it arises here: {penalty.partition(':')[0]}:4:" in err
    assert "FloatingPointError: invalid value (nan) encountered in sqrt" in err
    other = [*args, "--config.width=5"]
    status, _, err = forks(
        "train", f"--replay={dump}", "--config=configs/ring.py", *other
    )
    assert (status, "another config (width: 4 -> 5)" in err) == (2, True)


@pytest.mark.slow
def test_the_batch_of_a_stream_is_dumped(tmp_path, images):
    """The chunk after the one that fails is on its way by then, with other data."""
    how = {**SHORT, "chunk": 1, "log_every": 4, "checkpoint_every": 4, "image_size": 8}
    how |= {"data.data_dir": str(images), "data.resident_mb": 0}
    path = tmp_path / "run"
    with pytest.raises(
        Stopped, match="at step 2: the discriminator's update would put"
    ):
        train(config_of("folder", **how, penalties=trap(tmp_path, (2, 0))), path)
    with np.load(path / "guard" / "000002" / "arrays.npz") as arrays:
        assert arrays["state/step"] == 1
        dumped = arrays["batch/example"]
    config = config_of("folder", **how)
    mesh = devices.make_mesh()
    feed = open_feed(data.load(config), config, root_keys(0, 1), 1, mesh)
    np.testing.assert_array_equal(dumped, feed.at(1, 1).batches["example"][0, 0, 0])


@pytest.mark.slow
def test_a_replay_of_a_sound_step_rejects_nothing(tmp_path):
    """A dump of a step that is not rejected, made by hand."""
    config, path = config_of("ring", **SHORT), tmp_path / "run"
    train(config, path)
    (state,) = states_of(path)
    about, folder = workdir.read(path), tmp_path / "guard" / "000009"
    gan = from_config(config, Points((2,)), None)
    state = state.replace(key=jax.random.key(0))
    batch = {"example": jnp.ones((4, 2))}
    dumps.Dumper(folder.parent, about).dump(gan, state, batch, 9)
    assert dumps.replay(folder) == 0
    (folder / "arrays.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="is damaged"):
        dumps.replay(folder)


@pytest.mark.slow
def test_rolls_back_takes_other_noise_and_resumes_as_if_not_stopped(tmp_path, capfd):
    """The trap at (5, 0) is not met again, and that at (7, 1) only with new noise."""
    how = {**SHORT, "guard.action": "rollback", "sample_every": 2}
    how |= {"penalties": trap(tmp_path, (5, 0), (7, 1))}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(config_of("ring", **how), whole).step == 8
    err = capfd.readouterr().err
    assert "penalty_trap is not finite at step 5" in err
    assert "; rolling back to step 4" in err
    assert "penalty_trap is not finite at step 7" in err
    assert "; rolling back to step 6" in err
    assert [r["step"] for r in records(whole)] == [2, 4, 6, 8]

    train(config_of("ring", **{**how, "num_steps": 4}), parts)  # before any trap
    assert [r["d_loss"] for r in records(parts)] == [
        r["d_loss"] for r in records(whole)[:2]
    ]
    train(config_of("ring", **{**how, "num_steps": 6}), parts)
    train(config_of("ring", **how), parts)
    assert_same_run(whole, parts)


@pytest.mark.slow
def test_rolls_back_to_the_start_and_at_most_so_often(tmp_path, capfd):
    places = [(1, stream) for stream in range(9)]
    how = {**SHORT, "guard.action": "rollback", "guard.rollbacks": 1}
    with pytest.raises(Stopped, match=r"step 1: .*; rolled back 1 times$") as stop:
        train(
            config_of("ring", **how, penalties=trap(tmp_path, *places)),
            tmp_path / "run",
        )
    assert stop.value.status == 3
    assert capfd.readouterr().err.count("; rolling back to step 0") == 1


# A discriminator that hardly moves: G finds the one image that it likes best.
COLLAPSING = {
    "guard.modes": 0.0,
    "data.source": "packaged",
    "image_size": 8,
    "width": 32,
    "batch_size": 32,
    "penalties": "",
    "d_optimizer": "adam(learning_rate=1e-6)",
    "optimizer": "adam(learning_rate=5e-3)",
    "log_every": 20,
    "sample_every": 20,
    "checkpoint_every": 20,
    "num_steps": 300,
}
HEALTHY = {**COLLAPSING, "d_optimizer": "", "penalties": "r1"}
ALARM = "had less than 0.1 of the diversity of the data"


@pytest.mark.slow
def test_a_collapse_is_noticed(tmp_path, capfd):
    replicas = 2
    train(config_of("mnist_mlp", **COLLAPSING, replicas=replicas), tmp_path / "warned")
    assert capfd.readouterr().err.count(ALARM) == replicas
    train(config_of("mnist_mlp", **HEALTHY, replicas=replicas), tmp_path / "healthy")
    assert ALARM not in capfd.readouterr().err
    for name, low in (("warned", True), ("healthy", False)):
        last = records(tmp_path / name)[-1]
        assert (np.max(last["diversity"]) < 0.1) == low


@pytest.mark.slow
def test_a_collapse_stops_or_rolls_back(tmp_path, capfd):
    how = {**COLLAPSING, "guard.collapse": "stop"}
    with pytest.raises(Stopped, match=rf"^alarm at step \d+: .*{ALARM}") as stop:
        train(config_of("mnist_mlp", **how), tmp_path / "stopped")
    assert stop.value.status == 3
    assert records(tmp_path / "stopped")[-1]["alarms"] == ["low_diversity"]
    how |= {"guard.collapse": "rollback", "guard.rollbacks": 1, "keep_checkpoints": 9}
    with pytest.raises(Stopped, match=r"rolled back 1 times"):
        train(config_of("mnist_mlp", **how), tmp_path / "back")
    (line,) = (x for x in capfd.readouterr().err.splitlines() if "rolling back" in x)
    stopped, back = (int(x) for x in (line.split()[3][:-1], line.split()[-1]))
    assert 0 < back <= stopped - 60  # before the first of three low grids


def test_low_diversity_counts_grids_in_a_row():
    config = config_of("ring", **{"guard.patience": 2, "num_steps": 100})
    random = np.random.default_rng(0)
    watch = alarms.Alarms(config, data.load(config))
    wide = random.normal(size=(2, 100, 2))
    narrow = np.stack([wide[0], 0.01 * wide[1]])
    for examples, due in ((narrow, 0), (wide, 0), (narrow, 0), (narrow, 1)):
        healthy, collapsed = watch.measure(1, examples)["diversity"]
        assert healthy > 0.3
        assert (collapsed < 0.1) == (examples is narrow)
        assert not watch.active(0)
        assert list(watch.active(1)) == ["low_diversity"] * due
    assert ALARM in watch.active(1)["low_diversity"]


def test_lost_modes_count_after_the_first_fifth_of_a_run():
    config = config_of("ring", **{"guard.patience": 2, "num_steps": 100})
    source = data.load(config)
    watch = alarms.Alarms(config, source)
    points = np.stack([np.resize(source.centres[:n], (12, 2)) for n in (3, 4)])
    for step, due in ((10, 0), (20, 0), (30, 0), (40, 1)):
        found = watch.measure(step, points)
        assert (found["modes"], found["quality"]) == ([3, 4], [1, 1])
        assert list(watch.active(0)) == ["lost_modes"] * due
        assert not watch.active(1)


RECORD = {"d_real": 0.5, "d_fake": 0.5, "d_loss": 1, "g_loss": 1}
RECORD |= {"d_grad_norm": 1, "g_grad_norm": 1, "d_accuracy": 0.4}


def see(watch, **first):
    """Shows a record whose first replica differs from a healthy second one."""
    watch.see({key: [first.get(key, x), x] for key, x in RECORD.items()})


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ({"g_grad_norm": 0}, "vanished_g"),
        ({"d_grad_norm": 1e-8}, "vanished_d"),
        ({"d_loss": -2e5}, "exploded"),
        ({"g_loss": 2e5}, "exploded"),
        ({"g_grad_norm": 2e5}, "exploded"),
        ({"d_grad_norm": 2e5}, "exploded"),
    ],
)
def test_a_failing_game_raises_an_alarm_after_three_lines(first, name):
    watch = alarms.Alarms(config_of("ring"), None)
    for line, due in ((first, 0), ({}, 0), (first, 0), (first, 0), (first, 1), ({}, 0)):
        see(watch, **line)
        assert list(watch.active(0)) == [name] * due
        assert not watch.active(1)


def test_a_discriminator_that_prefers_samples_raises_an_alarm():
    watch = alarms.Alarms(config_of("ring", **{"guard.saturation": 2}), None)
    for accuracy, due in ((0.05, 0), (0.3, 0), (0.0, 0), (0.05, 1)):
        see(watch, d_accuracy=accuracy)
        assert list(watch.active(0)) == ["inverted"] * due


def test_a_critic_is_never_saturated():
    watch = alarms.Alarms(config_of("ring", **{"guard.saturation": 1}), None)
    critic = {"critic_real": 9, "critic_fake": -9, **RECORD}
    watch.see({k: [x] for k, x in critic.items() if k not in ("d_real", "d_fake")})
    assert not watch.active(0)


def test_classes_of_samples_are_those_of_their_neighbours():
    config = config_of("mnist_mlp", **{"data.source": "packaged"})
    source = data.load(config)
    reference = alarms.Reference(source)
    of_class = {label: np.flatnonzero(source.conditions == label) for label in (3, 7)}
    samples = np.concatenate([source.examples[of_class[7][:6]]] * 3)
    samples[:6] = source.examples[of_class[3][:6]]
    found = reference.measure(samples)
    assert found["classes"] == 2
    assert (found["share_3"], found["share_7"]) == pytest.approx((1 / 3, 2 / 3))
    assert reference.covered(found) == 0.2
    assert sum(found[f"share_{i}"] for i in range(10)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ((), ["share_0", "share_1"]),
        (("cat", "T-shirt/top"), ["share_cat", "share_T-shirt_top"]),
        (("a b", "a/b"), ["share_0", "share_1"]),  # alike, once they are safe
        (("a", "?"), ["share_0", "share_1"]),
    ],
)
def test_shares_of_classes_have_their_names(names, keys):
    points = np.repeat([0.0, 9.0], 50)[:, None].astype(np.float32)
    about = {"name": "x", "num_examples": 100, "fingerprint": ""}
    info = Info(example=Points((1,)), condition=Classes(2, names), **about)
    source = InMemory(info, points, np.repeat([0, 1], 50).astype(np.int32))
    found = alarms.Reference(source).measure(points[:80])
    assert [found[key] for key in keys] == pytest.approx([5 / 8, 3 / 8])
    assert [*found] == ["diversity", "classes", *keys]


def test_no_classes_where_neighbours_do_not_tell_them():
    config = config_of("mnist_mlp", **{"data.source": "packaged"})
    source = data.load(config)
    random = np.random.default_rng(0)
    source.conditions = random.permutation(source.conditions)
    found = alarms.Reference(source).measure(source.examples[:20])
    assert list(found) == ["diversity"]


def test_saturation_counts_lines_in_a_row():
    watch = alarms.Alarms(config_of("ring", **{"guard.saturation": 3}), None)
    for gap, due in ((1, 0), (1, 0), (0.5, 0), (0.99, 0), (1, 0), (0.985, 1), (1, 1)):
        see(watch, d_real=gap, d_fake=0.0)
        assert list(watch.active(0)) == ["saturated"] * due
        assert not watch.active(1)


def test_spread_is_the_distance_of_two_examples():
    random = np.random.default_rng(0)
    points = random.normal(size=(400, 3, 2))
    pairs = points[:, None] - points[None]
    mean = np.square(pairs).sum((2, 3)).mean()
    assert alarms.spread(points) == pytest.approx(np.sqrt(mean), rel=1e-6)
    assert alarms.spread(np.ones((5, 4, 4, 1), np.uint8)) == 0


SHRUNK = {"batch_size": 4, "width": 4}
