"""Free space: what the file system has, less a floor, less what running jobs were promised."""

from __future__ import annotations

import os
import threading

from ftx.limits import SPACE_FLOOR_BYTES, SPACE_FLOOR_SHARE

__all__ = ["Space"]


class Space:
    """The space account of one inbox. Thread-safe.

    Bytes are promised when an entry is wanted and released when they are on disk (or reserved there), or when the
    entry ends: so two jobs that fit alone but not together are not both taken.
    """

    def __init__(self, fd: int) -> None:
        """`fd` is a descriptor on the file system; it stays the caller's."""
        self._fd = fd
        self._promised = 0
        self._lock = threading.Lock()

    def _usable(self) -> int:
        status = os.fstatvfs(self._fd)
        floor = min(int(status.f_blocks * status.f_frsize * SPACE_FLOOR_SHARE), SPACE_FLOOR_BYTES)
        return status.f_bavail * status.f_frsize - floor - self._promised

    def free(self) -> int:
        """Bytes that can still be promised; never negative. OSError as it comes."""
        with self._lock:
            return max(0, self._usable())

    def promise(self, size: int) -> bool:
        """Set `size` bytes aside if there are so many. OSError as it comes."""
        with self._lock:
            if size > self._usable():
                return False
            self._promised += size
            return True

    def release(self, size: int) -> None:
        """Take `size` bytes back that were promised."""
        with self._lock:
            self._promised -= size
