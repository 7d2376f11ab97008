"""Files of one block, stored many at a time: as few system calls as a file needs, and as few syncs as a batch needs.

Per file: open (unnamed), write, utimensat, fstat, linkat, fstat; fchmod only when the mode came out otherwise. The
descriptors of a batch are closed together.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Sequence

from blake3 import blake3

from ftx.core.blocks import whole_digest
from ftx.disk.fds import close, close_all
from ftx.disk.job import Job, Wanted
from ftx.disk.partial import write_all
from ftx.disk.publish import Outcome, Staged, failed_all, given_mode, publish
from ftx.disk.root import storage_error
from ftx.disk.sparse import PAGE, data_runs
from ftx.disk.store import Stored, Whole
from ftx.disk.tree import Cursor
from ftx.errors import FtxError

__all__ = ["store_batch"]

#: Too many open files, here or in all.
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


class _Batch:
    """As many files as there are descriptors for. Not thread-safe; to be closed."""

    def __init__(self, job: Job, outcomes: dict[int, Outcome]) -> None:
        self._job = job
        self._outcomes = outcomes
        self._files: list[Staged] = []
        self._cursor = Cursor(job.tree)
        self._group = job.device.syncs.group(job.turn)

    def stage(self, whole: Whole) -> bool:
        """Verify and write one file; False when there was no descriptor for it: then publish the others first."""
        job = self._job
        wanted = job.file(whole.number)
        content = whole.chunks[0] if len(whole.chunks) == 1 else b"".join(whole.chunks)
        if len(content) != wanted.size or blake3(content).digest() != whole.digest:
            self._outcomes.update(failed_all(job, [wanted], FtxError("digest-mismatch")))
            return True
        job.check()
        try:
            self._files.append(self._write(wanted, content, whole.digest))
        except OSError as error:
            if error.errno in _NO_DESCRIPTORS and self._files:
                return False
            self._outcomes.update(failed_all(job, [wanted], storage_error(error)))
        except FtxError as error:
            self._outcomes.update(failed_all(job, [wanted], error))
        return True

    def _write(self, wanted: Wanted, content: bytes | memoryview, digest: bytes) -> Staged:
        job, root, staging = self._job, self._job.device.root, self._job.device.staging
        mode, size = given_mode(job, wanted.mode), wanted.size
        name = None
        fd = root.create_unnamed(self._cursor.at(wanted.folder), mode)
        if fd is None:
            name = staging.fresh_name()
            fd = root.create_staged(staging.fd, name)
        try:
            if size >= 2 * PAGE:
                _write_sparse(fd, bytes(content))
            elif size and (written := os.pwritev(fd, [content], 0)) < size:
                write_all(fd, [content[written:]], written)
            os.utime(fd, ns=(wanted.mtime_ns, wanted.mtime_ns))
            status = os.fstat(fd)
            if status.st_mode & 0o7777 != mode:
                os.fchmod(fd, mode)
                status = os.fstat(fd)
        except BaseException:
            close(fd)
            if name is not None:
                root.unlink_staged(staging.fd, name)
            raise
        return Staged(wanted, fd, status, whole_digest(size, digest), name)

    def publish(self) -> None:
        """Sync and publish what was staged. FtxError `superseded` when the job was revoked."""
        self._cursor.close()
        if not self._files:
            return
        try:
            with self._group.waiting():
                self._group.files((staged.fd for staged in self._files), len(self._files))
        except OSError as error:
            # no second try: the kernel may have dropped the data and forgotten that it did
            self._outcomes.update(
                failed_all(self._job, (staged.wanted for staged in self._files), storage_error(error))
            )
            return
        self._outcomes.update(publish(self._job, self._files, self._group))

    def close(self) -> None:
        """Let go of everything; what was not published is gone."""
        self._cursor.close()
        self._group.close()
        device = self._job.device
        close_all([staged.fd for staged in self._files])
        for staged in self._files:
            if staged.staged is not None:
                device.root.unlink_staged(device.staging.fd, staged.staged)


def _write_sparse(fd: int, content: bytes) -> None:
    """Write a new file, but for its pages of zeros: those are holes."""
    runs = data_runs(content)
    if runs is None:
        write_all(fd, [content], 0)
        return
    view = memoryview(content)
    os.ftruncate(fd, len(content))
    for start, end in runs:
        write_all(fd, [view[start:end]], start)


def store_batch(job: Job, files: Sequence[Whole]) -> list[Outcome]:
    """Store `files`, in the same order; see `JobStore.store_whole()`. Another batch of the job has the waits for it."""
    with job.turn:
        return _store_batch(job, files)


def _store_batch(job: Job, files: Sequence[Whole]) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    left = deque(files)
    while left:
        try:
            batch = _Batch(job, outcomes)
        except OSError as error:
            outcomes.update(failed_all(job, (job.file(whole.number) for whole in left), storage_error(error)))
            break
        try:
            while left and batch.stage(left[0]):
                left.popleft()
            batch.publish()
        finally:
            batch.close()
    ended = [one for one in outcomes.values() if isinstance(one, Stored) or one.error != "digest-mismatch"]
    job.release(*[job.file(outcome.number) for outcome in ended])
    return [outcomes[whole.number] for whole in files]
