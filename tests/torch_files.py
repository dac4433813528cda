"""Writes files as `torch.save` does, by hand: of tensors, or of any pickle."""

import struct
import zipfile

ORDERED_DICT = b"ccollections\nOrderedDict\n)R"
_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY = (
    *(_MAGIC, b"\x80\x02M\xe9\x03."),  # the version is 1001
    b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.",
)


def string(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def numbers(values):
    return b"(" + b"".join(b"J" + struct.pack("<i", n) for n in values) + b"t"


def storage(key, size, kind="Float", view=b""):
    about = string("storage") + f"ctorch\n{kind}Storage\n".encode() + string(key)
    return b"(" + about + string("cpu") + b"J" + struct.pack("<i", size) + view + b"tQ"


def tensor(stored, shape, strides, offset=0):
    arguments = stored + b"J" + struct.pack("<i", offset) + numbers(shape)
    arguments += numbers(strides) + b"\x89" + ORDERED_DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def state(tensors):
    """Returns the pickle of a dict."""
    items = b"".join(string(name) + value for name, value in tensors.items())
    return b"\x80\x02" + ORDERED_DICT + b"(" + items + b"u."


def write_zip(path, pickle, data, compression=zipfile.ZIP_STORED, **others):
    """Writes the format of PyTorch 1.6 and later: `data` are bytes by their keys."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        for name, content in others.items():
            archive.writestr(f"archive/{name}", content)
        for key, content in data.items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def write_legacy(path, pickle, data, itemsize=4):
    """Writes the format of PyTorch before 1.6."""
    keys = b"\x80\x02](" + b"".join(map(string, data)) + b"e."
    sized = (
        struct.pack("<q", len(content) // itemsize) + content
        for content in data.values()
    )
    path.write_bytes(b"".join((*_LEGACY, pickle, keys, *sized)))
    return path


WRITERS = (write_zip, write_legacy)
