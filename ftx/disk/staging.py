"""The folder `.ftx/partial`: staged content under names of ftx's own, and what of it can be believed."""

from __future__ import annotations

import itertools
import os
import secrets
import stat
import threading
from typing import Final

from attrs import define
from blake3 import blake3

from ftx.core.blocks import BlockSet
from ftx.disk import linux
from ftx.disk.fds import close, sync_folder
from ftx.disk.journal import Journal, peek
from ftx.disk.root import Root
from ftx.limits import PARTIAL_DAYS, PARTIAL_FILES, PARTIAL_SHARE

__all__ = ["Staging", "partial_key", "path_tag"]

_KEY_CONTEXT: Final = "ftx 2026-11-22 partial key v1"
_TAG_CONTEXT: Final = "ftx 2026-11-22 path tag v1"
_WHOLE: Final = b"whole-"
_JOURNAL: Final = b".journal"
_DAY: Final = 86400.0


def partial_key(peer: bytes, path: bytes, size: int, mtime_ns: int) -> bytes:
    """The 32 bytes that name the partial of this offer: `path` is the requested path joined with `/`."""
    hasher = blake3(peer, derive_key_context=_KEY_CONTEXT)
    hasher.update(size.to_bytes(8, "big") + mtime_ns.to_bytes(8, "big", signed=True) + path)
    return hasher.digest()


def path_tag(peer: bytes, path: bytes) -> bytes:
    """The 32 bytes by which what is left of any version of this file of `peer` is found; `path` as for the key."""
    return blake3(peer + path, derive_key_context=_TAG_CONTEXT).digest()


#: `f_type` of tmpfs and ramfs (statfs(2)).
_IN_MEMORY = frozenset({0x01021994, 0x858458F6})


@define
class _Kept:
    """A partial that nobody uses: bytes on disk, its journal's too, and its ctime unless only the journal is there."""

    size: int = 0
    changed: float | None = None


class Staging:
    """The staging folder of one inbox, held open. Thread-safe; one key is used by one job at a time (claims)."""

    def __init__(self, root: Root, *, fallocate: bool = True) -> None:
        """Make and open the folder; see `Root.open_private()`. `fallocate=False` forbids reservations."""
        self._root = root
        self.fallocate = fallocate
        #: The folder.
        self.fd = root.open_private(b"partial")
        #: Whether this is a file system in memory (tmpfs, ramfs), where a reservation takes the memory at once.
        self.in_memory = linux.filesystem_type(self.fd) in _IN_MEMORY
        self._token = secrets.token_hex(8).encode("ascii")
        self._numbers = itertools.count()
        self._used: set[bytes] = set()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let the folder go."""
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1

    # -- files of one block -------------------------------------------------------------------------------

    def fresh_name(self) -> bytes:
        """A name that nothing has, for a staged file of one block."""
        return b"%b%b-%d" % (_WHOLE, self._token, next(self._numbers))

    # -- partials -----------------------------------------------------------------------------------------

    @staticmethod
    def names(key: bytes) -> tuple[bytes, bytes]:
        """The names of the partial and of its journal."""
        name = key.hex().encode("ascii")
        return name, name + _JOURNAL

    def use(self, key: bytes) -> None:
        """Protect the partial `key` from `clean()`."""
        with self._lock:
            self._used.add(key)

    def leave(self, key: bytes) -> None:
        """End the protection."""
        with self._lock:
            self._used.discard(key)

    def open_partial(self, key: bytes, size: int) -> tuple[int, Journal] | None:
        """The descriptor and the journal of the partial `key` for a file of `size` bytes, if both can be believed.

        Both must be regular files of ours with one link, the partial of the right size, and the journal must fit.
        OSError as it comes. The caller closes both.
        """
        name, journal_name = self.names(key)
        fd = self._root.open_own(self.fd, name)
        if fd is None:
            return None
        journal = None
        try:
            if os.fstat(fd).st_size == size:
                journal_fd = self._root.open_own(self.fd, journal_name)
                if journal_fd is not None:
                    journal = Journal.load(journal_fd, key, size)
        finally:
            if journal is None:
                close(fd)
        return None if journal is None else (fd, journal)

    def open_left_over(self, key: bytes) -> int | None:
        """The descriptor of what is staged under `key`, journal or not; None unless it is ours. OSError as it comes."""
        return self._root.open_own(self.fd, self.names(key)[0])

    def left_over(self, key: bytes) -> bool:
        """Whether something with content in it is staged under `key`. OSError as it comes."""
        status = self._root.status(self.fd, self.names(key)[0])
        return status is not None and stat.S_ISREG(status.st_mode) and status.st_blocks > 0

    def held(self, key: bytes, size: int) -> BlockSet | None:
        """The blocks that the partial `key` holds durably, or None when it holds none that can be believed."""
        opened = self.open_partial(key, size)
        if opened is None:
            return None
        fd, journal = opened
        close(fd)
        journal.close()
        return journal.blocks if journal.blocks.count else None

    def create_partial(self, key: bytes, size: int) -> int:
        """A new partial of `size` bytes, all zeros; what there was under its key is removed. OSError as it comes."""
        name, journal_name = self.names(key)
        if self._root.unlink_staged(self.fd, journal_name):
            # an old journal must not come back after a power cut and speak for new content
            sync_folder(self.fd)
        self._root.unlink_staged(self.fd, name)
        fd = self._root.create_staged(self.fd, name)
        try:
            os.fchmod(fd, 0o600)
            os.ftruncate(fd, size)
        except BaseException:
            close(fd)
            self._root.unlink_staged(self.fd, name)
            raise
        return fd

    def create_journal(self, key: bytes, size: int, tag: bytes) -> Journal:
        """A new journal beside the partial `key`. OSError as it comes."""
        return Journal.create(self._root.create_staged(self.fd, self.names(key)[1]), key, size, tag)

    def tagged(self) -> dict[bytes, tuple[bytes, int]]:
        """What interrupted transfers have left: the tag of each path, with key and size; the largest of each path."""
        found: dict[bytes, tuple[bytes, int]] = {}
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            with os.scandir(fd) as entries:
                names = [os.fsencode(entry.name) for entry in entries if entry.name.endswith(".journal")]
        finally:
            close(fd)
        for name in names:
            try:
                journal_fd = self._root.open_own(self.fd, name)
            except OSError:
                continue
            if journal_fd is None:
                continue
            try:
                about = peek(journal_fd)
            finally:
                close(journal_fd)
            if about is not None and about[2] > found.get(about[0], (b"", 0))[1]:
                found[about[0]] = about[1:]
        return found

    def remove(self, key: bytes) -> None:
        """Remove the partial `key` and its journal, as far as they are there. OSError as it comes."""
        for name in self.names(key):
            self._root.unlink_staged(self.fd, name)

    # -- upkeep -------------------------------------------------------------------------------------------

    def clean(self, now: float) -> int:
        """Remove what was abandoned, as `docs/storage.md` says; returns how many partials. OSError as it comes.

        First what is too old at the time `now` (seconds since the epoch), then, oldest first, what is too much: more
        than `limits.PARTIAL_FILES` partials, or more bytes than `limits.PARTIAL_SHARE` of the file system.
        """
        removed = 0
        kept: dict[bytes, _Kept] = {}
        # a descriptor of its own: the place in the listing is shared by duplicates
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            with os.scandir(fd) as entries:
                names = (os.fsencode(entry.name) for entry in entries)
                for name in names:
                    status = self._root.status(self.fd, name)
                    if status is None or stat.S_ISDIR(status.st_mode):
                        continue
                    old = now - status.st_ctime > PARTIAL_DAYS * _DAY
                    key = self._key_of(name)
                    if self._clean_one(name, old):
                        removed += 1
                    elif key is not None and not self._is_used(key):
                        one = kept.setdefault(key, _Kept())
                        one.size += status.st_blocks * 512
                        if name == self.names(key)[0]:
                            one.changed = status.st_ctime
        finally:
            close(fd)
        return removed + self._crop({key: one for key, one in kept.items() if one.changed is not None})

    def _is_used(self, key: bytes) -> bool:
        with self._lock:
            return key in self._used

    def _crop(self, kept: dict[bytes, _Kept]) -> int:
        """Remove the oldest partials of `kept` until the rest is not too much; how many."""
        files = os.fstatvfs(self.fd)
        room = int(files.f_blocks * files.f_frsize * PARTIAL_SHARE)
        taken = sum(one.size for one in kept.values())
        oldest_first = sorted(kept, key=lambda key: kept[key].changed or 0.0)
        removed = 0
        # the youngest is what somebody is most likely to come back for, however large it is
        for index, key in enumerate(oldest_first[:-1]):
            if taken <= room and len(kept) - index <= PARTIAL_FILES:
                break
            removed += self._clean_one(self.names(key)[0], True)
            taken -= kept[key].size
        return removed

    @staticmethod
    def _key_of(name: bytes) -> bytes | None:
        """The key of the partial that the partial or journal `name` belongs to, None for other names."""
        try:
            key = bytes.fromhex(name.removesuffix(_JOURNAL).decode("ascii"))
        except ValueError:
            return None
        return key if name in Staging.names(key) else None

    def _clean_one(self, name: bytes, old: bool) -> int:
        """Remove `name` if nothing needs it any more; 1 for a partial."""
        if name.startswith(_WHOLE):
            if not name.startswith(_WHOLE + self._token):
                self._root.unlink_staged(self.fd, name)
            return 0
        key = self._key_of(name)
        if key is None:
            return 0
        content, journal = self.names(key)
        with self._lock:  # a job that wants it now waits, and finds it gone
            if key in self._used:
                return 0
            if name == journal and self._root.status(self.fd, content) is not None:
                return 0  # goes with its partial, which may be younger
            if not old and name != journal:
                return 0  # a journal without its partial is of no use to anybody: it could not be removed with it
            self._root.unlink_staged(self.fd, journal)
            if name == content:
                self._root.unlink_staged(self.fd, content)
        return int(name == content)
