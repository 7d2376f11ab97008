"""The packet control socket: one JSON object per packet over AF_UNIX SOCK_SEQPACKET (`docs/control.md`, "Packets").

The kernel keeps the boundaries, so there are no lines to split and none to be late. Twisted knows no such transport:
its stream transports join what they write and cut what they read. A `PacketDoor` is therefore its own reader and
writer on the reactor: one `recvmsg` is one request, one `send` one reply or event.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime, IReadWriteDescriptor
from zope.interface import implementer

from ftx import limits
from ftx.errors import FtxError
from ftx.net.conversation import Conversation, Doorkeeper
from ftx.net.local import caller_of

__all__ = ["PacketDoor", "PacketReactor"]

#: Packets read from one client in one turn of the reactor: the others wait, too.
_PACKETS_PER_TURN: Final = 16


class PacketReactor(IReactorFDSet, IReactorTime):
    """What a packet door needs of the reactor."""


@implementer(IReadWriteDescriptor)
class PacketDoor:
    """One connection, which it owns: packets to the conversation and back. Implements `ftx.net.conversation.Door`."""

    def __init__(self, server: Doorkeeper, connection: socket.socket) -> None:
        """`connection` is connected and non-blocking; `open()` begins."""
        self._server = server
        self._clock = server.reactor
        self._socket = connection
        self._reading = False
        self._input_over = False  # nothing that still arrives counts
        self._closing = False
        self._lost = False
        #: What did not fit into the socket's buffer. The conversation writes nothing while there is some.
        self._unsent: deque[bytes] = deque()
        self._full = False
        self._linger: IDelayedCall | None = None
        self._conversation = Conversation(self, caller_of(connection), server.dispatcher, self._clock, server.ended)

    def open(self) -> None:
        """Let the server decide about the caller, and begin to read."""
        self._read(True)
        self._server.admit(self._conversation)

    # -- from the reactor ----------------------------------------------------------------------------------

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "control packets"

    def doRead(self) -> None:
        """See IReadDescriptor: packets have come, or the end."""
        for _ in range(_PACKETS_PER_TURN):
            if not self._reading or self._lost:
                return
            try:
                data, _, flags, _ = self._socket.recvmsg(limits.CONTROL_LINE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._gone()
                return
            self._received(data, flags)

    def doWrite(self) -> None:
        """See IWriteDescriptor: there is room again."""
        if self._flush():
            self._full = False
            self._clock.removeWriter(self)
            self._conversation.resume_output()
            self._close_if_flushed()

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor: the reactor found the socket broken, or has no use for it any more."""
        self._gone()

    def _received(self, data: bytes, flags: int) -> None:
        if self._input_over:  # closing: read only so that what we said is not lost in a reset
            if not data:
                self._gone()
            return
        if flags & socket.MSG_CTRUNC:
            # No room was given for them, so the kernel has closed them again (unix(7)).
            self._refuse("file descriptors are not accepted")
        elif flags & socket.MSG_TRUNC:
            self._refuse(f"the packet is longer than {limits.CONTROL_LINE:,} bytes")
        elif not data:  # the end, or an empty packet: they look the same
            self._input_over = True
            self._read(False)
            self._conversation.finish()
        else:
            self._conversation.receive(data)

    def _refuse(self, why: str) -> None:
        self._input_over = True
        self._conversation.refuse(FtxError("bad-request", why))

    # -- from the conversation (Door) ----------------------------------------------------------------------

    def write(self, message: bytes) -> None:
        """See `Door.write`."""
        if self._lost:
            return
        self._unsent.append(message)
        if not self._full and not self._flush():
            self._full = True
            self._clock.addWriter(self)
            self._conversation.pause_output()

    def pause_input(self) -> None:
        """See `Door.pause_input`."""
        self._read(False)

    def resume_input(self) -> None:
        """See `Door.resume_input`."""
        if not self._input_over:
            self._read(True)

    def close(self) -> None:
        """See `Door.close`."""
        self._input_over = self._closing = True
        self._close_if_flushed()

    def abort(self) -> None:
        """See `Door.abort`."""
        self._gone()

    # -- within --------------------------------------------------------------------------------------------

    def _flush(self) -> bool:
        """Send what can be sent; whether that is all."""
        while self._unsent:
            try:
                self._socket.send(self._unsent[0])
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:  # the client is gone; said in a turn of its own: the conversation is in the middle of this
                self._unsent.clear()
                self._clock.callLater(0, self._gone)
                return True
            self._unsent.popleft()
        return True

    def _close_if_flushed(self) -> None:
        if not self._closing or self._unsent or self._lost or self._linger is not None:
            return
        if self._server.stopping:
            self._gone()
            return
        # A close with something unread resets the connection, which overtakes what we said: say that this is the end,
        # and leave when the client does, or soon.
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._gone()
            return
        self._linger = self._clock.callLater(limits.ABORT_AFTER, self._gone)
        self._read(True)

    def _read(self, wanted: bool) -> None:
        if self._lost or wanted is self._reading:
            return
        self._reading = wanted
        (self._clock.addReader if wanted else self._clock.removeReader)(self)

    def _gone(self) -> None:
        if self._lost:
            return
        self._read(False)
        self._lost = True
        self._clock.removeWriter(self)
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self._unsent.clear()
        self._socket.close()
        self._conversation.lost()
