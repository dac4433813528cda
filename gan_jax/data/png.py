"""The plainest PNG (grey, eight bits, no row filters), several times faster."""

import struct
import zlib

import numpy as np

from gan_jax.data.source import check_pixels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">8sI4sIIBBBBBII4s")  # up to the data of the first chunk


def encode(image: np.ndarray) -> bytes:
    """Encodes a grey image, `[height, width]`, uint8."""
    height, width = image.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each led by its filter, 0 for none
    rows[:, 1:] = image
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), level=1)
    chunks = _chunk(b"IHDR", header), _chunk(b"IDAT", data), _chunk(b"IEND", b"")
    return _SIGNATURE + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def decode(data: bytes) -> np.ndarray | None:
    """Decodes an image like those of `encode`; returns None for any other PNG or file.

    The checksum within the compressed data stands for those of the chunks.

    Raises:
      ValueError: there are too many pixels, or the data are cut short.
      zlib.error: the data are damaged.
    """
    if len(data) < _HEADER.size:
        return None
    signature, _, _, width, height, *form, _, length, kind = _HEADER.unpack_from(data)
    end = _HEADER.size + length
    last = data[end + 8 : end + 12]  # the kind of the chunk after this one
    if (signature, form, kind, last) != (_SIGNATURE, [8, 0, 0, 0, 0], b"IDAT", b"IEND"):
        return None
    check_pixels(width, height)
    size, inflater = height * (width + 1), zlib.decompressobj()
    pixels = inflater.decompress(data[_HEADER.size : end], size + 1)
    if len(pixels) <= size and not inflater.eof:
        raise ValueError("the compressed data are cut short")
    if len(pixels) != size:
        return None
    rows = np.frombuffer(pixels, np.uint8).reshape(height, width + 1)
    return None if rows[:, 0].any() else rows[:, 1:]
