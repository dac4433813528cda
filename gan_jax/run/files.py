"""Files that appear whole or not at all."""

import shutil
from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Writes a file by rename, so that no reader sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.rename(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def write_new_folder(path: Path, files: dict[str, bytes]) -> None:
    """Writes a folder of files by rename, so that it is there whole or not at all.

    Args:
      path: is not there, or an empty folder.
      files: the content of each, by its name.
    """
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    try:
        for name, content in files.items():
            write_file(partial / name, content)
        partial.rename(path)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
