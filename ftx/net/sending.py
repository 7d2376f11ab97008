"""The sending end of a job: the sender machine, between a connection and the disk.

Three strands of the worker run beside the reactor: one walks and announces entries (`ftx.net.announcing`), one reads
content ahead of the network (`ftx.net.reading`), one counts for the totals where the walk takes long to end.

It is longer than other modules because both sides of it are wide: what a connection, a transport and a bundle call, and
what the owner of a job asks and wants.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import limits
from ftx.core.approval import NONCE, Waiter
from ftx.core.events import Effect, Resolved, Send, There, VerifyReceipt, Waited
from ftx.core.identity import SIGN_RECEIPT, same
from ftx.core.links import in_force
from ftx.core.sender import Concluded, Sender
from ftx.disk.counting import Counting
from ftx.disk.keys import verify
from ftx.disk.memory import DigestMemory
from ftx.disk.selection import Selection
from ftx.disk.source import Root, Totals, Walk
from ftx.errors import FtxError, ProtocolError
from ftx.net.announcing import Announcing
from ftx.net.backlog import Backlog
from ftx.net.bundle import Bundle
from ftx.net.course import Course
from ftx.net.idle import Idle
from ftx.net.parties import Watcher
from ftx.net.reading import ReadAhead
from ftx.net.tls import PeerKey
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.wire.frames import Piece
from ftx.wire.messages import Accept, Cancel, Message, Offer, Receipt, Refuse, Waiting, decode_receipt_body

__all__ = ["Sending"]

_log = Logger()


@implementer(IPushProducer)
class Sending:
    """One job from its offer to its receipt.

    `run()` gives a Deferred that fires with the receipt, or fails with FtxError; either way nothing of the job is
    left running when it fires. When it is cancelled, `wait_stopped()` tells when that is so.
    """

    _counted: Totals | None = None
    _waiter: Waiter | None = None
    _to_pause = False
    _withdrawing: IDelayedCall | None = None
    _to_count: IDelayedCall | None = None
    _outcome: Receipt | FtxError | None = None
    _sent = 0
    #: It is over; what is open is being closed; nothing is left.
    _over = _closing = _closed = False

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
        ahead: int = 0,
    ) -> None:
        """`checksums`: read every file before it is announced, so that the receiver may find it by its content.

        `held`: announce nothing before `release()`, whatever the receiver says. `ahead`: so many items may be found
        before they are announced; if that is all there is, or the job is over soon, nothing is looked at once more to
        count it.
        """
        self._selection = selection or Selection()
        features = in_force(connection.session.features, offer.kind, self._selection.links == "keep")
        self.machine = Sender(offer, concluded, features=features)
        self._connection = connection
        self._roots = tuple(roots)
        self._piped = any(root.pipe for root in self._roots)
        self._ahead = 0 if checksums else ahead
        self._worker = worker
        self._clock = clock
        self._own_id = own_id
        self._watcher = watcher
        self._walk = Walk(self._roots, self._selection)
        self._counting = Counting(self._roots, self._selection)
        self._count_strand = worker.strand()
        #: Its connection, and the lanes that join it.
        self.bundle = Bundle(connection, self, sends=True)
        self._backlog = Backlog(self.bundle, self)
        course = Course(self.machine, self._backlog, memory, wall, self._perform, self._may_go_on, self._stopped)
        self._announcing = Announcing(
            course,
            self._walk,
            worker.strand(),
            checksums=checksums and "checksum" in connection.session.features,
            held=held,
            ahead=self._ahead,
            problem=lambda problem: watcher.problem(self, problem),
            counted=self._walk_ended,
            far=self._walk_is_far,
        )
        self._reading = ReadAhead(course, self.bundle, worker.strand(), clock)
        #: Why the job is given up, once it is.
        self._reason = FtxError("interrupted")
        self._done: Deferred[Receipt] = Deferred(self._cancelled)
        self._idle = Idle(lambda: not self._closed)

    def run(self, counted: Totals | None = None) -> Deferred[Receipt]:
        """Offer the job. `counted`: the totals, if an earlier attempt has found them."""
        if self._connection.over:  # lost since it was ready, when nobody was there to be told
            self._end(self._connection.stopped_by or FtxError("connection-lost"))
            return self._done
        self._connection.job = self
        self._connection.carry_content()
        self._connection.transport.registerProducer(self, True)  # type: ignore[union-attr]
        self._counted = counted
        self._connection.send(self.machine.offer)
        if counted is not None:
            self._count_done(counted)
        elif not self._ahead:
            self._count()
        if self._ahead:
            self._announcing.go_on()
        return self._done

    # -- what the connection calls -------------------------------------------------------------------------

    def message(self, message: Message) -> None:
        """A message of the receiver."""
        if isinstance(message, Refuse | Cancel):
            self._refused(message)
            return
        self._perform(self.machine.receive(message))
        if isinstance(message, Accept):
            if self._to_pause:
                self.pause(True)
            self._watcher.accepted(self)
        self._watcher.progressed(self)

    def _refused(self, message: Refuse | Cancel) -> None:
        """The offer is refused, or the job cancelled: that ends the job."""
        try:
            self.machine.receive(message)
        except ProtocolError:
            raise
        except FtxError as reason:
            self._end(reason if self._withdrawing is None else self._reason)

    def piece(self, piece: Piece, lane: int = 0) -> None:
        """Never: content comes to receivers only."""
        raise ProtocolError("wrong-state")

    def lanes_joined(self) -> None:
        """Nothing: how many connections there are is seen when one is chosen."""

    def flow(self) -> None:
        """A connection takes more content, or no more for now."""
        if not self._over:
            self._reading.flow()

    def turn(self) -> None:
        """All that had arrived was handed over: announce and read what that made room for."""
        self._announcing.go_on()
        self._reading.go_on()

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
        self.bundle.own_full = True
        self.flow()

    def resumeProducing(self) -> None:
        """The transport can take more."""
        self.bundle.own_full = False
        self.flow()

    def stopProducing(self) -> None:
        """The transport is gone; `lost` follows."""
        self.bundle.own_full = True

    # -- effects -------------------------------------------------------------------------------------------

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case There():
                    self._watcher.there(self, effect)
                case Resolved():
                    self._watcher.resolved(self, effect)
                case Send():
                    self._connection.send(effect.message)
                case VerifyReceipt():
                    self._verify(effect)
                case Waited():
                    self._waited(effect.message)

    def _waited(self, message: Waiting) -> None:
        """A person is asked: our half of the phrase, and then the phrase."""
        if self._piped:
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
        self._announcing.held = False
        if not self._over:
            self._announcing.go_on()
            self._reading.go_on()

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

    def _walk_ended(self, totals: Totals) -> None:
        """Who has seen all of it knows how much that is."""
        if self._counted is None and not self._piped:
            self._count_done(totals)

    def _walk_is_far(self) -> None:
        """The walk waits for the receiver. While that has not answered there is nothing else to do, and it may want to
        know how much there is; once files travel, many jobs are over before it is worth looking at everything twice.
        """
        if self.machine.accepted is None:
            self._count()
        else:
            self._to_count = self._clock.callLater(limits.COUNT_AFTER, self._count)

    def _count(self) -> None:
        """Count a little more, unless that is known, or cannot be; others take their turns in between."""
        if self._counted is not None or self._piped:
            return
        self._backlog.run(self._count_strand, self._counted_some, self._counting.step)

    def _counted_some(self, totals: Totals | None) -> None:
        if totals is None:
            self._count()
        elif self._counted is None:
            self._count_done(totals)

    def _count_done(self, totals: Totals) -> None:
        self._counted = totals
        self._perform(self.machine.counted(totals.files, totals.folders, totals.bytes))
        self._watcher.progressed(self)

    @property
    def sent(self) -> int:
        """Content bytes given to the network in this attempt, compressed where they are; never fewer than before.

        What waits here does not count, nor what waited on a connection that was lost.
        """
        waits = 0 if isinstance(self._outcome, Receipt) else self.bundle.unsent
        self._sent = max(self._sent, self._reading.sent - waits)
        return self._sent

    @property
    def pipe_begun(self) -> bool:
        """Whether standard input was touched: what was read of it cannot be read again."""
        return self._reading.pipe_begun

    @property
    def last_heard(self) -> float | None:
        """When anything last came from a receiver that had taken the job, on the clock of this job; else None."""
        return None if self.machine.accepted is None else self._connection.session.last_received

    def wait_stopped(self) -> Deferred[None]:
        """Fires when nothing of the job is running any more."""
        return self._idle.wait()

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

    # -- steering ------------------------------------------------------------------------------------------

    def pause(self, paused: bool) -> None:
        """Send no content for now, or go on; the receiver is told, where it understands that.

        Before the receiver has taken the job there is nothing to pause: it is paused as soon as it has.
        """
        self._to_pause = paused
        effects = [] if self._over else self.machine.steer(paused)
        if effects and self._connection.steers():
            self._perform(effects)
        if effects and not self.machine.paused:
            self.turn()

    def _may_go_on(self) -> bool:
        """Whether anything more may be begun."""
        return not self._over and self._withdrawing is None

    def cancel(self, reason: FtxError | None = None) -> None:
        """Give the job up, for a `reason` of ours (`interrupted` unless given), with which the job then fails.

        A receiver that understands says within `limits.CANCEL_ANSWER` what it keeps. One that does not, or that has not
        taken the job, is told a reason of ours by an error, and hears nothing of an interruption.
        """
        if not self._may_go_on():
            return
        self._reason = reason or self._reason
        if self._connection.steers() and not self._connection.over:
            effects = self.machine.cancel()
            if effects:
                self._withdrawing = self._clock.callLater(limits.CANCEL_ANSWER, self._withdrawn)
                self._connection.unlimited()
                self._perform(effects)
                return
        self._withdrawn()

    def _withdrawn(self) -> None:
        if self._reason.name == "interrupted":
            self._connection.abort(self._reason)
        else:
            self._connection.fail(self._reason)
        self._end(self._reason)

    # -- the end -------------------------------------------------------------------------------------------

    def _cancelled(self, _: object) -> None:
        self.cancel()

    def _end(self, outcome: Receipt | FtxError) -> None:
        if self._over:
            return
        self._over = True
        for call in (self._withdrawing, self._to_count):
            if call is not None and call.active():
                call.cancel()
        self._outcome = outcome
        self.bundle.close()
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
            self._reading.drop()

        self._worker.run(close).addBoth(self._finished)

    def _finished(self, outcome: object) -> None:
        if isinstance(outcome, Failure):
            _log.failure("a sending job could not be closed", failure=outcome)
        self._closed = True
        if not self._done.called:
            if isinstance(self._outcome, FtxError):
                self._done.errback(self._outcome)
            elif self._outcome is not None:
                self._done.callback(self._outcome)
        self._idle.look()
