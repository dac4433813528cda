"""Music from a folder of MIDI files, or the packaged chorales, as piano rolls."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_jax.algorithm.spaces import PianoRoll
from gan_jax.build import names
from gan_jax.data import rolls
from gan_jax.data.rolls import Note
from gan_jax.data.source import Info, InMemory, fingerprint
from gan_jax.errors import UserError, one_line, printable, unknown

SPLITS = ("train", "test")
SUFFIXES = (".mid", ".midi")
DRUMS = 9  # the channel of percussion, which has no pitches
_BAR = 4  # quarter notes
_MOST = 4 * 10_000  # quarter notes of a file, against files that would fill the memory
_SHOWN = 3  # files that a message names

# How well each pitch class fits a key, from its tonic on: the ratings of Krumhansl and
# Kessler 1982, as in Krumhansl, "Cognitive Foundations of Musical Pitch", 1990.
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


@dataclasses.dataclass(frozen=True)
class Windows:
    """What is taken of a piece; the settings of `data.name`.

    Attributes:
      bars: of an example, of four quarter notes each.
      beat: steps in a quarter note: 2 for eighths, 4 for sixteenths.
      lowest: the lowest pitch, as MIDI numbers it.
      pitches: how many semitones there are from it on.
      voices: those of a piece.
    """

    bars: int = 2
    beat: int = 4
    lowest: int = 36
    pitches: int = 48
    voices: int = 4

    def __post_init__(self):
        """Checks the settings."""
        for name, most in (
            ("bars", 64),
            ("beat", 48),
            ("pitches", 128),
            ("voices", 64),
        ):
            _check(name, getattr(self, name), 1, most)
        _check("lowest", self.lowest, 0, 128 - self.pitches)

    @property
    def space(self) -> PianoRoll:
        """The space of an example."""
        return self.of_beats(self.bars * _BAR)

    def of_beats(self, beats: int) -> PianoRoll:
        """Returns the space of a piece of that many quarter notes."""
        shape = beats * self.beat, self.pitches, self.voices
        return PianoRoll(shape, lowest=self.lowest, beat=self.beat)


def _check(name: str, value: Any, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise UserError(
            f"data.name: {name} is {value!r}: it must be an integer from {least} to "
            f"{most}"
        )


def load(config: ConfigDict) -> InMemory:
    """Opens the MIDI files of `config.data.data_dir`, or the packaged chorales.

    `data.name` is what the set is called, with settings of `Windows` in parentheses:
    'chorales(bars=4)'. A folder with the sub-folders `train` and `test` has these
    splits; any other is one set.

    Every piece is transposed to C major or A minor, and cut into windows that start at
    each bar. Pieces that are not in four quarter notes, have another number of voices,
    or cannot be read are left out; `Info.note` names them.

    Raises:
      UserError: a setting is unknown or out of its range; there is no such set, split
        or folder, mido is not installed, or no piece remains.
    """
    form = "NAME or NAME(bars=2, beat=4, lowest=36, pitches=48, voices=4)"
    name, settings = names.one_call("data.name", config.data.name, form)
    names.accepted(Windows, settings, "data.name")
    windows, split = Windows(**settings), config.data.split
    if config.data.data_dir:
        root = Path(config.data.data_dir).expanduser().absolute()
        title, place, pieces = (
            f"midi:{printable(root.name)}",
            str(root),
            _files(root, split),
        )
    else:
        title = place = f"midi:{name}"
        pieces = _packaged(name, split)
    examples, note = _cut(windows, pieces, place)
    info = Info(
        name=f"{title}[{split}]",
        example=windows.space,
        condition=None,
        num_examples=len(examples),
        fingerprint=fingerprint(examples),
        note=note,
    )
    return InMemory(info, examples)


def _cut(
    windows: Windows, pieces: Iterable[tuple[str, Any]], place: str
) -> tuple[np.ndarray, str]:
    """Returns the windows of all pieces, and what is to be said about them."""
    found, left_out = [], []
    for title, piece in pieces:
        try:
            notes = piece() if callable(piece) else piece
            found.append(examples_of(windows, notes))
        except ValueError as error:
            left_out.append(f"{printable(title)}: {printable(str(error))}")
    shown = "; ".join(left_out[:_SHOWN])
    shown += "; ..." if left_out[_SHOWN:] else ""
    number = len(found) + len(left_out)
    if not found:
        why = f"none of {number} files can be used ({shown})" if number else "no files"
        raise UserError(f"{place}: {why}")
    note = f"left out {len(left_out)} of {number} pieces ({shown})" if left_out else ""
    return np.concatenate(found), note


# --- From a piece to examples -------------------------------------------------------


def examples_of(windows: Windows, notes: list[Note]) -> np.ndarray:
    """Returns the windows of a piece, `[num, time, pitch, voice]`, stored values.

    Windows with a bar that is silent for more than half of its time are left out.

    Raises:
      ValueError: the piece has no notes or not the right voices, or is too short.
    """
    if not notes:
        raise ValueError("it is silent")
    voices = len({note.voice for note in notes})
    if voices != windows.voices:
        raise ValueError(f"it has {voices} voices, not {windows.voices}")
    bars = math.floor(max(note.end for note in notes) / _BAR + 0.5)
    shift = to_c(notes)
    moved = [note._replace(pitch=note.pitch + shift) for note in notes]
    roll = rolls.roll_of(windows.of_beats(bars * _BAR), moved)
    steps = _BAR * windows.beat
    sounds = roll.any((1, 2)).reshape(bars, steps).mean(1) >= 0.5
    starts = range(bars - windows.bars + 1)
    cut = [
        roll[start * steps : (start + windows.bars) * steps]
        for start in starts
        if sounds[start : start + windows.bars].all()
    ]
    if not cut:
        raise ValueError(f"it is shorter than {windows.bars} bars")
    examples = np.stack(cut)
    examples[:, 0][examples[:, 0] == rolls.AGAIN] = rolls.SOUND  # nothing sounds before
    return examples


def to_c(notes: list[Note]) -> int:
    """Returns the semitones, -6 to 5, to C major or A minor.

    The key is that whose profile correlates best with the time that each pitch class
    sounds: the algorithm of Krumhansl and Schmuckler.
    """
    time = np.zeros(12)
    for note in notes:
        time[note.pitch % 12] += note.end - note.start
    profiles = [(np.roll(_MAJOR, key), -key) for key in range(12)]
    profiles += [(np.roll(_MINOR, key), 9 - key) for key in range(12)]
    centred = time - time.mean()
    fit = [centred @ (x - x.mean()) / x.std() for x, _ in profiles]
    return (profiles[int(np.argmax(fit))][1] + 6) % 12 - 6


# --- Where pieces come from ---------------------------------------------------------


def packaged_file() -> Path:
    """Returns the file with the packaged chorales."""
    return Path(__file__).parent / "chorales_sample" / "chorales_sample.npz"


def _packaged(name: str, split: str) -> Iterator[tuple[str, list[Note]]]:
    if name != "chorales":
        raise UserError(
            f"data.name: there is no packaged music {name!r}, only 'chorales'; for "
            "MIDI files of your own give --config.data.data_dir=DIR"
        )
    if split not in SPLITS:
        raise unknown("split of the packaged chorales", split, SPLITS)
    path = packaged_file()
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield from unpacked({key: arrays[f"{split}_{key}"] for key in PACKED})
    except Exception as error:  # NumPy raises many types
        raise UserError(f"cannot read {path} ({one_line(error)})") from error


# The arrays of packed pieces: the notes and rests of a voice follow each other.
PACKED = ("titles", "counts", "pitches", "lengths")
_UNIT = 8  # of lengths in a quarter note


def packed(pieces: list[tuple[str, list[Note]]], voices: int) -> dict[str, np.ndarray]:
    """Packs pieces whose voices sound one note at a time; see `unpacked`."""
    counts, pitches, lengths = [], [], []
    for _, notes in pieces:
        for voice in range(voices):
            before, line = 0, []
            for note in sorted(x for x in notes if x.voice == voice):
                if note.start > before:
                    line.append((0, note.start - before))
                line.append((note.pitch, note.end - note.start))
                before = note.end
            counts.append(len(line))
            pitches += [pitch for pitch, _ in line]
            lengths += [round(_UNIT * length) for _, length in line]
    return {
        "titles": np.array([title for title, _ in pieces]),
        "counts": np.array(counts, np.uint16).reshape(-1, voices),
        "pitches": np.array(pitches, np.uint8),
        "lengths": np.array(lengths, np.uint8),
    }


def unpacked(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, list[Note]]]:
    """Yields the title and the notes of each piece.

    Args:
      arrays: `titles [pieces]`; `counts [pieces, voices]`, of notes and rests; of all
        voices one after the other `pitches` (0 for a rest) and `lengths`, in eighths of
        a quarter note.
    """
    titles, counts, pitches, lengths = (arrays[key] for key in PACKED)
    end = 0
    for title, of_voices in zip(titles.tolist(), counts.tolist(), strict=True):
        notes = []
        for voice, count in enumerate(of_voices):
            here = slice(end, end + count)
            times = (np.cumsum([0, *lengths[here].tolist()]) / _UNIT).tolist()
            line = zip(times, times[1:], pitches[here].tolist(), strict=False)
            notes += [Note(*note, voice) for note in line if note[2]]
            end += count
        yield title, notes


def _files(root: Path, split: str) -> Iterator[tuple[str, Any]]:
    """Yields the name of each file, and a function that reads it."""
    if not root.is_dir():
        raise UserError(f"data.data_dir: there is no folder {root}")
    home = root / split if split in SPLITS and (root / split).is_dir() else root
    found = sorted(p for p in home.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"{home} holds no MIDI files ({', '.join(SUFFIXES)})")
    mido = _library()
    for path in found:
        yield str(path.relative_to(root)), lambda path=path: read(mido, path)


def _library() -> Any:
    try:
        import mido
    except ImportError:
        raise UserError(
            "the data source midi reads files by mido: pip install 'gan_jax[music]'"
        ) from None
    return mido


def read(mido: Any, path: Path) -> list[Note]:
    """Returns the notes of a file; each track, or channel of it, is a voice.

    Voices are numbered from the highest mean pitch on. Percussion is left out.

    Raises:
      ValueError: it cannot be read, is too long, or is not in four quarter notes.
    """
    try:
        file = mido.MidiFile(path)
        found = [note for track in enumerate(file.tracks) for note in _track(*track)]
    except ValueError:
        raise
    except Exception as error:  # mido raises many types
        raise ValueError(one_line(error)) from error
    parts: dict[Any, list] = {}
    for part, *note in found:
        parts.setdefault(part, []).append(note)
    beat = file.ticks_per_beat
    if beat < 1 or any(end > _MOST * beat for _, _, end, _ in found):
        raise ValueError(f"it is longer than {_MOST} quarter notes")
    order = sorted(parts.values(), key=lambda x: -sum(p for *_, p in x) / len(x))
    return [
        Note(start / beat, end / beat, pitch, voice)
        for voice, part in enumerate(order)
        for start, end, pitch in part
    ]


def _track(number: int, track: Any) -> Iterator[tuple]:
    """Yields the voice, start, end and pitch of each note of a track, in ticks."""
    now, started = 0, {}
    for message in track:
        now += message.time
        kind = message.type
        if kind == "time_signature" and message.numerator / message.denominator != 1:
            raise ValueError(
                f"it is in {message.numerator}/{message.denominator}, not in 4/4"
            )
        if kind not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        key = message.channel, message.note
        if key in started and now > started[key]:
            yield (number, message.channel), started.pop(key), now, message.note
        if kind == "note_on" and message.velocity:
            started[key] = now
