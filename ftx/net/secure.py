"""The TLS transport: OpenSSL between two memory BIOs, and the socket read and written in large pieces.

Twisted makes or takes the TCP connection, and closes it in the end. Between the two, `SecureTransport` stands in the
reactor in its place, with the same descriptor: content is copied fewer times than on the way through a TCP transport
that keeps a buffer of its own, and a protocol gets all records of one read in one call.

    Twisted's TCP transport  -- getHandle() -->  socket  <-->  SecureTransport  <-->  protocol
        |  connectionMade, connectionLost           ^               |
        v                                           |            OpenSSL (`ftx.net.records`)
    the protocol that Twisted sees (`ftx.net.tls`)  +-- the reactor: doRead, doWrite

What a read brought goes into OpenSSL at once; what OpenSSL has for the peer goes to the socket before it is given
more, so ciphertext never piles up. Plaintext waits in a queue that its writer bounds: a registered producer is paused
above `queue_high` bytes and resumed below `queue_low`.

It is longer than other modules because what Twisted asks of a transport is that long.
"""

from __future__ import annotations

import contextlib
import socket as sockets
from collections.abc import Iterable, Iterator
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IPushProducer,
    IReadWriteDescriptor,
    ISystemHandle,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from ftx import limits
from ftx.errors import FtxError
from ftx.net.records import Records
from ftx.net.throttle import Throttle

__all__ = ["IRecordListener", "SecureTransport"]

# Everything that is read from any socket passes through here on its way to OpenSSL: all in the reactor's thread.
_ARRIVED: Final = bytearray(limits.READ_SLICE)
_ARRIVED_VIEW: Final = memoryview(_ARRIVED)


class IRecordListener(Interface):
    """A protocol that takes all that came in a turn together; what costs time is then done once for it."""

    def recordsReceived(parts: list[bytes]) -> None:
        """`parts`, one or more, arrived together, each of many records; in the place of calls of `dataReceived`."""


@implementer(ITransport, IConsumer, IPushProducer, IReadWriteDescriptor, ISystemHandle)
class SecureTransport:
    """One end of a TLS connection.

    As a transport it takes bytes and memoryviews, which must not change until they are sent, and copies none of them
    before OpenSSL has them. `loseConnection()` sends what was written and the closing alert, shuts our half of the TCP
    connection down, and then waits for the peer's end, delivering nothing: an owner that cannot wait follows it with
    `abortConnection()`. The protocol gets `handshakeCompleted` if it is an IHandshakeListener, and `recordsReceived`
    in the place of `dataReceived` if it is an IRecordListener.

    `connectionLost` has ConnectionDone after the peer's closing alert, ConnectionLost when the stream just ended, an
    SSL.Error when OpenSSL ended it, and FtxError `tls-failed` when the handshake took more than `limits.HANDSHAKE`.
    """

    disconnecting = False

    def __init__(self, tcp: Any, protocol: IProtocol, connection: SSL.Connection, client: bool) -> None:
        #: Whether the peer has sent anything at all.
        self.spoke = False
        #: Bytes read in one turn of the reactor, at most `limits.READ_SIZE_SIGNED_IN`.
        self.read_size = limits.READ_SIZE
        #: Bytes that wait to be encrypted above which a producer is paused, and below which it is resumed.
        self.queue_high = limits.WRITE_QUEUE_HIGH
        self.queue_low = limits.WRITE_QUEUE_LOW
        #: What is asked before bytes are read, and before they are written; None for no limit.
        self.incoming: Throttle | None = None
        self.outgoing: Throttle | None = None
        self._metered: Throttle | None = None  # `incoming`, in a turn in which there is a limit
        self._tcp = tcp
        self._socket: sockets.socket = tcp.getHandle()
        self._reactor = tcp.reactor
        self._protocol: Any = protocol
        self._gathers = IRecordListener.providedBy(protocol)
        self._records = Records(connection, client=client)
        self._lost = False
        self._left: int | None = None  # what had not been sent when it was lost
        self._shake_bytes = 0
        self._wanted = True  # the protocol has not paused us
        self._shut = False  # our closing alert is out; what comes is dropped
        self._over = False  # nothing is read, written or delivered any more
        self._why: BaseException | None = None
        self._held: IDelayedCall | None = None  # will deliver what OpenSSL still holds of the last read
        self._sealed: memoryview | None = None  # ciphertext that the socket did not take yet
        self._producer: Any = None
        self._producer_paused = False
        self._turning = False  # a read is being dealt with, ...
        self._gathered = False  # ... and there is something to send
        self._soon: IDelayedCall | None = None  # will send what was said outside of that
        self._full = False  # the reactor says when the socket takes more

    @property
    def connection(self) -> SSL.Connection | None:
        """The OpenSSL connection, until the connection is lost."""
        return None if self._lost else self._records.connection

    @property
    def unsent(self) -> int:
        """Bytes that were written and wait to be encrypted; those that still did when the connection was lost."""
        return self._records.waiting if self._left is None else self._left

    def begin(self) -> None:
        """Take the descriptor over and begin the handshake."""
        # What a turn has to say goes out as it is: held back until the peer has acknowledged what was said before
        # (RFC 896), small messages behind each other would cost 40 ms each.
        with contextlib.suppress(OSError):  # not TCP, or gone already, which will show
            self._socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        self._tcp.pauseProducing()  # its reader leaves the reactor, and makes room for ours on the same descriptor
        self._protocol.makeConnection(self)
        if not self._over:
            self._reactor.addReader(self)
            with self._turn():
                self._handshake()

    def lost(self, reason: Failure) -> None:
        """The TCP connection is gone: tell the producer and the protocol, and let go of everything."""
        self._stop()
        self._left = self._records.waiting
        self._records.clear()
        self._sealed = None
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        protocol, self._protocol = self._protocol, None
        protocol.connectionLost(reason if self._why is None else Failure(self._why))
        self._lost = True
        del self._records  # and OpenSSL's memory with it

    # -- IReadWriteDescriptor: what the reactor calls ------------------------------------------------------

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return str(self._tcp.logPrefix())

    def connectionLost(self, reason: Failure) -> None:
        """See IFileDescriptor: the reactor found the descriptor broken."""
        self._end(reason.value or ConnectionLost())

    def doRead(self) -> None:
        """See IReadDescriptor: one read, and everything that is in it."""
        if self._over:
            return
        if self._shut:
            self._discard()
            return
        if self._held is not None:
            return
        with self._turn():
            self._read_turn()

    def _read_turn(self) -> None:
        size = self.read_size
        incoming = self._metered = self.incoming if self.incoming is not None and self.incoming.limited else None
        if incoming is not None:
            if not incoming.passes(self._read_on):
                self._reactor.removeReader(self)
                return
            size = min(size, incoming.portion(size))
        count = self._read(size)
        if count is None:
            return
        if not self._records.complete:
            self._shake_bytes += count
            if self._shake_bytes > limits.HANDSHAKE:
                self._end(FtxError("tls-failed", "the peer's handshake is too large"))
                return
            self._handshake()
        if self._records.complete and not self._over:
            self._deliver(size - count if count == limits.READ_SLICE else 0)

    def doWrite(self) -> None:
        """See IWriteDescriptor: encrypt and send, until the socket is full or a turn's worth is sent."""
        if self._over:  # the reactor asks once more in the turn in which a read ended it
            return
        try:
            full = not self._write_turn()
            if full is not self._full:
                self._full = full
                (self._reactor.addWriter if full else self._reactor.removeWriter)(self)
        except (SSL.Error, OSError) as error:
            self._end(_reason(error))
            return
        if self._producer_paused and self._records.waiting < self.queue_low and self._producer is not None:
            self._producer_paused = False
            self._producer.resumeProducing()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """What is said meanwhile goes out at the end of it."""
        self._gathered = False
        self._turning = True
        try:
            yield
        finally:
            self._turning = False
        if self._gathered:
            self.doWrite()

    def _to_write(self) -> None:
        """There is something to send: now, or as soon as what goes on at the moment has ended.

        Asking first whether the socket takes it would cost more than to send it.
        """
        if self._turning:
            self._gathered = True
        elif not self._over and not self._full and self._soon is None:
            self._soon = self._reactor.callLater(0, self._write_soon)

    def _write_soon(self) -> None:
        self._soon = None
        self.doWrite()

    def _write_turn(self) -> bool:
        """Encrypt and send; whether nothing is left to be done, for now, when the socket takes more."""
        records, budget = self._records, limits.WRITE_TURN
        outgoing = self.outgoing if self.outgoing is not None and self.outgoing.limited else None
        while budget > 0 and self._flush():
            if records.complete and records.waiting:
                most = limits.WRITE_SLICE
                if outgoing is not None:
                    if not outgoing.passes(self._to_write):
                        return True
                    most = outgoing.portion(most)
                sealed = records.seal(most)
                if outgoing is not None:
                    outgoing.passed(sealed)
                budget -= sealed
            elif self.disconnecting and records.complete and self._producer is None and not records.closed:
                records.close()
            else:
                if records.closed:
                    self._shut_down()
                return True
        return False

    # -- ITransport, IConsumer, ISystemHandle --------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`, when what goes on at the moment has ended; dropped once the connection is over or ending."""
        self.writeSequence((data,))

    def writeSequence(self, data: Iterable[bytes | memoryview]) -> None:
        """Send each of `data`, as `write` does."""
        if self._over or (self.disconnecting and self._producer is None):
            return
        before = self._records.waiting
        for part in data:
            if len(part):
                self._records.write(part)
        if self._records.waiting == before:
            return
        if self._records.complete:
            self._to_write()
        full = self._records.waiting >= self.queue_high
        if full and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def getPeer(self) -> Any:
        """See ITransport."""
        return self._tcp.getPeer()

    def getHost(self) -> Any:
        """See ITransport."""
        return self._tcp.getHost()

    def getHandle(self) -> sockets.socket:
        """The socket, for questions to the kernel about it."""
        return self._socket

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See IConsumer; push producers only."""
        if not streaming or self._producer is not None:
            raise RuntimeError("one push producer at a time")
        if self._over:
            producer.stopProducing()
            return
        self._producer = producer
        self._producer_paused = False

    def unregisterProducer(self) -> None:
        """See IConsumer."""
        self._producer = None
        if self.disconnecting:
            self._to_write()

    def loseConnection(self) -> None:
        """Send what was written, then end in order; before the handshake is complete this is an abort."""
        if self._over or self.disconnecting:
            return
        if not self._records.complete:
            self.abortConnection()
            return
        self.disconnecting = True
        self._to_write()

    def abortConnection(self) -> None:
        """End it now; what was not sent is lost."""
        self._end(ConnectionAborted())
        self._tcp.abortConnection()  # also when it is ending already, and the peer's deafness holds that up

    # -- IPushProducer: what the protocol calls to hold up the peer ----------------------------------------

    def pauseProducing(self) -> None:
        """Read no more for now. What was read already is still delivered."""
        self._wanted = False
        if not self._over and self._records.complete and not self._shut:
            self._reactor.removeReader(self)

    def resumeProducing(self) -> None:
        """Read on."""
        self._wanted = True
        if not self._over and self._held is None:
            self._reactor.addReader(self)

    def stopProducing(self) -> None:
        """See IProducer."""
        self.loseConnection()

    # -- within --------------------------------------------------------------------------------------------

    def _handshake(self) -> None:
        try:
            complete = self._records.shake_hands()
        except SSL.Error as error:
            self._farewell(error)
            return
        self._to_write()
        if complete:
            if IHandshakeListener.providedBy(self._protocol):
                self._protocol.handshakeCompleted()
            if not self._wanted and not self._over:
                self._reactor.removeReader(self)

    def _read(self, size: int) -> int | None:
        """Give OpenSSL the next bytes from the socket, at most `size`; how many, or None when there is nothing."""
        try:
            count = self._socket.recv_into(_ARRIVED, min(size, limits.READ_SLICE))
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            self._end(error)
            return None
        if self._metered is not None:
            self._metered.passed(count)
        self.spoke = self.spoke or count > 0
        self._records.feed(_ARRIVED_VIEW[:count])
        return count

    def _deliver(self, left: int = 0) -> None:
        """Hand over the records that have come, a bounded number per turn: a peer may make them very small.

        `left` is how many bytes more may be read in this turn. All are handed over at once: what costs time for each
        turn, here and in the protocol, is then spent on a megabyte, while OpenSSL never holds more than a slice of it.
        """
        records = limits.RECORDS_PER_TURN
        content, count, ended, more = self._records.opened(records)
        parts = [content] if content else []
        while left > 0 and ended is None and not more:
            size = self._read(left)
            if size is None:
                break
            left = left - size if size == limits.READ_SLICE else 0
            records -= count
            content, count, ended, more = self._records.opened(records)
            if content:
                parts.append(content)
        if more:
            self._reactor.removeReader(self)
            self._held = self._reactor.callLater(0, self._deliver_held)
        if parts and self._gathers:
            self._protocol.recordsReceived(parts)
        else:
            for part in parts:
                if not self._over:
                    self._protocol.dataReceived(part)
        if ended is not None and not self._over:
            self._farewell(ended)

    def _deliver_held(self) -> None:
        self._held = None
        if self._wanted or self._shut:
            self._reactor.addReader(self)
        if not self._shut:
            self._deliver()

    def _flush(self) -> bool:
        """Give ciphertext to the socket; whether it took all there is."""
        while True:
            kept = self._sealed
            sealed = self._records.sealed() if kept is None else kept
            if sealed is None:
                return True
            last = kept is None and len(sealed) < limits.SEALED
            try:
                sent = self._socket.send(sealed)
            except (BlockingIOError, InterruptedError):
                sent = 0
            if sent < len(sealed):  # copied once: where it lies others are sealed, too
                self._sealed = memoryview(bytes(sealed[sent:])) if kept is None else kept[sent:]
                return False
            self._sealed = None
            if last:  # it was all there is: asking once more would be answered by an exception
                return True

    def _shut_down(self) -> None:
        """All is written, the closing alert too: say so to TCP, then wait for the peer's end."""
        self._shut = True
        self._socket.shutdown(sockets.SHUT_WR)
        self._reactor.addReader(self)

    def _discard(self) -> None:
        try:
            count = self._socket.recv_into(_ARRIVED)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if not count:
            self._end(ConnectionDone())

    def _farewell(self, error: SSL.Error) -> None:
        """OpenSSL ended the connection: let the peer have its alert, if the socket takes it, and end."""
        with contextlib.suppress(SSL.Error, OSError):  # if there is nobody left to tell
            if isinstance(error, SSL.ZeroReturnError):
                self._records.close()
            self._flush()
        self._end(_reason(error))

    def _read_on(self) -> None:
        """The limit lets us read again; whoever paused us meanwhile has the last word."""
        if not self._over and self._wanted and self._held is None:
            self._reactor.addReader(self)

    def _stop(self) -> None:
        self._over = True
        for throttle in (self.incoming, self.outgoing):
            if throttle is not None:
                throttle.close()
        for call in (self._held, self._soon):
            if call is not None:
                call.cancel()
        self._held = self._soon = None
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)

    def _end(self, why: BaseException) -> None:
        """Stop everything and let Twisted close the socket; `lost()` follows in a later turn."""
        if self._over:
            return
        self._why = why.with_traceback(None)
        self._stop()
        self._tcp.loseConnection()


def _reason(error: SSL.Error | OSError) -> BaseException:
    """Why the connection is lost, as Twisted says it where Twisted has a word for it."""
    if isinstance(error, SSL.ZeroReturnError):
        return ConnectionDone()
    if isinstance(error, SSL.Error):
        # The stream ended without a closing alert: OpenSSL 3 says so, older and newer ones leave no reason at all.
        reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
        if isinstance(error, SSL.SysCallError) or not reasons or "unexpected eof" in str(reasons[-1][-1]).lower():
            return ConnectionLost()
    return error
