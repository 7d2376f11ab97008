"""Reading ahead of the network: the content of a job, from the disk to frames that are given to the connection.

One strand of the worker reads, `limits.READ_AHEAD` jobs ahead and no further; while the transport is full nothing is
read. What comes back from the disk's thread is finished frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from ftx import limits
from ftx.core.bottleneck import Bottleneck
from ftx.core.events import CloseEntry, OpenEntry, ReadBlock, ReadPipe, ReadWhole
from ftx.disk.outgoing import LargeSource, WholeBatch, read_batch
from ftx.disk.packing import Packer
from ftx.disk.pipe import PipeSource
from ftx.disk.source import SourcePipe
from ftx.errors import FtxError
from ftx.net.bundle import Bundle
from ftx.net.course import Course
from ftx.net.worker import Strand

__all__ = ["ReadAhead"]


class ReadAhead:
    """Does the reading that `machine` asks for. It is told to `go_on()` whenever there may be more to do.

    `perform` carries out the effects of what was read; `may_go_on` is asked before each read; `over` is asked while
    a pipe is waited for, by the thread that reads it. Everything else is for the reactor's thread, but for `drop()`.
    """

    def __init__(
        self,
        course: Course,
        bundle: Bundle,
        strand: Strand,
        clock: IReactorTime,
    ) -> None:
        #: Content bytes given to the transport, compressed where they are.
        self.sent = 0
        #: Whether standard input was touched: what was read of it cannot be read again.
        self.pipe_begun = False
        self._course = course
        self._machine = course.machine
        self._bundle = bundle
        self._read_strand = strand
        self._clock = clock
        #: Used in the strand that reads, and nowhere else.
        self._packer = Packer() if "zstd" in bundle.own.session.features else None
        self._bottleneck = Bottleneck()
        #: Whether no connection takes more for now.
        self._paused = False
        #: Whether something waits that has to go by the job's own connection, and nothing may be read before it has.
        self._waits_for_own = False
        self._reading = 0
        self._large: LargeSource | None = None
        self._pipe: PipeSource | None = None

    def flow(self) -> None:
        """A connection has enough for now, or takes more: read on while there is one that does."""
        self._waits_for_own = self._waits_for_own and self._bundle.own_full
        paused = self._bundle.full or self._waits_for_own
        if paused is self._paused:
            return
        self._paused = paused
        if paused:
            self._bottleneck.full(self._clock.seconds())
        else:
            self._bottleneck.drained(self._clock.seconds())
            self.go_on()

    def go_on(self) -> None:
        """Start as much reading as the read-ahead allows."""
        while self._reading < limits.READ_AHEAD and not self._paused and self._course.may_go_on():
            work = self._machine.next_work()
            if work is None:
                return
            self._reading += 1
            packs = self._bottleneck.packs
            packer = self._packer if packs else None
            match work:
                case ReadWhole():
                    files = self._machine.sources(work.numbers)
                    self._course.backlog.run(self._read_strand, self._whole_read, read_batch, files, packer)
                case OpenEntry():
                    self._read_entry(work.number, self._opened, self._open, work.number)
                case ReadBlock():
                    block, send, basis = work.block, work.send, work.basis
                    done = self._repeat_read if work.again else self._block_read
                    self._read_entry(work.number, done, self._block, block, send, basis, packs)
                case ReadPipe():
                    self._read_entry(work.number, self._pipe_read, self._read_pipe, work.number, work.block)
                case CloseEntry() if isinstance(self._machine.source(work.number), SourcePipe):
                    self._read_entry(work.number, self._entry_closed, self._give_up_pipe)
                case CloseEntry():
                    self._read_entry(work.number, self._entry_closed, self._close_large, work.complete)

    def _read_entry(
        self, number: int, done: Callable[[int, Any], None], function: Callable[..., Any], *args: Any
    ) -> None:
        """Disk work for one larger file: a source that fails ends that file, not the job."""

        def attempt() -> Any:
            try:
                return function(*args)
            except FtxError as error:
                self.drop(forget=error.name == "source-changed")
                return error

        def settle(outcome: Any) -> None:
            self._reading -= 1
            if outcome is None:
                pass  # read ahead of a failure that is already known
            elif isinstance(outcome, FtxError):
                self._course.perform(self._machine.source_failed(number, outcome.name))
            else:
                done(number, outcome)
            self.go_on()

        self._course.backlog.run(self._read_strand, settle, attempt)

    def _open(self, number: int) -> LargeSource:
        source = self._machine.source(number)
        self._large = LargeSource.open(number, source, self._course.memory, self._course.wall(), self._packer)
        return self._large

    def _opened(self, number: int, large: LargeSource) -> None:
        self._machine.opened(number, large.known.copy())

    def _block(
        self, block: int, send: bool, basis: bytes | None, packs: bool
    ) -> tuple[Sequence[bytes | memoryview], int] | None:
        return None if self._large is None else self._large.block(block, send, basis, packs=packs)

    def _block_read(self, number: int, outcome: tuple[Sequence[bytes | memoryview], int]) -> None:
        frames, size = outcome
        if frames:
            self._give(frames, size)

    def _repeat_read(self, number: int, outcome: tuple[Sequence[bytes | memoryview], int]) -> None:
        frames, size = outcome
        self._give(frames, size, own=True)

    def _give(self, frames: Sequence[bytes | memoryview], size: int, files: int = 0, *, own: bool = False) -> None:
        """Hand `frames` to a connection, or to the job's `own`: `size` content bytes, and so many whole `files`."""
        self.sent += size
        self._bottleneck.sent(size, files)
        self._bundle.write_content(frames, own=own)
        if own and self._bundle.own_full:
            self._waits_for_own = True
            self.flow()

    def _read_pipe(self, number: int, block: int) -> tuple[Sequence[bytes | memoryview], int, bytes | None]:
        if self._pipe is None:
            self._pipe = PipeSource(0, self._course.over)
        self.pipe_begun = True
        return self._pipe.block(number, block)

    def _pipe_read(self, number: int, outcome: tuple[Sequence[bytes | memoryview], int, bytes | None]) -> None:
        frames, size, digest = outcome
        if frames:
            self._give(frames, size, own=True)
        self._course.perform(self._machine.pipe_read(number, size, digest))

    def _give_up_pipe(self) -> bytes:
        """The receiver does not want it any more; that it was not read to its end is for its writer to notice."""
        self.drop()
        return b""

    def _close_large(self, complete: bool) -> bytes | None:
        if self._large is None:
            return None
        digest = self._large.digest() if complete else b""
        self.drop()
        return digest

    def drop(self, *, forget: bool = False) -> None:
        """Close what is open; in the strand that reads, or when nothing runs in it any more.

        `forget`: what is remembered of the file's digests is wrong.
        """
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()
        large, self._large = self._large, None
        if large is not None:
            large.close(forget=forget)

    def _entry_closed(self, number: int, digest: bytes) -> None:
        self._course.perform(self._machine.closed(number, digest))

    def _whole_read(self, batch: WholeBatch) -> None:
        self._reading -= 1
        if batch.frames:
            self._give([batch.frames], batch.size, len(batch.read))
        self._course.perform(self._machine.wholes_read(batch.read))
        for number, error in batch.failed:
            self._course.perform(self._machine.source_failed(number, error))
        self.go_on()
