"""Music: the packaged chorales, and folders of MIDI files."""

import hashlib
import sys

import numpy as np
import pytest

from gan_jax.algorithm.spaces import PianoRoll
from gan_jax.config import default
from gan_jax.data import load as load_source
from gan_jax.data import midi, rolls
from gan_jax.data.midi import Windows, examples_of, packed, to_c, unpacked
from gan_jax.data.rolls import Note, lines
from gan_jax.errors import UserError
from gan_jax.run.music import midi_file

CHORD = (72, 67, 64, 48)
SCALE = (60, 62, 64, 65, 67, 69, 71, 72)


def load(**keys):
    config = default()
    config.update_from_flattened_dict(
        {"data.source": "midi", "data.name": "chorales", "batch_size": 1, **keys}
    )
    return load_source(config)


def piece(bars=2, shift=0, voices=4):
    """Returns a chord that is struck on each beat, its bass moving by a scale."""
    return [
        Note(beat, beat + 1, pitch + shift, voice)
        for beat in range(4 * bars)
        for voice, pitch in enumerate((*CHORD[: voices - 1], SCALE[beat % 8] - 24))
    ]


# --- The packaged chorales ----------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "bars", "num"),
    [("train", 2, 3218), ("test", 2, 309), ("train", 4, 2678), ("test", 4, 259)],
)
def test_the_packaged_chorales(split, bars, num):
    name = f"chorales(bars={bars}, beat=2)"
    source = load(**{"data.name": name, "data.split": split})
    space = PianoRoll((8 * bars, 48, 4), lowest=36, beat=2)
    assert source.info.example == space
    assert source.info.name == f"midi:chorales[{split}]"
    assert (len(source), source.info.note) == (num, "")
    sounds = rolls.sounding(source.examples)
    assert sounds.sum(2).max() == 1  # each voice sounds one note at a time
    mean = lines(source.examples).mean((0, 1))
    assert (np.diff(mean) < -4).all()  # soprano, alto, tenor, bass
    assert not (source.examples[:, 0] == rolls.AGAIN).any()


def test_no_window_is_in_both_splits_but_stock_phrases():
    both = [load(**{"data.split": split}).examples for split in ("train", "test")]
    train, test = ({x.tobytes() for x in each} for each in both)
    assert len(train & test) <= 4


def test_is_the_file_that_its_readme_describes():
    path = midi.packaged_file()
    assert path.stat().st_size < 100_000
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest in path.with_name("README.md").read_text()


def test_packing_loses_nothing():
    pieces = [("one", piece()), ("two", [Note(0.5, 2.125, 60, 1), Note(3, 4, 60, 0)])]
    for (title, notes), (name, wanted) in zip(
        unpacked(packed(pieces, 4)), pieces, strict=True
    ):
        assert (title, sorted(notes)) == (name, sorted(wanted))


# --- Windows ------------------------------------------------------------------------


@pytest.mark.parametrize("shift", range(-6, 6))
def test_every_key_is_brought_to_c_major_or_a_minor(shift):
    major = [Note(i, i + 1, p - shift, 0) for i, p in enumerate((*SCALE, 67, 64, 60))]
    minor = (69, 71, 72, 74, 76, 77, 80, 81, 76, 72, 69)  # harmonic, of A
    assert to_c(major) == shift
    assert to_c([Note(i, i + 1, p - shift, 0) for i, p in enumerate(minor)]) == shift


def test_a_window_starts_at_each_bar():
    windows = Windows(bars=2, beat=2)
    found = examples_of(windows, piece(bars=5, shift=3))
    assert found.shape == (4, *windows.space.shape)
    whole = examples_of(Windows(bars=5, beat=2), piece(bars=5))[0]
    np.testing.assert_array_equal(found[1, 1:], whole[9:24])
    assert (found[1, 0] > 0).sum() == 4  # struck again before, and here struck
    np.testing.assert_array_equal(lines(found[1])[0], lines(whole)[8])


def test_windows_with_a_silent_bar_are_left_out():
    upbeat = [note._replace(start=note.start + 3, end=note.end + 3) for note in piece()]
    found = examples_of(Windows(bars=1), upbeat)
    assert len(found) == 2  # of three bars the first has one beat of music


# --- Folders ------------------------------------------------------------------------


def write(path, notes, voices=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(midi_file(notes, voices))


def test_reads_a_folder_as_the_packaged_one(tmp_path):
    pytest.importorskip("mido")
    split = {"data.split": "test"}
    with np.load(midi.packaged_file()) as arrays:
        arrays = {key: arrays[f"test_{key}"] for key in midi.PACKED}
        for title, notes in unpacked(arrays):
            write(tmp_path / "test" / f"{title}.mid", notes)
    given = {"data.data_dir": str(tmp_path), "data.name": "own"}
    found = load(**given, **split)
    assert found.info.name == f"midi:{tmp_path.name}[test]"
    assert found.info.fingerprint != ""
    wanted = load(**split).examples
    np.testing.assert_array_equal(sorted_(found.examples), sorted_(wanted))


def sorted_(examples):
    flat = examples.reshape(len(examples), -1)
    return flat[np.lexsort(flat.T)]


def test_voices_are_ordered_by_pitch_and_drums_are_no_voice(tmp_path):
    mido = pytest.importorskip("mido")
    order = [2, 0, 3, 1]
    notes = [note._replace(voice=order[note.voice]) for note in piece()]
    write(tmp_path / "a.mid", notes)
    file = mido.MidiFile(tmp_path / "a.mid")
    drums = mido.MidiTrack()
    for time, kind in ((0, "note_on"), (960, "note_off")):
        drums.append(mido.Message(kind, channel=9, note=35, velocity=90, time=time))
    file.tracks.append(drums)
    file.save(tmp_path / "a.mid")
    source = load(**{"data.data_dir": str(tmp_path)})
    np.testing.assert_array_equal(source.examples, examples_of(Windows(), piece()))


def test_a_split_is_a_folder_or_all(tmp_path):
    pytest.importorskip("mido")
    write(tmp_path / "a" / "1.mid", piece())
    splits = [
        load(**{"data.data_dir": str(tmp_path), "data.split": split}).info.fingerprint
        for split in ("train", "test")
    ]
    assert splits[0] == splits[1]


def test_what_cannot_be_used_is_left_out_and_named(tmp_path):
    mido = pytest.importorskip("mido")
    write(tmp_path / "good.mid", piece(3))
    write(tmp_path / "short.mid", piece(1))
    write(tmp_path / "silent.mid", [])
    (tmp_path / "broken.mid").write_bytes(b"MThd nothing of the kind")
    write(tmp_path / "waltz.mid", piece())
    file = mido.MidiFile(tmp_path / "waltz.mid")
    file.tracks[1].insert(0, mido.MetaMessage("time_signature", numerator=3))
    file.save(tmp_path / "waltz.mid")
    write(tmp_path / "z trio.mid", piece(voices=3), 3)
    folder = {"data.data_dir": str(tmp_path)}
    assert len(load(**folder)) == 2
    note = load(**folder).info.note
    assert note.startswith("left out 5 of 6 pieces (broken.mid: ")
    assert (
        "; short.mid: it is shorter than 2 bars; silent.mid: it is silent; ..." in note
    )
    for name in ("good", "broken", "short", "silent"):
        (tmp_path / f"{name}.mid").unlink()
    reasons = "waltz.mid: it is in 3/4, not in 4/4; z trio.mid: it has 3 voices, not 4"
    with pytest.raises(UserError, match=f"none of 2 files can be used .{reasons}.$"):
        load(**folder)


def test_a_file_that_would_fill_the_memory_is_left_out(tmp_path):
    pytest.importorskip("mido")
    write(tmp_path / "long.mid", [*piece(), Note(10**5, 10**5 + 1, 60, 0)])
    with pytest.raises(UserError, match="it is longer than 40000 quarter notes"):
        load(**{"data.data_dir": str(tmp_path)})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"data.name": "chorals"}, "there is no packaged music 'chorals', only 'chor"),
        (
            {"data.split": "trian"},
            "unknown split of the packaged chorales 'trian'; did",
        ),
        (
            {"data.name": "chorales(bras=2)"},
            "unknown option of data.name 'bras'; did you",
        ),
        (
            {"data.name": "chorales(bars=0)"},
            "bars is 0: it must be an integer from 1 to",
        ),
        ({"data.name": "chorales(beat='x')"}, "beat is 'x': it must be an integer"),
        (
            {"data.name": "chorales(lowest=99)"},
            "lowest is 99: it must be an integer from",
        ),
        ({"data.name": "a, b"}, "^data.name 'a, b': write one NAME or NAME"),
        ({"data.data_dir": "/no/such"}, "there is no folder /no/such"),
        ({"data.data_dir": "EMPTY"}, "holds no MIDI files"),
        ({"data.name": "chorales(bars=64)"}, "none of 270 files can be used"),
    ],
)
def test_refuses(keys, message, tmp_path):
    if keys.get("data.data_dir") == "EMPTY":
        keys = {"data.data_dir": str(tmp_path)}
    with pytest.raises(UserError, match=message):
        load(**keys)


def test_says_what_to_install(tmp_path, monkeypatch):
    write(tmp_path / "a.mid", piece())
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(UserError, match=r"pip install 'gan_jax\[music\]'$"):
        load(**{"data.data_dir": str(tmp_path)})
