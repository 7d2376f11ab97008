"""The receiving end of a job: the receiver machine, between a connection and the storage.

What the machine asks of the disk is carried out in `ftx.net.storing`. What waits and what is under way there is counted
in `ftx.net.backlog`, which stops the reading when it is too much.

It is longer than other modules because both sides of it are wide: what a connection, a transport and a bundle call, and
what the owner of a job asks and the disk answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import limits
from ftx.core.arriving import Coming
from ftx.core.events import Conclude, Effect, GiveUp, LeftOut, Resolved, Send, There
from ftx.core.identity import SIGN_RECEIPT
from ftx.core.links import in_force
from ftx.core.receipt import encode_receipt, receipt_body
from ftx.core.receiver import Receiver, ReceiverState
from ftx.disk import store
from ftx.disk.keys import Identity
from ftx.errors import FtxError
from ftx.net.allotment import Allotment, Shared
from ftx.net.backlog import Backlog
from ftx.net.bundle import Bundle
from ftx.net.idle import Idle
from ftx.net.storing import Storing
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.wire.frames import Encoding, Piece, Whole
from ftx.wire.messages import Accept, Message, Offer, Receipt

__all__ = ["Observer", "Receiving"]

_log = Logger()


class Observer:
    """Who watches a receiving job; every method may be left as it is."""

    def resolved(self, job: Receiving, entries: Sequence[Resolved]) -> None:
        """Entries have their results."""

    def there(self, job: Receiving, run: There) -> None:
        """Files are there now. Unless this is done together, each of them is `resolved`."""
        self.resolved(job, list(run.each()))

    def left_out(self, job: Receiving, entry: LeftOut) -> None:
        """The sender of a pull cannot send something."""

    def ended(self, job: Receiving, error: FtxError | None) -> None:
        """The job ended: with a receipt (None) or with an error. Its disk work is over."""


@implementer(IPushProducer)
class Receiving:
    """One job from its acceptance to its receipt, or to its end without one.

    `begin()` sends the accept; from then on it is the connection's job.
    """

    #: Since when the transport has had enough of our answers.
    _full_since: float | None = None
    #: It is over; a newer connection takes over; what is open is being closed; nothing is left.
    _over = _revoked = _closing = _stopped = False
    _error: FtxError | None = None
    #: Why the job is being cancelled, and the timer that bounds how long.
    _leaving: FtxError | None = None
    _overdue: IDelayedCall | None = None
    #: When it was paused here, and how much had come.
    _paused_at = 0.0
    _paused_with = 0

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
        links: bool = False,
        room: Shared | None = None,
    ) -> None:
        """`tops`: of a pull, the names at the top that were asked for; `links`: whether links were asked for.

        `room` is the memory for content that this job shares with others, if there are any.
        """
        self.offer = offer
        self.connection = connection
        features = in_force(connection.session.features, offer.kind, links)
        self.machine = Receiver(offer, clock.seconds(), features=features, tops=tops)
        self.started_ns = int(wall() * 1e9)
        self._idle = Idle(lambda: not self._stopped)
        self._conflict = conflict
        self._store = job_store
        self._worker = worker
        self._clock = clock
        self._wall = wall
        self._identity = identity
        self._observer = observer
        #: Its connection, and the lanes that join it.
        self.bundle = Bundle(connection, self, sends=False)
        self._backlog = Backlog(self.bundle, self)
        self._allotment: Allotment | None = None
        if room is not None:
            key = b"" if connection.peer is None else connection.peer.id
            self._allotment = Allotment(room, key, self.bundle, self._backlog, self._coming)
        self._storing = Storing(
            self.machine,
            job_store,
            self._backlog,
            worker,
            clock,
            perform=self._perform,
            failed=self._disk_failed,
            rested=self._rested,
            over=lambda: self._over,
        )
        self._next_tick = clock.seconds() + limits.PROGRESS_FASTEST

    def begin(self) -> None:
        """Accept the offer; entries and content may come from now on."""
        self.connection.job = self.connection.gathering = self
        self.connection.transport.registerProducer(self, True)  # type: ignore[union-attr]
        windows = limits.WINDOW_UNANSWERED, limits.WINDOW_UNACKNOWLEDGED
        self.connection.send(Accept(self.offer.job, *windows, self._conflict, 0))

    # -- what the connection calls -------------------------------------------------------------------------

    def message(self, message: Message) -> None:
        """A message of the sender."""
        self._perform(self.machine.receive(message, self._clock.seconds()))

    def piece(self, piece: Piece, lane: int = 0) -> None:
        """Part of a block, by its own connection or by a lane."""
        if self._over:
            return  # of a lane, on which it was on its way
        self._obeyed()
        self._perform(self.machine.piece(piece, lane))

    def wholes(self, run: Sequence[Whole]) -> None:
        """Small files, each complete. What is not simply wanted goes the way of every piece."""
        self._obeyed()
        while run:
            count = self.machine.wholes(run)
            self._storing.gather(run[:count] if count < len(run) else run)
            for other in run[count : count + 1]:
                chunks = [memoryview(chunk) for chunk in other.chunks]
                size = sum(map(len, chunks))
                self._perform(self.machine.piece(Piece(other.number, 0, Encoding.RAW, chunks, size, other.digest)))
            run = run[count + 1 :]

    def _obeyed(self) -> None:
        """Content came: not for long in a pause, or it is not read."""
        if (
            self.machine.paused_here
            and self._clock.seconds() - self._paused_at > limits.PAUSE_GRACE
            and self.machine.received - self._paused_with > limits.PAUSE_BYTES * (1 + len(self.bundle))
        ):
            self._backlog.stop_reading("paused", True)

    def lanes_joined(self) -> None:
        """From now on content may come on lanes as well."""
        self.machine.lanes_joined()

    def flow(self) -> None:
        """Nothing: content goes the other way."""

    def turn(self) -> None:
        """All that had arrived was handed over: send what that led to."""
        self._flush()
        self._review()

    def next_deadline(self) -> float | None:
        """When to tick again."""
        return None if self._over else self._next_tick

    def tick(self, now: float) -> None:
        """Progress and syncs that are due. A sender that does not read for `limits.SILENCE` is dead."""
        if self._full_since is not None and now - self._full_since >= limits.SILENCE:
            raise FtxError("peer-silent")
        if self._allotment is not None:
            self._allotment.tick(self.machine.received, now)
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
            self.bundle.close()
            self._store.stop_looking()
            self._review()
            self._finish()

    # -- steering ------------------------------------------------------------------------------------------

    def pause(self, paused: bool) -> None:
        """Want no content for now, or want it again; the sender is told. A job that is ending is left alone."""
        effects = [] if self._over or self._leaving is not None else self.machine.steer(paused)
        if not effects:
            return
        self._paused_at, self._paused_with = self._clock.seconds(), self.machine.received
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
        self.bundle.hush()
        self._store.stop_looking()
        self._overdue = self._clock.callLater(limits.CANCEL_WAIT, self._leave)
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._leaving is not None and not self._over and self._backlog.empty and not self._storing.busy:
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
        return self._idle.wait()

    def revoke(self) -> None:
        """Change nothing more on the disk: a newer connection takes over. Thread-safe."""
        self._revoked = True
        self._storing.revoke()

    # -- effects -------------------------------------------------------------------------------------------

    def _perform(self, effects: Sequence[Effect]) -> None:
        for kind, run in groupby(effects, type):
            if kind is Resolved:
                self._observer.resolved(self, cast("list[Resolved]", list(run)))
            else:
                for effect in run:
                    self._perform_one(effect)

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case Send():
                self.connection.send(effect.message)
            case There():
                self._observer.there(self, effect)
            case LeftOut():
                self._observer.left_out(self, effect)
            case Conclude():
                self._conclude()
            case GiveUp():
                self.cancel(FtxError("cancelled", "cancelled by the sender"))
            case _:
                self._storing.carry_out(effect)

    def _flush(self) -> None:
        if not self._over:
            try:
                self._perform(self.machine.flush(self._clock.seconds()))
            except FtxError as error:
                self.connection.fail(error)

    def settled(self) -> None:
        """A piece of disk work has ended: send what that led to, and see whether it was the last."""
        self._storing.next_basis()
        self._flush()
        self._review()
        self._leave_if_done()
        if self._over:
            self._finish()

    def hold(self, full: bool) -> None:
        """Read no further, since nobody takes what would follow; or go on."""
        if not self._over:
            self._backlog.stop_reading("events", full)

    def _rested(self) -> None:
        """Nothing gathers any more."""
        self._leave_if_done()
        if self._over:
            self._finish()

    def _disk_failed(self, error: FtxError) -> None:
        """Disk work for all of the job failed, and so does that; but what ends early because we leave is no failure."""
        if self._leaving is None or error.name != "superseded":
            self.connection.fail(error)

    def _review(self) -> None:
        if self._allotment is not None:
            self._allotment.review()

    def _coming(self) -> dict[int, Coming]:
        return {} if self._over else self.machine.under_way(self.bundle.begun())

    @property
    def queued(self) -> bool:
        """Whether it is not read because other jobs have the memory."""
        return self._allotment is not None and self._allotment.waits

    @property
    def over(self) -> bool:
        """Whether the job has ended; disk work may still be under way."""
        return self._over

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
            self.bundle.close()

        self._backlog.run(self._storing.strand, signed, sign)

    def _finish(self) -> None:
        """When no disk job is under way any more: make durable what came, close the store, tell the observer."""
        if self._storing.busy or not self._backlog.empty or self._closing:
            return
        self._closing = True
        numbers = [] if self._revoked else self._storing.unfinished()
        self._worker.run(self._close, numbers).addBoth(self._closed)

    def _close(self, numbers: list[int]) -> None:
        try:
            for number in numbers:
                self._store.sync(number)
        finally:
            self._store.close()

    def _closed(self, outcome: object) -> None:
        if self._allotment is not None:
            self._allotment.close()
        if isinstance(outcome, Failure):
            if outcome.check(FtxError) is None:
                _log.failure("a job could not be closed", failure=outcome)
            else:
                _log.warn("the end of a job was not made durable: {reason}", reason=outcome.getErrorMessage())
        error = self._error
        if error is None and self.machine.state is not ReceiverState.CONCLUDING:
            error = FtxError("connection-lost")
        self._observer.ended(self, error)
        self._stopped = True
        self._idle.look()
