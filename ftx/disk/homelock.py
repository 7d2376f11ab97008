"""One daemon per home: the lock that says so."""

from __future__ import annotations

import fcntl
import os

from ftx.disk import fds
from ftx.disk.places import Places
from ftx.errors import FtxError, StartupError
from ftx.text import show

__all__ = ["HomeLock"]


class HomeLock:
    """Holds `daemon.lock` in the state folder until `release()`, or until the process ends.

    flock(2): the lock belongs to the open file, so it survives the fork of a process that daemonises
    itself, and a crash leaves nothing behind that must be cleaned up. The file itself stays, empty.
    """

    def __init__(self, where: Places) -> None:
        """Take the lock; raises StartupError `already-running`, or FtxError `home-unusable`.

        Blocking, but never waits for the other holder. The state folder must exist (`prepare_home`).
        """
        path = os.path.join(where.state, "daemon.lock")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            reason = (error.strerror or "input/output error").lower()
            raise FtxError("home-unusable", f"the lock {show(path)} cannot be opened: {reason}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fds.close(fd)
            folder = where.home or where.state
            raise StartupError("already-running", f"another ftx daemon uses {show(folder)}") from None
        except OSError as error:
            fds.close(fd)
            reason = (error.strerror or "input/output error").lower()
            raise FtxError("home-unusable", f"the lock {show(path)} cannot be taken: {reason}") from error
        self._fd: int | None = fd

    def release(self) -> None:
        """Let the next daemon in. May be called twice."""
        if self._fd is not None:
            fds.close(self._fd)
            self._fd = None
