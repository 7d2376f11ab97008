"""The sending end of a job: the walk, the sender machine, and reading ahead of the network.

Three lanes of the worker run beside the reactor: one walks and announces entries as far as the windows allow, one
counts everything once for the totals, one reads content. Content is read ahead by `limits.READ_AHEAD` jobs and no
further; while the transport is full nothing is read. What the disk's thread gives back is finished frames.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import limits
from ftx.core.approval import NONCE, Waiter
from ftx.core.events import (
    CloseEntry,
    Effect,
    OpenEntry,
    ReadBlock,
    ReadPipe,
    ReadWhole,
    Resolved,
    Send,
    VerifyReceipt,
    Waited,
)
from ftx.core.identity import SIGN_RECEIPT, same
from ftx.core.sender import Concluded, Sender
from ftx.disk.counting import Counting
from ftx.disk.keys import verify
from ftx.disk.memory import DigestMemory
from ftx.disk.outgoing import LargeSource, WholeBatch, checksum, read_batch
from ftx.disk.packing import Packer
from ftx.disk.pipe import PipeSource
from ftx.disk.selection import Selection
from ftx.disk.source import (
    Root,
    SourceFile,
    SourceFolder,
    SourceItem,
    SourceLink,
    SourcePipe,
    SourceProblem,
    Totals,
    Walk,
    problem,
)
from ftx.errors import FtxError, ProtocolError
from ftx.net.backlog import Backlog
from ftx.net.tls import PeerKey
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.wire.frames import Piece
from ftx.wire.messages import Accept, Cancel, Message, Offer, Receipt, Refuse, Waiting, decode_receipt_body

__all__ = ["Sending", "Watcher"]

_log = Logger()


class Watcher:
    """Who watches a sending job; every method may be left as it is."""

    def waiting(self, job: Sending, seconds: int, phrase: str | None) -> None:
        """Somebody at the receiver's end is asked, for so many seconds; a `phrase` is to be compared."""

    def accepted(self, job: Sending) -> None:
        """The receiver takes the job."""

    def resolved(self, job: Sending, entry: Resolved) -> None:
        """An entry has its result."""

    def problem(self, job: Sending, problem: SourceProblem) -> None:
        """Something below the sources cannot be sent and was left out."""

    def progressed(self, job: Sending) -> None:
        """The figures changed."""


@implementer(IPushProducer)
class Sending:
    """One job from its offer to its receipt.

    `run()` gives a Deferred that fires with the receipt, or fails with FtxError; either way nothing of the job is
    left running when it fires. When it is cancelled, `wait_stopped()` tells when that is so.
    """

    def __init__(
        self,
        connection: Connection,
        offer: Offer,
        roots: Sequence[Root],
        *,
        worker: Worker,
        clock: IReactorTime,
        wall: Callable[[], float],
        memory: DigestMemory,
        own_id: bytes,
        watcher: Watcher,
        concluded: Concluded | None = None,
        checksums: bool = False,
        selection: Selection | None = None,
        held: bool = False,
    ) -> None:
        """`checksums`: read every file before it is announced, so that the receiver may find it by its content."""
        #: Whether nothing may be announced before `release()`, whatever the receiver says.
        self.held = held
        self._waiter: Waiter | None = None
        self.machine = Sender(offer, concluded, features=connection.session.features)
        #: Content bytes given to the transport in this attempt, compressed where they are.
        self.sent = 0
        self._connection = connection
        self._roots = tuple(roots)
        self._worker = worker
        self._clock = clock
        self._wall = wall
        self._memory = memory
        self._own_id = own_id
        self._watcher = watcher
        #: Used in the lane that reads, and nowhere else.
        self._packer = Packer() if "zstd" in connection.session.features else None
        self._checksums = checksums and "checksum" in connection.session.features
        self._selection = selection or Selection()
        self._walk = Walk(self._roots, self._selection)
        self._counting = Counting(self._roots, self._selection)
        self._count_lane = worker.lane()
        self._walk_lane = worker.lane()
        self._read_lane = worker.lane()
        self._folders: list[int] = []
        self._walking = False
        self._walked = False
        self._counted: Totals | None = None
        self._reading = 0
        self._backlog = Backlog(connection, self)
        self._paused = False
        self._large: LargeSource | None = None
        self._pipe: PipeSource | None = None
        #: Whether standard input was touched: what was read of it cannot be read again.
        self.pipe_begun = False
        self._over = False
        self._withdrawing: IDelayedCall | None = None
        self._closing = False
        self._outcome: Receipt | FtxError | None = None
        self._done: Deferred[Receipt] = Deferred(self._cancelled)
        self._waiting: list[Deferred[None]] | None = []

    def run(self, counted: Totals | None = None) -> Deferred[Receipt]:
        """Offer the job. `counted`: the totals, if an earlier attempt has found them."""
        if self._connection.over:  # lost since it was ready, when nobody was there to be told
            self._end(self._connection.stopped_by or FtxError("connection-lost"))
            return self._done
        self._connection.job = self
        self._connection.transport.registerProducer(self, True)  # type: ignore[union-attr]
        self._counted = counted
        self._connection.send(self.machine.offer)
        if counted is None and not any(root.pipe for root in self._roots):
            self._count()
        elif counted is not None:
            self._count_done(counted)
        return self._done

    # -- what the connection calls -------------------------------------------------------------------------

    def message(self, message: Message) -> None:
        """A message of the receiver."""
        if isinstance(message, Refuse | Cancel):
            self._refused(message)
            return
        self._perform(self.machine.receive(message))
        if isinstance(message, Accept):
            self._watcher.accepted(self)
        self._watcher.progressed(self)

    def _refused(self, message: Refuse | Cancel) -> None:
        """The offer is refused, or the job cancelled: that ends the job."""
        try:
            self.machine.receive(message)
        except ProtocolError:
            raise
        except FtxError as reason:
            self._end(reason)

    def piece(self, piece: Piece) -> None:
        """Never: content comes to receivers only."""
        raise ProtocolError("wrong-state")

    def turn(self) -> None:
        """All that had arrived was handed over: announce and read what that made room for."""
        self._announce()
        self._read()

    def next_deadline(self) -> float | None:
        """Nothing of the sender is timed."""
        return None

    def tick(self, now: float) -> None:
        """Nothing of the sender is timed."""

    def lost(self, error: FtxError) -> None:
        """The connection ended."""
        self._end(error)

    # -- what the transport calls (IPushProducer) ----------------------------------------------------------

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport can take more."""
        self._paused = False
        self._read()

    def stopProducing(self) -> None:
        """The transport is gone; `lost` follows."""
        self._paused = True

    # -- effects -------------------------------------------------------------------------------------------

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._connection.send(effect.message)
                case Resolved():
                    self._watcher.resolved(self, effect)
                case VerifyReceipt():
                    self._verify(effect)
                case Waited():
                    self._waited(effect.message)

    def _waited(self, message: Waiting) -> None:
        """A person is asked: our half of the phrase, and then the phrase."""
        if any(root.pipe for root in self._roots):
            what = "the receiver asks a person about it, who would have to know its size"
            self.give_up(FtxError("not-supported", what, "write it to a file first"))
            return
        peer = self._connection.peer
        if self._waiter is None:
            receiver = b"" if peer is None else peer.id
            self._waiter = Waiter(self.machine.offer.job, self._own_id, receiver, os.urandom(NONCE))
        reveal = self._waiter.waiting(message)
        if reveal is not None:
            self._connection.send(reveal)
        self._watcher.waiting(self, message.seconds, self._waiter.phrase)

    def release(self) -> None:
        """Our own person has compared the phrase: announce and send what the receiver accepts."""
        self.held = False
        if not self._over:
            self._announce()
            self._read()

    def give_up(self, error: FtxError) -> None:
        """End the job for a reason of our own; the receiver is told no more than that we do not go on."""
        self._connection.abort(error)
        self._end(error)

    def _verify(self, effect: VerifyReceipt) -> None:
        peer = self._connection.peer
        if peer is None or not verify(peer.public_raw, SIGN_RECEIPT, effect.body, effect.signature):
            raise ProtocolError("protocol-error", "the receipt is not signed by the receiver")
        body = decode_receipt_body(effect.body)
        if not (same(body.receiver, peer.id) and same(body.sender, self._own_id)):
            raise ProtocolError("protocol-error", "the receipt names somebody else")
        self.machine.receipt_verified()
        self._end(Receipt(effect.body, effect.signature))

    def _stopped(self) -> bool:
        return self._over

    def settled(self) -> None:
        """A piece of disk work has ended; when the job is over, see whether it was the last."""
        if self._over:
            self._finish()

    @property
    def over(self) -> bool:
        """Whether the job has ended; disk work may still be under way."""
        return self._over

    # -- entries -------------------------------------------------------------------------------------------

    def _count(self) -> None:
        """Count a little more; others take their turns in between."""
        self._backlog.run(self._count_lane, self._counted_some, self._counting.step)

    def _counted_some(self, totals: Totals | None) -> None:
        if totals is None:
            self._count()
        else:
            self._count_done(totals)

    def _count_done(self, totals: Totals) -> None:
        self._counted = totals
        self._perform(self.machine.counted(totals.files, totals.folders, totals.bytes))
        self._watcher.progressed(self)

    @property
    def last_heard(self) -> float | None:
        """When anything last came from a receiver that had taken the job, on the clock of this job; else None."""
        return None if self.machine.accepted is None else self._connection.session.last_received

    def wait_stopped(self) -> Deferred[None]:
        """Fires when nothing of the job is running any more."""
        waiting: Deferred[None] = Deferred()
        if self._waiting is None:
            waiting.callback(None)
        else:
            self._waiting.append(waiting)
        return waiting

    @property
    def peer(self) -> PeerKey | None:
        """The receiver's key."""
        return self._connection.peer

    def hold(self, full: bool) -> None:
        """Read no further, since nobody takes what would follow; or go on."""
        if not self._over:
            self._backlog.stop_reading("events", full)

    @property
    def connection(self) -> Connection:
        """What it runs on."""
        return self._connection

    @property
    def totals(self) -> Totals | None:
        """What there is to send, once it has been counted."""
        return self._counted

    def _announce(self) -> None:
        if self._walking or self._walked or self._closing_down or self.held:
            return
        room = self.machine.room()
        # Small steps would make small frames: wait until a good part of a batch fits, or nothing is outstanding.
        if room >= limits.BATCH // 2 or (room > 0 and self.machine.idle):
            self._walking = True
            self._backlog.run(self._walk_lane, self._walked_some, self._walk_some, room)

    def _walk_some(self, room: int) -> list[tuple[SourceItem, bytes | None]]:
        """The next items of the walk, files with their digests where those are wanted."""
        return [(item, self._checksum(item)) for item in self._walk.batch(room)]

    def _checksum(self, item: SourceItem) -> bytes | None:
        if not self._checksums or not isinstance(item, SourceFile):
            return None

        def check() -> None:
            if self._over:
                raise FtxError("interrupted")

        try:
            return checksum(item, self._memory, self._wall(), check)
        except FtxError:
            return None  # what is wrong with it is said when it is to be sent

    def _walked_some(self, items: Sequence[tuple[SourceItem, bytes | None]]) -> None:
        self._walking = False
        for item, digest in items:
            if isinstance(item, SourceFile):
                effects = self.machine.add_file(item.path, item.size, item.mtime_ns, item.mode, item, digest)
                self._perform(effects)
            elif isinstance(item, SourceFolder):
                number, effects = self.machine.add_folder(item.path)
                self._folders.append(number)
                self._perform(effects)
            elif isinstance(item, SourceLink):
                self._add_link(item)
            elif isinstance(item, SourcePipe):
                self._add_pipe(item)
            elif isinstance(item, SourceProblem):
                self._perform(self.machine.omit(item.path, item.error.name))
                self._watcher.problem(self, item)
            else:
                self._perform(self.machine.end_folder(self._folders.pop(), item.mode, item.mtime_ns))
        if items:
            self._perform(self.machine.flush_manifest())
            self._announce()
        else:
            self._walked = True
            self._perform(self.machine.end_manifest())

    def _add_pipe(self, pipe: SourcePipe) -> None:
        if self.machine.takes_pipes:
            self._perform(self.machine.add_pipe(pipe.path, pipe.mtime_ns, pipe.mode, pipe))
        else:
            self._watcher.problem(self, problem(pipe.path, "not-supported", "the receiver takes no standard input"))

    def _add_link(self, link: SourceLink) -> None:
        if self.machine.keeps_links:
            self._perform(self.machine.add_link(link.path, link.target, link.mtime_ns))
        else:
            self._watcher.problem(self, problem(link.path, "not-supported", "the receiver keeps no symbolic links"))

    # -- content -------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Start as much reading as the read-ahead allows."""
        while self._reading < limits.READ_AHEAD and not self._paused and not self._closing_down:
            work = self.machine.next_work()
            if work is None:
                return
            self._reading += 1
            match work:
                case ReadWhole():
                    files = [(number, self.machine.source(number)) for number in work.numbers]
                    self._backlog.run(self._read_lane, self._whole_read, read_batch, files, self._packer)
                case OpenEntry():
                    self._read_entry(work.number, self._opened, self._open, work.number)
                case ReadBlock():
                    self._read_entry(work.number, self._block_read, self._block, work.block, work.send, work.basis)
                case ReadPipe():
                    self._read_entry(work.number, self._pipe_read, self._read_pipe, work.number, work.block)
                case CloseEntry() if isinstance(self.machine.source(work.number), SourcePipe):
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
                self._drop_large(forget=error.name == "source-changed")
                return error

        def settle(outcome: Any) -> None:
            self._reading -= 1
            if outcome is None:
                pass  # read ahead of a failure that is already known
            elif isinstance(outcome, FtxError):
                self._perform(self.machine.source_failed(number, outcome.name))
            else:
                done(number, outcome)
            self._read()

        self._backlog.run(self._read_lane, settle, attempt)

    def _open(self, number: int) -> LargeSource:
        source = self.machine.source(number)
        self._large = LargeSource.open(number, source, self._memory, self._wall(), self._packer)
        return self._large

    def _opened(self, number: int, large: LargeSource) -> None:
        self.machine.opened(number, large.known.copy())

    def _block(
        self, block: int, send: bool, basis: bytes | None
    ) -> tuple[Sequence[bytes | memoryview], int] | None:
        return None if self._large is None else self._large.block(block, send, basis)

    def _block_read(self, number: int, outcome: tuple[Sequence[bytes | memoryview], int]) -> None:
        frames, size = outcome
        if frames:
            self.sent += size
            self._connection.write_data(frames)

    def _read_pipe(self, number: int, block: int) -> tuple[Sequence[bytes | memoryview], int, bytes | None]:
        if self._pipe is None:
            self._pipe = PipeSource(0, self._stopped)
        self.pipe_begun = True
        return self._pipe.block(number, block)

    def _pipe_read(self, number: int, outcome: tuple[Sequence[bytes | memoryview], int, bytes | None]) -> None:
        frames, size, digest = outcome
        if frames:
            self.sent += size
            self._connection.write_data(frames)
        self._perform(self.machine.pipe_read(number, size, digest))

    def _give_up_pipe(self) -> bytes:
        """The receiver does not want it any more; that it was not read to its end is for its writer to notice."""
        self._drop_large()
        return b""

    def _close_large(self, complete: bool) -> bytes | None:
        if self._large is None:
            return None
        digest = self._large.digest() if complete else b""
        self._drop_large()
        return digest

    def _drop_large(self, *, forget: bool = False) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()
        large, self._large = self._large, None
        if large is not None:
            large.close(forget=forget)

    def _entry_closed(self, number: int, digest: bytes) -> None:
        self._perform(self.machine.closed(number, digest))

    def _whole_read(self, batch: WholeBatch) -> None:
        self._reading -= 1
        if batch.frames:
            self.sent += batch.size
            self._connection.write_data([batch.frames])
        for number, digest in batch.read:
            self._perform(self.machine.whole_read(number, digest))
        for number, error in batch.failed:
            self._perform(self.machine.source_failed(number, error))
        self._read()

    # -- steering ------------------------------------------------------------------------------------------

    def pause(self, paused: bool) -> None:
        """Send no content for now, or go on; the receiver is told, where it understands that."""
        effects = [] if self._over else self.machine.steer(paused)
        if effects and self._connection.steers():
            self._perform(effects)
        if effects and not self.machine.paused:
            self.turn()

    @property
    def _closing_down(self) -> bool:
        """Whether nothing more is to be begun."""
        return self._over or self._withdrawing is not None

    def cancel(self) -> None:
        """Give the job up. A receiver that understands says within `limits.CANCEL_ANSWER` what it keeps."""
        if self._closing_down:
            return
        if self._connection.steers() and not self._connection.over:
            effects = self.machine.cancel()
            if effects:
                self._withdrawing = self._clock.callLater(limits.CANCEL_ANSWER, self._withdrawn)
                self._connection.unlimited()
                self._perform(effects)
                return
        self._withdrawn()

    def _withdrawn(self) -> None:
        self._connection.abort(FtxError("interrupted"))
        self._end(FtxError("interrupted"))

    # -- the end -------------------------------------------------------------------------------------------

    def _cancelled(self, _: object) -> None:
        self.cancel()

    def _end(self, outcome: Receipt | FtxError) -> None:
        if self._over:
            return
        self._over = True
        if self._withdrawing is not None and self._withdrawing.active():
            self._withdrawing.cancel()
        self._outcome = outcome
        self._connection.job = None
        if not self._connection.over:
            self._connection.transport.unregisterProducer()  # type: ignore[union-attr]
        self._finish()

    def _finish(self) -> None:
        """When no worker job is under way any more: let go of what is open, and fire."""
        if not self._backlog.empty or self._closing:
            return
        self._closing = True

        def close() -> None:
            self._counting.close()
            self._walk.close()
            self._drop_large()

        self._worker.run(close).addBoth(self._finished)

    def _finished(self, outcome: object) -> None:
        if isinstance(outcome, Failure):
            _log.failure("a sending job could not be closed", failure=outcome)
        waiting, self._waiting = self._waiting or [], None
        if not self._done.called:
            if isinstance(self._outcome, FtxError):
                self._done.errback(self._outcome)
            elif self._outcome is not None:
                self._done.callback(self._outcome)
        for deferred in waiting:
            deferred.callback(None)
