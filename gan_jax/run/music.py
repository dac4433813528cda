"""Piano rolls to look at, to play and to hear: pictures, MIDI files and sounds."""

import io
import struct
import wave
from collections.abc import Iterable

import numpy as np

from gan_jax.algorithm.spaces import PianoRoll
from gan_jax.data import rolls
from gan_jax.data.rolls import Note

TEMPO = 84  # quarter notes in a minute
HEARD = 4  # examples of a grid that are in its sound
RATE = 16_000  # samples of sound in a second
_TICKS = 480  # in a quarter note of a MIDI file
_CHOIR = 52  # the programme "choir aahs" of General MIDI
_WIDE, _HIGH = 8, 4  # pixels of a step, and of a pitch
# Of the voices from the highest on, then again from the first; told apart by those who
# do not see all colours too (Okabe and Ito).
_COLOURS = ((213, 94, 0), (0, 158, 115), (0, 114, 178), (148, 60, 140), (40, 40, 40))
_BLACK_KEYS = (1, 3, 6, 8, 10)


# --- Pictures -----------------------------------------------------------------------


def drawn(space: PianoRoll, examples: np.ndarray) -> np.ndarray:
    """Draws piano rolls: time to the right, pitch up, a colour for each voice.

    Rows of black keys are darker, those of C darkest, and there is a line at each
    quarter note. A gap shows where a note begins, and a frame where an example ends.

    Args:
      space: of the examples.
      examples: `[num, time, pitch, voice]`, stored values.

    Returns:
      `[num, height, width, 3]`, uint8.
    """
    sounds, begins = rolls.sounding(examples), rolls.onsets(examples)
    image = _enlarged(np.broadcast_to(_keyboard(space), (*sounds.shape[:3], 3)))
    image[:, :: space.beat * _WIDE] -= 14
    gaps = np.zeros(image.shape[1], bool)
    gaps[::_WIDE] = True
    for voice in range(space.shape[2])[::-1]:  # the highest is drawn last
        note = _enlarged(sounds[..., voice])
        note[:, gaps] &= ~_enlarged(begins[..., voice])[:, gaps]
        image[note] = _COLOURS[voice % len(_COLOURS)]
    image[:, -1] = image[:, :, -1] = 150
    return image.swapaxes(1, 2)[:, ::-1]


def _keyboard(space: PianoRoll) -> np.ndarray:
    """Returns the background of each pitch, `[pitch, 3]`."""
    keys = (space.lowest + np.arange(space.shape[1])) % 12
    grey = np.where(np.isin(keys, _BLACK_KEYS), 228, 246)
    return np.where(keys == 0, 206, grey).astype(np.uint8)[:, None].repeat(3, 1)


def _enlarged(cells: np.ndarray) -> np.ndarray:
    """Gives each step and pitch its pixels, `[num, time, pitch, ...]`."""
    return cells.repeat(_WIDE, 1).repeat(_HIGH, 2)


# --- MIDI ---------------------------------------------------------------------------


def in_turn(space: PianoRoll, examples: np.ndarray) -> list[Note]:
    """Returns the notes of examples, one after the other, with a beat between them."""
    length = -(-space.shape[0] // space.beat) + 1
    return [
        note._replace(start=note.start + i * length, end=note.end + i * length)
        for i, example in enumerate(examples)
        for note in rolls.notes_of(space, example)
    ]


def midi_file(notes: Iterable[Note], voices: int) -> bytes:
    """Returns a MIDI file (format 1) with a track for each voice, all in 4/4.

    Args:
      notes: in any order.
      voices: how many.
    """
    parts = [[] for _ in range(voices)]
    for start, end, pitch, voice in notes:
        channel = _channel(voice)
        parts[voice].append((round(end * _TICKS), bytes([0x80 | channel, pitch, 0])))
        on = bytes([0x90 | channel, pitch, 80])
        parts[voice].append((round(start * _TICKS), on))
    tempo = (60_000_000 // TEMPO).to_bytes(3, "big")
    first = [(0, b"\xff\x51\x03" + tempo), (0, b"\xff\x58\x04\x04\x02\x18\x08")]
    tracks = [_track(first)]
    for voice, part in enumerate(parts):  # a note ends before the next one starts
        programme = (0, bytes([0xC0 | _channel(voice), _CHOIR]))
        tracks.append(_track([programme, *sorted(part)]))
    head = b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), _TICKS)
    return head + b"".join(tracks)


def _channel(voice: int) -> int:
    """Returns the channel of a voice; 9 is for percussion."""
    return (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15)[voice % 15]


def _track(events: list[tuple[int, bytes]]) -> bytes:
    """Returns a track of messages with their times, in ticks and in order."""
    now, body = 0, b""
    for time, message in [*events, (events[-1][0], b"\xff\x2f\x00")]:
        body += _variable(time - now) + message
        now = time
    return b"MTrk" + struct.pack(">I", len(body)) + body


def _variable(number: int) -> bytes:
    """Returns a number as MIDI writes it, 7 bits a byte, all but the last marked."""
    found = [number & 127]
    while number := number >> 7:
        found.insert(0, 128 | number & 127)
    return bytes(found)


# --- Sound --------------------------------------------------------------------------


def wav_file(notes: list[Note]) -> bytes:
    """Returns notes as sound (WAV, 16 bits, one channel), from a small organ.

    A note is a sum of harmonics that fall with their number, and starts and ends
    softly.
    """
    seconds = 60 / TEMPO
    end = max((note.end for note in notes), default=1.0)
    sound = np.zeros(round((end * seconds + 0.5) * RATE))
    for start, stop, pitch, _ in notes:
        tone = _tone(440 * 2 ** ((pitch - 69) / 12), (stop - start) * seconds)
        at = round(start * seconds * RATE)
        sound[at : at + len(tone)] += tone[: len(sound) - at]
    sound *= 0.8 / max(1e-9, np.abs(sound).max())
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.round(32_767 * sound).astype("<i2").tobytes())
    return buffer.getvalue()


def _tone(frequency: float, seconds: float) -> np.ndarray:
    time = np.arange(round((seconds + 0.1) * RATE)) / RATE
    heard = [k for k in range(1, 7) if k * frequency < RATE / 2]
    tone = sum(np.sin(2 * np.pi * k * frequency * time) / k**1.5 for k in heard)
    envelope = np.minimum(1, time / 0.02) * np.clip((seconds + 0.1 - time) / 0.12, 0, 1)
    return envelope * np.exp(-0.8 * time) * tone
