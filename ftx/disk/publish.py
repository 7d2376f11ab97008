"""Giving durable content its final names: record first, then the name, then the folders, and only then `stored`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from msgspec import Struct

from ftx import limits
from ftx.disk.job import Job, Wanted, joined
from ftx.disk.namerecord import NameRecord
from ftx.disk.names import aside_names, free_names
from ftx.disk.root import storage_error
from ftx.disk.store import Failed, Stored
from ftx.disk.syncing import SyncGroup
from ftx.disk.tree import Cursor, Folders
from ftx.errors import FtxError

#: The conflict rules under which a regular file makes room for the one that is stored.
REPLACING = frozenset({"backup", "overwrite"})

__all__ = ["REPLACING", "Outcome", "Staged", "failed_all", "given_mode", "publish", "wanted_mode"]

Outcome = Stored | Failed


class Staged(Struct, eq=False):
    """Verified and durable content of a wanted file, without its final name.

    `staged` is its name in the staging folder, None for an unnamed file; `inode`, `disk_ns` and `mode` are what
    fstat(2) said after time and permissions were set. The descriptor `fd` stays the caller's. `blocks` are its block
    digests, joined, if they are to be remembered.
    """

    wanted: Wanted
    fd: int
    inode: int
    #: The time that the file system keeps, ns since 1970.
    disk_ns: int
    mode: int
    digest: bytes
    staged: bytes | None
    blocks: bytes = b""
    name: bytes = b""
    tries: int = 0

    @classmethod
    def of(
        cls, wanted: Wanted, fd: int, status: os.stat_result, digest: bytes, staged: bytes | None, blocks: bytes = b""
    ) -> Staged:
        """With what fstat(2) said, as `status`."""
        return cls(wanted, fd, status.st_ino, status.st_mtime_ns, status.st_mode, digest, staged, blocks)

    def record(self, ctime_ns: int | None = None) -> NameRecord:
        """Its name record, pending or (with the time) complete."""
        wanted = self.wanted
        return NameRecord(
            self.name,
            self.inode,
            wanted.size,
            wanted.mtime_ns,
            self.disk_ns,
            ctime_ns,
            self.digest,
            self.mode & 0o7777,
        )


def wanted_mode(job: Job, wanted: Wanted) -> int:
    """The permission bits that `wanted` gets: the sender's, less the inbox's umask; never setuid, setgid, sticky."""
    return given_mode(job, wanted.mode)


def given_mode(job: Job, mode: int) -> int:
    """The permission bits of an entry that the sender has with `mode`, as they are given here."""
    return mode & 0o777 & ~job.device.umask


def _as_failure(error: OSError | FtxError) -> FtxError:
    return storage_error(error) if isinstance(error, OSError) else error


class _Publication:
    """One call of `publish()`."""

    def __init__(self, job: Job, group: SyncGroup) -> None:
        self.job = job
        self.group = group
        self.outcomes: dict[int, Outcome] = {}
        self._cursor = Cursor(job.tree)
        #: Whole paths.
        self._chosen: set[bytes] = set()
        self._linked: list[tuple[Staged, int]] = []
        #: What was recorded before it had its name: in rows of their own, or in intents.
        self._recorded: set[int] = set()
        self._intents: list[int] = []
        self._durable = False

    def run(self, files: Sequence[Staged]) -> None:
        """Everything up to the synced folders; `outcomes` has an answer for each file."""
        try:
            # what could not be believed would stay under its name; the next attempt at a pipe would add another one
            self.job.tree.refuse(staged.wanted.folder for staged in files)
        except (OSError, FtxError) as error:
            self.outcomes.update(failed_all(self.job, (staged.wanted for staged in files), _as_failure(error)))
            return
        try:
            left = [staged for staged in files if self._choose(staged)]
            while left:
                self.job.check()
                if not self._record(left):
                    break
                left = [staged for staged in self._place_all(left) if self._choose(staged)]
            self._settle()
        finally:
            self._cursor.close()
            self._fulfil()
        self._forget()

    def _record(self, files: Sequence[Staged]) -> bool:
        """Write the records, durable before the names are: a re-run then knows them as its own."""
        records = [(staged.wanted.path, staged.record()) for staged in files]
        blocks = [(staged.wanted.version, staged.blocks) for staged in files if staged.blocks]
        try:
            if blocks:  # they belong to rows
                self.job.device.records.write(self.job.peer, records, blocks)
                self._recorded.update(staged.wanted.number for staged in files)
            else:
                self._intents.append(self.job.device.records.intend(self.job.peer, records))
        except FtxError as error:
            self.outcomes.update(failed_all(self.job, (staged.wanted for staged in files), error))
            return False
        return True

    def _failed(self, staged: Staged, error: FtxError) -> None:
        wanted = staged.wanted
        self.outcomes[wanted.number] = Failed(
            wanted.number, self.job.reported(error, (*wanted.folder, wanted.name))
        )

    def _choose(self, staged: Staged) -> bool:
        """Choose the (next) name to try; False when there is none left, which is an outcome."""
        wanted = staged.wanted
        if not staged.name and not wanted.taken and wanted.path not in self._chosen:
            staged.name = wanted.name
            self._chosen.add(wanted.path)
            return True
        if self.job.conflict in REPLACING:
            staged.name = wanted.name
        elif self.job.conflict != "rename":
            self._failed(staged, FtxError("exists"))
            return False
        else:
            try:
                folder_fd = self._cursor.at(wanted.folder)
                staged.name = self._next_free(staged, folder_fd)
            except (OSError, FtxError) as error:
                self._failed(staged, _as_failure(error))
                return False
            if not staged.name:
                self._failed(staged, FtxError("exists"))
                return False
        self._chosen.add(joined((*wanted.folder, staged.name)))
        return True

    def _next_free(self, staged: Staged, folder_fd: int) -> bytes:
        """The next name that seems to be free, or nothing after `limits.RENAME_TRIES`."""
        wanted = staged.wanted
        # The new path, too, must be one that the protocol can carry back in a result.
        above = sum(map(len, wanted.folder)) + len(wanted.folder)
        room = min(limits.NAME, limits.PATH - above)
        for number, name in free_names(wanted.name, staged.tries + 1, room):
            staged.tries = number
            if joined((*wanted.folder, name)) in self._chosen:
                continue
            if self.job.device.root.status(folder_fd, name) is None:
                return name
        staged.tries = limits.RENAME_TRIES
        return b""

    def _place_all(self, files: Sequence[Staged]) -> list[Staged]:
        """Give each file its name; those whose name was taken meanwhile. Anything else is settled or an outcome."""
        taken, at = [], 0
        while at < len(files):
            some = files[at : at + limits.FILES_TOGETHER]
            done = self._place_together(some)
            at += done
            if done < len(some):
                if self._place(files[at]):
                    taken.append(files[at])
                at += 1
        return taken

    def _place_together(self, files: Sequence[Staged]) -> int:
        """Give those files their names that can get them together; how many, from the first on."""
        root = self.job.device.root
        if not root.together:
            return 0
        ready, replacing = [], self.job.conflict in REPLACING
        path = folder = None
        with Folders(self.job.tree) as folders:
            for staged in files:
                # a name that is known to be taken would end the call: what is behind it would be collected in vain
                if staged.staged is not None or (replacing and staged.wanted.taken):
                    break
                if staged.wanted.folder != path:
                    path, folder = staged.wanted.folder, folders.at(staged.wanted.folder)
                if folder is None:
                    break
                ready.append((staged.fd, folder, staged.name))
            if not ready:
                return 0
            self.job.check()
            with self.group.waiting():
                linked = root.link_all(ready)
        for staged, one in zip(files, linked, strict=False):
            if one.error:
                self._failed(staged, storage_error(OSError(one.error, os.strerror(one.error))))
            else:
                self._linked.append((staged, one.ctime_ns))
        return len(linked)

    def _place(self, staged: Staged) -> bool:
        """Give the file its name. True when the name was taken meanwhile; anything else is settled or an outcome."""
        self.job.check()
        try:
            folder_fd = self._cursor.at(staged.wanted.folder)
            try:
                self._name(staged, folder_fd)
            except FileExistsError:
                if self.job.conflict not in REPLACING:
                    return True
                self._make_room(staged, folder_fd)
            self._linked.append((staged, os.fstat(staged.fd).st_ctime_ns))
        except (OSError, FtxError) as error:
            self._failed(staged, _as_failure(error))
        return False

    def _name(self, staged: Staged, folder_fd: int) -> None:
        """The final step where the name is free; FileExistsError where it is not."""
        device = self.job.device
        if staged.staged is None:
            device.root.link(staged.fd, folder_fd, staged.name)
        else:
            device.root.expect(staged.fd, device.staging.fd, staged.staged)
            device.root.move(device.staging.fd, staged.staged, folder_fd, staged.name)

    def _make_room(self, staged: Staged, folder_fd: int) -> None:
        """The final step where a file has the name and shall not keep it. FtxError `exists` for anything but a file."""
        root, staging = self.job.device.root, self.job.device.staging
        if self.job.conflict == "overwrite":
            if staged.staged is not None:
                root.expect(staged.fd, staging.fd, staged.staged)
                root.replace(staging.fd, staged.staged, folder_fd, staged.name)
                return
            temporary = staging.fresh_name()
            root.stage_unnamed(staged.fd, staging.fd, temporary)
            try:
                root.replace(staging.fd, temporary, folder_fd, staged.name)
            finally:
                root.unlink_staged(staging.fd, temporary)
            return
        for aside in aside_names(staged.name):
            try:
                root.set_aside(folder_fd, staged.name, aside)
            except FileExistsError:
                continue
            try:
                self._name(staged, folder_fd)
            except FileExistsError:  # somebody was quicker: what they put there is moved aside, too
                continue
            return
        raise FtxError("exists")

    def _settle(self) -> None:
        """Sync the folders; then, and only then, the files are stored."""
        linked, job = self._linked, self.job
        extra = [job.device.staging.fd] if any(staged.staged is not None for staged, _ in linked) else []
        if linked:
            try:
                with self.group.waiting():
                    job.tree.sync(self.group, {staged.wanted.folder for staged, _ in linked}, extra)
            except (OSError, FtxError) as error:
                self.outcomes.update(failed_all(job, (staged.wanted for staged, _ in linked), _as_failure(error)))
            else:
                self._durable = True
                for staged, _ in linked:
                    wanted = staged.wanted
                    stored_as = (*wanted.folder, staged.name)
                    self.outcomes[wanted.number] = Stored(wanted.number, stored_as, staged.digest)

    def _fulfil(self) -> None:
        """Complete the records of what is durable; what else has its name, because of an error, stays pending."""
        job, durable = self.job, self._durable
        records = [(staged.wanted.path, staged.record(ctime if durable else None)) for staged, ctime in self._linked]
        for number in self._intents:
            job.device.records.fulfil(number, job.peer, records)
        if durable and not self._intents:
            job.device.records.settle(job.peer, records)

    def _forget(self) -> None:
        """Remove the records that never got their file: they must not vouch for somebody else's.

        What they replaced comes back: the older file may only have been away for a while.
        """
        placed = {staged.wanted.number for staged, _ in self._linked}
        lost = [self.job.file(number) for number in self._recorded & self.outcomes.keys() - placed]
        replaced = [(wanted.path, wanted.record) for wanted in lost if wanted.record is not None]
        forgotten = [wanted.version for wanted in lost if wanted.record is None]
        if lost:
            records = self.job.device.records
            try:
                if replaced:
                    records.write(self.job.peer, replaced)
                if forgotten:
                    records.forget(self.job.peer, forgotten)
            except FtxError as error:
                # pending, and for an inode that is about to go: it will not be believed anyway
                self.job.device.report(error.message)


def publish(job: Job, files: Sequence[Staged], group: SyncGroup) -> dict[int, Outcome]:
    """Publish `files`, durably; the outcome of each by its number.

    `group` was begun before any of them was written. FtxError `superseded` when the job was revoked on the way.
    """
    publication = _Publication(job, group)
    publication.run(files)
    return publication.outcomes


def failed_all(job: Job, files: Iterable[Wanted], error: FtxError) -> dict[int, Outcome]:
    """The outcome of a failure that all of `files` share; the operator is told once."""
    files = list(files)
    if files:
        job.reported(error, (*files[0].folder, files[0].name))
    return {wanted.number: Failed(wanted.number, error.name) for wanted in files}
