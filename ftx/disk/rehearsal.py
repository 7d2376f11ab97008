"""A dry run: what a job would be answered, looked up as for a real one, and nothing is changed.

No folder is made, no name claimed, no space promised, no partial opened. A file that must be hashed to be recognised is
hashed; that its record is not renewed by that costs the same hashing again.
"""

from __future__ import annotations

from collections.abc import Sequence

from ftx.disk.jobstore import InboxJob
from ftx.disk.linking import look_links_up
from ftx.disk.lookup import LookUp
from ftx.disk.namerecord import NameRecord
from ftx.disk.names import check_path
from ftx.disk.runs import Run
from ftx.disk.store import (
    Answer,
    Failed,
    FileEntry,
    FolderEntry,
    Have,
    LinkEntry,
    Made,
    Path,
    PipeEntry,
    Skip,
    Stored,
    Want,
)
from ftx.errors import FtxError

__all__ = ["Rehearsal"]


class _Looking(LookUp):
    """One call of `look_up()` that leaves everything as it is."""

    def _folders(self, folders: Sequence[tuple[FolderEntry, Path]]) -> None:
        for entry, path in folders:
            try:
                try:
                    self._cursor.at(path)
                except FileNotFoundError:
                    check_path(path, self.device.rules)
                self.answers[entry.number] = Made(entry.number)
            except (OSError, FtxError) as error:
                self._refuse(entry, path, error)

    def _files(self, runs: Sequence[Run]) -> None:
        for run in runs:
            records = self._records(run.files, run.paths)
            for at in self._changed(run, records):
                self.job.check_looking()
                self._answer(run, at, records[at], True)  # nothing is claimed

    def _file(self, entry: FileEntry, path: Path, record: NameRecord | None, whole: bytes) -> Answer | None:
        try:
            return super()._file(entry, path, record, whole)
        except FileNotFoundError:  # its folder would be made
            return self._want(entry, path, False, record, whole)

    def _want(self, entry: FileEntry, path: Path, taken: bool, record: NameRecord | None, whole: bytes) -> Want:
        if entry.size > self.device.space.free():
            raise FtxError("no-space", "too little free space for this file")
        return Want(entry.number, None)

    def _pipe(self, entry: PipeEntry, path: Path) -> None:
        self._refuse(entry, path, FtxError("not-supported"))  # a stream is read once: nobody rehearses it

    def _confirm(self) -> None:
        for entry, path, record in self._found:
            digest = record.digest or b""
            self.answers[entry.number] = Have(entry.number, (*path[:-1], record.final), digest)


class Rehearsal(InboxJob):
    """A dry run as a `JobStore`. What would change the disk is never called."""

    def look_up(self, entries: Sequence[FileEntry | PipeEntry | FolderEntry]) -> list[Answer]:
        """See `JobStore`; `Want` and `Made` say what would be."""
        with self._job.running():
            self._job.check_looking()
            looking = _Looking(self._job)
            looking.run(entries)
            return [looking.answers[entry.number] for entry in entries]

    def make_links(self, links: Sequence[LinkEntry]) -> list[Stored | Have | Skip | Failed | Want]:
        """See `JobStore`; `Want` says that the link would be made."""
        with self._job.running():
            return look_links_up(self._job, links)

    def save_receipt(self, receipt: bytes) -> None:
        """A dry run is no job that could be answered again."""
