"""Answering a batch of manifest entries: what is there already, what is wanted, what is refused.

Claims come first, so that what another job of the same peer is just storing is never judged half-way; then the name
records, then the disk. Folders are made here, so that the files in them have a place.

It is longer than other modules because the questions have an order, which is the decision.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from functools import partial

from msgspec.structs import replace

from ftx.core.blocks import block_count, file_digest
from ftx.disk.basis import Basis
from ftx.disk.digest import digest_of
from ftx.disk.fds import close
from ftx.disk.job import Job, Wanted, joined
from ftx.disk.namerecord import NameRecord
from ftx.disk.publish import REPLACING, given_mode
from ftx.disk.root import storage_error
from ftx.disk.runs import Entry, Run, Sorting
from ftx.disk.staging import partial_key, path_tag
from ftx.disk.store import Answer, FileEntry, FolderEntry, Have, Made, Path, PipeEntry, Refuse, Skip, Want
from ftx.disk.syncing import SyncGroup
from ftx.disk.tree import Cursor
from ftx.errors import FtxError
from ftx.limits import BLOCK, DIGEST

__all__ = ["LookUp", "find_basis", "folder_record", "look_up"]


class LookUp:
    """One call of `look_up()`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.device = job.device
        self.answers: dict[int, Answer] = {}
        self._cursor = Cursor(job.tree)
        #: The paths that are wanted, joined: their claims stay.
        self._kept: set[bytes] = set()
        #: Bytes that were promised to the batch and not yet to a file of it.
        self._allowance = 0
        #: Found again by their content, or with permissions to be set: (entry, path, record complete with ctime).
        self._found: list[tuple[FileEntry, Path, NameRecord]] = []
        #: Those of them whose version had no record.
        self._new: list[tuple[bytes, NameRecord]] = []

    def run(self, entries: Sequence[Entry]) -> None:
        """Answer `entries`."""
        with self.job.turn:
            sorting = Sorting(self.job.into, self.device.rules, self._refuse_offered)
            sorting.sort(entries)
            try:
                self._folders(sorting.folders)
                self._files(sorting.runs)
                for pipe, path in sorting.pipes:
                    self._pipe(pipe, path)
                self._confirm()
            finally:
                self._cursor.close()

    def _refuse_offered(self, entry: Entry, error: FtxError) -> None:
        self._refuse(entry, (*self.job.into, *entry.path), error)

    def _refuse(self, entry: Entry, path: Path, error: FtxError | OSError) -> None:
        failure = storage_error(error) if isinstance(error, OSError) else error
        self.answers[entry.number] = Refuse(entry.number, self.job.reported(failure, path))

    # -- folders ------------------------------------------------------------------------------------------

    def _folders(self, folders: Sequence[tuple[FolderEntry, Path]]) -> None:
        if not folders:
            return
        job, records = self.job, self.device.records
        new = {path for _, path in folders if self._absent(path)}
        self._cursor.close()
        job.check()
        try:
            found = records.find(job.peer, [(joined(path), 0, 0) for _, path in folders])
            if new:
                # so that a later run knows them as made by this peer's transfers, whatever happens now
                records.write(job.peer, [(joined(path), folder_record(path)) for path in sorted(new)])
        except FtxError as error:
            for entry, path in folders:
                self._refuse(entry, path, error)
            return
        failed = []
        for (entry, path), record in zip(folders, found, strict=True):
            job.check()
            made = False
            try:
                ours = None if path in new else self._ours(path, record)
                if ours is None:
                    made = job.tree.make(path)
                    if made and path not in new:  # nobody could tell before that it was missing
                        records.write(job.peer, [(joined(path), folder_record(path))])
                    job.tree.enter(path, made)
                    if made:
                        job.new.add(path)
                job.folders[entry.number] = path, made or bool(ours)
                self.answers[entry.number] = Made(entry.number)
            except (OSError, FtxError) as error:
                self._refuse(entry, path, error)
            if path in new and not made:  # what was made stays known as ours, also when it could not be entered
                failed.append((joined(path), 0, 0))
        if failed:
            records.forget(job.peer, failed)

    def _absent(self, path: Path) -> bool:
        """Whether there is nothing at `path` (also when its parent is not there yet)."""
        try:
            return self.device.root.status(self._cursor.at(path[:-1]), path[-1]) is None
        except FileNotFoundError:
            return True
        except (OSError, FtxError):
            return False

    def _ours(self, path: Path, record: NameRecord | None) -> bool | None:
        """Whether the folder `path` was made by this peer's transfers, and may be changed by them; None: it is gone."""
        try:
            with self.job.tree.folder(path) as fd:
                if record is None or record.digest is not None:
                    return False
                return self.job.tree.reopen(fd, record.inode)
        except FileNotFoundError:
            return None

    # -- files --------------------------------------------------------------------------------------------

    def _files(self, runs: Sequence[Run]) -> None:
        if not runs:
            return
        job, space = self.job, self.device.space
        files, paths = [file for run in runs for file in run.files], [path for run in runs for path in run.paths]
        keys = [(job.peer, path) for path in paths]
        claimed = self.device.claims.take(keys, job)
        try:
            try:
                records = self._records(files, paths)
            except FtxError as error:
                for run in runs:
                    for entry, name in zip(run.files, run.names, strict=True):
                        self._refuse(entry, (*run.folder, name), error)
                return
            # what new files of one block take is promised to all of them at once, if there is so much
            new = [file.size for file, record in zip(files, records, strict=True) if record is None]
            needed = sum([size for size in new if size <= BLOCK])
            self._allowance = needed if space.promise(needed) else 0
            first = 0
            for run in runs:
                last = first + len(run.files)
                self._run(run, records[first:last], claimed[first:last])
                first = last
        finally:
            space.release(self._allowance)
            self._allowance = 0
            kept = self._kept
            unused = [key for key, free in zip(keys, claimed, strict=True) if free and key[1] not in kept]
            self.device.claims.release(unused, job)

    def _records(self, files: Sequence[FileEntry], paths: Sequence[bytes]) -> list[NameRecord | None]:
        keys = [(path, file.size, file.mtime_ns) for file, path in zip(files, paths, strict=True)]
        return self.device.records.find(self.job.peer, keys)

    def _run(self, run: Run, records: Sequence[NameRecord | None], claimed: Sequence[bool]) -> None:
        """Answer the files of `run`."""
        self.job.check()
        if all(claimed) and self._all_new(run, records):
            return
        for at in self._changed(run, records) if all(claimed) else range(len(run.files)):
            self.job.check()
            self._answer(run, at, records[at], claimed[at])

    def _all_new(self, run: Run, records: Sequence[NameRecord | None]) -> bool:
        """Whether all of `run` are wanted without a look, as `_file` and `_want` would find; they are answered then."""
        files, job = run.files, self.job
        size = sum([file.size for file in files])
        if (
            not self._unseen(run.folder)
            or any(records)
            or size > self._allowance
            or any([file.digest is not None or file.size > BLOCK for file in files])
        ):
            return False
        self._allowance -= size
        folder = run.folder
        for file, name, path in zip(files, run.names, run.paths, strict=True):
            number = file.number
            job.wanted[number] = Wanted(
                number, folder, name, path, file.size, file.mtime_ns, file.mode, False, None, file.size, None
            )
            self.answers[number] = Want(number, None)
        self._kept.update(run.paths)
        return True

    def _unseen(self, folder: Path) -> bool:
        """Whether names in `folder` need no look.

        It was empty when this job made it. What somebody else has put there since is found when the file gets its name,
        and the rule holds then.
        """
        return folder in self.job.new and self.job.conflict != "skip"

    def _answer(self, run: Run, at: int, record: NameRecord | None, claimed: bool) -> None:
        """Answer one file of `run`."""
        entry, path, whole = run.files[at], (*run.folder, run.names[at]), run.paths[at]
        try:
            if not claimed:
                raise FtxError("busy")
            answer = self._file(entry, path, record, whole)
        except (OSError, FtxError) as error:
            if isinstance(error, FtxError) and error.name == "superseded":
                raise
            self._refuse(entry, path, error)
            return
        if answer is not None:
            self.answers[entry.number] = answer
            if isinstance(answer, Want):
                self._kept.add(whole)

    def _changed(self, run: Run, records: Sequence[NameRecord | None]) -> Sequence[int]:
        """Which files of `run` have to be looked at one by one: the others are as their records say, and answered."""
        everything = range(len(run.files))
        if not any(records):
            return everything
        try:
            found = self.device.root.statuses(self._cursor.at(run.folder), run.names)
        except (OSError, FtxError):
            return everything  # whoever has it is told
        given, folder, rest = given_mode(self.job, 0o777), run.folder, []
        for at, entry, name, record, status in zip(everything, run.files, run.names, records, found, strict=True):
            if (
                record is None
                or status is None
                or record.digest is None
                or record.final != name
                or entry.digest not in (None, record.digest)
                or record.mode not in (None, entry.mode & given)
                or not _untouched(record, status)
            ):
                rest.append(at)
            else:
                self.answers[entry.number] = Have(entry.number, (*folder, name), record.digest)
        return rest

    def _file(self, entry: FileEntry, path: Path, record: NameRecord | None, whole: bytes) -> Answer | None:
        """The answer for one file; None when it follows with `_confirm()`. `whole` is its path, joined."""
        root, name = self.device.root, path[-1]
        if record is None and entry.digest is None and self._unseen(path[:-1]):
            return self._want(entry, path, False, None, whole)
        folder_fd = self._cursor.at(path[:-1])
        there = root.status(folder_fd, name)
        # the same size and time, but not the same content: the sender has looked closer than its times do
        differs = record is not None and entry.digest not in (None, record.digest)
        if record is not None and not differs:
            final = there if record.final == name else root.status(folder_fd, record.final)
            if final is not None and record.digest is not None and _plausible(record, final):
                if _unchanged(record, final):
                    if self._mode_to_give(entry, record, final) is None:
                        return Have(entry.number, (*path[:-1], record.final), record.digest)
                    self._found.append((entry, path, record))
                    return None
                renewed = self._found_again(folder_fd, record)
                if renewed is not None:
                    self._found.append((entry, path, renewed))
                    return None
        if entry.digest is not None:
            same = self._same_content(entry, path, folder_fd, there, entry.digest)
            if same is not None:
                self._found.append((entry, path, same))
                self._new.append((joined(path), same))
                return None
        if there is not None and self._is_skipped(there):
            return Skip(entry.number)
        return self._want(entry, path, there is not None, record, whole)

    def _is_skipped(self, there: os.stat_result) -> bool:
        """Whether a taken name means that the file is left out; FtxError `exists` when it is refused for it."""
        if stat.S_ISDIR(there.st_mode) or self.job.conflict == "fail":
            raise FtxError("exists")
        if self.job.conflict in REPLACING and not stat.S_ISREG(there.st_mode):
            raise FtxError("exists")
        return self.job.conflict == "skip"

    def _pipe(self, entry: PipeEntry, path: Path) -> None:
        """The answer for a file of unknown size: no record can know it."""
        job, whole = self.job, joined(path)
        keep = False
        claimed = self.device.claims.take([(job.peer, whole)], job)[0]
        try:
            job.check()
            if not claimed:
                raise FtxError("busy")
            there = self.device.root.status(self._cursor.at(path[:-1]), path[-1])
            if there is not None and self._is_skipped(there):
                self.answers[entry.number] = Skip(entry.number)
                return
            number, mtime, mode = entry.number, entry.mtime_ns, entry.mode
            job.wanted[number] = Wanted(
                number, path[:-1], path[-1], whole, 0, mtime, mode, there is not None, None, 0, None, pipe=True
            )
            self.answers[number] = Want(number, None)
            keep = True
        except (OSError, FtxError) as error:
            if isinstance(error, FtxError) and error.name == "superseded":
                raise
            self._refuse(entry, path, error)
        finally:
            if claimed and not keep:
                self.device.claims.release([(job.peer, whole)], job)

    def _want(self, entry: FileEntry, path: Path, taken: bool, record: NameRecord | None, whole: bytes) -> Want:
        job, staging = self.job, self.device.staging
        held = key = None
        missing = entry.size
        if entry.size > BLOCK:
            key = partial_key(job.peer, whole, entry.size, entry.mtime_ns)
            staging.use(key)
        try:
            if key is not None:
                held = staging.held(key, entry.size)
                missing -= 0 if held is None else held.bytes_in(entry.size)
            if missing <= self._allowance:
                self._allowance -= missing
            elif not self.device.space.promise(missing):
                raise FtxError("no-space", "too little free space for this file")
        except BaseException:
            if key is not None:
                staging.leave(key)
            raise
        job.wanted[entry.number] = Wanted(
            entry.number,
            path[:-1],
            path[-1],
            whole,
            entry.size,
            entry.mtime_ns,
            entry.mode,
            taken,
            key,
            missing,
            record,
        )
        older = key is not None and self._older(job.wanted[entry.number], path, held is not None)
        return Want(entry.number, held, older)

    def _older(self, wanted: Wanted, path: Path, held: bool) -> bool:
        """Whether there is something of an older version that this peer may know of; noted in `wanted`.

        `held`: what is staged for this version has blocks that are believed.
        """
        job, root = self.job, self.device.root
        if wanted.key is None:
            return False
        folder_fd = self._cursor.at(path[:-1])
        for record in self.device.records.versions(job.peer, wanted.path):
            final = root.status(folder_fd, record.final)
            if final is not None and _plausible(record, final) and final.st_size:
                wanted.copy, wanted.copied = record.final, record
                return True
        if job.reads and wanted.taken:
            wanted.copy = wanted.name
            return True
        if job.left is None:
            job.left = self.device.staging.tagged()
        older = job.left.get(path_tag(job.peer, wanted.path))
        if older is None or older[0] == wanted.key:
            wanted.left_over = not held and self.device.staging.left_over(wanted.key)
            return wanted.left_over
        wanted.older = older
        self.device.staging.use(older[0])
        return True

    # -- files that may be there --------------------------------------------------------------------------

    def _found_again(self, folder_fd: int, record: NameRecord) -> NameRecord | None:
        """The record renewed, if the file at its name has its content; the content is durable then."""
        try:
            fd = self.device.root.open_file(folder_fd, record.final)
        except PermissionError:
            fd = None  # stored with permissions that keep us out: a second copy is better than none
        if fd is None:
            return None
        try:
            before = os.fstat(fd)
            if not _plausible(record, before):
                return None
            with self.job.turn.waiting():
                if digest_of(fd, record.size, self.job.check_looking) != record.digest:
                    return None
                os.fsync(fd)
            after = os.fstat(fd)
        finally:
            close(fd)
        if (after.st_mtime_ns, after.st_ctime_ns) != (before.st_mtime_ns, before.st_ctime_ns):
            return None
        return NameRecord(
            record.final,
            after.st_ino,
            record.size,
            record.mtime_ns,
            after.st_mtime_ns,
            after.st_ctime_ns,
            record.digest,
            record.mode,
        )

    def _mode_to_give(self, entry: FileEntry, record: NameRecord, status: os.stat_result) -> int | None:
        """The permission bits that an identical file is to be given, if they are not those that are on record.

        They follow the sender's for a file that this peer's transfers stored, until somebody here has chosen others.
        """
        mode = given_mode(self.job, entry.mode)
        if record.mode in (None, mode) or stat.S_IMODE(status.st_mode) not in (record.mode, mode):
            return None
        return mode

    def _same_content(
        self, entry: FileEntry, path: Path, folder_fd: int, there: os.stat_result | None, digest: bytes
    ) -> NameRecord | None:
        """The record of the offered version, if a file that this peer may know of has this content."""
        job = self.job
        for record in self.device.records.same_content(job.peer, joined(path), entry.size, digest):
            final = self.device.root.status(folder_fd, record.final)
            if final is None or not _plausible(record, final):
                continue
            renewed = record if _unchanged(record, final) else self._found_again(folder_fd, record)
            if renewed is not None:
                return replace(renewed, mtime_ns=entry.mtime_ns)
        if not job.reads or there is None or there.st_size != entry.size or not stat.S_ISREG(there.st_mode):
            return None
        seen = NameRecord(path[-1], there.st_ino, entry.size, entry.mtime_ns, there.st_mtime_ns, None, digest)
        return self._found_again(folder_fd, seen)

    def _confirm(self) -> None:
        """Make the names of what was found again durable, then vouch for it."""
        if not self._found:
            return
        job = self.job
        self._cursor.close()
        try:
            group = self.device.syncs.group(job.turn)
            try:
                with group.waiting():
                    self._give_modes(group)
                    job.tree.sync(group, {path[:-1] for _, path, _ in self._found})
            finally:
                group.close()
            self._remove_leftovers()
            if self._new:
                self.device.records.write(job.peer, self._new)
        except (OSError, FtxError) as error:
            for entry, path, _ in self._found:
                self._refuse(entry, path, error)
            return
        self.device.records.settle(job.peer, [(joined(path), record) for _, path, record in self._found])
        for entry, path, record in self._found:
            if record.digest is not None:
                self.answers[entry.number] = Have(entry.number, (*path[:-1], record.final), record.digest)

    def _give_modes(self, group: SyncGroup) -> None:
        """Give those of what was found whose permissions are to follow the sender's theirs, durably."""
        root, given = self.device.root, []
        for index, (entry, path, record) in enumerate(self._found):
            self.job.check()
            with self.job.tree.folder(path[:-1]) as folder_fd:
                status = root.status(folder_fd, record.final)
                mode = None if status is None else self._mode_to_give(entry, record, status)
                if status is None or mode is None or not _unchanged(record, status):
                    continue
                after = root.give_mode(folder_fd, record.final, status, mode)
            if after is not None and _plausible(record, after):
                self._found[index] = entry, path, replace(record, ctime_ns=after.st_ctime_ns, mode=mode)
                given.append((path[:-1], record.final))
        if given and not group.shared(len(given)):
            for folder, name in given:
                with self.job.tree.folder(folder) as folder_fd:
                    fd = root.open_file(folder_fd, name)
                    if fd is not None:
                        try:
                            os.fsync(fd)
                        finally:
                            close(fd)

    def _remove_leftovers(self) -> None:
        """A kill between publishing and the end leaves the journal, or a second link, in the staging folder."""
        for entry, path, _ in self._found:
            if block_count(entry.size) > 1:
                self.device.staging.remove(partial_key(self.job.peer, joined(path), entry.size, entry.mtime_ns))


def find_basis(job: Job, wanted: Wanted) -> Basis | None:
    """The older copy of `wanted`, or what there is of one, opened; OSError as it comes."""
    if wanted.copy is not None:
        with job.tree.folder(wanted.folder) as folder_fd:
            root, known = job.device.root, partial(_remembered, job, wanted)
            return Basis.of_copy(root, folder_fd, wanted.copy, known)
    if wanted.left_over and wanted.key is not None:
        return Basis.of_left_over(job.device.staging, wanted.key)
    return None if wanted.older is None else Basis.of_partial(job.device.staging, *wanted.older)


def _remembered(job: Job, wanted: Wanted, status: os.stat_result) -> bytes | None:
    """The block digests of the older copy, if it is as recorded and they are those that were recorded with it."""
    record = wanted.copied
    if record is None or not _untouched(record, status):
        return None
    try:
        digests = job.device.records.blocks(job.peer, wanted.path, record)
    except FtxError:
        return None
    complete = len(digests) == block_count(record.size) * DIGEST
    return digests if complete and file_digest(record.size, [digests]) == record.digest else None


def folder_record(path: Path, inode: int = 0) -> NameRecord:
    """The record of a folder that this peer's transfers made, pending while `inode` is 0."""
    return NameRecord(path[-1], inode, 0, 0, 0, 0 if inode else None, None)


def _plausible(record: NameRecord, status: os.stat_result) -> bool:
    """Whether the file may be the recorded one; a pending record speaks of one inode only."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_size == record.size
        and status.st_mtime_ns == record.disk_ns
        and (record.ctime_ns is not None or status.st_ino == record.inode)
    )


def _unchanged(record: NameRecord, status: os.stat_result) -> bool:
    """Whether a plausible file has certainly not been touched since its content was verified."""
    return record.ctime_ns == status.st_ctime_ns and record.inode == status.st_ino


def _untouched(record: NameRecord, status: os.stat_result) -> bool:
    """Whether the file is the recorded one, and has certainly not been touched: plausible and unchanged, in one."""
    return (
        record.ctime_ns == status.st_ctime_ns
        and record.inode == status.st_ino
        and record.disk_ns == status.st_mtime_ns
        and record.size == status.st_size
        and stat.S_ISREG(status.st_mode)
    )


def look_up(job: Job, entries: Sequence[Entry]) -> list[Answer]:
    """Answer `entries`, in the same order; see `JobStore.look_up()`."""
    lookup = LookUp(job)
    lookup.run(entries)
    return [lookup.answers[entry.number] for entry in entries]
