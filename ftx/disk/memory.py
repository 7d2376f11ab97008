"""The sender's memory of digests: what was read once need not be read again to be resumed or recognised.

For each file of more than one block there is one journal (`docs/storage.md`, "Journal") in a private folder,
named after the file's path. What it says counts only while path, inode, size, mtime and ctime are the same.
The device number is left out: it changes across boots.

A file whose ctime is younger than `limits.RACY_SECONDS` could change again without a visible change of its
times, so nothing about it is remembered. Everything here is a convenience: where memory cannot be kept, or
another process uses it at the moment, the caller gets a journal that is forgotten when it is closed.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Final

from blake3 import blake3

from ftx import limits
from ftx.disk import fds, private
from ftx.disk.journal import Journal
from ftx.disk.walk import SourceFile
from ftx.errors import FtxError

__all__ = ["DigestMemory"]

_KEY_CONTEXT: Final = "ftx 2026-11-22 digest memory key v1"
_NAME_CONTEXT: Final = "ftx 2026-11-22 digest memory name v1"
_SUFFIX: Final = ".digests"
_OPEN: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _key(file: SourceFile) -> bytes:
    """The 32 bytes that name one state of one file."""
    numbers = b"".join(
        number.to_bytes(16, "big", signed=True)
        for number in (file.inode, file.size, file.mtime_ns, file.ctime_ns)
    )
    return blake3(numbers + file.local, derive_key_context=_KEY_CONTEXT).digest()


class DigestMemory:
    """The memory kept in `folder`, which is made (0700) when it is first needed; its parent must exist."""

    __slots__ = ("_folder",)

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def recall(self, file: SourceFile) -> Journal | None:
        """What is remembered of `file` exactly as it is now, to be read and continued; None if nothing is.

        The caller closes the journal; until then it is nobody else's.
        """
        fd = self._lock(file, 0)
        if fd is None:
            return None
        with suppress(OSError):
            os.utime(fd)  # used now: forgotten last
        with suppress(OSError):
            return Journal.load(fd, _key(file), file.size)
        return None

    def start(self, file: SourceFile, now: float) -> Journal:
        """An empty journal for `file`, instead of what was remembered; the caller fills, commits and closes
        it.

        `now` is the time, in seconds since 1970, before the reading begins. OSError when not even a forgotten
        one can be made.
        """
        if now - file.ctime_ns / 1e9 >= limits.RACY_SECONDS:
            with suppress(FtxError):
                private.ensure_folder(self._folder, "state-unusable")
                fd = self._lock(file, os.O_CREAT)
                if fd is not None and _emptied(fd):
                    with suppress(OSError):
                        return Journal.create(fd, _key(file), file.size)
        else:
            self.forget(file)
        with suppress(OSError):
            # without a name: it ends with its descriptor
            fd = os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            return Journal.create(fd, _key(file), file.size)
        return Journal.create(_in_memory(), _key(file), file.size)

    def moved(self, journal: Journal) -> Journal:
        """What `journal` knows, in one that is forgotten when it is closed: after `journal` raised OSError.

        Closes `journal`. What the disk does not give back any more, the new one does not know. OSError when there is
        no room in memory either.
        """
        try:
            return journal.moved(_in_memory())
        finally:
            journal.close()

    def forget(self, file: SourceFile) -> None:
        """Remember nothing of the file at this path; does nothing if nothing is, or if it cannot be removed.
        """
        with suppress(OSError):
            os.unlink(self._path(file))

    def clean(self, now: float) -> int:
        """Forget what was not used for `limits.STATE_DAYS` before `now`, and all but the latest
        `DIGEST_FILES`.

        How many were forgotten. A journal that is in use stays usable until it is closed.
        """
        return private.prune(self._folder, _SUFFIX, limits.DIGEST_FILES, now)

    def _path(self, file: SourceFile) -> str:
        name = blake3(file.local, derive_key_context=_NAME_CONTEXT).hexdigest()
        return os.path.join(self._folder, name + _SUFFIX)

    def _lock(self, file: SourceFile, flags: int) -> int | None:
        """The journal's file, ours alone while it is open; None if it is missing, unusable or somebody
        else's.
        """
        try:
            fd = os.open(self._path(file), _OPEN | flags, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fds.close(fd)
            return None
        return fd


def _emptied(fd: int) -> bool:
    """Whether `fd` could be made empty; it is closed if not."""
    try:
        os.ftruncate(fd, 0)
    except OSError:
        fds.close(fd)
        return False
    return True


def _in_memory() -> int:
    """A file in memory, which ends with its descriptor."""
    return os.memfd_create("ftx-digests", os.MFD_CLOEXEC)
