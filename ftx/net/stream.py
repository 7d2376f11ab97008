"""A door of the control socket for a stream: JSON lines over AF_UNIX SOCK_STREAM (`docs/control.md`).

A `StreamDoor` is one connection, thin around a `ftx.net.conversation.Conversation`: it makes lines of bytes, holds the
client to the deadline of a line that has begun, and sees to it that a goodbye arrives. `ftx.net.packet` is its
counterpart for packets.
"""

from __future__ import annotations

import os
import select

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.unix import Server
from twisted.python.failure import Failure
from zope.interface import implementer

from ftx import limits
from ftx.errors import FtxError
from ftx.net.conversation import Conversation, Doorkeeper
from ftx.net.local import caller_of
from ftx.wire.jsonlines import LineSplitter

__all__ = ["StreamDoor", "StreamDoors"]


@implementer(IHalfCloseableProtocol, IFileDescriptorReceiver, IPushProducer)
class StreamDoor(Protocol):
    """One connection: bytes to lines, flow control to the conversation, and its timers. Implements `Door`."""

    transport: Server

    def __init__(self, server: Doorkeeper) -> None:
        """A protocol for the next connection that `server` takes."""
        self._server = server
        self._clock = server.reactor
        self._lines = LineSplitter()
        self._paused = False  # by the conversation
        self._ended = False  # nothing that still arrives counts
        self._half_closed = False
        self._line_deadline: IDelayedCall | None = None
        self._next_look: IDelayedCall | None = None
        self._linger: IDelayedCall | None = None

    # -- from Twisted ---------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Find out who it is, and let the server decide."""
        caller = caller_of(self.transport.getHandle())
        server = self._server
        self._conversation = Conversation(self, caller, server.dispatcher, self._clock, server.ended)
        self.transport.registerProducer(self, True)
        server.admit(self._conversation)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes from the client."""
        if not self._ended:
            self._lines.feed(data)
            self._deliver()

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Somebody passes an open file (`SCM_RIGHTS`): nothing here takes one, and it must not stay open."""
        os.close(descriptor)
        self._refuse(FtxError("bad-request", "file descriptors are not accepted"))

    def readConnectionLost(self) -> None:
        """The client sends nothing more, but may well wait for answers."""
        self._half_closed = True
        self._watch_line(False)
        if self._linger is not None:
            self._linger.cancel()
            self._leave()
            return
        if not self._ended:
            try:
                line = self._lines.last_line()
            except FtxError as error:
                self._refuse(error)
                return
            if line is not None:
                self._conversation.receive(line)
        self._conversation.finish()
        self._look()

    def writeConnectionLost(self) -> None:
        """See IHalfCloseableProtocol: what was written before `close()` is out."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._ended = True
        self._watch_line(False)
        for timer in (self._next_look, self._linger):
            if timer is not None and timer.active():
                timer.cancel()
        self._conversation.lost()

    def pauseProducing(self) -> None:
        """The client does not read as fast as we write."""
        self._conversation.pause_output()

    def resumeProducing(self) -> None:
        """What was written is on its way."""
        self._conversation.resume_output()

    def stopProducing(self) -> None:
        """See IPushProducer; `connectionLost` follows."""

    # -- from the conversation ------------------------------------------------------------------------------

    def write(self, message: bytes) -> None:
        """See `Door.write`."""
        self.transport.writeSequence([message, b"\n"])

    def pause_input(self) -> None:
        """See `Door.pause_input`."""
        self._paused = True
        self.transport.pauseProducing()

    def resume_input(self) -> None:
        """See `Door.resume_input`."""
        self._paused = False
        self._deliver()
        if not self._paused and not self._half_closed and not self._ended:
            self.transport.resumeProducing()

    def close(self) -> None:
        """See `Door.close`."""
        self._ended = True
        self._watch_line(False)
        self.transport.unregisterProducer()
        if self._half_closed or self._server.stopping:
            self.transport.loseConnection()
        else:
            # Closing with something unread would be a reset, which may overtake the reason just written: close
            # our side, read on, and leave when the client does, or soon (RFC 9112, 9.6, for the same in HTTP).
            self.transport.loseWriteConnection()
            self._linger = self._clock.callLater(limits.ABORT_AFTER, self._leave)
            self.transport.resumeProducing()

    def abort(self) -> None:
        """See `Door.abort`."""
        self._ended = True
        self._watch_line(False)
        self.transport.abortConnection()

    def _leave(self) -> None:
        self._linger = None
        self.transport.loseConnection()

    # -- lines ----------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Hand on the whole lines there are, until the conversation has enough."""
        began_anew = False
        while not self._paused and not self._ended:
            try:
                line = self._lines.next_line()
            except FtxError as error:
                self._refuse(error)
                return
            if line is None:
                break
            began_anew = True
            self._conversation.receive(line)
        # a line that we do not read on our own account is not late
        waits = self._lines.partial and not self._paused and not self._ended
        if began_anew:
            self._watch_line(False)
        self._watch_line(waits)

    def _refuse(self, error: FtxError) -> None:
        self._ended = True
        self._watch_line(False)
        self._conversation.refuse(error)

    def _watch_line(self, waits: bool) -> None:
        """Run the deadline of a line that has begun, or stop it."""
        if waits and self._line_deadline is None:
            self._line_deadline = self._clock.callLater(limits.CONTROL_STALL, self._line_late)
        elif not waits and self._line_deadline is not None:
            self._line_deadline.cancel()
            self._line_deadline = None

    def _line_late(self) -> None:
        self._line_deadline = None
        self._refuse(FtxError("bad-request", f"the line was not finished within {limits.CONTROL_STALL:.0f} s"))

    def _look(self) -> None:
        """Notice that a half-closed client is gone altogether.

        Its end of file has been read, so the reactor watches nothing on this connection until we write; a
        subscriber of a daemon that does nothing would keep its place for ever.
        """
        self._next_look = None
        if not self.transport.connected:
            return
        poll = select.poll()
        poll.register(self.transport.getHandle(), 0)
        if poll.poll(0):  # POLLHUP or POLLERR: these come unasked
            self.abort()
        else:
            self._next_look = self._clock.callLater(limits.CONTROL_STALL, self._look)


class StreamDoors(ServerFactory):
    """Makes the doors of one server."""

    noisy = False

    def __init__(self, server: Doorkeeper) -> None:
        """Of `server`, which decides about each."""
        self._server = server

    def buildProtocol(self, addr: IAddress | None) -> StreamDoor:
        """A door for the next connection."""
        return StreamDoor(self._server)
