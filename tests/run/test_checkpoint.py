"""What befalls checkpoints: damage, other formats, full disks."""

import json
import shutil
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax
from gan_jax.devices import mesh as sharding
from gan_jax.errors import UserError
from gan_jax.run.checkpoint import FORMAT, Checkpoints, NotSaved

POINTS = {"shape": (2,), "model": "mlp", "width": 64, "latent_size": 2}


@pytest.fixture(scope="module")
def state():
    gan = gan_jax.build(**POINTS)
    return jax.jit(gan_jax.init_state)(gan, jax.random.key(0))


@pytest.fixture
def like(state):
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return sharding.placed(
        jax.eval_shape(lambda: state), jax.tree.map(lambda _: device, state)
    )


def moved(state, step):
    """Another state, told by its step."""
    shift = jax.tree.map(lambda x: x + step, state.g.params)
    return state.replace(step=jnp.int32(step), g=state.g.replace(params=shift))


@pytest.fixture
def folder(tmp_path, state):
    """Three checkpoints."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", 3)
    for step in (1, 2, 3):
        checkpoints.save(moved(state, step), step, {"of": step})
    checkpoints.close()
    return tmp_path / "checkpoints"


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
    """Changes what it says of itself, in a way that is still JSON."""
    file = checkpoint / "_CHECKPOINT_METADATA"
    text = file.read_text()
    file.write_text(text.replace('"of\\": 3', '"of\\": 4'))
    assert file.read_text() != text


def forget(checkpoint):
    (checkpoint / "_CHECKPOINT_METADATA").unlink()


DAMAGES = [truncate, flip, remove, empty, lie, forget]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_set_aside_and_the_one_before_is_used(
    damage, folder, like, capsys, state
):
    damage(folder / "3")
    checkpoints = Checkpoints(folder, 3)
    saved = checkpoints.resume(like)
    assert (saved.step, saved.carried) == (2, {"of": 2})
    wanted = moved(state, 2)
    jax.tree.map(
        np.testing.assert_array_equal,
        saved.state.replace(key=jax.random.key_data(saved.state.key)),
        wanted.replace(key=jax.random.key_data(wanted.key)),
    )
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]
    assert (folder.parent / "damaged" / "3.0").is_dir()
    err = capsys.readouterr().err
    assert "the checkpoint of step 3 in" in err
    assert ": the one of step 2 is used" in err
    assert "moved the checkpoint of step 3 in" in err
    checkpoints.save(moved(state, 3), 3, {"of": 3})  # it can be made again
    checkpoints.close()
    assert Checkpoints(folder).restore(like).step == 3


def test_every_bit_of_the_numbers_counts(folder, like):
    """A flip anywhere is either found out or harmless."""
    file, random = largest(folder / "3"), np.random.default_rng(0)
    sound = file.read_bytes()
    for at in random.integers(0, len(sound), 25):
        data = bytearray(sound)
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
