"""Symbolic links that a sender keeps: made when everything else of the job is done, and never followed.

Order of writing as for files (`docs/storage.md`): the record, then the link, then the folders, and only then `stored`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from attrs import define

from ftx import limits
from ftx.core.blocks import content_digest
from ftx.disk.job import Job, joined
from ftx.disk.namerecord import NameRecord
from ftx.disk.names import check_path, free_names
from ftx.disk.root import storage_error
from ftx.disk.store import Failed, Have, LinkEntry, Path, Skip, Stored, Want
from ftx.disk.tree import Cursor
from ftx.errors import FtxError

__all__ = ["look_links_up", "make_links"]

Outcome = Stored | Have | Skip | Failed | Want


@define(eq=False)
class _Link:
    """A link that is to be made. `name` is what is tried next; it is `there`, and then has its time, and a `status`."""

    entry: LinkEntry
    path: Path
    digest: bytes
    name: bytes
    tries: int = 0
    there: bool = False
    status: os.stat_result | None = None

    def record(self) -> NameRecord:
        """Its name record: pending, without an inode, until it is there."""
        size, mtime_ns, found = len(self.entry.target), self.entry.mtime_ns, self.status
        if found is None:
            return NameRecord(self.name, 0, size, mtime_ns, 0, None, self.digest)
        return NameRecord(self.name, found.st_ino, size, mtime_ns, found.st_mtime_ns, found.st_ctime_ns, self.digest)


class _Linking:
    """One call of `make_links()`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.device = job.device
        self.outcomes: dict[int, Outcome] = {}
        self._cursor = Cursor(job.tree)
        self._recorded: dict[int, _Link] = {}
        #: Folders whose time is to be given back: what they had before.
        self._times: dict[Path, os.stat_result] = {}

    def run(self, entries: Sequence[LinkEntry]) -> None:
        """Everything up to the synced folders; `outcomes` has an answer for each link."""
        try:
            left = self._look(entries)
            made: list[_Link] = []
            while left:
                self.job.check()
                self.device.records.write(self.job.peer, [(joined(link.path), link.record()) for link in left])
                self._recorded.update((link.entry.number, link) for link in left)
                tried = [link for link in left if self._make(link)]
                made += [link for link in left if link.status is not None]
                left = [link for link in tried if self._next_free(link)]
            self._give_back()
            self._forget()
        finally:
            self._cursor.close()
        self._settle(made)

    def rehearse(self, entry: LinkEntry) -> Outcome:
        """What would become of one link."""
        path = (*self.job.into, *entry.path)
        try:
            self._cursor.at(path[:-1])
            self._look([entry])
        except FileNotFoundError:  # its folder would be made
            pass
        except (OSError, FtxError) as error:
            self._fail(entry, path, error)
        finally:
            self._cursor.close()
        return self.outcomes.get(entry.number, Want(entry.number, None))

    def _fail(self, entry: LinkEntry, path: Path, error: FtxError | OSError) -> None:
        failure = storage_error(error) if isinstance(error, OSError) else error
        self.outcomes[entry.number] = Failed(entry.number, self.job.reported(failure, path))

    # -- before -------------------------------------------------------------------------------------------

    def _look(self, entries: Sequence[LinkEntry]) -> list[_Link]:
        """The links that are to be made; the others have their outcomes."""
        links = []
        for entry in entries:
            path = (*self.job.into, *entry.path)
            try:
                check_path(path, self.device.rules)
                links.append(_Link(entry, path, content_digest(entry.target), path[-1]))
            except FtxError as error:
                self._fail(entry, path, error)
        keys = [(joined(link.path), len(link.entry.target), link.entry.mtime_ns) for link in links]
        records = self.device.records.find(self.job.peer, keys)
        return [link for link, record in zip(links, records, strict=True) if self._wanted(link, record)]

    def _wanted(self, link: _Link, record: NameRecord | None) -> bool:
        """Whether `link` is to be made, under the name it then has."""
        self.job.check()
        try:
            folder_fd = self._cursor.at(link.path[:-1])
            if record is not None and self._is_there(folder_fd, link, record):
                stored_as = (*link.path[:-1], record.final)
                self.outcomes[link.entry.number] = Have(link.entry.number, stored_as, link.digest)
                return False
            taken = self.device.root.status(folder_fd, link.name)
        except (OSError, FtxError) as error:
            self._fail(link.entry, link.path, error)
            return False
        if taken is None:
            return True
        if self.job.conflict == "skip" and not stat.S_ISDIR(taken.st_mode):
            self.outcomes[link.entry.number] = Skip(link.entry.number)
            return False
        if stat.S_ISDIR(taken.st_mode):
            self._fail(link.entry, link.path, FtxError("exists"))
            return False
        return self._next_free(link)

    def _is_there(self, folder_fd: int, link: _Link, record: NameRecord) -> bool:
        """Whether the link of `record` is where it says, and durable."""
        found = self.device.root.status(folder_fd, record.final)
        if found is None or not stat.S_ISLNK(found.st_mode) or record.digest != link.digest:
            return False
        if record.inode not in (0, found.st_ino):
            return False
        if self.device.root.link_target(folder_fd, record.final) != link.entry.target:
            return False
        if record.inode == 0:  # a kill, or an error, came between the link and its sync
            link.name = record.final
            link.status = self.device.root.date_link(folder_fd, record.final, link.entry.mtime_ns)
            self._sync([link])
            self.device.records.settle(self.job.peer, [(joined(link.path), link.record())])
        return True

    def _next_free(self, link: _Link) -> bool:
        """Go on to the next name that seems to be free; False, with an outcome, when there is none to be tried."""
        error: FtxError | OSError = FtxError("exists")
        try:
            if self.job.conflict == "rename":
                folder_fd = self._cursor.at(link.path[:-1])
                above = sum(map(len, link.path[:-1])) + len(link.path) - 1
                room = min(limits.NAME, limits.PATH - above)
                for number, name in free_names(link.path[-1], link.tries + 1, room):
                    if self.device.root.status(folder_fd, name) is None:
                        link.tries, link.name = number, name
                        return True
        except (OSError, FtxError) as caught:
            error = caught
        self._fail(link.entry, link.path, error)
        return False

    # -- making -------------------------------------------------------------------------------------------

    def _make(self, link: _Link) -> bool:
        """Make the link. True when its name was taken meanwhile; else it has its status, or an outcome."""
        self.job.check()
        folder = link.path[:-1]
        try:
            self._open_up(folder)
            folder_fd = self._cursor.at(folder)
            self.device.root.make_link(folder_fd, link.name, link.entry.target)
            link.there = True
            link.status = self.device.root.date_link(folder_fd, link.name, link.entry.mtime_ns)
        except FileExistsError:
            return True
        except (OSError, FtxError) as error:
            self._fail(link.entry, link.path, error)
        return False

    def _open_up(self, folder: Path) -> None:
        """Remember the time of a folder that this peer's transfers made, and let it take names."""
        if folder in self._times or not folder:
            return
        with self.job.tree.folder(folder) as fd:
            found = os.fstat(fd)
        record = self.device.records.find(self.job.peer, [(joined(folder), 0, 0)])[0]
        if record is None or record.digest is not None or record.inode not in (0, found.st_ino):
            return
        self._times[folder] = found
        with self.job.tree.folder(folder) as fd:
            self.job.tree.reopen(fd)

    def _forget(self) -> None:
        """Remove the records of links that were not made: they must not vouch for somebody else's."""
        lost = [link for link in self._recorded.values() if not link.there]
        if lost:
            keys = [(joined(link.path), len(link.entry.target), link.entry.mtime_ns) for link in lost]
            self.device.records.forget(self.job.peer, keys)

    def _give_back(self) -> None:
        """Folders of this peer get back their permissions and their time."""
        for folder, found in self._times.items():
            try:
                with self.job.tree.folder(folder) as fd:
                    if stat.S_IMODE(os.fstat(fd).st_mode) != stat.S_IMODE(found.st_mode):
                        os.fchmod(fd, stat.S_IMODE(found.st_mode))
                    os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))
            except (OSError, FtxError) as error:  # moved away meanwhile: its time is its owner's business now
                self.job.reported(storage_error(error) if isinstance(error, OSError) else error, folder)

    # -- after --------------------------------------------------------------------------------------------

    def _sync(self, links: Sequence[_Link]) -> None:
        group = self.device.syncs.group()
        try:
            self.job.tree.sync(group, {link.path[:-1] for link in links})
        finally:
            group.close()

    def _settle(self, made: Sequence[_Link]) -> None:
        """Sync the folders; then, and only then, the links are stored."""
        if not made:
            return
        try:
            self._sync(made)
        except (OSError, FtxError) as error:
            for link in made:
                self._fail(link.entry, link.path, error)
            return
        self.device.records.settle(self.job.peer, [(joined(link.path), link.record()) for link in made])
        for link in made:
            number = link.entry.number
            self.outcomes[number] = Stored(number, (*link.path[:-1], link.name), link.digest)


def make_links(job: Job, entries: Sequence[LinkEntry]) -> list[Outcome]:
    """Make `entries`, in the same order; see `JobStore.make_links()`."""
    linking = _Linking(job)
    linking.run(entries)
    return [linking.outcomes[entry.number] for entry in entries]


def look_links_up(job: Job, entries: Sequence[LinkEntry]) -> list[Outcome]:
    """What `make_links()` would say: `Want` for a link that it would make. Nothing is changed."""
    linking = _Linking(job)
    return [linking.rehearse(entry) for entry in entries]
