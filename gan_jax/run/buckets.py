"""Workdirs in Google Cloud Storage, where a bucket differs from a file system.

Paths are those of `etils.epath`, as in Orbax: they read and write like `pathlib`'s. A
bucket has no folders, only names with slashes. An object appears whole when its upload
ends; it can be replaced, but neither grow nor be renamed. In place of a file lock there
are conditional writes: one that names the generation (version) of the object that it
replaces fails if another process was faster.
"""

import contextlib
import datetime
import functools
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from gan_jax.devices import hosts
from gan_jax.errors import UserError, summary

SCHEME = "gs://"
LEASE = 60  # seconds without a sign of life after which a lock counts as left behind
_RENEW = 15  # seconds between two signs of life
_TIMEOUT = 10  # seconds that one of them may take
_UPLOAD = 30  # seconds at least between two uploads of an object that grows
_LOST = 2  # the exit status of a process whose lock another one has taken
# How TensorStore's errors begin that say nothing of what a bucket holds.
_STATUSES = ("ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN")
_STATUSES += ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED")
_STATUSES += ("UNAVAILABLE",)


class NoAnswer(UserError):
    """A bucket did not answer, or refused to."""


def path(url: str) -> Any:
    """Returns the `epath.Path` of a folder or an object.

    Raises:
      UserError: it names no bucket, has letters that Orbax does not understand, or the
        packages are missing.
    """
    # Else gcsfs asks for the kind of each bucket, for which there may be no rights.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # TensorFlow's file system, if that is installed, caches what it has seen.
    os.environ.setdefault("EPATH_USE_TF", "false")
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
    if wrong := re.search(r"[#?*\[\]]", url):
        raise UserError(f"{url}: the name of a folder must not contain {wrong[0]!r}")
    # Other processes write there too: what is there is asked for each time.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # errors are raised, too
    return epath.Path(url)


def check(folder: PurePath, what: str, to_write: bool = False) -> None:
    """Checks that the bucket of a folder can be read.

    Args:
      folder: the folder.
      what: its name in messages.
      to_write: whether it must be possible to write there too.

    Raises:
      UserError: it cannot; says why.
    """
    permission, lacks = "storage.objects.create", False
    try:
        bucket, prefix = _located(folder)
        next(iter(bucket.list_blobs(prefix=prefix, max_results=1)), None)
        lacks = to_write and not bucket.test_iam_permissions([permission])
    except Exception as error:  # of the network, the credentials or the rights
        raise NoAnswer(f"{what} {folder} cannot be read: {summary(error)}") from error
    if lacks:
        raise UserError(
            f"{what} {folder} cannot be written: the account lacks {permission}"
        )


@contextlib.contextmanager
def answering(folder: PurePath) -> Iterator[None]:
    """Reads in a bucket; an object that is not there is a FileNotFoundError.

    Raises:
      NoAnswer: the bucket does not answer.
    """
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    except _errors() as error:
        raise NoAnswer(
            f"{folder} cannot be read now: {summary(error)}; the same command tries it "
            "again"
        ) from error


def is_silent(error: Exception) -> bool:
    """Tells whether an error of TensorStore is that a bucket does not answer."""
    return str(error).partition(":")[0] in _STATUSES


def read(file: PurePath) -> bytes:
    """Returns what an object holds, nothing if it is not there.

    Raises:
      OSError: it cannot be read.
    """
    with _os_errors():
        return file.read_bytes() if file.exists() else b""


def write(file: PurePath, content: bytes) -> None:
    """Writes an object, which appears whole.

    Raises:
      OSError: it could not be written.
    """
    check_held()
    with _os_errors():
        file.write_bytes(content)


def move(source: PurePath, target: PurePath) -> None:
    """Moves the objects of a folder: copies all of them, then deletes them.

    Raises:
      OSError: not all of them could be moved.
    """
    check_held()
    with _os_errors():
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


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """Raises as OSError, with one line, whatever the packages of a bucket raise."""
    try:
        yield
    except Exception as error:
        raise OSError(" ".join(str(error).split()) or summary(error)) from error


def _errors() -> tuple[type[Exception], ...]:
    """Returns the errors of the packages that ask a bucket."""
    import aiohttp
    from gcsfs.retry import HttpError
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    return (OSError, HttpError, aiohttp.ClientError, GoogleAPIError, GoogleAuthError)


class GrowingObject:
    """An object that is appended to: it is uploaded anew, but not each time.

    Uploads are at least `_UPLOAD` seconds apart, since a bucket takes one write of an
    object in a second, and each one costs.

    Args:
      file: the object; what it holds is kept.

    Raises:
      OSError: it cannot be read.
    """

    def __init__(self, file: PurePath):
        self._file, self._due = file, False
        self._content = bytearray(read(file))
        self._next = time.monotonic()

    def write(self, piece: bytes) -> None:
        """Appends a piece, which is uploaded later."""
        self._content += piece
        self._due = True

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
        write(self._file, bytes(self._content))
        self._due = False

    def close(self) -> None:
        """Uploads what is due; raises as `flush` does."""
        if self._due:
            self.sync()


# --- Locks --------------------------------------------------------------------------

_held: set["_Lock"] = set()  # by this process


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
        raise NoAnswer(
            f"workdir {file.parent} cannot be locked: {summary(error)}"
        ) from error
    _held.add(lock)
    thread = threading.Thread(target=lock.renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        lock.release(thread)
        _held.discard(lock)


def check_held() -> None:
    """Checks that no other process can have taken a lock of this one.

    Raises:
      OSError: one has not been renewed for half of `LEASE`.
    """
    for lock in _held:
        if time.monotonic() > lock.renewed + LEASE / 2:
            raise OSError(f"the bucket of {lock.folder} does not answer")


def is_locked(file: PurePath) -> bool:
    """Tells whether a lock was renewed of late, or its process was just killed."""
    try:
        bucket, name = _located(file)
        blob = bucket.get_blob(name)
    except Exception:  # as a lock that may not be read
        return False
    if blob is None:
        return False
    age = datetime.datetime.now(datetime.UTC) - blob.updated
    return age.total_seconds() < LEASE


class _Lock:
    """The lock of a folder.

    Attributes:
      folder: the folder.
      renewed: the time at which the last renewal that succeeded was sent.
    """

    def __init__(self, file: PurePath):
        self._bucket, self._name = _located(file)
        self.folder, self.renewed = file.parent, time.monotonic()
        me = {"host": socket.gethostname(), "pid": os.getpid(), "id": str(uuid.uuid4())}
        self._me = json.dumps(me).encode()
        self._released, self._generation = threading.Event(), 0

    def take(self) -> None:
        seen = self._seen()
        if seen:
            hosts.say(
                f"workdir {self.folder} is locked: waiting up to {LEASE} seconds to "
                "see whether a process still trains there"
            )
        end = time.monotonic() + LEASE
        while seen and time.monotonic() < end:
            time.sleep(min(1, LEASE / 10))
            now = self._seen()
            if now not in (0, seen):
                raise UserError(busy(self.folder))
            seen = now
        if not self._write(seen):
            raise UserError(busy(self.folder))

    def renew(self) -> None:
        while not self._released.wait(_RENEW):
            is_mine = True
            with contextlib.suppress(Exception):  # the network may come back
                is_mine = self._write(self._generation)
            if not is_mine:
                with contextlib.suppress(OSError):
                    os.write(2, f"error: {busy(self.folder)}\n".encode())
                os._exit(_LOST)  # nothing more may be written there

    def release(self, thread: threading.Thread) -> None:
        self._released.set()
        thread.join()
        with contextlib.suppress(Exception):  # then it counts as left behind
            blob = self._bucket.blob(self._name)
            blob.delete(if_generation_match=self._generation)

    def _seen(self) -> int:
        """Returns the generation of the object, 0 if there is none."""
        found = self._bucket.get_blob(self._name)
        return found.generation if found else 0

    def _write(self, generation: int) -> bool:
        """Replaces that generation of the object; tells whether it was still there."""
        from google.api_core.exceptions import PreconditionFailed

        start, blob = time.monotonic(), self._bucket.blob(self._name)
        how = {"retry": None, "timeout": _TIMEOUT}  # `renew` tries it again
        try:
            blob.upload_from_string(self._me, if_generation_match=generation, **how)
        except PreconditionFailed:
            # It may be ours: of an attempt whose answer was lost.
            blob = self._bucket.get_blob(self._name, timeout=_TIMEOUT)
            if blob is None or blob.download_as_bytes(timeout=_TIMEOUT) != self._me:
                return False
        self._generation, self.renewed = blob.generation, start
        return True


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
