"""Files of one block, stored many at a time: as few system calls as a file needs, and as few syncs as a batch needs.

Per file: open (unnamed), write, utimensat, fstat, linkat, fstat; fchmod only when the mode came out otherwise. The
descriptors of a batch are closed together. Neighbours are done together where that is possible (`ftx.disk.many`), and
by themselves where it is not, or where anything is wrong with them.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Sequence
from itertools import islice

from blake3 import blake3

from ftx.core.blocks import whole_digest
from ftx.disk.fds import close, close_all
from ftx.disk.job import Job, Wanted
from ftx.disk.partial import write_all
from ftx.disk.publish import Outcome, Staged, failed_all, given_mode, publish
from ftx.disk.root import storage_error
from ftx.disk.sparse import PAGE, data_runs
from ftx.disk.store import Stored, Whole
from ftx.disk.tree import Cursor, Folders
from ftx.errors import FtxError
from ftx.limits import FILES_TOGETHER

__all__ = ["store_batch"]

#: Too many open files, here or in all.
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
#: Fewer than these are as quick one by one.
_WORTH = 4


class _Batch:
    """As many files as there are descriptors for. Not thread-safe; to be closed."""

    def __init__(self, job: Job, outcomes: dict[int, Outcome]) -> None:
        self._job = job
        self._outcomes = outcomes
        self._files: list[Staged] = []
        self._cursor = Cursor(job.tree)
        self._group = job.device.syncs.group(job.turn)

    def stage_together(self, left: deque[Whole]) -> None:
        """Verify and write as many of `left` as can be done together, and take these out."""
        job, root = self._job, self._job.device.root
        if not root.together:
            return
        given = given_mode(job, 0o777)
        while root.together and len(left) >= _WORTH:
            ready: list[tuple[Wanted, bytes]] = []
            files = []
            path = folder = None
            with Folders(job.tree) as folders:
                for whole in islice(left, FILES_TOGETHER):
                    wanted, content = job.file(whole.number), _content(whole)
                    if wanted.folder != path:
                        path, folder = wanted.folder, folders.at(wanted.folder)
                    if folder is None or not _is(content, wanted, whole):
                        break
                    if wanted.size >= 2 * PAGE and data_runs(bytes(content)) is not None:
                        break  # pages of zeros, which are not written
                    ready.append((wanted, whole.digest))
                    files.append((folder, wanted.mode & given, wanted.mtime_ns, content))
                if not ready:
                    return
                job.check()
                with job.turn.waiting():
                    written = root.create_all(files)
            for (wanted, digest), one in zip(ready, written, strict=False):
                digest = whole_digest(wanted.size, digest)
                self._files.append(Staged(wanted, one.fd, one.inode, one.disk_ns, one.mode, digest, None))
                left.popleft()
            if len(written) < len(ready):
                return

    def stage(self, whole: Whole) -> bool:
        """Verify and write one file; False when there was no descriptor for it: then publish the others first."""
        job = self._job
        wanted = job.file(whole.number)
        content = _content(whole)
        if not _is(content, wanted, whole):
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
        return Staged.of(wanted, fd, status, whole_digest(size, digest), name)

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


def _content(whole: Whole) -> bytes | memoryview:
    return whole.chunks[0] if len(whole.chunks) == 1 else b"".join(whole.chunks)


def _is(content: bytes | memoryview, wanted: Wanted, whole: Whole) -> bool:
    """Whether this is the content of the wanted file."""
    return len(content) == wanted.size and blake3(content).digest() == whole.digest


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
            batch.stage_together(left)
            while left and batch.stage(left[0]):
                left.popleft()
                batch.stage_together(left)
            batch.publish()
        finally:
            batch.close()
    ended = [one for one in outcomes.values() if isinstance(one, Stored) or one.error != "digest-mismatch"]
    job.release(*[job.file(outcome.number) for outcome in ended])
    return [outcomes[whole.number] for whole in files]
