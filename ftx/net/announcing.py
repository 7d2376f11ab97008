"""Announcing: the sources of a job are walked, and what is found becomes its manifest as far as the windows allow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ftx import limits
from ftx.disk.outgoing import checksum
from ftx.disk.source import (
    SourceFile,
    SourceFolder,
    SourceFolderEnd,
    SourceItem,
    SourceLink,
    SourcePipe,
    SourceProblem,
    Totals,
    Walk,
    problem,
)
from ftx.errors import FtxError
from ftx.net.course import Course
from ftx.net.worker import Strand

__all__ = ["Announcing"]

#: Something to be sent; with its digest, if it is announced with that.
_Found = SourceItem | tuple[SourceFile, bytes]


class Announcing:
    """Feeds the machine of `course` with what `walk` finds. It is told to `go_on()` whenever there may be room.

    With `checksums` every file is read before it is announced, so that the receiver may find it by its content; what
    cannot be read is not announced.
    `problem` hears of what cannot be sent. Whether the job is over is asked while a file is read for its digest, by the
    thread that reads it.

    The walk may be `ahead` of what is announced by so many items, and begin before the receiver has answered. When it
    ends, `counted` hears what there is in all; `far` is called once if it gets so far ahead before.
    """

    def __init__(
        self,
        course: Course,
        walk: Walk,
        strand: Strand,
        *,
        checksums: bool,
        held: bool,
        ahead: int,
        problem: Callable[[SourceProblem], None],
        counted: Callable[[Totals], None],
        far: Callable[[], None],
    ) -> None:
        #: Whether nothing may be announced for now, whatever the receiver says.
        self.held = held
        self._course = course
        self._machine = course.machine
        self._walk = walk
        self._walk_strand = strand
        self._checksums = checksums
        self._ahead = ahead
        self._problem = problem
        self._counted = counted
        self._far = far
        self._folders: list[int] = []
        #: What was found and is not announced: at most `ahead` items and a batch.
        self._found: deque[_Found] = deque()
        self._sums = Totals()
        self._walking = False
        self._walked = False
        self._ended = False
        self._told_far = False

    def go_on(self) -> None:
        """Announce as much as there is room for, and find more."""
        if self._ended or not self._course.may_go_on():
            return
        self._announce()
        if self._walking or self._walked:
            return
        most = limits.BATCH if len(self._found) < self._ahead else 0 if self._found else self._room()
        if most:
            self._walking = True
            self._course.backlog.run(self._walk_strand, self._walked_some, self._walk_some, most)
        elif self._ahead and not self._told_far:
            self._told_far = True
            self._far()

    def _room(self) -> int:
        """How many entries to announce now. None rather than few: small steps would make small frames."""
        room = 0 if self.held else self._machine.room()
        return room if room >= limits.BATCH // 2 or (room > 0 and self._machine.idle) else 0

    def _walk_some(self, most: int) -> tuple[list[_Found], Totals, bool]:
        """The next items of the walk, files with their digests where those are wanted; what there is so far; and
        whether that is all.
        """
        items = self._walk.batch(most)
        files = folders = size = 0
        for item in items:
            if isinstance(item, SourceFile):
                files += 1
                size += item.size
            elif isinstance(item, SourceFolder):
                folders += 1
            elif isinstance(item, SourceLink):
                files += 1
                size += len(item.target)
        sums = Totals(self._sums.files + files, self._sums.folders + folders, self._sums.bytes + size)
        found = [self._checksum(item) for item in items] if self._checksums else list[_Found](items)
        return found, sums, len(items) < most

    def _checksum(self, item: SourceItem) -> _Found:
        """`item` and its digest, if it is to have one; in its place the problem of a file that cannot be read.

        Without its digest it would not be recognised, and if it can be read when it is sent, it is there twice.
        """
        if not isinstance(item, SourceFile):
            return item

        def check() -> None:
            if self._course.over():
                raise FtxError("interrupted")

        try:
            return item, checksum(item, self._course.memory, self._course.wall(), check)
        except FtxError as error:
            return item if self._course.over() else SourceProblem(item.path, error.as_value())

    def _walked_some(self, outcome: tuple[list[_Found], Totals, bool]) -> None:
        items, self._sums, ended = outcome
        self._walking = False
        self._found += items
        if ended:
            self._walked = True
            self._counted(self._sums)
        self.go_on()

    def _announce(self) -> None:
        found, perform = self._found, self._course.perform
        while found and (room := self._room()):
            files: list[SourceFile] = []  # nearly everything
            for _ in range(min(room, len(found))):
                item = found.popleft()
                if isinstance(item, SourceFile):
                    files.append(item)
                    continue
                perform(self._machine.add_files(files))
                files = []
                self._add(item)
            perform(self._machine.add_files(files))
            perform(self._machine.flush_manifest())
        if self._walked and not found and self._machine.accepted is not None and not self.held:
            self._ended = True
            perform(self._machine.end_manifest())

    def _add(self, item: _Found) -> None:
        """Anything but a file without a digest."""
        if isinstance(item, tuple):
            file, digest = item
            add_file = self._machine.add_file
            self._course.perform(add_file(file.path, file.size, file.mtime_ns, file.mode, file, digest))
        elif isinstance(item, SourceFolder):
            number, effects = self._machine.add_folder(item.path)
            self._folders.append(number)
            self._course.perform(effects)
        elif isinstance(item, SourceLink):
            self._add_link(item)
        elif isinstance(item, SourcePipe):
            self._add_pipe(item)
        elif isinstance(item, SourceProblem):
            self._course.perform(self._machine.omit(item.path, item.error.name))
            self._problem(item)
        elif isinstance(item, SourceFolderEnd):
            self._course.perform(self._machine.end_folder(self._folders.pop(), item.mode, item.mtime_ns))

    def _add_pipe(self, pipe: SourcePipe) -> None:
        if self._machine.takes_pipes:
            self._course.perform(self._machine.add_pipe(pipe.path, pipe.mtime_ns, pipe.mode, pipe))
        else:
            self._problem(problem(pipe.path, "not-supported", "the receiver takes no standard input"))

    def _add_link(self, link: SourceLink) -> None:
        if self._machine.keeps_links:
            self._course.perform(self._machine.add_link(link.path, link.target, link.mtime_ns))
        else:
            self._problem(problem(link.path, "not-supported", "the receiver keeps no symbolic links"))
