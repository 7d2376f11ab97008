"""Pairing on a connection: the two ends of `ftx.core.pairing`, as the jobs of their connections.

SPAKE2 computes in Python for some milliseconds per step, so each step runs in a worker thread. While it does, nothing
may come from the peer: its next message is the answer to ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from ftx import limits
from ftx.core.pairing import EXPORTER, Binding, PairingClient, PairingServer
from ftx.core.stages import Role
from ftx.errors import FtxError, ProtocolError
from ftx.net.parties import Talk
from ftx.net.secure import SecureTransport
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.wire.messages import Message, PairConfirm, PairDone, PairReply, PairStart

__all__ = ["Asking", "Showing", "binding_of"]

_M = TypeVar("_M", bound=Message)


def binding_of(connection: Connection, own_id: bytes) -> Binding:
    """What a pairing on `connection` is bound to; FtxError `tls-failed` when it has no complete handshake."""
    transport: Any = connection.transport
    tls = transport.connection if isinstance(transport, SecureTransport) else None
    if tls is None or connection.peer is None:
        raise FtxError("tls-failed")
    label, length = EXPORTER
    value = tls.export_keying_material(label, length, None)
    if connection.session.role is Role.CLIENT:
        return Binding(own_id, connection.peer.id, value)
    return Binding(connection.peer.id, own_id, value)


class _Exchange(Talk):
    """A job of messages only (`ftx.net.parties.Job`), one at a time."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        #: Fires when the connection has ended before the pairing did, with the reason, or when it was `over`.
        self.gone: Deferred[FtxError] = Deferred()
        self._waiting: Deferred[Any] | None = None
        self._came: Message | None = None
        self._error: FtxError | None = None
        connection.job = self

    def message(self, message: Message) -> None:
        """Hand it to who waits, or keep one for who will; two are one too many."""
        if self._came is not None:
            raise ProtocolError("wrong-state")
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            self._came = message
        else:
            waiting.callback(message)

    def lost(self, error: FtxError) -> None:
        """The connection ended first."""
        self._error = error
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(Failure(error))
        if not self.gone.called:
            self.gone.callback(error)

    async def expect(self, kind: type[_M]) -> _M:
        """The next message, which must be a `kind`: else ProtocolError, or what ended the connection."""
        if self._came is None:
            if self._error is not None:
                raise self._error
            self._waiting = Deferred()
            message = await self._waiting
        else:
            message, self._came = self._came, None
        if not isinstance(message, kind):
            raise ProtocolError("wrong-state")
        return message

    def over(self) -> None:
        """This exchange is done with its connection."""
        if self.connection.job is self:
            self.connection.job = None
        if not self.gone.called:
            self.gone.callback(FtxError("pairing-closed"))

    def alive(self) -> None:
        """Go on only if there is still a connection: raises what ended it."""
        if self._error is not None:
            raise self._error
        if self.connection.over:
            raise self.connection.stopped_by or FtxError("connection-lost")


class Asking(_Exchange):
    """The client's end, from the moment its connection is in stage pairing."""

    async def prove(self, worker: Worker, code: str, own_id: bytes, port: int) -> None:
        """Spend the one attempt on `code`; returns when both ends are sure of each other.

        `port` is the TCP port of a daemon of our own, 0 for none. Raises FtxError: `wrong-code`, `pairing-closed`,
        ProtocolError, or what ended the connection. Its end is told.
        """
        try:
            machine = PairingClient(code, binding_of(self.connection, own_id))
            start = await worker.run(machine.start)
            self.alive()
            self.connection.send(start)
            reply = await self.expect(PairReply)
            confirm = await worker.run(machine.confirm, reply, port)
            self.alive()
            self.connection.send(confirm)
            machine.finish(await self.expect(PairDone))
        except FtxError as error:
            self.connection.fail(error)
            raise
        finally:
            self.over()


class Showing(_Exchange):
    """The server's end, from the moment its connection is in stage pairing.

    `take` gives the code to the one attempt there is, or raises. Whoever waits for the person to type waits here.
    """

    def __init__(self, connection: Connection, clock: IReactorTime, take: Callable[[], str]) -> None:
        super().__init__(connection)
        #: Whether this is the attempt that used the code up.
        self.began = False
        self._clock = clock
        self._take = take
        self._deadline: float | None = None

    def message(self, message: Message) -> None:
        """The first message begins the attempt, and uses the code up with it."""
        if isinstance(message, PairStart) and not self.began:
            self._code = self._take()
            self.began = True
            self._deadline = self._clock.seconds() + limits.PAIRING_ATTEMPT
        super().message(message)

    def next_deadline(self) -> float | None:
        """When an attempt that has begun must have proved something."""
        return self._deadline

    def tick(self, now: float) -> None:
        """It is due."""
        raise FtxError("pairing-closed", "the attempt took too long")

    async def verify(self, worker: Worker, own_id: bytes) -> tuple[PairConfirm, PairingServer]:
        """Wait for the attempt and verify its proof; the machine then waits to say so (`PairingServer.done`)."""
        start = await self.expect(PairStart)
        machine = PairingServer(self._code, binding_of(self.connection, own_id))
        reply = await worker.run(machine.reply, start)
        self.alive()
        self.connection.send(reply)
        confirm = await self.expect(PairConfirm)
        machine.verify(confirm)
        self._deadline = None
        return confirm, machine
