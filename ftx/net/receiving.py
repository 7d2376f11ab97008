"""The receiving end of a job: the receiver machine, the storage, and the worker threads between them.

The machine's effects are carried out here, each in a lane of the worker, so that what belongs to one file happens in
order and different files do not wait for each other:

- one lane looks entries up, ahead of everything;
- one lane stores files of one block, in batches: while the disk works on a batch the next one gathers;
- each larger file has a lane of its own for blocks and publishing, and its syncs run beside it.

What waits and what is under way is counted in `ftx.net.backlog`, which stops the reading when it is too much.

The module is over 400 lines because every effect of the machine is carried out here, and one is as short as the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import limits
from ftx.core.events import (
    Conclude,
    CopyBlock,
    Discard,
    Effect,
    FinishFolder,
    GiveUp,
    LeftOut,
    LookUp,
    MakeLinks,
    Publish,
    Resolved,
    Send,
    StoreWhole,
    Sync,
    WriteBlock,
)
from ftx.core.identity import SIGN_RECEIPT
from ftx.core.receipt import encode_receipt, receipt_body
from ftx.core.receiver import Receiver, ReceiverState
from ftx.disk import store
from ftx.disk.keys import Identity
from ftx.disk.packing import unpack
from ftx.errors import FtxError
from ftx.net.backlog import Backlog
from ftx.net.gathered import Gathered
from ftx.net.transfer import Connection
from ftx.net.worker import Lane, Worker
from ftx.wire.frames import Piece
from ftx.wire.messages import (
    Accept,
    DigestedEntry,
    FileEntry,
    FolderEntry,
    Message,
    Offer,
    PipeEntry,
    Receipt,
)

__all__ = ["Observer", "Receiving"]

_log = Logger()


class Observer:
    """Who watches a receiving job; every method may be left as it is."""

    def resolved(self, job: Receiving, entry: Resolved) -> None:
        """An entry has its result."""

    def left_out(self, job: Receiving, entry: LeftOut) -> None:
        """The sender of a pull cannot send something."""

    def ended(self, job: Receiving, error: FtxError | None) -> None:
        """The job ended: with a receipt (None) or with an error. Its disk work is over."""


@attrs.define(eq=False)
class _Large:
    """A file of several blocks that is being received."""

    lane: Lane
    sync: Deferred[None] | None = None


@implementer(IPushProducer)
class Receiving:
    """One job from its acceptance to its receipt, or to its end without one.

    `begin()` sends the accept; from then on it is the connection's job.
    """

    def __init__(
        self,
        connection: Connection,
        offer: Offer,
        job_store: store.JobStore,
        conflict: int,
        *,
        worker: Worker,
        clock: IReactorTime,
        wall: Callable[[], float],
        identity: Identity,
        observer: Observer,
        tops: Collection[bytes] | None = None,
    ) -> None:
        """`tops`: of a pull, the names at the top that were asked for."""
        self.offer = offer
        self.connection = connection
        self.machine = Receiver(offer, clock.seconds(), features=connection.session.features, tops=tops)
        self.started_ns = int(wall() * 1e9)
        self._waiting: list[Deferred[None]] | None = []
        self._conflict = conflict
        self._store = job_store
        self._worker = worker
        self._clock = clock
        self._wall = wall
        self._identity = identity
        self._observer = observer
        self._look_lane = worker.lane()
        self._store_lane = worker.lane()
        self._large: dict[int, _Large] = {}
        #: Wanted files with an older copy whose digests are not found out yet, and whether that is being done.
        self._bases: deque[store.Want] = deque()
        self._finding = False
        self._basis_lane = worker.lane()
        self._gathered = Gathered()
        self._storing = False
        #: Since when the transport has had enough of our answers.
        self._full_since: float | None = None
        self._backlog = Backlog(connection, self)
        self._over = False
        self._closing = False
        self._revoked = False
        self._error: FtxError | None = None
        #: Why the job is being cancelled, and the timer that bounds how long.
        self._leaving: FtxError | None = None
        self._overdue: IDelayedCall | None = None
        self._paused_at = 0.0
        self._next_tick = clock.seconds() + limits.PROGRESS_FASTEST

    def begin(self) -> None:
        """Accept the offer; entries and content may come from now on."""
        self.connection.job = self
        self.connection.transport.registerProducer(self, True)  # type: ignore[union-attr]
        windows = limits.WINDOW_UNANSWERED, limits.WINDOW_UNACKNOWLEDGED
        self.connection.send(Accept(self.offer.job, *windows, self._conflict, 0))

    # -- what the connection calls -------------------------------------------------------------------------

    def message(self, message: Message) -> None:
        """A message of the sender."""
        self._perform(self.machine.receive(message, self._clock.seconds()))

    def piece(self, piece: Piece) -> None:
        """Part of a block."""
        if self.machine.paused_here and self._clock.seconds() - self._paused_at > limits.PAUSE_GRACE:
            self._backlog.stop_reading("paused", True)
        self._perform(self.machine.piece(piece))

    def turn(self) -> None:
        """All that had arrived was handed over: send what that led to."""
        self._flush()

    def next_deadline(self) -> float | None:
        """When to tick again."""
        return None if self._over else self._next_tick

    def tick(self, now: float) -> None:
        """Progress and syncs that are due. A sender that does not read for `limits.SILENCE` is dead."""
        if self._full_since is not None and now - self._full_since >= limits.SILENCE:
            raise FtxError("peer-silent")
        self._next_tick = now + limits.PROGRESS_FASTEST
        self._perform(self.machine.tick(now))

    # -- what the transport calls (IPushProducer) ----------------------------------------------------------

    def pauseProducing(self) -> None:
        """The sender does not take our answers: stop listening to it, since what it says makes more of them."""
        if self._full_since is None:
            self._full_since = self._clock.seconds()
            self._backlog.stop_reading("full", True)

    def resumeProducing(self) -> None:
        """It takes them again."""
        self._full_since = None
        self._backlog.stop_reading("full", False)

    def stopProducing(self) -> None:
        """The transport is gone; `lost` follows."""

    def lost(self, error: FtxError) -> None:
        """The connection ended. What has arrived is still written and made durable, so that it need not come again."""
        if not self._over:
            self._over = True
            self._error = self._leaving or error
            if self._overdue is not None and self._overdue.active():
                self._overdue.cancel()
            self._store.stop_looking()
            self._finish()

    # -- steering ------------------------------------------------------------------------------------------

    def pause(self, paused: bool) -> None:
        """Want no content for now, or want it again; the sender is told. A job that is ending is left alone."""
        effects = [] if self._over or self._leaving is not None else self.machine.steer(paused)
        if not effects:
            return
        self._paused_at = self._clock.seconds()
        if self.connection.steers():
            self._perform(effects)
        # One that does not understand, or does not obey, is not read: TCP makes it wait.
        self._backlog.stop_reading("paused", paused and not self.connection.steers())

    def cancel(self, error: FtxError) -> None:
        """End the job with this reason: what came is made durable, and the sender is told what stays.

        A job whose receipt is being made is as good as done, and is left alone.
        """
        if self._over or self._leaving is not None or self.machine.state is ReceiverState.CONCLUDING:
            return
        if not self.connection.steers():
            self.connection.fail(error)
            return
        self._leaving = error
        self.connection.hush()
        self._store.stop_looking()
        self._overdue = self._clock.callLater(limits.CANCEL_WAIT, self._leave)
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._leaving is not None and not self._over and self._backlog.empty and not self._storing:
            self._leave()

    def _leave(self) -> None:
        """Tell the sender what stays, as far as the disk has said so by now."""
        error = self._leaving
        if error is not None and not self._over:
            self._flush()
            self.connection.conclude(self.machine.farewell(), error)
            self.lost(error)

    def wait_stopped(self) -> Deferred[None]:
        """Fires when every disk job of this transfer has ended and its store is closed."""
        waiting: Deferred[None] = Deferred()
        if self._waiting is None:
            waiting.callback(None)
        else:
            self._waiting.append(waiting)
        return waiting

    def revoke(self) -> None:
        """Change nothing more on the disk: a newer connection takes over. Thread-safe."""
        self._revoked = True
        self._store.revoke()

    # -- effects -------------------------------------------------------------------------------------------

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self.connection.send(effect.message)
                case Resolved():
                    self._observer.resolved(self, effect)
                case LeftOut():
                    self._observer.left_out(self, effect)
                case LookUp():
                    self._look_up(effect)
                case StoreWhole() | FinishFolder():
                    self._gather(effect)
                case MakeLinks():
                    self._make_links(effect)
                case WriteBlock():
                    self._write_block(effect)
                case CopyBlock():
                    self._copy_block(effect)
                case Sync():
                    self._sync(effect.number)
                case Publish():
                    self._publish(effect)
                case Discard():
                    self._discard(effect)
                case Conclude():
                    self._conclude()
                case GiveUp():
                    self.cancel(FtxError("cancelled", "cancelled by the sender"))

    def _flush(self) -> None:
        if not self._over:
            try:
                self._perform(self.machine.flush(self._clock.seconds()))
            except FtxError as error:
                self.connection.fail(error)

    def settled(self) -> None:
        """A piece of disk work has ended: send what that led to, and see whether it was the last."""
        self._next_basis()
        self._flush()
        self._leave_if_done()
        if self._over:
            self._finish()

    def hold(self, full: bool) -> None:
        """Read no further, since nobody takes what would follow; or go on."""
        if not self._over:
            self._backlog.stop_reading("events", full)

    @property
    def over(self) -> bool:
        """Whether the job has ended; disk work may still be under way."""
        return self._over

    def _entry_failed(self, number: int) -> Callable[[FtxError], None]:
        return lambda error: self._perform(self.machine.failed(number, error.name))

    # -- looking up ----------------------------------------------------------------------------------------

    def _look_up(self, effect: LookUp) -> None:
        entries = [_store_entry(entry) for entry in effect.entries]
        for start in range(0, len(entries), limits.DISK_BATCH):
            part = entries[start : start + limits.DISK_BATCH]
            self._backlog.run(self._look_lane, self._looked_up, self._store.look_up, part)

    def _looked_up(self, outcomes: Sequence[Any]) -> None:
        now = self._clock.seconds()
        for outcome in outcomes:
            match outcome:
                case store.Want(number=number, held=held, basis=basis):
                    if basis and self.machine.copies:
                        self._bases.append(outcome)
                    else:
                        self._perform(self.machine.want(number, held, now))
                case store.Have(number=number, stored_as=stored_as, digest=digest):
                    self._perform(self.machine.have(number, stored_as, digest))
                case store.Made(number=number):
                    self._perform(self.machine.made(number))
                case store.Skip(number=number):
                    self._perform(self.machine.skip(number))
                case store.Refuse(number=number, error=error):
                    self._perform(self.machine.refuse(number, error))

    # -- older copies --------------------------------------------------------------------------------------

    def _next_basis(self) -> None:
        """Find out the digests of the next older copy, one at a time, as long as few enough are on offer."""
        files, blocks = self.machine.bases
        if not self._bases or self._finding or self._over or files >= limits.BASES or blocks >= limits.BASIS_BLOCKS:
            return
        self._finding = True
        want = self._bases.popleft()

        def found(digests: bytes) -> None:
            self._finding = False
            self._perform(self.machine.want(want.number, want.held, self._clock.seconds(), digests))
            self._next_basis()

        def failed(error: FtxError) -> None:
            self._finding = False
            self.connection.fail(error)

        self._backlog.run(self._basis_lane, found, self._basis, want.number, blocks, failed=failed)

    def _basis(self, number: int, offered: int) -> bytes:
        return self._store.basis(number)[: (limits.BASIS_BLOCKS - offered) * limits.DIGEST]

    def _copy_block(self, effect: CopyBlock) -> None:
        number, block = effect.number, effect.block

        def copied(ok: bool) -> None:
            self._perform(self.machine.block_written(number, block, ok, self._clock.seconds()))

        lane, failed = self._file(number).lane, self._entry_failed(number)
        copy = (self._store.copy_block, number, block, effect.offset, effect.digest)
        self._backlog.hold(limits.BLOCK)
        self._backlog.run(lane, copied, *copy, failed=failed, release=limits.BLOCK)

    # -- files of one block, and folders -------------------------------------------------------------------

    def _gather(self, effect: StoreWhole | FinishFolder) -> None:
        self._gathered.add(effect)
        if isinstance(effect, StoreWhole):
            self._backlog.hold(effect.length)
        # The first batch goes when the turn is over, later ones when the disk is ready for more: under load batches
        # grow by themselves, and a single file does not wait.
        if not self._storing:
            self._storing = True
            self._clock.callLater(0, self._store_gathered)

    def _store_gathered(self) -> None:
        batch = self._gathered.take()
        self._storing = bool(batch.numbers) and not self._revoked
        if not self._storing:
            self._leave_if_done()
            if self._over:
                self._finish()
            return

        def stored(outcomes: Sequence[store.Stored | store.Failed]) -> None:
            for outcome in outcomes:
                self._stored(outcome)

        def failed(error: FtxError) -> None:
            for number in batch.numbers:
                self._perform(self.machine.failed(number, error.name))

        ran = self._backlog.run(self._store_lane, stored, batch.store, self._store, failed=failed, release=batch.size)
        ran.addCallback(lambda _: self._store_gathered())

    def _stored(self, outcome: store.Stored | store.Failed) -> None:
        if isinstance(outcome, store.Stored):
            self._large.pop(outcome.number, None)
            self._perform(self.machine.stored(outcome.number, outcome.stored_as, outcome.digest))
        else:
            self._perform(self.machine.failed(outcome.number, outcome.error))

    # -- links ---------------------------------------------------------------------------------------------

    def _make_links(self, effect: MakeLinks) -> None:
        entries = effect.entries
        links = [store.LinkEntry(entry.number, tuple(entry.path), entry.target, entry.mtime) for entry in entries]

        def failed(error: FtxError) -> None:
            for link in links:
                self._perform(self.machine.failed(link.number, error.name))

        self._backlog.run(self._store_lane, self._linked, self._store.make_links, links, failed=failed)

    def _linked(self, outcomes: Sequence[Any]) -> None:
        for outcome in outcomes:
            match outcome:
                case store.Stored(number=number, stored_as=stored_as):
                    self._perform(self.machine.link_made(number, stored_as, identical=False))
                case store.Have(number=number, stored_as=stored_as):
                    self._perform(self.machine.link_made(number, stored_as, identical=True))
                case store.Skip(number=number):
                    self._perform(self.machine.skip(number))
                case store.Want(number=number):
                    self._perform(self.machine.link_wanted(number))
                case store.Failed(number=number, error=error):
                    self._perform(self.machine.failed(number, error))

    # -- larger files --------------------------------------------------------------------------------------

    def _file(self, number: int) -> _Large:
        large = self._large.get(number)
        if large is None:
            large = self._large[number] = _Large(self._worker.lane())
        return large

    def _write_block(self, effect: WriteBlock) -> None:
        number, block = effect.number, effect.block

        def write() -> bool:
            chunks: Sequence[bytes | memoryview] | None = effect.chunks
            if effect.packed and chunks is not None:
                content = unpack(chunks, effect.length)
                if content is None:
                    return False
                chunks = [content]
            return self._store.write_block(number, block, chunks, effect.digest)

        def written(ok: bool) -> None:
            self._perform(self.machine.block_written(number, block, ok, self._clock.seconds()))

        self._backlog.hold(effect.length)
        self._backlog.run(
            self._file(number).lane,
            written,
            write,
            failed=self._entry_failed(number),
            release=effect.length,
        )

    def _sync(self, number: int) -> None:
        large = self._file(number)

        def synced(durable: int) -> None:
            large.sync = None
            self._perform(self.machine.synced(number, durable, self._clock.seconds()))

        def failed(error: FtxError) -> None:
            large.sync = None
            self._entry_failed(number)(error)

        large.sync = self._backlog.run(self._worker.lane(), synced, self._store.sync, number, failed=failed)

    def _publish(self, effect: Publish) -> None:
        number, lane = effect.number, self._file(effect.number).lane
        failed = self._entry_failed(number)
        self._backlog.run(lane, self._stored, self._store.publish, number, effect.digest, failed=failed)

    def _discard(self, effect: Discard) -> None:
        """Give the entry up, behind its writes and after a sync that is under way."""
        large = self._large.pop(effect.number, None)
        lane = self._store_lane if large is None else large.lane

        def discard(_: object) -> None:
            self._backlog.run(
                lane,
                lambda _: None,
                self._store.discard,
                effect.number,
                effect.keep,
                failed=lambda error: _log.warn("a partial could not be given up: {error}", error=error.message),
            )

        if large is None or large.sync is None:
            discard(None)
        else:
            self._backlog.expect()  # the job must not end in between
            large.sync.addCallback(discard).addCallback(lambda _: self._backlog.expected())

    # -- the end -------------------------------------------------------------------------------------------

    def _conclude(self) -> None:
        peer = self.connection.peer
        body = receipt_body(
            self.machine.transcript,
            job=self.offer.job,
            sender=b"" if peer is None else peer.id,
            receiver=self._identity.id,
            started=self.started_ns,
            ended=int(self._wall() * 1e9),
            durability=0,
        )

        def sign() -> Receipt:
            receipt = Receipt(body, self._identity.sign(SIGN_RECEIPT, body))
            self._store.save_receipt(encode_receipt(receipt))
            return receipt

        def signed(receipt: Receipt) -> None:
            self.connection.send(receipt)
            self.connection.job = None
            self.connection.transport.unregisterProducer()  # type: ignore[union-attr]
            self._backlog.stop_reading("full", False)
            self._over = True

        self._backlog.run(self._store_lane, signed, sign)

    def _finish(self) -> None:
        """When no disk job is under way any more: make durable what came, close the store, tell the observer."""
        if self._storing or not self._backlog.empty or self._closing:
            return
        self._closing = True
        numbers = [] if self._revoked else list(self._large)
        self._worker.run(self._close, numbers).addBoth(self._closed)

    def _close(self, numbers: list[int]) -> None:
        try:
            for number in numbers:
                self._store.sync(number)
        finally:
            self._store.close()

    def _closed(self, outcome: object) -> None:
        if isinstance(outcome, Failure):
            if outcome.check(FtxError) is None:
                _log.failure("a job could not be closed", failure=outcome)
            else:
                _log.warn("the end of a job was not made durable: {reason}", reason=outcome.getErrorMessage())
        error = self._error
        if error is None and self.machine.state is not ReceiverState.CONCLUDING:
            error = FtxError("connection-lost")
        self._observer.ended(self, error)
        waiting, self._waiting = self._waiting or [], None
        for deferred in waiting:
            deferred.callback(None)


def _store_entry(entry: FileEntry | PipeEntry | FolderEntry) -> store.FileEntry | store.PipeEntry | store.FolderEntry:
    """An entry of the wire as the storage has it."""
    path = tuple(entry.path)
    if isinstance(entry, FolderEntry):
        return store.FolderEntry(entry.number, path)
    if isinstance(entry, PipeEntry):
        return store.PipeEntry(entry.number, path, entry.mtime, entry.mode)
    digest = entry.digest if isinstance(entry, DigestedEntry) else None
    return store.FileEntry(entry.number, path, entry.size, entry.mtime, entry.mode, digest)
