"""How fast a disk takes content: written into a file without a name, made durable, and let go of.

A file made with O_TMPFILE (open(2)) is in no folder and is gone when it is closed, whatever happens: nothing that can
be seen changes.
"""

from __future__ import annotations

import errno
import os
import secrets
import time

from ftx import limits
from ftx.disk import fds
from ftx.errors import FtxError

__all__ = ["write_speed"]


def write_speed(folder: int, size: int) -> float:
    """Seconds that `size` bytes take to be durable on the file system of the held descriptor `folder`.

    FtxError `no-space` where there is not room for `limits.PROBE_ROOM` times as much, `not-supported` where the file
    system has no files without a name, `storage-failed` for any other error.
    """
    try:
        status = os.fstatvfs(folder)
        if status.f_bavail * status.f_frsize < size * limits.PROBE_ROOM:
            raise FtxError("no-space", "there is too little room to measure the disk")
        fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            return _written(fd, size)
        finally:
            fds.close(fd)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise FtxError("not-supported", "this file system cannot be measured without a trace") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FtxError("no-space") from error
        raise FtxError("storage-failed", (error.strerror or "input/output error").lower()) from error


def _written(fd: int, size: int) -> float:
    content = memoryview(secrets.token_bytes(min(size, limits.BLOCK)))
    began = time.monotonic()
    left = size
    while left:
        left -= os.write(fd, content[: min(left, len(content))])
    os.fdatasync(fd)
    return time.monotonic() - began
