"""What a piano roll says: from notes to rolls, and back.

A stored roll has 255 where a pitch of a voice sounds, and 0 where it is silent. A pitch
that is struck again while it sounds has 191 in the step in which that happens. So a
roll without any such mark is a plain one, whose notes last as long as their pitch does.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gan_jax.algorithm.spaces import PianoRoll

SOUND, AGAIN = 255, 191
_SOUNDS, _HELD = 128, 224  # the least values that are taken for sound, and for no mark


class Note(NamedTuple):
    """A note of a voice.

    Attributes:
      start: in quarter notes.
      end: likewise.
      pitch: as MIDI numbers it; 60 is middle C.
      voice: its number, 0 for the highest voice.
    """

    start: float
    end: float
    pitch: int
    voice: int


def sounding(rolls: np.ndarray) -> np.ndarray:
    """Tells where a pitch sounds, `[..., time, pitch, voice]`."""
    return rolls >= _SOUNDS


def onsets(rolls: np.ndarray) -> np.ndarray:
    """Tells where a note begins, `[..., time, pitch, voice]`."""
    sounds = sounding(rolls)
    before = np.zeros_like(sounds)
    before[..., 1:, :, :] = sounds[..., :-1, :, :]
    return sounds & (~before | (rolls < _HELD))


def lines(rolls: np.ndarray) -> np.ndarray:
    """Returns the highest pitch of each voice, a row or -1, `[..., time, voice]`."""
    sounds = sounding(rolls)
    top = sounds.shape[-2] - 1 - sounds[..., ::-1, :].argmax(-2)
    return np.where(sounds.any(-2), top, -1)


def notes_of(space: PianoRoll, roll: np.ndarray) -> list[Note]:
    """Returns the notes of a stored roll, in the order of their starts.

    Args:
      space: of the roll.
      roll: `[time, pitch, voice]`.
    """
    ends = ~sounding(roll) | onsets(roll)
    found = []
    for start, pitch, voice in np.argwhere(onsets(roll)).tolist():
        later = ends[start + 1 :, pitch, voice]
        length = 1 + (int(later.argmax()) if later.any() else len(later))
        times = start / space.beat, (start + length) / space.beat
        found.append(Note(*times, space.lowest + pitch, voice))
    return found


def roll_of(space: PianoRoll, notes: Iterable[Note]) -> np.ndarray:
    """Returns the stored roll of notes, `[time, pitch, voice]`.

    Each voice sounds one note at a time: of those that start together the highest,
    until the next one starts. Starts and ends are rounded to steps, halves to the
    earlier one; of the notes that this brings to one step the first is kept. Pitches
    outside of the roll are moved by octaves, and what is after its end is left out.

    Args:
      space: of the roll.
      notes: in any order.
    """
    time, pitches, voices = space.shape
    roll, struck = np.zeros(space.shape, np.uint8), np.zeros((time, voices), bool)
    for start, end, pitch, voice in sorted(notes, key=lambda x: (x.start, -x.pitch)):
        first = _step(start, space)
        last = max(first + 1, _step(end, space))
        if first >= time or struck[first, voice]:
            continue
        row = _within(pitch - space.lowest, pitches)
        again = first > 0 and roll[first - 1, row, voice]
        roll[first:, :, voice] = 0
        roll[first:last, row, voice] = SOUND
        roll[first, row, voice] = AGAIN if again else SOUND
        struck[first, voice] = True
    return roll


def _step(time: float, space: PianoRoll) -> int:
    return math.ceil(time * space.beat - 0.5)


def _within(row: int, rows: int) -> int:
    """Moves a row by octaves until it lies in the roll, if the roll has an octave."""
    if row < 0:
        row %= 12
    elif row >= rows:
        row = rows - 12 + (row - rows) % 12
    return min(max(row, 0), rows - 1)
