"""Files that appear whole or not at all."""

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
