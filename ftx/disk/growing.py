"""A file of unknown size on its way: it grows block by block, and what is cut is gone (`docs/storage.md`)."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence

from ftx.core.blocks import block_digest
from ftx.disk import fds
from ftx.disk.partial import write_all
from ftx.disk.pipe import DigestList
from ftx.disk.root import Root, storage_error
from ftx.disk.space import Space
from ftx.disk.sparse import data_runs
from ftx.disk.staging import Staging
from ftx.errors import FtxError
from ftx.limits import BLOCK

__all__ = ["Growing"]


class Growing:
    """One staged file, open; as `ftx.disk.partial.Partial` for a file that has a size. Calls must not overlap.

    Every method raises FtxError `no-space`, `too-large` or `storage-failed`; then the file is lost.
    """

    def __init__(self, root: Root, staging: Staging, space: Space, number: int) -> None:
        self.number = number
        self.size = 0
        #: Its name in the staging folder.
        self.name = staging.fresh_name()
        self.failure: FtxError | None = None
        self._root = root
        self._staging = staging
        self._space = space
        self._blocks = 0
        self._digests = DigestList()
        try:
            self.fd = root.create_staged(staging.fd, self.name)
        except OSError as error:
            self._digests.close()
            raise storage_error(error) from error

    def write(self, index: int, chunks: Sequence[bytes | memoryview] | None, digest: bytes) -> bool:
        """Verify the next block and write it; None is a block of zeros. Whether the digest matched."""
        if self.failure is not None:
            raise FtxError(self.failure.name, self.failure.message)
        if index != self._blocks:
            raise FtxError("storage-failed", f"block {index} of a pipe came out of turn")
        content = bytes(BLOCK) if chunks is None else b"".join(chunks)
        if block_digest([content]) != digest:
            return False
        try:
            if not self._space.promise(len(content)):
                raise FtxError("no-space", "too little free space for this file")
            try:
                runs = data_runs(content)
                view = memoryview(content)
                for start, end in [(0, len(content))] if runs is None else runs:
                    write_all(self.fd, [view[start:end]], index * BLOCK + start)
            finally:
                self._space.release(len(content))
            self._digests.add(digest)
        except (OSError, FtxError) as error:
            self.failure = storage_error(error) if isinstance(error, OSError) else error
            raise self.failure from error
        self._blocks += 1
        self.size += len(content)
        return True

    def sync(self) -> int:
        """Nothing of it is durable before its end."""
        return 0

    def file_digest(self) -> bytes:
        """The digest of all that was written."""
        try:
            return self._digests.file_digest(self.size)
        except OSError as error:
            raise storage_error(error) from error

    def finalise(self, mode: int, mtime_ns: int) -> os.stat_result:
        """Set size, permission bits and time and make all of the file durable; its status after that."""
        try:
            os.ftruncate(self.fd, self.size)  # it may end with a hole
            os.utime(self.fd, ns=(mtime_ns, mtime_ns))
            os.fchmod(self.fd, stat.S_IMODE(mode))
            os.fsync(self.fd)
            return os.fstat(self.fd)
        except OSError as error:
            raise storage_error(error) from error

    def close(self) -> None:
        """Give it up: there is nothing that a later job could go on with. Never raises."""
        self.release()
        self.remove()

    def release(self) -> None:
        """Close the descriptors and nothing else. May be called again."""
        self._digests.close()
        if self.fd >= 0:
            fds.close(self.fd)
            self.fd = -1

    def remove(self) -> None:
        """Remove the staged name, if it is still there; best effort, `clean()` gets what stays."""
        with contextlib.suppress(OSError):
            self._root.unlink_staged(self._staging.fd, self.name)
