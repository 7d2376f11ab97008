"""Free space: what the file system has, less a floor, less what running jobs were promised."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from ftx.limits import SPACE_FLOOR_BYTES, SPACE_FLOOR_SHARE, SPACE_FRESH

__all__ = ["Space"]


class Space:
    """The space account of one inbox. Thread-safe.

    Bytes are promised when an entry is wanted and released when they are on disk (or reserved there), or when the
    entry ends: so two jobs that fit alone but not together are not both taken.

    A batch of a hundred promises asks the file system once: what it says holds for `limits.SPACE_FRESH` seconds, less
    what was released since (which may have been written), and nothing is refused without asking again.
    """

    def __init__(
        self,
        fd: int,
        *,
        statvfs: Callable[[int], os.statvfs_result] = os.fstatvfs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fd` is a descriptor on the file system; it stays the caller's."""
        self._fd = fd
        self._statvfs = statvfs
        self._clock = clock
        self._promised = 0
        #: What was free when the file system was last asked, and until when that counts.
        self._found = 0
        self._fresh_until = float("-inf")
        self._lock = threading.Lock()

    def _ask(self) -> int:
        """Bytes that can be promised, as the file system says now."""
        status = self._statvfs(self._fd)
        floor = min(int(status.f_blocks * status.f_frsize * SPACE_FLOOR_SHARE), SPACE_FLOOR_BYTES)
        self._found = status.f_bavail * status.f_frsize - floor
        self._fresh_until = self._clock() + SPACE_FRESH
        return self._found - self._promised

    def free(self) -> int:
        """Bytes that can still be promised; never negative. OSError as it comes."""
        with self._lock:
            return max(0, self._ask())

    def out_of_inodes(self) -> bool:
        """Whether it is files and folders that there is no room for, rather than bytes; False when nobody can tell."""
        try:
            status = self._statvfs(self._fd)
        except OSError:
            return False
        return status.f_files > 0 and status.f_favail == 0

    def promise(self, size: int) -> bool:
        """Set `size` bytes aside if there are so many. OSError as it comes."""
        with self._lock:
            fresh = self._clock() < self._fresh_until
            if (not fresh or size > self._found - self._promised) and size > self._ask():
                return False
            self._promised += size
            return True

    def release(self, size: int) -> None:
        """Take `size` bytes back that were promised."""
        with self._lock:
            self._promised -= size
            self._found -= size
