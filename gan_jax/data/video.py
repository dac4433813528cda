"""A folder of films (GIF, WebP, APNG, MP4, ...), whose sub-folders are the classes."""

import dataclasses
import itertools
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageSequence

from gan_jax.algorithm.spaces import Classes, Video
from gan_jax.build import names
from gan_jax.data.collection import note_unreadable
from gan_jax.data.folder import directory, find
from gan_jax.data.image import channels_of, square
from gan_jax.data.source import Info, InMemory, check_pixels, fingerprint
from gan_jax.errors import UserError, one_line, printable

# What each kind of file is opened as: a file must not choose that by its content, which
# may be a playlist of other files and addresses.
_PILLOW = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}
_FFMPEG = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "matroska"}
_FFMPEG |= {".avi": "avi"}
SUFFIXES = (*_PILLOW, *_FFMPEG)
_FORM = "NAME or NAME(frames=16, stride=1)"


class _Clip(NamedTuple):
    """A part of a film.

    Attributes:
      path: of the file.
      number: of the clip in it.
      label: of the class.
    """

    path: Path
    number: int
    label: int


class _Film(NamedTuple):
    """What is known of a file after it was decoded.

    Attributes:
      path: of the file.
      label: of its class.
      own: its channels, 1 or 3.
      size: bytes of a clip.
      crcs: checksums of its clips.
      clips: `[frames, size, size, c]` each; empty where all do not fit into memory.
    """

    path: Path
    label: int
    own: int
    size: int
    crcs: list[int]
    clips: list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Clips(Sequence):
    """A source that decodes each clip when it is read, and the film up to it.

    Attributes:
      info: its description.
      clips: which they are.
      stride: frames of the film from one of a clip to the next.
    """

    info: Info
    clips: list[_Clip]
    stride: int

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, number, label = self.clips[index]
        frames, size, _, channels = self.info.example.shape
        parts = clips_of(path, size, channels, frames, self.stride, number)
        example = {"example": next(parts)}
        return (
            example if self.info.condition is None else example | {"condition": label}
        )


def load(config: ConfigDict) -> InMemory | Clips:
    """Opens the tree of films under `config.data.data_dir`.

    A film gives as many clips as fit into it one after the other. `config.data.name` is
    any name with settings, 'clips(frames=16, stride=2)': the frames of a clip, and how
    many frames of the film lie from one of them to the next. Each film is decoded once
    when the folder is opened; the few that cannot be read are left out, as of images,
    and so are those that are shorter than a clip.

    Raises:
      UserError: the folder does not exist or has no films, a setting is wrong, too many
        films cannot be read, or none is long enough.
    """
    frames, stride = _settings(config.data.name)
    root = directory("video", config.data.data_dir)
    paths, labels, classes = find(root, SUFFIXES, "films")
    films, failed = _read_all(root, paths, labels, config, (frames, stride))
    notes = [note_unreadable(str(root), "films", len(paths), failed)]
    notes.append(_check_length(root, films, frames, stride))
    channels = channels_of(config, own=max(film.own for film in films if film.crcs))
    crcs = np.array([crc for film in films for crc in film.crcs], np.uint32)
    labels = np.array([f.label for f in films for _ in f.crcs], np.int32)
    info = Info(
        name=f"video:{printable(root.name)}",
        example=Video((frames, config.image_size, config.image_size, channels)),
        condition=Classes(len(classes), classes) if classes else None,
        num_examples=len(crcs),
        fingerprint=fingerprint(crcs, labels),
        note="; ".join(filter(None, notes)),
    )
    kept = [clip for film in films for clip in film.clips]
    fits = len(crcs) * math.prod(info.example.shape) <= config.data.resident_mb << 20
    if fits and len(kept) == len(crcs):
        examples = np.stack([np.broadcast_to(x, info.example.shape) for x in kept])
        return InMemory(info, examples, labels if classes else None)
    parts = [_Clip(f.path, i, f.label) for f in films for i in range(len(f.crcs))]
    return Clips(info, parts, stride)


def clips_of(
    path: Path, size: int, channels: int, frames: int, stride: int, first: int = 0
) -> Iterator[np.ndarray]:
    """Yields the clips of a film, `[frames, size, size, channels]`, uint8.

    Args:
      path: of the file.
      size: height and width of the clips.
      channels: 1 (grey) or 3 (RGB); 0 for those of the first frame.
      frames: of a clip.
      stride: frames of the film from one of a clip to the next.
      first: clips that are skipped.

    Raises:
      UserError: what reads such a file is not installed.
      Exception: the file is damaged.
    """
    images = itertools.islice(frames_of(path), first * frames * stride, None, stride)
    pixels = []
    for image in images:
        pixels.append(square(image, size, channels))
        channels = pixels[0].shape[-1]
        if len(pixels) == frames:
            yield np.stack(pixels)
            pixels = []


def frames_of(path: Path) -> Iterator[Image.Image]:
    """Yields the frames of a film; each is valid until the next."""
    if path.suffix.lower() in _FFMPEG:
        yield from _by_ffmpeg(path)
        return
    with Image.open(path, formats=(_PILLOW[path.suffix.lower()],)) as film:
        check_pixels(*film.size)
        yield from ImageSequence.Iterator(film)


def _by_ffmpeg(path: Path) -> Iterator[Image.Image]:
    try:
        import av
    except ImportError:
        raise UserError(
            f"{printable(path.name)} needs PyAV: pip install 'gan_jax[video]'"
        ) from None
    kind = _FFMPEG[path.suffix.lower()]
    with av.open(
        str(path), format=kind, options={"protocol_whitelist": "file"}
    ) as film:
        if not film.streams.video:
            raise ValueError("it holds no pictures")
        stream = film.streams.video[0]
        check_pixels(stream.width, stream.height)
        for frame in film.decode(stream):
            check_pixels(frame.width, frame.height)
            grey = frame.format.name.startswith("gray")
            yield frame.to_image().convert("L") if grey else frame.to_image()


def _settings(text: str) -> tuple[int, int]:
    """Returns the frames of a clip, and the stride."""

    def checked(frames: int = 16, stride: int = 1) -> tuple[int, int]:
        for key, value in (("frames", frames), ("stride", stride)):
            if type(value) is not int or value < 1:
                raise UserError(f"clips: {key} is {value!r}: it is a number from 1")
        return frames, stride

    name, given = names.one_call("clips", text, _FORM)
    names.accepted(checked, given, f"clips {name!r}")
    return checked(**given)


def _read_all(
    root: Path,
    paths: list[Path],
    labels: list[int],
    config: ConfigDict,
    settings: tuple[int, int],
) -> tuple[list[_Film], list[str]]:
    """Decodes every film; of those that fail it returns their names and why."""
    films, failed, room = [], [], config.data.resident_mb << 20
    for path, label in zip(paths, labels, strict=True):
        try:
            film = _read(path, label, config, settings, room)
        except UserError:
            raise
        except Exception as error:  # damaged files raise anything
            title = printable(str(path.relative_to(root)))
            failed.append(f"{title}: {printable(one_line(error))}")
            continue
        room -= len(film.crcs) * film.size
        films.append(film)
    return films, failed


def _read(
    path: Path, label: int, config: ConfigDict, settings: tuple[int, int], room: int
) -> _Film:
    """Decodes a film, and keeps its clips if they fit into `room` bytes."""
    crcs, clips, own, size = [], [], 1, 0
    side, channels = config.image_size, channels_of(config, own=0)
    for clip in clips_of(path, side, channels, *settings):
        own, size = clip.shape[-1], clip.size
        crcs.append(zlib.crc32(clip))
        clips.append(clip)
        if len(crcs) * size > room:
            clips.clear()
    return _Film(path, label, own, size, crcs, clips)


def _check_length(root: Path, films: list[_Film], frames: int, stride: int) -> str:
    """Returns a note on the films that are shorter than a clip.

    Raises:
      UserError: all are.
    """
    short = [printable(film.path.name) for film in films if not film.crcs]
    which = ", ".join(short[:3]) + (", ..." if short[3:] else "")
    clip = f"a clip of {frames} frames, stride {stride}"
    if len(short) == len(films):
        raise UserError(f"{root}: all films are shorter than {clip} ({which})")
    if not short:
        return ""
    return (
        f"left out {len(short)} of {len(films):,} films, shorter than {clip} ({which})"
    )
