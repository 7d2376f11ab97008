"""A socket of our own that the reactor reads: what Twisted asks of it, and that it is closed once."""

from __future__ import annotations

import abc
import socket
from typing import Any, ClassVar

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Readable"]


@implementer(IReadDescriptor)
class Readable(abc.ABC):
    """Reads `_socket` from `_read_from` to `close()`; whoever inherits this says what `doRead` does."""

    #: What the reactor calls it in its log.
    called: ClassVar[str] = "socket"

    def __init__(self, reactor: Any) -> None:
        """Nothing is read yet."""
        self._reactor = reactor
        self._socket: socket.socket | None = None

    def _read_from(self, made: socket.socket) -> None:
        """Have `made`, which is ours from here on, read by the reactor."""
        self._socket = made
        self._reactor.addReader(self)

    def close(self) -> None:
        """Leave the reactor and close; again does nothing."""
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        """The descriptor, -1 when closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return self.called

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops, or has found the descriptor unusable."""
        self.close()

    @abc.abstractmethod
    def doRead(self) -> None:
        """See IReadDescriptor."""
