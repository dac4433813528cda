"""Piano rolls as pictures, MIDI files and sounds."""

import io
import wave

import numpy as np
import pytest

from gan_jax.algorithm.spaces import PianoRoll
from gan_jax.data.rolls import Note, notes_of, roll_of
from gan_jax.run import music, pictures

SPACE = PianoRoll((8, 24, 2), lowest=48, beat=2)
NOTES = [
    Note(0.0, 1.0, 69, 0),
    Note(0.0, 4.0, 48, 1),
    Note(1.0, 1.5, 69, 0),
    Note(2.0, 4.0, 71, 0),
]
ROLL = roll_of(SPACE, NOTES)


def test_time_goes_right_pitch_up_and_voices_have_colours():
    (image,) = music.drawn(SPACE, ROLL[None])
    wide, high = music._WIDE, music._HIGH
    assert image.shape == (24 * high, 8 * wide, 3)
    cells = image.reshape(24, high, 8, wide, 3)[:, 1, :, 2][::-1]  # off the edges
    for voice in (0, 1):
        here = (cells == music._COLOURS[voice]).all(-1)
        np.testing.assert_array_equal(here.T, ROLL[..., voice] > 0)
    edges = image.reshape(24, high, 8, wide, 3)[:, 1, :, 0][::-1]
    begins = ~(edges == music._COLOURS[0]).all(-1) & (ROLL[..., 0] > 0).T
    assert np.argwhere(begins).tolist() == [[21, 0], [21, 2], [23, 4]]


def test_midi_is_read_back():
    mido = pytest.importorskip("mido")
    two = np.stack([ROLL, ROLL])
    content = pictures.files(SPACE, two[None], 2)[".mid"]
    file = mido.MidiFile(file=io.BytesIO(content))
    assert len(file.tracks) == 3
    found = []
    for voice, track in enumerate(file.tracks[1:]):
        now, started = 0, {}
        for message in track:
            now += message.time / file.ticks_per_beat
            if message.type == "note_on":
                started[message.note] = now
            if message.type == "note_off":
                found.append(Note(started.pop(message.note), now, message.note, voice))
        assert not started
    later = [note._replace(start=note.start + 5, end=note.end + 5) for note in NOTES]
    assert sorted(found) == sorted([*NOTES, *later])  # a beat lies between the two
    tempo = next(x.tempo for x in file.tracks[0] if x.type == "set_tempo")
    assert mido.tempo2bpm(tempo) == pytest.approx(music.TEMPO, abs=1e-3)


@pytest.mark.parametrize(
    ("number", "wanted"),  # the table of the standard MIDI file specification
    [
        (0x00, "00"),
        (0x40, "40"),
        (0x7F, "7f"),
        (0x80, "8100"),
        (0x2000, "c000"),
        (0x3FFF, "ff7f"),
        (0x4000, "818000"),
        (0x1FFFFF, "ffff7f"),
        (0x0FFFFFFF, "ffffff7f"),
    ],
)
def test_numbers_of_variable_length(number, wanted):
    assert music._variable(number).hex() == wanted


def test_no_voice_is_on_the_channel_of_percussion():
    channels = [music._channel(voice) for voice in range(16)]
    assert channels == [*range(9), *range(10, 16), 0]


def sound(notes):
    with wave.open(io.BytesIO(music.wav_file(notes))) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        frames = file.readframes(file.getnframes())
        return np.frombuffer(frames, "<i2").astype(float), file.getframerate()


def test_sound_has_the_pitch_and_the_length_of_its_notes():
    beat = 60 / music.TEMPO
    samples, rate = sound([Note(0, 1, 69, 0), Note(2, 3, 57, 0)])
    assert len(samples) == pytest.approx(rate * (3 * beat + 0.5), abs=1)
    assert np.abs(samples).max() == pytest.approx(0.8 * 32_767, abs=1)
    for start, frequency in ((0, 440), (2, 220)):
        first = round(start * beat * rate)
        part = samples[first : first + rate // 2]
        assert np.abs(np.fft.rfft(part)).argmax() / 0.5 == pytest.approx(
            frequency, abs=2
        )
    between = samples[round(1.3 * beat * rate) : round(1.9 * beat * rate)]
    assert not between.any()


def test_high_notes_have_no_alias():
    samples, _ = sound([Note(0, 2, 127, 0)])  # 12.5 kHz, above half of the rate
    assert not samples.any()


def test_silence_has_files_too():
    silent = np.zeros((1, 3, *SPACE.shape), np.uint8)
    found = pictures.files(SPACE, silent, 2)
    assert set(found) == {".png", ".mid", ".wav"}
    assert not sound([])[0].any()


def test_only_the_first_examples_of_a_grid_are_in_its_sound():
    rolls = np.stack([ROLL] * (music.HEARD + 3))
    found = pictures.files(SPACE, rolls[None], 3)
    alone = pictures.files(SPACE, rolls[None, : music.HEARD], 3)
    assert found[".wav"] == alone[".wav"]
    assert len(found[".mid"]) > len(alone[".mid"])
    assert len(notes_of(SPACE, ROLL)) == len(NOTES)
