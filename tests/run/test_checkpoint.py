"""What can happen to checkpoints: damage, other formats, full disks."""

import json
import shutil
import types
import zlib
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from gan_jax.algorithm.state import Player, TrainState
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError
from gan_jax.run.checkpoint import FORMAT, Checkpoints, NotSaved

RANDOM = np.random.default_rng(0)


def player(width=64):
    kernel = RANDOM.normal(size=(width, width)).astype(np.float32)
    params = {"Dense_0": {"kernel": kernel, "bias": kernel[0]}}
    # Linen's SpectralNorm has names with a slash.
    return Player(params, {"Dense_0/kernel/u": kernel[:1]}, (np.int32(7), params))


def example(replicas=1):
    """Returns a state, with leaves `[replicas, ...]`."""
    ema, memory = {"params": player().params}, {"lecam": {"real": np.float32(0.5)}}
    state = TrainState(np.int32(0), np.uint32(0), player(), player(), ema, memory)
    state = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * replicas), state)
    return state.replace(key=jax.vmap(jax.random.key)(jnp.arange(replicas)))


@pytest.fixture(scope="module")
def state():
    return example()


def like_of(state, how="replicated", memory=True):
    mesh = sharding.make_mesh(replicas=len(state.step))
    like = sharding.placed(state, sharding.shardings(state, mesh, how))
    return like if memory else like.replace(memory=None)


@pytest.fixture
def like(state):
    return like_of(state)


def moved(state, step):
    """Returns another state, which differs by its step."""
    shift = jax.tree.map(lambda x: x + step, state.g.params)
    step = jnp.full_like(state.step, step)
    return state.replace(step=step, g=state.g.replace(params=shift))


def assert_equal(a, b):
    a, b = (s.replace(key=jax.random.key_data(s.key)) for s in (a, b))
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def three(tmp_path_factory, state):
    """Three checkpoints."""
    folder = tmp_path_factory.mktemp("three") / "checkpoints"
    checkpoints = Checkpoints(folder, 3)
    for step in (1, 2, 3):
        checkpoints.save(moved(state, step), step, {"of": step})
    checkpoints.close()
    return folder


@pytest.fixture
def folder(three, tmp_path):
    return shutil.copytree(three, tmp_path / "checkpoints")


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_is_saved_is_restored(replicas, tmp_path):
    state = moved(example(replicas), 5)
    checkpoints = Checkpoints(tmp_path, 3)
    checkpoints.save(state, 5, {})
    checkpoints.close()
    like = like_of(state, memory=False)
    saved = Checkpoints(tmp_path).restore(like)
    assert_equal(saved.state, state)
    for found, wanted in zip(
        jax.tree.leaves(saved.state), jax.tree.leaves(like_of(state)), strict=True
    ):
        assert found.sharding == wanted.sharding
        assert found.dtype == wanted.dtype
    # What was read may be given up to a step.
    add = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s.g), donate_argnums=0)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, b + 1),
        add(saved.state),
        state.g,
    )


def test_the_format_is_that_of_a_run_without_replicas(folder, state):
    """A run of one has no axis on disk, where other versions read and write it too."""
    file = folder / "3" / "_CHECKPOINT_METADATA"
    about = json.loads(json.loads(file.read_text())["custom_metadata"]["text"])
    assert (about["format"], about["carried"]) == (1, {"of": 3})
    arrays, g = about["arrays"], moved(state, 3).g.params["Dense_0"]
    kernel = zlib.crc32(np.asarray(g["kernel"][0]))
    assert arrays["g/params/Dense_0/kernel"] == [[64, 64], kernel]
    assert arrays["step"] == [[], zlib.crc32(np.int32(3))]
    key = np.asarray(jax.random.key_data(state.key))
    assert arrays["key"] == [[], zlib.crc32(key)]
    assert arrays["g/opt/0"] == [[], zlib.crc32(np.int32(7))]
    assert arrays["memory/lecam/real"] == [[], zlib.crc32(np.float32(0.5))]

    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        found = reader.restore(folder / "3" / "default")
    np.testing.assert_array_equal(
        found["g"]["params"]["Dense_0"]["kernel"], g["kernel"][0]
    )
    assert found["step"].shape == ()


def test_restores_into_shardings(folder, state):
    devices = jax.devices()
    mesh = jax.sharding.Mesh(np.array(devices).reshape(1, -1), ("replica", "data"))
    spec = NamedSharding(mesh, PartitionSpec("replica"))
    like = sharding.placed(state, jax.tree.map(lambda _: spec, state))
    restored = Checkpoints(folder).restore(like).state
    assert_equal(restored, moved(state, 3))
    assert restored.g.params["Dense_0"]["kernel"].sharding == spec


def largest(folder):
    return max(
        (p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )


def truncate(checkpoint):
    file = largest(checkpoint)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(checkpoint):
    """Flips a bit in the middle of the numbers."""
    file = largest(checkpoint)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def remove(checkpoint):
    largest(checkpoint).unlink()


def empty(checkpoint):
    for path in checkpoint.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def lie(checkpoint):
    """Changes the description, in a way that is still JSON."""
    file = checkpoint / "_CHECKPOINT_METADATA"
    text = file.read_text()
    file.write_text(text.replace('"of\\": 3', '"of\\": 4'))
    assert file.read_text() != text


def forget(checkpoint):
    (checkpoint / "_CHECKPOINT_METADATA").unlink()


DAMAGES = [truncate, flip, remove, empty, lie, forget]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_set_aside_and_the_one_before_is_used(
    damage, folder, like, capfd, state
):
    damage(folder / "3")
    checkpoints = Checkpoints(folder, 3)
    saved = checkpoints.resume(like)
    assert (saved.step, saved.carried) == (2, {"of": 2})
    assert_equal(saved.state, moved(state, 2))
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]
    assert (folder.parent / "damaged" / "3.0").is_dir()
    err = capfd.readouterr().err  # also what other threads print
    assert err.count("\n") == 2
    assert "the checkpoint of step 3 in" in err
    assert ": the one of step 2 is used" in err
    assert "moved the checkpoint of step 3 in" in err
    checkpoints.save(moved(state, 3), 3, {"of": 3})  # its number is free
    checkpoints.close()
    assert Checkpoints(folder).restore(like).step == 3


def test_every_bit_of_the_numbers_counts(folder, like):
    """A flip anywhere is either detected or harmless."""
    file, random = largest(folder / "3"), np.random.default_rng(0)
    undamaged = file.read_bytes()
    for at in random.integers(0, len(undamaged), 25):
        data = bytearray(undamaged)
        data[at] ^= 1 << int(random.integers(8))
        file.write_bytes(data)
        saved = Checkpoints(folder).restore(like)
        wanted = Checkpoints(folder).restore(like, saved.step).state
        assert saved.step in (2, 3)
        if saved.step == 3:
            expected = jax.tree.leaves(wanted.g.params)
            found = jax.tree.leaves(saved.state.g.params)
            jax.tree.map(np.testing.assert_array_equal, found, expected)
            assert saved.state.step == 3


def test_with_none_usable_nothing_is_moved(folder, like):
    for step in "123":
        flip(folder / step)
    before = sorted(p for p in folder.parent.rglob("*"))
    with pytest.raises(
        UserError, match=r"step 3 .* is damaged .*; .*step 1 .* is damaged"
    ):
        Checkpoints(folder, 3).resume(like)
    assert sorted(p for p in folder.parent.rglob("*")) == before


def test_reading_leaves_damage_where_it_is(folder, like):
    flip(folder / "3")
    before = sorted(p for p in folder.parent.rglob("*"))
    assert Checkpoints(folder).restore(like).step == 2
    with pytest.raises(
        UserError, match=r"step 3 .* is damaged .*choose another --step"
    ):
        Checkpoints(folder).restore(like, 3)
    assert sorted(p for p in folder.parent.rglob("*")) == before


def test_another_format_is_refused(folder, like):
    file = folder / "3" / "_CHECKPOINT_METADATA"
    content = json.loads(file.read_text())
    text = json.loads(content["custom_metadata"]["text"]) | {"format": FORMAT + 1}
    text = json.dumps(text)
    about = {"text": text, "checksum": zlib.crc32(text.encode())}
    file.write_text(json.dumps(content | {"custom_metadata": about}))
    with pytest.raises(
        UserError, match=rf"format {FORMAT + 1}, and this version reads {FORMAT}"
    ):
        Checkpoints(folder, 3).resume(like)


def test_a_save_that_fails_leaves_the_others(folder, like, state, monkeypatch):
    from orbax.checkpoint import CheckpointManager

    def full(*args, **how):
        raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(folder, 3)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "save", full)
        with pytest.raises(NotSaved, match="No space left"):
            checkpoints.save(moved(state, 4), 4, {"of": 4})
    assert Checkpoints(folder).restore(like).step == 3
    checkpoints.save(moved(state, 5), 5, {"of": 5})
    checkpoints.close()
    assert Checkpoints(folder).restore(like).carried == {"of": 5}


def test_a_spare_state_must_fit(tmp_path, state, monkeypatch):
    """So that the best checkpoint leaves room for the next of the run."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + 2**18
    disk = types.SimpleNamespace(free=2 * size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: disk)
    for name, spare in (("checkpoints", 0), ("best", 1)):
        checkpoints = Checkpoints(tmp_path / name, 1, spare)
        with pytest.raises(NotSaved, match="No space") if spare else nullcontext():
            checkpoints.save(state, 1, {})
        checkpoints.close()
        assert checkpoints.latest() == (None if spare else 1)
    disk.free += 1
    checkpoints.save(state, 1, {})
    checkpoints.close()
    assert checkpoints.latest() == 1


def test_what_a_kill_left_of_a_save_is_cleared(folder, like, state):
    (folder / "4.orbax-checkpoint-tmp").mkdir()
    checkpoints = Checkpoints(folder, 3)
    assert checkpoints.resume(like).step == 3
    checkpoints.save(moved(state, 4), 4, {})
    checkpoints.close()
    assert sorted(p.name for p in folder.iterdir()) == ["2", "3", "4"]


def test_rolls_back_to_the_newest_good_one(folder, like):
    checkpoints = Checkpoints(folder, 3)
    assert checkpoints.roll_back(lambda carried: carried["of"] < 2)
    assert checkpoints.resume(like).step == 1
    assert not checkpoints.roll_back(lambda carried: False)
    assert checkpoints.latest() == 1
    assert Checkpoints(folder / "none", 3).roll_back(lambda carried: False)
