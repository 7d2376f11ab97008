"""A link that holds: what one end sends, usually the client, passes until so many bytes have gone through, then waits.

So a test can look at, signal or kill both ends in the middle of a transfer, without racing it. The other direction
always flows. A thread carries the bytes; it ends with the gate.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

import attrs

__all__ = ["Gate"]

#: What the kernel may take from an end that is held, in bytes; it would be megabytes.
_BUFFER = 1 << 18


@attrs.define(eq=False)
class _Link:
    client: socket.socket
    daemon: socket.socket
    passed: int = 0
    holding: bool = False


class Gate:
    """Listens on 127.0.0.1 and passes each connection on to `port`; use as a context manager.

    `hold` is how many bytes of each connection go to the daemon before the rest waits, None for all; with `back`, how
    many come from it. So a client has to be told how many connections to take (`--lanes 1`, as `Lab.sending` does).
    `rate` bounds how many pass in each step of 10 ms. Little waits in here: what is held is still where it is from.
    """

    def __init__(self, port: int, hold: int | None = None, rate: int = 1 << 30, *, back: bool = False) -> None:
        self._to = port
        self._hold = hold
        self._rate = rate
        self._back = back
        #: Connections that are heard no more.
        self._deaf: list[_Link] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._links: list[_Link] = []
        self._selector = selectors.DefaultSelector()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # those it takes have it, too
        self._thread = threading.Thread(target=self._work)
        #: The port to send to.
        self.port: int = self._listening.getsockname()[1]
        #: Set when some connection has reached the limit.
        self.held = threading.Event()
        #: How many connections there were.
        self.connections = 0

    def __enter__(self) -> Gate:
        self._selector.register(self._listening, selectors.EVENT_READ, None)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Itself as a target."""
        return f"ftx://127.0.0.1:{self.port}"

    def wait(self, seconds: float = 20.0) -> None:
        """Wait until a connection is held."""
        if not self.held.wait(seconds):
            raise AssertionError("no connection has reached the gate's limit")

    def open(self, hold: int | None = None) -> None:
        """Let everything pass from now on, or up to `hold` bytes of each connection."""
        with self._lock:
            self._hold = hold
            if not any(link.holding and not self._may_pass(link) for link in self._links):
                self.held.clear()  # else somebody has come meanwhile, and has reached it already

    def cut(self) -> None:
        """Reset every connection that is carried; later ones pass as before."""
        with self._lock:
            for link in list(self._links):
                self._drop(link, reset=True)

    def deafen(self, *, told: bool = False) -> None:
        """Carry nothing more of the connections there are, either way, and close nothing: nobody is told.

        With `told` the client is: its end is reset, and the daemon's is not. Later connections pass as before.
        """
        with self._lock:
            for link in list(self._links):
                self._links.remove(link)
                self._deaf.append(link)
                for end in (link.client, link.daemon):
                    with contextlib.suppress(KeyError):
                        self._selector.unregister(end)
                if told:
                    link.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    link.client.close()

    def hear(self) -> None:
        """Go on carrying what was not heard, for those that were not told."""
        with self._lock:
            for link in self._deaf:
                link.holding = False
                self._links.append(link)
                for end in (link.client, link.daemon):
                    self._selector.register(end, selectors.EVENT_READ, link)
            self._deaf.clear()

    # -- in the thread -------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                ready = [key for key, _ in self._selector.select(0.01)]
                with self._lock:
                    self._release()
                    for key in ready:
                        if key.data is None:
                            self._accept()
                        elif key.data in self._links:
                            self._carry(key.data, key.fileobj is key.data.client)
                if self._rate < 1 << 20:
                    self._stop.wait(0.01)
        finally:
            for link in list(self._links):
                self._drop(link, reset=True)
            for link in self._deaf:
                link.client.close()
                link.daemon.close()
            self._listening.close()
            self._selector.close()

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        self.connections += 1
        try:
            daemon = socket.create_connection(("127.0.0.1", self._to), 5)
        except OSError:
            client.close()
            return
        daemon.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        link = _Link(client, daemon)
        self._links.append(link)
        for end in (client, daemon):
            end.settimeout(10)
            self._selector.register(end, selectors.EVENT_READ, link)

    def _release(self) -> None:
        for link in self._links:
            if link.holding and self._may_pass(link):
                link.holding = False
                self._selector.register(self._held_end(link), selectors.EVENT_READ, link)

    def _may_pass(self, link: _Link) -> bool:
        return self._hold is None or link.passed < self._hold

    def _held_end(self, link: _Link) -> socket.socket:
        return link.daemon if self._back else link.client

    def _carry(self, link: _Link, inward: bool) -> None:
        source, sink = (link.client, link.daemon) if inward else (link.daemon, link.client)
        room = min(65536, self._rate)
        if inward is not self._back and self._hold is not None:
            room = min(room, self._hold - link.passed)
            if room <= 0:
                link.holding = True
                self._selector.unregister(self._held_end(link))
                self.held.set()
                return
        try:
            data = source.recv(room)
            if data:
                sink.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(link)
        elif inward is not self._back:
            link.passed += len(data)

    def _drop(self, link: _Link, reset: bool = False) -> None:
        self._links.remove(link)
        for end in (link.client, link.daemon):
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            end.close()
