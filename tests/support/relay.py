"""What links between a client and a daemon share: they take connections, dial on, and carry bytes in threads."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

__all__ = ["Relay", "shut"]


def shut(*ends: socket.socket) -> None:
    """End connections in both directions; whoever reads from them hears it."""
    for one in ends:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class Relay:
    """Listens on 127.0.0.1 and passes connections on to `port`; use as a context manager.

    A subclass says what becomes of the bytes, in `_carry`, and of new connections, in `_taken`. Threads carry them;
    they end with the relay.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        #: The ends of connections, the client's before the daemon's.
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        #: Set at the end, for whoever waits.
        self._over = threading.Event()
        #: The port to dial.
        self.port: int = self._listening.getsockname()[1]

    @property
    def url(self) -> str:
        """Itself as a target."""
        return f"ftx://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        shut(self._listening, *self._open)
        for thread in self._threads:
            thread.join(10)
        for one in (self._listening, *self._open):
            one.close()

    def _start(self, work: Callable[..., object], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                daemon = socket.create_connection(("127.0.0.1", self._to), 10)
                for one in (client, daemon):
                    one.settimeout(None)
                    self._taken(one)
                self._open += [client, daemon]
                self._start(self._carry, client, daemon, True)
                self._start(self._carry, daemon, client, False)

    def _taken(self, end: socket.socket) -> None:
        """One end of a new connection."""

    def _carry(self, origin: socket.socket, target: socket.socket, inward: bool) -> None:
        """Carry one direction of a connection, to the daemon (`inward`) or back, until it ends."""
        raise NotImplementedError
