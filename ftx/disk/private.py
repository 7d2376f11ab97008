"""Files that only their owner may read or change: the identity key, the known peers, receipts.

Reading refuses whatever another user could have put there; writing is atomic and durable: a reader, or the
machine after a power cut, finds the old content or the new, never a part.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from ftx import limits
from ftx.disk import fds
from ftx.errors import FtxError
from ftx.text import show

__all__ = ["create", "ensure_folder", "locked", "prune", "read", "replace", "sync_folder"]

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_DAY: Final = 86400.0
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Paths of renameat2(2) that are not relative to a descriptor: AT_FDCWD.
_HERE: Final = -100


def _say(error: OSError) -> str:
    return (error.strerror or "input/output error").lower()


def _parent(path: str) -> str:
    return os.path.dirname(path) or "."


def sync_folder(path: str) -> None:
    """Make the names in the folder `path` durable (fsync(2) on the folder); OSError as it comes."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        fds.close(fd)


def ensure_folder(path: str, kind: str) -> None:
    """Make sure that the folder `path` exists and that nobody but us (or root) may put files into it.

    A missing one is made with mode 0700, its parent must exist. Raises FtxError `kind` with a sentence.
    """
    try:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            _make_folder(path)
            status = os.stat(path)
    except OSError as error:
        above = f"mkdir -p {show(_parent(path))}" if isinstance(error, FileNotFoundError) else ""
        raise FtxError(kind, f"the folder {show(path)} cannot be used: {_say(error)}", above) from error
    if not stat.S_ISDIR(status.st_mode):
        raise FtxError(kind, f"{show(path)} is not a folder")
    if status.st_uid not in (os.geteuid(), 0):
        raise FtxError(kind, f"the folder {show(path)} belongs to another user")
    if status.st_mode & 0o022:
        raise FtxError(kind, f"the folder {show(path)} can be changed by others", f"chmod go-w {show(path)}")


def _make_folder(path: str) -> None:
    """Make the folder `path`, durably, unless somebody else just has; OSError as it comes."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)  # whatever the umask took away
        sync_folder(_parent(path))


def read(path: str, limit: int, kind: str) -> tuple[bytes, os.stat_result] | None:
    """The content of the private file `path` and the status of what was read; None if there is no such file.

    It must be a regular file of ours (no symbolic link), without any right for group or others, of at most
    `limit` bytes. Raises FtxError `kind` with a sentence that names the file otherwise. Never waits, whatever
    is there.
    """
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FtxError(kind, f"{show(path)} is a symbolic link") from error
        raise FtxError(kind, f"{show(path)} cannot be read: {_say(error)}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FtxError(kind, f"{show(path)} is not a regular file")
        if status.st_uid != os.geteuid():
            raise FtxError(kind, f"{show(path)} belongs to another user")
        if status.st_mode & 0o077:
            raise FtxError(kind, f"{show(path)} is open to other users", f"chmod 600 {show(path)}")
        content = b""
        while len(content) <= limit and (chunk := os.read(fd, limit + 1 - len(content))):
            content += chunk
    except OSError as error:
        raise FtxError(kind, f"{show(path)} cannot be read: {_say(error)}") from error
    finally:
        fds.close(fd)
    if len(content) > limit:
        raise FtxError(kind, f"{show(path)} is too large")
    return content, status


def _take(fd: int, deadline: float) -> None:
    """flock(2) `fd` for us alone, by `deadline` (of the monotonic clock); TimeoutError when others keep it."""
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds it") from None
            time.sleep(0.01)


def _is_ours_alone(fd: int, path: str) -> bool:
    """Whether `path` is the regular file `fd`, which belongs to us and has no other name. OSError as it comes."""
    opened = os.fstat(fd)
    try:
        named = os.lstat(path)
    except FileNotFoundError:
        return False
    same = (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)
    if same and (opened.st_nlink != 1 or opened.st_uid != os.geteuid() or not stat.S_ISREG(opened.st_mode)):
        os.unlink(path)  # the way is free at the next attempt
        return False
    return same


@contextmanager
def _beside(path: str, content: bytes) -> Iterator[str]:
    """The name of a synced file 0600 with `content`, beside `path`, for whoever gives it its own name inside the block.

    There is one such name for each file, and a lock on it: what a process that was killed has left there is written
    over by the next one, so that no second copy of a key stays behind. OSError as it comes; then it is removed.
    """
    temporary = path + ".new"
    deadline = time.monotonic() + limits.LOCK_WAIT
    while True:
        fd = os.open(temporary, _WRITE, 0o600)
        try:
            _take(fd, deadline)
            if not _is_ours_alone(fd, temporary):
                if time.monotonic() > deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "other processes write it all the time")
                continue
            try:
                os.fchmod(fd, 0o600)
                os.ftruncate(fd, 0)
                written = 0
                while written < len(content):
                    written += os.write(fd, content[written:])
                os.fsync(fd)
                yield temporary
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
            return
        finally:
            fds.close(fd)


def replace(path: str, content: bytes, kind: str) -> None:
    """Put `content` at `path`, 0600, atomically and durably, whatever was there.

    FtxError `kind`, with a sentence, when that fails; then the old file is still there.
    """
    try:
        with _beside(path, content) as temporary:
            os.rename(temporary, path)
        sync_folder(_parent(path))
    except OSError as error:
        raise FtxError(kind, f"{show(path)} cannot be written: {_say(error)}") from error


def create(path: str, content: bytes, kind: str) -> bool:
    """Put `content` at `path`, 0600, atomically and durably, unless something is there already: then False.

    Of several processes that do this at once exactly one gets True, and the others find its file whole. The
    name is given by a call that never replaces. FtxError `kind` otherwise.
    """
    try:
        try:
            with _beside(path, content) as temporary:
                _give(temporary, path)
        except FileExistsError:
            return False
        sync_folder(_parent(path))
    except OSError as error:
        raise FtxError(kind, f"{show(path)} cannot be written: {_say(error)}") from error
    return True


def _give(temporary: str, path: str) -> None:
    """Rename `temporary` to `path`, which must not be there (FileExistsError); OSError as it comes."""
    from ftx.disk import linux  # only who makes a key or a configuration file needs it

    try:
        linux.rename_noreplace(os.fsencode(temporary), _HERE, os.fsencode(path), _HERE)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
            raise
        # not on this file system, or not in this sandbox
        os.link(temporary, path, follow_symlinks=False)
        os.unlink(temporary)


@contextmanager
def locked(path: str, kind: str, wait: float = limits.LOCK_WAIT) -> Iterator[None]:
    """Hold the lock file `path` (0600, made when missing, left behind) against other threads and processes.

    flock(2), so it ends with the process that holds it. Waits at most `wait` seconds, then raises FtxError
    `kind`, as it does when the file cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise FtxError(kind, f"the lock {show(path)} cannot be opened: {_say(error)}") from error
    try:
        try:
            _take(fd, time.monotonic() + wait)
        except TimeoutError:
            raise FtxError(kind, f"another process holds {show(path)}") from None
        except OSError as error:
            raise FtxError(kind, f"the lock {show(path)} cannot be taken: {_say(error)}") from error
        yield
    finally:
        fds.close(fd)


def prune(folder: str, suffix: str, keep: int, now: float) -> int:
    """Remove from `folder` the files called `*suffix` that are too old, and all but the `keep` newest of
    them.

    Too old is what was not changed in the `limits.STATE_DAYS` days before `now` (seconds since 1970). Files
    called `*.new` that nobody finished for a day go too, uncounted. How many were removed; what cannot be
    looked at or removed is left, and a missing folder is an empty one.
    """
    found: list[tuple[float, str]] = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                age = now - entry.stat(follow_symlinks=False).st_mtime
                if entry.name.endswith(suffix):
                    found.append((age, entry.path))
                elif entry.name.endswith(".new") and age > _DAY:
                    os.unlink(entry.path)
    removed = 0
    for place, (age, path) in enumerate(sorted(found)):
        if place >= keep or age > limits.STATE_DAYS * _DAY:
            with suppress(OSError):
                os.unlink(path)
                removed += 1
    return removed
