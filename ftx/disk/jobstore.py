"""One incoming job's view of an inbox on a local file system: `JobStore` of `ftx.disk.store`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ftx.disk.batch import store_batch
from ftx.disk.growing import Growing
from ftx.disk.job import Device, Job, Wanted, joined
from ftx.disk.linking import make_links
from ftx.disk.lookup import find_basis, folder_record, look_up
from ftx.disk.partial import Partial
from ftx.disk.publish import Outcome, Staged, failed_all, publish, wanted_mode
from ftx.disk.root import storage_error
from ftx.disk.store import (
    Answer,
    Failed,
    FileEntry,
    FolderEnd,
    FolderEntry,
    Have,
    LinkEntry,
    Path,
    PipeEntry,
    Skip,
    Stored,
    Want,
    Whole,
)
from ftx.errors import FtxError, LocalProtocolError

__all__ = ["InboxJob"]


class InboxJob:
    """A job; see `JobStore` for what each method promises. Made by `Inbox.begin()`."""

    def __init__(
        self, device: Device, peer: bytes, job: bytes, into: Path, conflict: str, *, reads: bool = False
    ) -> None:
        self._device = device
        self._job_id = job
        self._job = Job(device, peer, into, conflict, reads=reads)
        self._prepared = False

    def look_up(self, entries: Sequence[FileEntry | PipeEntry | FolderEntry]) -> list[Answer]:
        """See `JobStore`."""
        with self._job.running():
            self._job.check_looking()
            self._prepare()
            return look_up(self._job, entries)

    def _prepare(self) -> None:
        """Make the `into` folder, when the first entry arrives: a job that sends nothing leaves nothing."""
        if self._prepared:
            return
        try:
            self._job.tree.ensure(self._job.into)
        except OSError as error:
            raise storage_error(error) from error
        self._prepared = True

    # -- files --------------------------------------------------------------------------------------------

    def store_whole(self, files: Sequence[Whole]) -> list[Stored | Failed]:
        """See `JobStore`."""
        with self._job.running():
            return store_batch(self._job, files)

    def write_block(self, number: int, index: int, chunks: Sequence[bytes | memoryview] | None, digest: bytes) -> bool:
        """See `JobStore`."""
        with self._job.running(), self._told(number), self._job.partials.use(number) as partial:
            return partial.write(index, chunks, digest)

    def basis(self, number: int) -> bytes:
        """See `JobStore`."""
        job = self._job
        with job.running():
            job.check_looking()
            wanted = job.file(number)
            try:
                basis = find_basis(job, wanted)
                if basis is None:
                    return b""
                wanted.basis = basis
                return basis.digests(wanted.size, job.check_looking)
            except OSError:
                return b""  # it cannot be read: then everything travels

    def copy_block(self, number: int, index: int, offset: int, digest: bytes) -> bool:
        """See `JobStore`."""
        with self._job.running(), self._told(number):
            wanted = self._job.file(number)
            if wanted.basis is None:
                return False
            with self._job.partials.use(number) as partial:
                copied = isinstance(partial, Partial) and partial.copy(index, wanted.basis.fd, offset, digest)
            if not copied:
                self._doubt(wanted)
            return copied

    def _doubt(self, wanted: Wanted) -> None:
        """The older copy is not what was offered: what is remembered of it must not be offered once more."""
        older, wanted.copied = wanted.copied, None
        if older is not None:
            try:
                self._device.records.forget_blocks(self._job.peer, wanted.path, older)
            except FtxError as error:
                self._device.report(error.message)

    def sync(self, number: int) -> int:
        """See `JobStore`."""
        with self._job.running(), self._told(number), self._job.partials.use(number) as partial:
            return partial.sync()

    @contextmanager
    def _told(self, number: int) -> Iterator[None]:
        """The operator hears of the first failure of this file's partial; it answers all that follows."""
        try:
            yield
        except FtxError as error:
            wanted = self._job.wanted.get(number)
            if wanted is not None and not wanted.told:
                wanted.told = True
                self._job.reported(error, (*wanted.folder, wanted.name))
            raise

    def publish(self, number: int, digest: bytes) -> Stored | Failed:
        """See `JobStore`."""
        job = self._job
        with job.running():
            wanted = job.file(number)
            keep = True
            outcome: Outcome
            try:
                outcome = self._publish(wanted, digest)
                # under `exists` the name will not be free for this job, however often it is tried
                keep = isinstance(outcome, Failed) and outcome.error != "exists"
                if isinstance(outcome, Stored):
                    self._remove_older(wanted)
            except OSError as error:
                outcome = failed_all(job, [wanted], storage_error(error))[number]
            except FtxError as error:
                if error.name == "superseded":
                    raise
                outcome = failed_all(job, [wanted], error)[number]
                keep = error.name != "digest-mismatch"
            self._end(wanted, keep)
            return outcome

    def _publish(self, wanted: Wanted, digest: bytes) -> Outcome:
        """Publish a partial. FtxError `digest-mismatch` when its blocks are not those of one file: it is worthless."""
        job, device = self._job, self._device
        group = device.syncs.group()
        try:
            with job.partials.use(wanted.number) as partial:
                found = partial.file_digest()
                if found is None:
                    # blocks are missing; what there is may be right
                    return failed_all(job, [wanted], FtxError("digest-mismatch"))[wanted.number]
                if found != digest:
                    raise FtxError("digest-mismatch")
                job.check()
                status = partial.finalise(wanted_mode(job, wanted), wanted.mtime_ns)
                wanted.size = partial.size  # of a pipe it is known only now
                blocks = partial.block_digests() if isinstance(partial, Partial) else b""
                staged = Staged.of(wanted, partial.fd, status, digest, partial.name, blocks)
                return publish(job, [staged], group)[wanted.number]
        finally:
            group.close()

    def _remove_older(self, wanted: Wanted) -> None:
        """What was left of another version has served."""
        if wanted.older is not None:
            try:
                self._device.staging.remove(wanted.older[0])
            except OSError as error:
                self._device.report(storage_error(error).message)

    def _end(self, wanted: Wanted, keep: bool) -> None:
        """Let go of a file, and of its partial unless it is kept."""
        partial: Partial | Growing | None = self._job.partials.drop(wanted.number)
        if keep and partial is not None:
            partial.close()
        elif partial is not None:
            partial.release()
            partial.remove()
        elif wanted.key is not None and not keep:
            try:
                self._device.staging.remove(wanted.key)
            except OSError as error:
                self._device.report(storage_error(error).message)
        self._job.release(wanted)

    def discard(self, number: int, keep: bool) -> None:
        """See `JobStore`. An entry that is not wanted (any more) is none to discard."""
        with self._job.running():
            wanted = self._job.wanted.get(number)
            if wanted is not None:
                self._end(wanted, keep)
            self._job.forget_folder(number)

    # -- folders ------------------------------------------------------------------------------------------

    def finish_folder(self, number: int, mode: int, mtime_ns: int) -> Stored | Failed:
        """See `JobStore`."""
        return self.finish_folders([FolderEnd(number, mode, mtime_ns)])[0]

    def finish_folders(self, folders: Sequence[FolderEnd]) -> list[Stored | Failed]:
        """See `JobStore`."""
        with self._job.running():
            return self._finish_folders(folders)

    def _finish_folders(self, folders: Sequence[FolderEnd]) -> list[Stored | Failed]:
        job = self._job
        outcomes: dict[int, Outcome] = {}
        done: list[tuple[int, Path, os.stat_result | None]] = []
        for end in folders:
            path, ours = self._folder(end.number)
            job.check()
            try:
                done.append((end.number, path, job.tree.finish(path, end.mode, end.mtime_ns) if ours else None))
            except (OSError, FtxError) as error:
                failure = storage_error(error) if isinstance(error, OSError) else error
                outcomes[end.number] = Failed(end.number, job.reported(failure, path))
        try:
            group = self._device.syncs.group()
            try:
                job.tree.sync(group, [path for _, path, _ in done])
            finally:
                group.close()
        except (OSError, FtxError) as error:
            failure = storage_error(error) if isinstance(error, OSError) else error
            outcomes.update((number, Failed(number, job.reported(failure, path))) for number, path, _ in done)
        else:
            own = [(path, status) for _, path, status in done if status is not None]
            self._device.records.settle(
                job.peer, [(joined(path), folder_record(path, status.st_ino)) for path, status in own]
            )
            outcomes.update((number, Stored(number, path, b"")) for number, path, _ in done)
        for end in folders:
            job.forget_folder(end.number)
        return [outcomes[end.number] for end in folders]

    def _folder(self, number: int) -> tuple[Path, bool]:
        folder = self._job.folders.get(number)
        if folder is None:
            raise LocalProtocolError(f"entry {number} is not an open folder")
        return folder

    # -- links --------------------------------------------------------------------------------------------

    def make_links(self, links: Sequence[LinkEntry]) -> list[Stored | Have | Skip | Failed | Want]:
        """See `JobStore`."""
        with self._job.running():
            self._prepare()
            return make_links(self._job, links)

    # -- the job ------------------------------------------------------------------------------------------

    def save_receipt(self, receipt: bytes) -> None:
        """See `JobStore`."""
        with self._job.running():
            self._device.records.save_receipt(self._job.peer, self._job_id, receipt)

    def stop_looking(self) -> None:
        """See `JobStore`."""
        self._job.stop_looking()

    def revoke(self) -> None:
        """See `JobStore`."""
        self._job.revoke()

    def close(self) -> None:
        """See `JobStore`."""
        self._job.end()
        try:
            self._device.records.flush()
        except FtxError as error:
            # what waits is only a short cut for the next time
            self._device.report(error.message)
