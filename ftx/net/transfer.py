"""The transfer connection: a Twisted transport on one side, a `Session` on the other, and one timer.

`Connection` feeds bytes to the session, hands its events to an owner and to the job that runs on it, writes what they
say, and calls both back when their time has come. It knows no rules of the protocol: those are the session's and the
job machines'. What it does know is how connections really end:

- Under TLS `loseConnection()` neither stops incoming data nor ever closes if the peer stays silent, so every close is
  followed by `abortConnection()` after `limits.ABORT_AFTER`, and a connection that is over drops what still comes.
- In TLS 1.3 a client's handshake completes before the server has judged it, so a client sends nothing but its hello
  until the server's hello has come; the session enforces it.
- A close without goodbye is an error, with a reason of its own.

It is longer than other modules because what Twisted calls and what owners and jobs may ask of a connection is here in
one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import __version__, limits
from ftx.core.session import Session, error_frame, error_of
from ftx.core.stages import Role, Stage
from ftx.errors import FtxError, ProtocolError
from ftx.net.failures import connection_failure
from ftx.net.parties import Gathering, Job, Owner
from ftx.net.secure import IRecordListener, SecureTransport
from ftx.net.throttle import Limit, Throttle
from ftx.net.tls import PeerKey, peer_of
from ftx.wire.frames import Piece
from ftx.wire.messages import (
    FEATURES,
    Cancel,
    ErrorMessage,
    Goodbye,
    Hello,
    Join,
    List,
    Message,
    Offer,
    Pause,
    Ping,
    Pong,
    Probe,
    Request,
    Resume,
)

__all__ = ["Connection", "our_hello"]

#: Where either side may end the session in order.
_MAY_LEAVE = frozenset({Stage.READY, Stage.LANE_UP, Stage.LANE_DOWN})


def our_hello(name: str, *, signed_in: bool = False, features: Sequence[str] = FEATURES) -> Hello:
    """What this version of ftx says of itself; `name` is shown to the other side, `features` may be used with it."""
    return Hello("ftx", 1, 1, list(features), name[: limits.DISPLAY_NAME], f"ftx {__version__}", signed_in)


@implementer(IHandshakeListener, IRecordListener)
class Connection(Protocol):
    """One end of a transfer connection. `where` names the other end's address in sentences for people."""

    def __init__(
        self,
        clock: IReactorTime,
        role: Role,
        name: str,
        owner: Owner,
        where: str,
        features: Sequence[str] = FEATURES,
    ) -> None:
        self.clock = clock
        self.where = where
        self.session = Session(role, our_hello(name, features=features), clock.seconds())
        #: Who the peer proved to be, from `key_proved` on.
        self.peer: PeerKey | None = None
        #: Whether it was the peer that said why the connection ends.
        self.told = False
        #: The job that runs on this connection, if any.
        self.job: Job | None = None
        #: The last job that takes small files many at once.
        self.gathering: Gathering | None = None
        #: Whether it is a lane of a job whose own connection is another one.
        self.lane = False
        self._owner = owner
        self._timer: IDelayedCall | None = None
        self._abort: IDelayedCall | None = None
        self._reason: FtxError | None = None
        self._over = False
        self._lost = False
        #: Will deal with the frames that were too many for one turn.
        self._more: IDelayedCall | None = None
        #: Why we do not read from the peer at the moment; while there is no reason we do.
        self._unread: set[str] = set()
        self._hushed = False

    # -- what Twisted calls --------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """The TCP connection stands; the handshake begins, and with it the time to sign in."""
        self.session.connected(self.clock.seconds())
        self._arm()

    def handshakeCompleted(self) -> None:
        """TLS proved the peer's key."""
        if self._over:
            return
        try:
            self.peer = peer_of(self.transport)
            self._owner.key_proved(self, self.peer)
            if self.session.role is Role.CLIENT:
                self.send(self.session.hello)
        except FtxError as error:
            self.fail(error)

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the peer."""
        self.recordsReceived([data])

    def recordsReceived(self, parts: list[bytes]) -> None:
        """What was read from the peer in one turn. Nothing is looked at any more once the connection is over."""
        if self._over or self._hushed:
            return
        self.session.receive_all(parts, self.clock.seconds())
        if self._more is None:
            self._hand_over()

    def _hand_over(self) -> None:
        """Deal with the frames that have come: in one turn of the reactor a bounded number, for others wait as well.

        A peer may put thousands of them into what is read at once. While some are left, nothing more is read.
        """
        self._more = None
        now = self.clock.seconds()
        left = limits.FRAMES_PER_TURN
        try:
            while left > 0 and not self._silenced:
                gathering = self.gathering
                if gathering is not None and gathering is self.job and (run := self.session.next_wholes(left)):
                    left -= len(run)
                    gathering.wholes(run)
                    continue
                event = self.session.next_event(now)
                if event is None:
                    break
                if isinstance(event, Piece):
                    if self.job is None:
                        raise ProtocolError("wrong-state")
                    event = self.session.lengthened(event, left)
                    left -= event.pieces
                    self.job.piece(event)
                else:
                    left -= 1
                    self._handle(event)
            if self.job is not None and not self._over:
                self.job.turn()
        except FtxError as error:
            self.fail(error)
        if left <= 0 and not self._over:
            self._more = self.clock.callLater(0, self._hand_over)
        self._stop_reading("frames", self._more is not None)
        if left < limits.FRAMES_PER_TURN:
            self._arm()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone. Tell the job, then the owner."""
        self._lost = True
        for call in (self._timer, self._abort, self._more):
            if call is not None and call.active():
                call.cancel()
        if self._reason is None and self.session.stage is not Stage.CLOSED:
            self._reason = self._why_lost(reason)
        self._over = True
        self.session.fail()
        job, self.job = self.job, None
        if job is not None:
            job.lost(self._reason or FtxError("connection-lost"))
        self._owner.ended(self, self._reason)

    # -- what the owner and the job call -------------------------------------------------------------------

    @property
    def spoke(self) -> bool:
        """Whether the peer has sent a byte."""
        transport: Any = self.transport
        return isinstance(transport, SecureTransport) and transport.spoke

    @property
    def over(self) -> bool:
        """Whether nothing more can be sent or will be heard."""
        return self._over

    @property
    def stopped_by(self) -> FtxError | None:
        """Why the connection ended or is ending, if it was an error."""
        return self._reason

    def send(self, message: Message) -> None:
        """Send a control message; one that the protocol forbids now is a bug of ours and raises LocalProtocolError."""
        if not self._over:
            self._write(self.session.send(message, self.clock.seconds()))
            self._arm()

    def write_data(self, frames: Sequence[bytes | memoryview]) -> None:
        """Send data frames that are already encoded, as they are: content is not copied before OpenSSL has it."""
        if not self._over:
            self.session.step(Piece, self.clock.seconds())
            if self.transport is not None and not self._lost:
                cast(Any, self.transport).writeSequence(frames)

    def signed_in(self) -> None:
        """The peer is who we want: larger reads from now on."""
        self.read_at_once(limits.READ_SIZE_SIGNED_IN)

    def read_at_once(self, size: int) -> None:
        """From now on no more than `size` bytes are read at once."""
        transport: Any = self.transport
        if isinstance(transport, SecureTransport):
            transport.read_size = size

    def carry_content(self) -> None:
        """This end sends content from now on: more of it may wait for the network, so that blocks follow each other."""
        transport: Any = self.transport
        if isinstance(transport, SecureTransport):
            transport.queue_high, transport.queue_low = limits.CONTENT_QUEUE_HIGH, limits.CONTENT_QUEUE_LOW

    def carry_part(self) -> None:
        """This end sends some of the content of a job from now on: less of it waits here, as there are others."""
        transport: Any = self.transport
        if isinstance(transport, SecureTransport):
            transport.queue_high, transport.queue_low = limits.LANE_QUEUE_HIGH, limits.LANE_QUEUE_LOW

    @property
    def unsent(self) -> int:
        """Bytes that wait at this end to be encrypted, or did when the connection was lost."""
        transport: Any = self.transport
        return transport.unsent if isinstance(transport, SecureTransport) else 0

    def exported(self, label: bytes, length: int, context: bytes) -> bytes:
        """What TLS makes of `label` and `context` at both ends of this connection, and nowhere else (RFC 8446, 7.5).

        FtxError `connection-lost` when there is no TLS any more.
        """
        transport: Any = self.transport
        tls = transport.connection if isinstance(transport, SecureTransport) else None
        if tls is None:
            raise FtxError("connection-lost")
        value: bytes = tls.export_keying_material(label, length, context)
        return value

    def queue_little(self, little: bool) -> None:
        """From now on no more than a piece of content waits for the network at this end, or as much as usual again."""
        transport: Any = self.transport
        if isinstance(transport, SecureTransport):
            high, low = (limits.PIECE,) * 2 if little else (limits.WRITE_QUEUE_HIGH, limits.WRITE_QUEUE_LOW)
            transport.queue_high, transport.queue_low = high, low

    def limit(self, incoming: Sequence[Limit], outgoing: Sequence[Limit]) -> None:
        """From now on the bytes of this connection, TLS included, pass at these rates and no faster."""
        transport: Any = self.transport
        if isinstance(transport, SecureTransport):
            self.unlimited()
            transport.incoming = Throttle(self.clock, incoming) if incoming else None
            transport.outgoing = Throttle(self.clock, outgoing) if outgoing else None

    @property
    def limited(self) -> bool:
        """Whether we read no faster than at a rate that somebody has set."""
        transport: Any = self.transport
        if not isinstance(transport, SecureTransport) or transport.incoming is None:
            return False
        return transport.incoming.limited

    def unlimited(self) -> None:
        """Hold nothing up any more: what is left to be said is short."""
        transport: Any = self.transport
        if isinstance(transport, SecureTransport):
            for throttle in (transport.incoming, transport.outgoing):
                if throttle is not None:
                    throttle.close()
            transport.incoming = transport.outgoing = None

    def pause_reading(self, paused: bool, reason: str = "job") -> None:
        """Stop or go on reading from the peer: back-pressure for a slow disk, or (`room`) for want of memory."""
        if self._lost or self.transport is None:
            return
        self._stop_reading(reason, paused)
        self.session.reading_paused(not self._unread.isdisjoint(("job", "room")), self.clock.seconds())
        self._arm()

    def goodbye(self) -> None:
        """End the session cleanly."""
        pairing = self.session.stage is Stage.PAIRING and self.session.role is Role.CLIENT
        if not self._over and (pairing or self.session.stage in _MAY_LEAVE):
            self.send(Goodbye())
            self._close()

    def finish(self) -> None:
        """We want nothing more: a goodbye where that is possible, else an abort."""
        self.goodbye()
        if not self._over:
            self.abort()

    def fail(self, error: FtxError) -> None:
        """End the session with a reason, which the peer is told as a number, and see that it really ends."""
        if self._over:
            return
        self._reason = error
        self.session.fail()
        if self.peer is not None:
            self._write(error_frame(error, self.session.role))
            self._close()
        else:
            self.abort()

    def conclude(self, message: Message, error: FtxError) -> None:
        """End the session with a last message, which says why: `error` is that reason in our words."""
        if self._over:
            return
        self.send(message)
        self._reason = error
        self.session.fail()
        self._close()

    @property
    def _silenced(self) -> bool:
        """Whether nothing that the peer says counts any more."""
        return self._over or self._hushed

    def hush(self) -> None:
        """Hear nothing more of what the peer sends; we have something left to say."""
        self._hushed = True

    def steers(self) -> bool:
        """Whether the peer understands pause, resume and cancel."""
        return "steer" in self.session.features

    def abort(self, error: FtxError | None = None) -> None:
        """End the connection now, without another word."""
        self._reason = self._reason or error
        self._over = True
        if self.transport is not None and not self._lost:
            cast("SecureTransport", self.transport).abortConnection()

    # -- within --------------------------------------------------------------------------------------------

    def _handle(self, message: Message) -> None:
        match message:
            case Ping():
                self.send(Pong(message.token))
            case Hello():
                self._owner.greeted(self, message)
            case Offer() if self.session.role is Role.SERVER:
                self._owner.offered(self, message)
            case List() | Request() | Probe() | Join():
                self._owner.asked(self, message)
            case Goodbye():
                if self.lane and self.unsent:
                    why = f"{self.where} left a connection of the job while content waited for it"
                    self._reason = FtxError("connection-lost", why)
                elif self.job is not None and not self.lane:
                    # it crossed our offer: the peer has gone, and the job never began
                    self._reason = FtxError("peer-stopping")
                self._close()
            case ErrorMessage():
                # The reason is the peer's; nothing is answered to an error.
                self._reason, self.told = error_of(message), True
                self.abort()
            case _ if self.job is not None:
                self.job.message(message)
            case Pause() | Resume() | Cancel() if self.session.stage is Stage.READY:
                pass  # it crossed the end of its job
            case _:
                raise ProtocolError("wrong-state")

    def _stop_reading(self, reason: str, stop: bool) -> None:
        """There is, or is no longer, this reason not to read."""
        before = bool(self._unread)
        (self._unread.add if stop else self._unread.discard)(reason)
        if bool(self._unread) == before or self._lost or self.transport is None:
            return
        transport = cast("SecureTransport", self.transport)
        if before:
            transport.resumeProducing()
        else:
            transport.pauseProducing()

    def _write(self, data: bytes | memoryview) -> None:
        if self.transport is not None and not self._lost:
            cast(Any, self.transport).write(data)

    def _close(self) -> None:
        self._over = True
        self.unlimited()
        if self._lost or self.transport is None:
            return
        # A transport with a producer would wait for it before it closes.
        cast("SecureTransport", self.transport).unregisterProducer()
        self.transport.loseConnection()
        self._abort = self.clock.callLater(limits.ABORT_AFTER, self.abort)

    def _why_lost(self, reason: Failure) -> FtxError:
        if reason.check(ConnectionDone):
            return FtxError("connection-lost", f"the connection to {self.where} was closed before the end")
        return connection_failure(reason, self.where)

    def _arm(self) -> None:
        """One timer for everything that is due on this connection.

        Deadlines mostly move away from us, with every byte that comes; so a timer that is early enough is left alone,
        and finds out itself when it fires that there is nothing to do yet.
        """
        if self._over or self._lost:
            return
        due = self.session.next_deadline()
        if self.job is not None:
            other = self.job.next_deadline()
            if other is not None and (due is None or other < due):
                due = other
        if due is None:
            return
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() <= due:
                return
            self._timer.cancel()
        self._timer = self.clock.callLater(max(0.0, due - self.clock.seconds()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.clock.seconds()
        try:
            due = self.session.tick(now)
            if due:
                self._write(due)
            if self.job is not None:
                deadline = self.job.next_deadline()
                if deadline is not None and now >= deadline:
                    self.job.tick(now)
        except FtxError as error:
            self.fail(error)
        self._arm()
