"""From notes to piano rolls, and back."""

import numpy as np
import pytest

from gan_jax.algorithm.spaces import PianoRoll, describe, from_description
from gan_jax.data import rolls
from gan_jax.data.rolls import AGAIN, SOUND, Note, lines, notes_of, onsets, roll_of
from gan_jax.errors import UserError

SPACE = PianoRoll((8, 24, 2), lowest=48, beat=2)


def test_notes_come_back_and_repeated_ones_stay_apart():
    notes = [
        Note(0.0, 1.0, 60, 0),
        Note(0.5, 1.0, 50, 1),
        Note(1.0, 4.0, 50, 1),  # struck again
        Note(1.0, 1.5, 60, 0),  # and so is this
        Note(2.0, 4.0, 71, 0),  # after a rest
    ]
    roll = roll_of(SPACE, notes)
    assert notes_of(SPACE, roll) == notes
    assert roll[:, 12, 0].tolist() == [SOUND, SOUND, AGAIN, 0, 0, 0, 0, 0]
    assert np.unique(roll).tolist() == [0, AGAIN, SOUND]
    assert lines(roll)[:, 0].tolist() == [12, 12, 12, -1, 23, 23, 23, 23]


def test_a_plain_roll_has_one_note_for_each_run():
    roll = np.zeros(SPACE.shape, np.uint8)
    roll[1:4, 5, 0] = roll[5:, 5, 0] = roll[2:, 7, 0] = 255  # two pitches in one voice
    assert notes_of(SPACE, roll) == [
        Note(0.5, 2.0, 53, 0),
        Note(1.0, 4.0, 55, 0),
        Note(2.5, 4.0, 53, 0),
    ]
    assert onsets(roll).sum() == 3
    assert lines(roll)[2, 0] == 7


@pytest.mark.parametrize(
    ("notes", "line"),
    [
        # The later of two notes cuts the other; of two at once the higher one is kept.
        ([(0, 4, 50), (1, 2, 52)], [2, 2, 4, 4, -1, -1, -1, -1]),
        ([(0, 2, 50), (0, 1, 52)], [4, 4, -1, -1, -1, -1, -1, -1]),
        # Sixteenths on a grid of eighths: those on the beat stay, dots are lost.
        ([(0, 0.25, 50), (0.25, 0.5, 52)], [2, -1, -1, -1, -1, -1, -1, -1]),
        ([(0, 0.75, 50), (0.75, 1, 52)], [2, 4, -1, -1, -1, -1, -1, -1]),
        # A very short note lasts a step; what starts after the end is left out.
        ([(1, 1.01, 50), (4, 5, 50)], [-1, -1, 2, -1, -1, -1, -1, -1]),
        # By octaves into the roll, whose pitches are 48 to 71.
        (
            [(0, 1, 47), (1, 2, 24), (2, 3, 72), (3, 4, 95)],
            [11, 11, 0, 0, 12, 12, 23, 23],
        ),
    ],
)
def test_what_does_not_fit_by_hand(notes, line):
    roll = roll_of(SPACE, [Note(*note, 0) for note in notes])
    assert lines(roll)[:, 0].tolist() == line


def test_a_roll_of_less_than_an_octave_holds_any_pitch():
    space = PianoRoll((2, 3, 1), lowest=60, beat=1)
    for pitch in (0, 59, 61, 127):
        assert rolls.sounding(roll_of(space, [Note(0, 1, pitch, 0)])).sum() == 1


def test_its_description_has_its_pitch_and_time():
    about = describe(SPACE)
    assert from_description(about) == SPACE
    del about["lowest"], about["beat"]  # an older one
    assert from_description(about) == PianoRoll(SPACE.shape)


@pytest.mark.parametrize("fields", [{"lowest": 105}, {"lowest": -1}, {"beat": 0}])
def test_refuses_what_midi_cannot_say(fields):
    with pytest.raises(UserError, match="beat must be at least 1, and pitches must"):
        PianoRoll(SPACE.shape, **fields)
