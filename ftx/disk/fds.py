"""Two things done to descriptors in many places, and what their errors mean there."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

__all__ = ["close", "close_all", "sync_folder"]


def close(fd: int) -> None:
    """close(2) `fd`, whatever the kernel says to it: the descriptor is gone in any case.

    Nothing depends on the answer: what has to be durable was synced before, and that has answered. An error here must
    not keep the rest from being let go. A descriptor that is not open is our own mistake, and OSError (`EBADF`).
    """
    try:
        os.close(fd)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise


def close_all(fds: Sequence[int]) -> None:
    """close(2) each of `fds`, neighbours with one call."""
    first = last = -2
    for fd in sorted(fds):
        if fd != last + 1:
            if last >= 0:
                os.closerange(first, last + 1)
            first = fd
        last = fd
    if last >= 0:
        os.closerange(first, last + 1)


def sync_folder(fd: int) -> None:
    """fsync(2) a folder; a file system that cannot do that to folders (`EINVAL`) has no more to give."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
