"""The entries of a batch as storage looks at them: folders, runs of files in one folder, pipes; all with good paths.

Entries come in order, so files that are neighbours in a manifest are mostly neighbours in a folder. What is the same
for all of them is found out once, and what nearly always holds is asked of all at once; only where that is not so is
each looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from ftx.disk.job import joined
from ftx.disk.names import NameRules, all_plain, check_component, check_path
from ftx.disk.store import FileEntry, FolderEntry, Path, PipeEntry
from ftx.errors import FtxError
from ftx.limits import DEPTH, FILE_SIZE, PATH

__all__ = ["Entry", "Run", "Sorting"]

Entry = FileEntry | PipeEntry | FolderEntry


class Run(Struct, frozen=True):
    """Files of one folder that follow each other."""

    #: Counted from the inbox's root.
    folder: Path
    files: Sequence[FileEntry]
    #: Their names in it, and their whole paths, joined.
    names: list[bytes]
    paths: list[bytes]


class Sorting:
    """Entries by what they are. `into` is the folder of the job; `refuse` hears of those that cannot be stored."""

    def __init__(self, into: Path, rules: NameRules, refuse: Callable[[Entry, FtxError], None]) -> None:
        self.folders: list[tuple[FolderEntry, Path]] = []
        self.runs: list[Run] = []
        self.pipes: list[tuple[PipeEntry, Path]] = []
        self._into = into
        self._rules = rules
        self._refuse = refuse

    def sort(self, entries: Sequence[Entry]) -> None:
        """Sort `entries`."""
        at, count = 0, len(entries)
        while at < count:
            entry = entries[at]
            if isinstance(entry, FileEntry):
                above, end = entry.path[:-1], at + 1
                while end < count and type(entries[end]) is FileEntry and entries[end].path[:-1] == above:
                    end += 1
                self._run(entries[at:end])  # type: ignore[arg-type]  # files are all of it
                at = end
            else:
                self._other(entry)
                at += 1

    def _other(self, entry: FolderEntry | PipeEntry) -> None:
        path = (*self._into, *entry.path)
        try:
            if not entry.path:
                raise FtxError("bad-name")
            check_path(path, self._rules)
        except FtxError as error:
            self._refuse(entry, error)
            return
        if isinstance(entry, FolderEntry):
            self.folders.append((entry, path))
        else:
            self.pipes.append((entry, path))

    def _run(self, files: Sequence[FileEntry]) -> None:
        folder = (*self._into, *files[0].path[:-1])
        room = PATH - sum(map(len, folder)) - len(folder)
        try:
            if folder:
                check_path(folder, self._rules)
            if len(folder) >= DEPTH:
                raise FtxError("bad-name", f"a path has more than {DEPTH} components")
        except FtxError as error:
            for file in files:
                self._refuse(file, error)
            return
        names = [file.path[-1] if file.path else b"" for file in files]
        if not (all_plain(names) and max(map(len, names)) <= room and _in_range(files)):
            files = [file for file in files if self._fits(file, room, top=not folder)]
            names = [file.path[-1] for file in files]
        if files:
            above = joined((*folder, b""))
            self.runs.append(Run(folder, files, names, [above + name for name in names]))

    def _fits(self, file: FileEntry, room: int, *, top: bool) -> bool:
        """Whether a file in a good folder can be stored; else it is refused."""
        try:
            if not file.path:
                raise FtxError("bad-name")
            if not _in_range([file]):
                raise FtxError("bad-message", "a size or time is out of range")
            check_component(file.path[-1], self._rules, top=top)
            if len(file.path[-1]) > room:
                raise FtxError("bad-name", f"a path is longer than {PATH} bytes")
        except FtxError as error:
            self._refuse(file, error)
            return False
        return True


def _in_range(files: Sequence[FileEntry]) -> bool:
    """Whether sizes and times are such as can be kept."""
    sizes, times = [file.size for file in files], [file.mtime_ns for file in files]
    return min(sizes) >= 0 and max(sizes) <= FILE_SIZE and min(times) >= -(2**63) and max(times) < 2**63
