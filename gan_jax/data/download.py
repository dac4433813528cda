"""Downloads the original files of a set once, into a folder that appears whole."""

import hashlib
import os
import tempfile
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from gan_jax.errors import one_line

MAX_BYTES = 2**28  # of one file, packed or unpacked: the largest needs 184 MB


def home(data: ConfigDict) -> os.PathLike:
    """Returns the folder of prepared and downloaded sets, which TFDS uses too."""
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return epath.Path(data.data_dir or default).expanduser()


def cache_folder(name: str) -> Path:
    """Returns the folder of that name in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "gan_jax", name)


def unreachable(url: str, seconds: float = 8.0) -> str:
    """Returns within `seconds` why `url` cannot be downloaded; '' if it can."""
    reason = [f"no answer within {seconds:g} s"]

    def probe():
        try:
            with urllib.request.urlopen(url, timeout=seconds) as response:
                response.read(1)
            reason.append("")
        except Exception as error:  # whatever it is, a download would fail too
            reason.append(one_line(error))

    # A thread that may be abandoned: looking up a host ignores the time-out.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(seconds)
    return reason[-1]


def checksums(name: str) -> dict[str, str]:
    """Returns the SHA-256 of each file of a set, by its name, as TFDS has recorded."""
    import tensorflow_datasets as tfds

    known = tfds.builder_cls(name).url_infos
    return {url.rpartition("/")[2]: known[url].checksum for url in known}


def fetch(name: str, urls: Sequence[str], folder: Path) -> None:
    """Downloads the files of a set into a new folder, which appears whole.

    Args:
      name: of the set, as TFDS calls it.
      urls: of its files.
      folder: if another process makes it first, that one stays.

    Raises:
      ValueError: a file is not the one that TFDS knows.
      OSError: a file cannot be downloaded or written.
    """
    known = checksums(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{name}.") as part:
        files = Path(part, "files")
        files.mkdir()
        for url in urls:
            file = url.rpartition("/")[2]
            if fetch_file(url, files / file) != known[file]:
                raise ValueError(f"{url} has another checksum than the file of {name}")
        try:
            files.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def fetch_file(url: str, path: Path) -> str:
    """Downloads a file, and shows on stderr how far it is.

    Args:
      url: of the file; at most `MAX_BYTES` of it are written.
      path: of the new file.

    Returns:
      The SHA-256 of what has been written.

    Raises:
      OSError: it cannot be downloaded or written.
    """
    from rich import progress
    from rich.console import Console

    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=60) as response, path.open("wb") as file:
        size = int(response.headers.get("Content-Length", 0))
        about, console = f"downloading {path.name}", Console(stderr=True)
        with progress.wrap_file(
            response, size, description=about, console=console
        ) as reader:
            while (block := reader.read(2**20)) and file.tell() <= MAX_BYTES:
                digest.update(block)
                file.write(block)
    return digest.hexdigest()
