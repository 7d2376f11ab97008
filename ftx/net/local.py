"""AF_UNIX sockets of our own: private from their first moment, never in the way of anything else.

`PrivateListener.make()` does what "How it is made" in `docs/control.md` says; `reachable()` gives the address to
connect to. Both manage paths longer than `sun_path` (107 bytes, unix(7)) through a held descriptor of the folder.

All of this is a few system calls on a folder of the daemon's own, made at start and stop: it does not block.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from typing import Final

import attrs

from ftx import limits
from ftx.errors import StartupError
from ftx.text import show

__all__ = ["Caller", "PrivateListener", "caller_of", "reachable"]

#: Bytes of a path that fit into sockaddr_un with its NUL.
_SUN_PATH: Final = 107
_UCRED: Final = struct.Struct("3i")
#: asm-generic/socket.h, and the bytes that Python asks the kernel for at most: 256 groups.
_SO_PEERGROUPS: Final = 59
_GROUP_BYTES: Final = 1024
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


@attrs.frozen
class Caller:
    """Who is at the other end of a local socket, as the kernel says (`SO_PEERCRED`, `SO_PEERGROUPS`, unix(7))."""

    uid: int
    pid: int
    #: Its groups at the moment when it connected.
    groups: frozenset[int] = frozenset()
    #: May read and cancel, and nothing else: it is here as a member of the configured group.
    restricted: bool = False
    #: Though restricted, it may pair.
    pairs: bool = False


def caller_of(connection: socket.socket) -> Caller:
    """Who connected to this AF_UNIX socket, as the kernel noted it at that moment."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return Caller(uid, pid, frozenset({gid, *_groups_of(connection)}))


def _groups_of(connection: socket.socket) -> tuple[int, ...]:
    """The supplementary groups of the peer; none where the kernel does not tell (before Linux 4.13, more than 256)."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUP_BYTES)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


def _split(path: str) -> tuple[str, str]:
    folder, name = os.path.split(path)
    return folder or ".", name


def _address(path: str, folder: int) -> str:
    """What to bind or connect to: `path` itself where it fits, which reads better in ss(8) and lsof(8)."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        return path
    return f"/proc/self/fd/{folder}/{_split(path)[1]}"


@contextlib.contextmanager
def reachable(path: str) -> Iterator[str]:
    """The address of the socket at `path`, good while the context lasts; OSError if its folder is not there."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        yield path
        return
    folder = os.open(_split(path)[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _address(path, folder)
    finally:
        os.close(folder)


@attrs.define(eq=False)
class PrivateListener:
    """A listening AF_UNIX socket at a path, mode 0600, in a folder that nobody else can write to."""

    path: str
    listening: socket.socket
    #: Where the name is, and which inode it should be; None where somebody else made the socket and keeps the name.
    _folder: int | None
    _made: tuple[int, int]

    @classmethod
    def make(
        cls, path: str, owner_uid: int, kind: int = socket.SOCK_STREAM, group: int | None = None
    ) -> PrivateListener:
        """Bind and listen at `path` as `owner_uid`, which must be the user of this process.

        `kind` is SOCK_STREAM or SOCK_SEQPACKET. With a `group` (its number) socket and folder are open to that, too.
        Raises `already-running` if somebody listens there, and `control-unusable`, with the reason, in every other
        case; nothing but a dead socket of `owner_uid` is removed.
        """
        try:
            folder = _open_folder(path, owner_uid)
            try:
                if group is not None:
                    os.fchown(folder, -1, group)
                    os.fchmod(folder, 0o750)
                return cls._make_in(folder, path, owner_uid, kind, group)
            except BaseException:
                os.close(folder)
                raise
        except (OSError, ValueError) as error:
            raise _unusable(path, _reason(error)) from None

    @classmethod
    def adopted(cls, listening: socket.socket) -> PrivateListener:
        """A listening socket that somebody else made, with the modes and the name that they chose."""
        return cls(str(listening.getsockname()), listening, None, (0, 0))

    @classmethod
    def _make_in(cls, folder: int, path: str, owner_uid: int, kind: int, group: int | None) -> PrivateListener:
        name = _split(path)[1]
        mode = 0o600 if group is None else 0o660
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(path, "is starting") from None
        try:
            _clear_stale(folder, path, owner_uid, kind)
            door = socket.socket(socket.AF_UNIX, kind)
            try:
                door.setblocking(False)
                # Linux makes the name with the mode of the socket's own inode: no moment at 0777 & ~umask, and
                # no umask of the whole process changed under the worker threads
                os.fchmod(door.fileno(), 0o600)
                door.bind(_address(path, folder))
                if group is not None:
                    os.chown(name, -1, group, dir_fd=folder, follow_symlinks=False)
                    os.chmod(name, mode, dir_fd=folder)  # in a folder where nobody else can put anything
                made = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISSOCK(made.st_mode) or made.st_mode & 0o777 & ~mode:
                    raise _unusable(path, f"it was not made with mode {mode:04o}")
                door.listen(2 * limits.CONTROL_CLIENTS)
            except BaseException:
                door.close()
                raise
        finally:
            fcntl.flock(folder, fcntl.LOCK_UN)
        return cls(path, door, folder, (made.st_dev, made.st_ino))

    def close(self) -> None:
        """Stop listening and remove the name, if it is still the socket that was made. Once.

        A name that cannot be removed (`EROFS`) stays: nobody listens there, and the next start takes it away.
        """
        self.listening.close()
        if self._folder is None:
            return
        name = _split(self.path)[1]
        try:
            found = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
            if (found.st_dev, found.st_ino) == self._made:
                os.unlink(name, dir_fd=self._folder)
        except OSError:
            pass  # somebody tidied up before us, or the file system takes no changes any more
        finally:
            os.close(self._folder)


def _open_folder(path: str, owner_uid: int) -> int:
    """A descriptor of the folder of `path`, made if only it is missing, and checked."""
    where, name = _split(path)
    if name in ("", ".", ".."):
        raise _unusable(path, "it does not end in a name")
    with contextlib.suppress(FileExistsError):
        os.mkdir(where, 0o700)
    folder = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    found = os.fstat(folder)
    if found.st_uid not in (owner_uid, 0):
        problem = "its folder belongs to another user"
    elif found.st_mode & _OTHERS_WRITE:
        problem = "others can write to its folder; make it private with chmod 700"
    else:
        return folder
    os.close(folder)
    raise _unusable(path, problem)


def _clear_stale(folder: int, path: str, owner_uid: int, kind: int) -> None:
    """Remove a socket of ours that nobody listens on; refuse everything else that has the name."""
    name = _split(path)[1]
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise _unusable(path, "something that is not a socket has this name")
    if found.st_uid != owner_uid:
        raise _unusable(path, "another user's socket has this name")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(_address(path, folder))
    if result != errno.ECONNREFUSED:
        raise _in_use(path, "listens")
    os.unlink(name, dir_fd=folder)


def _unusable(path: str, why: str) -> StartupError:
    return StartupError("control-unusable", f"the control socket {show(path, limits.PATH)} cannot be made: {why}")


def _in_use(path: str, what: str) -> StartupError:
    return StartupError("already-running", f"another daemon {what} at {show(path, limits.PATH)}")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the folder that should hold its folder does not exist"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).lower()
