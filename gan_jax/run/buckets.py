"""Workdirs in Google Cloud Storage, where a bucket differs from a file system.

Paths are those of `etils.epath`, as in Orbax: they read and write like `pathlib`'s. A
bucket has no folders, only names with slashes. An object appears whole when its upload
ends; it can be replaced, but neither grow nor be renamed. In place of a file lock there
are conditional writes: one that names the generation (version) of the object that it
replaces fails if another process was faster.
"""

import contextlib
import functools
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from gan_jax.devices import hosts
from gan_jax.errors import UserError, one_line

SCHEME = "gs://"
LEASE = 60  # seconds without a sign of life after which a lock counts as left behind
_RENEW = 15  # seconds between two signs of life
_UPLOAD = 30  # seconds at least between two uploads of an object that grows
_NO_ANSWER = ("ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL")
_NO_ANSWER += ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED")
_NO_ANSWER += ("UNAVAILABLE", "UNKNOWN")
_LOST = 2  # the exit status of a process whose lock another one has taken


def path(url: str) -> Any:
    """Returns the `epath.Path` of a folder or an object.

    Raises:
      UserError: it names no bucket, or the packages are missing.
    """
    # Else gcsfs asks for the kind of each bucket, for which there may be no rights.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        import fsspec
        import gcsfs  # noqa: F401 (epath imports it at the first access)
        import google.cloud.storage  # noqa: F401
        from etils import epath
    except ImportError:
        raise UserError(
            f"{url}: buckets need more packages: pip install 'gan_jax[gcs]'"
        ) from None
    if not url.removeprefix(SCHEME).partition("/")[0]:
        raise UserError(f"{url}: name the bucket, as in gs://BUCKET/FOLDER")
    # Other processes write there too: what is there is asked for each time.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    return epath.Path(url)


def check(folder: PurePath, what: str) -> None:
    """Checks that the bucket of a folder can be read.

    Raises:
      UserError: it cannot; says why.
    """
    try:
        bucket, prefix = _located(folder)
        next(iter(bucket.list_blobs(prefix=prefix, max_results=1)), None)
    except Exception as error:  # of the network, the credentials or the rights
        raise UserError(f"{what} {folder} cannot be read: {one_line(error)}") from error


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """Raises as OSError whatever the packages of a bucket raise."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(one_line(error)) from error


def is_unreachable(error: Exception) -> bool:
    """Tells whether a read failed by the network or the rights, not by what is there.

    Args:
      error: of `epath`, or of TensorStore, which begins with the name of a status.
    """
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError)
    if isinstance(error, (ValueError, LookupError, TypeError)):
        return str(error).partition(":")[0] in _NO_ANSWER
    return True  # of a client of the bucket


def write(file: PurePath, content: bytes) -> None:
    """Writes an object, which appears whole.

    Raises:
      OSError: it could not be written.
    """
    with os_errors():
        file.write_bytes(content)


def move(source: PurePath, target: PurePath) -> None:
    """Moves the objects of a folder: copies all of them, then deletes them.

    Raises:
      OSError: not all of them could be moved.
    """
    with os_errors():
        bucket, prefix = _located(source)
        _, new = _located(target)
        blobs = list(bucket.list_blobs(prefix=f"{prefix}/"))
        for blob in blobs:
            bucket.copy_blob(blob, bucket, new + blob.name.removeprefix(prefix))
        bucket.delete_blobs(blobs)


def kvstore(folder: PurePath) -> dict[str, str]:
    """Returns TensorStore's description of a folder."""
    bucket, prefix = _located(folder)
    return {"driver": "gcs", "bucket": bucket.name, "path": f"{prefix}/"}


class GrowingObject:
    """An object that is appended to: it is uploaded anew, but not each time.

    Uploads are at least `_UPLOAD` seconds apart, since a bucket takes one write of an
    object in a second, and each one costs.

    Args:
      file: the object; what it holds is kept.
    """

    def __init__(self, file: PurePath):
        self._file, self._due = file, False
        with os_errors():
            self._content = file.read_bytes() if file.exists() else b""
        self._next = time.monotonic()

    def write(self, piece: bytes) -> None:
        """Appends a piece, which is uploaded later."""
        self._content, self._due = self._content + piece, True

    def flush(self) -> None:
        """Uploads what was appended, if the last attempt was long ago.

        Raises:
          OSError: it could not be written; it stays due.
        """
        if self._due and time.monotonic() >= self._next:
            self.sync()

    def sync(self) -> None:
        """Uploads all, due or not; raises as `flush` does.

        So a bucket that accepts no writes is noticed before a checkpoint is written to
        it by many threads, each of which would print a traceback.
        """
        self._next = time.monotonic() + _UPLOAD
        write(self._file, self._content)
        self._due = False

    def close(self) -> None:
        """Uploads what is due; raises as `flush` does."""
        if self._due:
            self.sync()


# --- Locks --------------------------------------------------------------------------


@contextlib.contextmanager
def locked(file: PurePath) -> Iterator[None]:
    """Holds a lock, which is an object, and renews it in the background.

    An object that is there is watched: if it is not renewed for `LEASE` seconds, the
    process that held it was killed, and the lock is taken over. No clocks are compared.

    Raises:
      UserError: another process holds it, or the bucket cannot be written.
    """
    lock = _Lock(file)
    try:
        lock.take()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"workdir {file.parent} cannot be written: {one_line(error)}"
        ) from error
    thread = threading.Thread(target=lock.renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        lock.release(thread)


def is_locked(file: PurePath) -> bool:
    """Tells whether a process holds a lock, by the time of its last renewal."""
    try:
        bucket, name = _located(file)
        blob = bucket.get_blob(name)
    except Exception:  # as a lock that may not be read
        return False
    return blob is not None and time.time() - blob.updated.timestamp() < LEASE


class _Lock:
    def __init__(self, file: PurePath):
        bucket, name = _located(file)
        self._blob, self._folder = bucket.blob(name), file.parent
        self._me = {"host": socket.gethostname(), "pid": os.getpid()}
        self._released, self._generation = threading.Event(), 0

    def take(self) -> None:
        seen = self._seen()
        if seen:
            hosts.say(
                f"workdir {self._folder} is locked: waiting up to {LEASE} seconds to "
                "see whether a process still trains there"
            )
        end = time.monotonic() + LEASE
        while seen and time.monotonic() < end:
            time.sleep(min(1, LEASE / 10))
            now = self._seen()
            if now not in (0, seen):
                raise self._busy()
            seen = now
        if not self._write(seen):
            raise self._busy()

    def renew(self) -> None:
        while not self._released.wait(_RENEW):
            with contextlib.suppress(Exception):  # the network may come back
                if not self._write(self._generation):
                    print(f"error: {self._busy()}", file=sys.stderr, flush=True)
                    os._exit(_LOST)  # nothing more may be written there

    def release(self, thread: threading.Thread) -> None:
        self._released.set()
        thread.join()
        with contextlib.suppress(Exception):  # then it counts as left behind
            self._blob.delete(if_generation_match=self._generation)

    def _seen(self) -> int:
        """Returns the generation of the object, 0 if there is none."""
        found = self._blob.bucket.get_blob(self._blob.name)
        return found.generation if found else 0

    def _write(self, generation: int) -> bool:
        """Replaces that generation of the object; tells whether it was still there."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        text = json.dumps(self._me | {"renewal": str(uuid.uuid4())})
        try:
            self._blob.upload_from_string(text, if_generation_match=generation)
        except PreconditionFailed:
            # It may be ours: of an attempt whose answer was lost.
            try:
                mine = self._blob.download_as_text() == text
            except NotFound:
                return False
            if not mine:
                return False
            self._blob.reload()
        self._generation = self._blob.generation
        return True

    def _busy(self) -> UserError:
        return UserError(busy(self._folder))


def busy(folder: PurePath) -> str:
    """Returns the message of a folder that another process trains in."""
    return (
        f"another process trains in workdir {folder}: wait for it or stop it, or "
        "choose another --workdir"
    )


# --- Google's client ----------------------------------------------------------------


def _located(place: PurePath) -> tuple[Any, str]:
    """Returns the bucket of a path, and the name in it."""
    name, _, rest = str(place).removeprefix(SCHEME).partition("/")
    return _client().bucket(name), rest


@functools.cache
def _client() -> Any:
    from google.cloud import storage

    return storage.Client()
