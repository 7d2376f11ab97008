"""Takes connections from a listening socket that we made ourselves, a bounded number in one turn of the reactor.

For sockets that Twisted's ports would treat badly (they give AF_UNIX sockets mode 0666), and for kinds that they
do not know.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from ftx import limits

__all__ = ["Acceptor", "AcceptorReactor"]


class AcceptorReactor(IReactorFDSet, IReactorTime):
    """What an acceptor needs of the reactor."""


@implementer(IReadDescriptor)
@attrs.define(eq=False)
class Acceptor:
    """Hands every connection that arrives at `listening`, non-blocking, to `on_connection`, which then owns it.

    `on_connection` must not raise.
    """

    reactor: AcceptorReactor
    listening: socket.socket
    on_connection: Callable[[socket.socket], None]
    _pause: IDelayedCall | None = attrs.field(default=None, init=False)

    _log = Logger()

    def start(self) -> None:
        """Begin to take connections."""
        self.reactor.addReader(self)

    def stop(self) -> None:
        """Take no more. The listening socket stays open: it belongs to the caller."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self.reactor.removeReader(self)

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self.listening.fileno()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "acceptor"

    def doRead(self) -> None:
        """See IReadDescriptor: somebody connected."""
        for _ in range(limits.ACCEPTS_PER_TURN):
            try:
                connection, _address = self.listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # descriptors or memory ran out: the socket stays readable, so look away for a moment
                self._log.warn("no connections taken for now: {error}", error=error.strerror)
                self.reactor.removeReader(self)
                self._pause = self.reactor.callLater(limits.ACCEPT_PAUSE, self._resume)
                return
            connection.setblocking(False)
            self.on_connection(connection)

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor: the reactor is done with us."""
        self.stop()

    def _resume(self) -> None:
        self._pause = None
        self.start()
