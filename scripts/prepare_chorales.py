"""Prepares Bach's chorales, from the corpus of music21, as MIDI files.

    pip install -e '.[music]'
    python scripts/prepare_chorales.py --out=chorales

writes one file for each of the chorales in four voices and in 4/4 throughout, to the
folders chorales/train and chorales/test. Of chorales with the same notes one is kept.
Those whose sopranos begin with the same twelve intervals are on one side of the split.
A chorale with an upbeat starts with rests, so that bars start where they should.
`--sample` writes the packaged sample, gan_jax/data/chorales_sample, from them instead.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import app, flags

from gan_jax.data import midi
from gan_jax.data.rolls import Note
from gan_jax.run.music import midi_file

_OUT = flags.DEFINE_string("out", None, "the folder to write MIDI files to")
_SAMPLE = flags.DEFINE_bool("sample", False, "write the packaged sample instead")
_OPENING = 12  # intervals of the soprano that tell melodies apart
_TEST = 10  # every tenth melody
_VOICES = 4


def chorales() -> Iterator[tuple[str, list[Note]]]:
    """Yields the name and the notes of each chorale in four voices and in 4/4."""
    from music21 import corpus

    seen = set()
    for name in sorted(set(corpus.chorales.Iterator(returnType="filename"))):
        score = corpus.parse(name)
        signatures = score.recurse().getElementsByClass("TimeSignature")
        metres = {signature.ratioString for signature in signatures}
        if len(score.parts) != _VOICES or metres != {"4/4"}:
            continue
        notes = notes_of(score)
        if (same := tuple(shape(notes))) not in seen:
            seen.add(same)
            yield Path(name).name, notes


def notes_of(score) -> list[Note]:
    """Returns the notes of a score, ties joined, from the start of a bar on."""
    upbeat = score.parts[0].getElementsByClass("Measure").first().paddingLeft
    return [
        Note(
            float(note.offset + upbeat),
            float(note.offset + upbeat + note.quarterLength),
            note.pitch.midi,
            voice,
        )
        for voice, part in enumerate(score.parts)
        for note in part.stripTies().flatten().notes
        if note.quarterLength
    ]


def shape(notes: list[Note]) -> list[tuple]:
    """Returns what is left of the notes in any key."""
    return [(n.start, n.end, n.pitch - notes[0].pitch, n.voice) for n in notes]


def split(pieces: list[tuple[str, list[Note]]]) -> dict[str, list]:
    """Splits chorales by their melodies."""
    melodies: dict[tuple, list] = {}
    for piece in pieces:
        soprano = [note.pitch for note in piece[1] if note.voice == 0]
        opening = tuple(np.diff(soprano)[:_OPENING].tolist())
        melodies.setdefault(opening, []).append(piece)
    sides = {"train": [], "test": []}
    for number, same in enumerate(melodies.values()):
        sides["train" if number % _TEST else "test"] += same
    return sides


def write_sample(sides: dict[str, list]) -> None:
    """Writes the packaged sample, and prints its size and checksum."""
    arrays = {
        f"{side}_{key}": array
        for side, pieces in sides.items()
        for key, array in midi.packed(pieces, _VOICES).items()
    }
    path = midi.packaged_file()
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)
    data = path.read_bytes()
    print(f"{path}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


def write_files(sides: dict[str, list], folder: Path) -> None:
    """Writes a MIDI file for each chorale."""
    for side, pieces in sides.items():
        (folder / side).mkdir(parents=True, exist_ok=True)
        for name, notes in pieces:
            (folder / side / f"{name}.mid").write_bytes(midi_file(notes, _VOICES))


def main(argv: list[str]) -> None:
    """Writes the files, or the sample."""
    del argv
    if bool(_OUT.value) == _SAMPLE.value:
        raise app.UsageError("give --out=FOLDER or --sample")
    sides = split(list(chorales()))
    if _SAMPLE.value:
        write_sample(sides)
    else:
        write_files(sides, Path(_OUT.value))
    print(", ".join(f"{len(pieces)} {side}" for side, pieces in sides.items()))


if __name__ == "__main__":
    app.run(main)
