"""What a musician looks for in piano rolls, and how far two sets of them are apart.

Rolls are stored values, `[num, time, pitch, voice]`; see `gan_jax.data.rolls`.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.stats import wasserstein_distance

from gan_jax.data import rolls
from gan_jax.errors import UserError

_SCALE = (0, 2, 4, 5, 7, 9, 11)  # C major, and A minor without accidentals
_TRIADS = ((0, 4, 7), (0, 3, 7))  # major, minor
_FIFTH = 7  # semitones


class Style(NamedTuple):
    """Shares of time steps, notes or moves in a set of rolls.

    Attributes:
      polyphony: steps at which more than two pitches sound (arXiv:1709.06298).
      in_scale: sounding time that is of C major or A minor (arXiv:1709.06298).
      triads: sounding steps whose pitch classes are all of one major or minor triad.
      crossings: pairs of neighbouring voices that sound together and are crossed.
      parallels: moves of two voices in one direction from a fifth to a fifth, or from
        an octave or unison to one, of all moves of two voices at a time.
    """

    polyphony: float
    in_scale: float
    triads: float
    crossings: float
    parallels: float


def style(examples: np.ndarray, lowest: int) -> Style:
    """Returns the shares of a set.

    Args:
      examples: stored rolls.
      lowest: the MIDI number of their first pitch.

    Raises:
      UserError: nothing sounds in them.
    """
    classes = pitch_classes(examples, lowest)
    return Style(
        polyphony=float((rolls.sounding(examples).any(-1).sum(-1) > 2).mean()),
        in_scale=float(classes[list(_SCALE)].sum()),
        triads=triads(examples, lowest),
        crossings=crossings(examples),
        parallels=parallels(examples),
    )


def pitch_classes(examples: np.ndarray, lowest: int) -> np.ndarray:
    """Returns the share of the sounding time of each pitch class from C on, `[12]`.

    Raises:
      UserError: nothing sounds.
    """
    time = rolls.sounding(examples).sum((0, 1, 3))
    if not time.any():
        raise UserError("the piano rolls are silent: there is no music to measure")
    classes = (lowest + np.arange(len(time))) % 12
    return np.bincount(classes, time, minlength=12) / time.sum()


def pitch_class_distance(real: np.ndarray, fake: np.ndarray, lowest: int) -> float:
    """Returns the total variation between the pitch classes of two sets, 0 to 1."""
    return float(
        0.5 * np.abs(pitch_classes(real, lowest) - pitch_classes(fake, lowest)).sum()
    )


def note_lengths(examples: np.ndarray, beat: int) -> np.ndarray:
    """Returns the lengths of all notes in quarter notes, `[notes]`.

    Args:
      examples: stored rolls.
      beat: steps in a quarter note.
    """
    sounds, begins = rolls.sounding(examples), rolls.onsets(examples)
    pitches = (x.swapaxes(1, -1).ravel() for x in (sounds, begins))
    sounds, begins = pitches  # time is the last axis: a note's steps are neighbours
    note = np.cumsum(begins)[sounds]
    return np.bincount(note)[1:] / beat


def note_length_distance(real: np.ndarray, fake: np.ndarray, beat: int) -> float:
    """Returns Wasserstein-1 between the lengths of notes, in quarter notes."""
    return float(wasserstein_distance(*(note_lengths(x, beat) for x in (real, fake))))


def triads(examples: np.ndarray, lowest: int) -> float:
    """Returns the share of sounding steps that lie in one major or minor triad."""
    sounds = rolls.sounding(examples).any(-1)
    classes = (lowest + np.arange(sounds.shape[-1])) % 12
    chords = (
        sounds.reshape(-1, len(classes)).astype(int) @ np.eye(12, dtype=int)[classes]
    )
    chords = chords[chords.any(1)] > 0
    roots = [
        [(root + x) % 12 for x in triad] for triad in _TRIADS for root in range(12)
    ]
    outside = [np.delete(chords, root, 1).any(1) for root in roots]
    return _share(~np.all(outside, 0))


def crossings(examples: np.ndarray) -> float:
    """Returns the share of pairs of neighbouring voices whose lower one is higher."""
    lines = rolls.lines(examples)
    upper, lower = lines[..., :-1], lines[..., 1:]
    return _share((lower > upper)[(upper >= 0) & (lower >= 0)])


def parallels(examples: np.ndarray) -> float:
    """Returns the share of parallel fifths and octaves among moves of two voices."""
    lines = rolls.lines(examples)
    found = []
    for first, second in combinations(range(lines.shape[-1]), 2):
        pair = lines[..., [first, second]]
        before, after = pair[:, :-1], pair[:, 1:]
        move, interval = after - before, np.abs(pair[..., 0] - pair[..., 1]) % 12
        both = (move != 0).all(-1) & (before >= 0).all(-1) & (after >= 0).all(-1)
        same = np.isin(interval[:, 1:], (0, _FIFTH))
        same &= (interval[:, 1:] == interval[:, :-1]) & (move.prod(-1) > 0)
        found.append(same[both])
    return _share(np.concatenate(found)) if found else 0.0


def _share(cases: np.ndarray) -> float:
    """Returns the share of cases that are true, 0 without any."""
    return float(cases.mean()) if cases.size else 0.0
