"""Measures of music on rolls that are written by hand."""

import numpy as np
import pytest

from gan_jax.algorithm.spaces import Images, PianoRoll
from gan_jax.data.rolls import Note, roll_of
from gan_jax.data.source import Info, InMemory
from gan_jax.errors import UserError
from gan_jax.metrics import music, named
from gan_jax.metrics.features.extractor import Outputs
from gan_jax.metrics.metric import Comparison
from gan_jax.run import evaluation

LOWEST = 48


def rolls(*voices):
    """Returns one roll of voices that are given as pitches, a quarter note each."""
    space = PianoRoll((2 * len(voices[0]), 36, len(voices)), lowest=LOWEST, beat=2)
    notes = [
        Note(time, time + 1, pitch, voice)
        for voice, line in enumerate(voices)
        for time, pitch in enumerate(line)
        if pitch
    ]
    return roll_of(space, notes)[None]


SCALE = [60, 62, 64, 65, 67, 69, 71, 72]
FIFTHS = [pitch - 7 for pitch in SCALE]
OCTAVES = [pitch - 12 for pitch in SCALE]
STILL = [48] * 8
CONTRARY = SCALE[::-1]


def test_the_scale_of_c_major():
    examples = rolls(SCALE)
    wanted = np.zeros(12)
    wanted[[0, 2, 4, 5, 7, 9, 11]] = [2, 1, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(music.pitch_classes(examples, LOWEST), wanted / 8)
    assert music.style(examples, LOWEST) == (0, 1, 1, 0, 0)
    assert music.style(rolls([p + 1 for p in SCALE]), LOWEST).in_scale == 2 / 8
    assert music.note_lengths(examples, 2).tolist() == [1.0] * 8


@pytest.mark.parametrize(
    ("voices", "crossings", "parallels"),
    [
        ((SCALE, FIFTHS), 0, 1),
        ((SCALE, OCTAVES), 0, 1),
        ((SCALE, SCALE), 0, 1),  # unisons
        ((SCALE, STILL), 0, 0),  # one voice moves alone
        ((FIFTHS, SCALE), 1, 1),
        ((SCALE, CONTRARY), 4 / 8, 0),
        # Thirds, but for two fifths that follow each other.
        (([64, 65, 67, 69], [60, 58, 60, 65]), 0, 1 / 3),
        # An octave that a leap of an octave leads to is one too: 72/60, then 84/60.
        (([72, 81, 84], [60, 62, 72]), 0, 0),
        # A rest in between: there is no move.
        (([67, 0, 69], [60, 60, 62]), 0, 0),
    ],
)
def test_crossings_and_parallels_by_hand(voices, crossings, parallels):
    examples = rolls(*voices)
    assert music.crossings(examples) == pytest.approx(crossings)
    assert music.parallels(examples) == pytest.approx(parallels)


def test_every_pair_of_voices_counts():
    """Three voices: of the three pairs that move, one is in fifths."""
    examples = rolls([72, 74], [69, 70], [62, 63])
    assert music.parallels(examples) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("chord", "share"),
    [
        ([72, 67, 64, 60], 1),  # C major
        ([72, 69, 64, 57], 1),  # A minor
        ([60, 60, 60, 60], 1),  # a part of one
        ([71, 67, 62, 53], 0),  # G with its seventh
        ([60, 61, 0, 0], 0),
        ([0, 0, 0, 0], 0),
    ],
)
def test_triads(chord, share):
    assert music.triads(rolls(*([pitch] for pitch in chord)), LOWEST) == share


def test_polyphony_counts_different_pitches():
    examples = rolls([72, 72, 72, 72], [67, 67, 72, 0], [60, 67, 72, 0])
    assert music.style(examples, LOWEST).polyphony == 1 / 4


def test_note_lengths_by_hand():
    space = PianoRoll((8, 36, 1), lowest=LOWEST, beat=2)
    notes = Note(0, 2, 60, 0), Note(2, 2.5, 60, 0), Note(3, 4, 64, 0)
    examples = np.stack([roll_of(space, notes)] * 2)
    lengths = music.note_lengths(examples, 2)
    assert sorted(lengths) == [0.5, 0.5, 1, 1, 2, 2]
    # Of the sorted lengths (1/2, 1, 2) and (1, 1, 1): the mean of 1/2, 0 and 1.
    plain = rolls(SCALE)
    distance = music.note_length_distance(examples, plain, 2)
    assert distance == pytest.approx(0.5)


def test_pitch_class_distance_by_hand():
    """Three of four notes are C against one of four: total variation 1/2."""
    first, second = rolls([60, 60, 72, 62]), rolls([60, 62, 62, 62])
    assert music.pitch_class_distance(first, second, LOWEST) == pytest.approx(0.5)
    assert music.pitch_class_distance(first, first, LOWEST) == 0


def test_silence_is_refused():
    with pytest.raises(UserError, match=r"^the piano rolls are silent"):
        music.style(np.zeros((2, 8, 36, 2), np.uint8), LOWEST)


def source_of(space, examples):
    about = {"condition": None, "num_examples": len(examples), "fingerprint": ""}
    return InMemory(Info(name="", example=space, **about), examples)


def test_the_metric_has_a_floor_on_unseen_music():
    space = PianoRoll((16, 36, 2), lowest=LOWEST, beat=2)
    sets = [rolls(SCALE, lower).repeat(4, 0) for lower in (FIFTHS, OCTAVES, STILL)]
    source = source_of(space, sets[0])
    real, fake, test = (
        evaluation.Side("", Outputs(x.reshape(len(x), -1), None), x) for x in sets
    )
    found = evaluation.compare([named.music], real, [fake], test, source=source)
    floors = evaluation.floors([named.music], real, test, source=source)
    assert found.keys() == floors.keys()
    assert found["pitch_classes"].value == pytest.approx(
        music.pitch_class_distance(sets[0], sets[1], LOWEST)
    )
    assert found["parallels"].value == found["parallels_of_data"].value == 1
    assert floors["parallels"] == 0  # the share in the test set
    assert floors["note_lengths"] == 0


def test_the_metric_is_of_piano_rolls():
    images = np.zeros((4, 2, 2, 1), np.uint8)
    given = {"real_examples": images, "fake_examples": images}
    source = source_of(Images((2, 2, 1)), images)
    features = images.reshape(4, -1)
    with pytest.raises(UserError, match=r"^metric 'music' needs piano rolls"):
        named.music.measure(Comparison(features, features, **given, source=source))
