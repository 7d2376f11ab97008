"""Announcing: the sources of a job are walked as far as the windows allow, and what is found becomes its manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ftx import limits
from ftx.core.events import Effect
from ftx.core.sender import Sender
from ftx.disk.memory import DigestMemory
from ftx.disk.outgoing import checksum
from ftx.disk.source import (
    SourceFile,
    SourceFolder,
    SourceItem,
    SourceLink,
    SourcePipe,
    SourceProblem,
    Walk,
    problem,
)
from ftx.errors import FtxError
from ftx.net.backlog import Backlog
from ftx.net.worker import Strand

__all__ = ["Announcing"]


class Announcing:
    """Feeds `machine` with what `walk` finds. It is told to `go_on()` whenever there may be room for more.

    With `checksums` every file is read before it is announced, so that the receiver may find it by its content; what
    cannot be read is not announced.
    `perform` carries out effects, `problem` hears of what cannot be sent; `may_go_on` is asked before each step, and
    `over` while a file is read for its digest, by the thread that reads it.
    """

    def __init__(
        self,
        machine: Sender,
        walk: Walk,
        backlog: Backlog,
        strand: Strand,
        *,
        memory: DigestMemory,
        wall: Callable[[], float],
        checksums: bool,
        held: bool,
        perform: Callable[[Sequence[Effect]], None],
        problem: Callable[[SourceProblem], None],
        may_go_on: Callable[[], bool],
        over: Callable[[], bool],
    ) -> None:
        #: Whether nothing may be announced for now, whatever the receiver says.
        self.held = held
        self._machine = machine
        self._walk = walk
        self._backlog = backlog
        self._walk_strand = strand
        self._memory = memory
        self._wall = wall
        self._checksums = checksums
        self._perform = perform
        self._problem = problem
        self._may_go_on = may_go_on
        self._over = over
        self._folders: list[int] = []
        self._walking = False
        self._walked = False

    def go_on(self) -> None:
        """Announce as much as there is room for."""
        if self._walking or self._walked or not self._may_go_on() or self.held:
            return
        room = self._machine.room()
        # Small steps would make small frames: wait until a good part of a batch fits, or nothing is outstanding.
        if room >= limits.BATCH // 2 or (room > 0 and self._machine.idle):
            self._walking = True
            self._backlog.run(self._walk_strand, self._walked_some, self._walk_some, room)

    def _walk_some(self, room: int) -> list[tuple[SourceItem, bytes | None]]:
        """The next items of the walk, files with their digests where those are wanted."""
        items = self._walk.batch(room)
        return [self._checksum(item) for item in items] if self._checksums else [(item, None) for item in items]

    def _checksum(self, item: SourceItem) -> tuple[SourceItem, bytes | None]:
        """`item` and its digest, if it is to have one; in its place the problem of a file that cannot be read.

        Without its digest it would not be recognised, and if it can be read when it is sent, it is there twice.
        """
        if not isinstance(item, SourceFile):
            return item, None

        def check() -> None:
            if self._over():
                raise FtxError("interrupted")

        try:
            return item, checksum(item, self._memory, self._wall(), check)
        except FtxError as error:
            return (item if self._over() else SourceProblem(item.path, error.as_value())), None

    def _walked_some(self, items: Sequence[tuple[SourceItem, bytes | None]]) -> None:
        self._walking = False
        for item, digest in items:
            if isinstance(item, SourceFile):
                effects = self._machine.add_file(item.path, item.size, item.mtime_ns, item.mode, item, digest)
                if effects:
                    self._perform(effects)
            elif isinstance(item, SourceFolder):
                number, effects = self._machine.add_folder(item.path)
                self._folders.append(number)
                self._perform(effects)
            elif isinstance(item, SourceLink):
                self._add_link(item)
            elif isinstance(item, SourcePipe):
                self._add_pipe(item)
            elif isinstance(item, SourceProblem):
                self._perform(self._machine.omit(item.path, item.error.name))
                self._problem(item)
            else:
                self._perform(self._machine.end_folder(self._folders.pop(), item.mode, item.mtime_ns))
        if items:
            self._perform(self._machine.flush_manifest())
            self.go_on()
        else:
            self._walked = True
            self._perform(self._machine.end_manifest())

    def _add_pipe(self, pipe: SourcePipe) -> None:
        if self._machine.takes_pipes:
            self._perform(self._machine.add_pipe(pipe.path, pipe.mtime_ns, pipe.mode, pipe))
        else:
            self._problem(problem(pipe.path, "not-supported", "the receiver takes no standard input"))

    def _add_link(self, link: SourceLink) -> None:
        if self._machine.keeps_links:
            self._perform(self._machine.add_link(link.path, link.target, link.mtime_ns))
        else:
            self._problem(problem(link.path, "not-supported", "the receiver keeps no symbolic links"))
