"""Files of a run, on disk or in a bucket, that appear whole or not at all."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from gan_jax.run import buckets


def as_path(place: str | os.PathLike) -> Path:
    """Returns a path of the file system, or of a bucket for `gs://BUCKET/NAME`.

    Both have the methods of `pathlib.Path` that read; what writes is in this file.

    Raises:
      UserError: buckets need packages that are missing.
    """
    url = str(place)
    return buckets.path(url) if url.startswith(buckets.SCHEME) else Path(place)


def in_bucket(path: Path) -> bool:
    """Tells whether a path is one of a bucket."""
    return str(path).startswith(buckets.SCHEME)


def answering(path: Path) -> contextlib.AbstractContextManager:
    """Reads a file; that a bucket does not answer is an error of one line.

    Raises:
      buckets.NoAnswer: it does not.
    """
    return buckets.answering(path) if in_bucket(path) else contextlib.nullcontext()


def held(path: Path) -> bytes:
    """Returns what a file holds, nothing if it is not there.

    Raises:
      OSError: it cannot be read.
    """
    if in_bucket(path):
        return buckets.read(path)
    return path.read_bytes() if path.exists() else b""


def holds_files(path: Path) -> bool:
    """Tells whether there is a folder that is not empty."""
    return path.is_dir() and any(path.iterdir())


def write_file(path: Path, content: bytes) -> None:
    """Writes a file so that no reader sees a part of it: on disk, by rename."""
    if in_bucket(path):
        buckets.write(path, content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.rename(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def write_new_folder(
    path: Path, files: dict[str, bytes], replace: bool = False
) -> None:
    """Writes a folder of files by rename, so that it is there whole or not at all.

    In a bucket it is whole once the last file is there.

    Args:
      path: is not there, or an empty folder.
      files: the content of each, by its name; last the one that readers look for.
      replace: whether the folder may be there, and is replaced.
    """
    if in_bucket(path):
        for name, content in files.items():
            write_file(path / name, content)
        return
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    try:
        for name, content in files.items():
            write_file(partial / name, content)
        if replace:
            shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def move_folder(source: Path, target: Path) -> None:
    """Moves a folder to a name that is free, next to it or elsewhere."""
    if in_bucket(source):
        buckets.move(source, target)
        return
    target.parent.mkdir(exist_ok=True)
    source.rename(target)


def kvstore(folder: Path) -> dict[str, str]:
    """Returns TensorStore's description of a folder."""
    if in_bucket(folder):
        return buckets.kvstore(folder)
    return {"driver": "file", "path": f"{folder}/"}


class GrowingFile:
    """A file that grows by whole pieces.

    Args:
      path: the file; what it holds is kept.
    """

    def __init__(self, path: Path):
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size

    def write(self, piece: bytes) -> None:
        """Appends a piece.

        Raises:
          OSError: it cannot be written; the file is as it was.
        """
        if self._file.write(piece) != len(piece):  # there was space for a part of it
            self._file.truncate(self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(piece)

    def flush(self) -> None:
        """Does nothing: what was appended can be read at once."""

    def sync(self) -> None:
        """Waits until the file is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def growing(path: Path) -> GrowingFile | buckets.GrowingObject:
    """Opens a file that grows."""
    return buckets.GrowingObject(path) if in_bucket(path) else GrowingFile(path)
