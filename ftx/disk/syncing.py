"""Making a batch durable with as few waits as its file system allows.

One syncfs(2) for many files is ten times as fast as an fsync(2) each, but it only counts where write errors are known
to be reported through it, to a descriptor that was opened before the writes (syncfs(2), errors since Linux 5.8). And
it waits for everybody's data: when that takes long, files get their own fsync for a while.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from ftx.disk import linux
from ftx.disk.fds import close
from ftx.disk.turn import Turn
from ftx.limits import SYNC_EACH, SYNCFS_PAUSE, SYNCFS_SLOW

__all__ = ["SyncGroup", "Syncs"]

#: statfs(2) magic numbers: ext2/3/4, xfs, btrfs, tmpfs.
_REPORTING: Final = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994})
#: What a kernel or a sandbox says that does not offer the call.
_REFUSED: Final = frozenset({errno.ENOSYS, errno.EPERM})


class Syncs:
    """How the file system of one inbox is synced. Thread-safe."""

    def __init__(
        self,
        root_fd: int,
        use_syncfs: bool = True,
        *,
        syncfs: Callable[[int], None] = linux.syncfs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`root_fd` stays the caller's. `use_syncfs=False` forbids shared syncs."""
        self._root_fd = root_fd
        self._reporting = use_syncfs and linux.filesystem_type(root_fd) in _REPORTING
        self._syncfs = syncfs
        self._clock = clock
        self._not_before = float("-inf")
        self._lock = threading.Lock()

    def group(self, turn: Turn | None = None) -> SyncGroup:
        """Begin a group; to be called before the first write of what it will sync. OSError as it comes.

        `turn` is what the caller holds, and somebody else may have while this one waits.
        """
        if not self._reporting or self._clock() < self._not_before:
            return SyncGroup(self, -1, turn)
        return SyncGroup(self, os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root_fd), turn)

    def _share(self, fd: int) -> bool:
        """Sync everything, if that call is to be had. OSError when the sync failed."""
        begun = self._clock()
        try:
            self._syncfs(fd)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            self._reporting = False  # refused, not failed: nothing was synced, and nothing was lost
            return False
        ended = self._clock()
        if ended - begun > SYNCFS_SLOW:
            with self._lock:
                self._not_before = ended + SYNCFS_PAUSE
        return True


class SyncGroup:
    """The syncs of one batch. Not thread-safe; to be closed."""

    def __init__(self, syncs: Syncs, fd: int, turn: Turn | None) -> None:
        """Use `Syncs.group()`."""
        self._syncs = syncs
        self._fd = fd
        self._turn = turn

    def waiting(self) -> AbstractContextManager[None]:
        """Around syncs: who waits for the turn may have it meanwhile."""
        return nullcontext() if self._turn is None else self._turn.waiting()

    def shared(self, count: int) -> bool:
        """Make everything durable at once if that is right for `count` things; False: sync each of them.

        OSError when a sync failed: then nothing of the batch may be believed.
        """
        if self._fd < 0 or count <= SYNC_EACH:
            return False
        return self._syncs._share(self._fd)

    def files(self, fds: Iterable[int], count: int) -> None:
        """Make these `count` files durable. OSError as above."""
        if not self.shared(count):
            for fd in fds:
                os.fsync(fd)

    def close(self) -> None:
        """Close the descriptor. May be called again."""
        if self._fd >= 0:
            close(self._fd)
            self._fd = -1
