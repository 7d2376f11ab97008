"""A link that is slow: every byte arrives late by a while that varies, and no more than so many a second.

A lost segment looks the same from above: TCP sends it again, and what follows it comes late, all at once.
"""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import threading
import time

__all__ = ["Shaped"]


class Shaped:
    """Listens on 127.0.0.1 and passes connections on to `port`; use as a context manager.

    Each direction carries `rate` bytes a second, later by `delay` to `delay + jitter` seconds. Of each chunk a part,
    `loss`, is late by another `again` seconds, and all behind it with it.
    """

    def __init__(
        self, port: int, *, rate: int, delay: float, jitter: float, loss: float = 0.0, again: float = 0.2, seed: int = 1
    ) -> None:
        self._to = port
        self._rate = rate
        self._delay, self._jitter = delay, jitter
        self._loss, self._again = loss, again
        self._draw = random.Random(seed)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listening]
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()
        self.port: int = self._listening.getsockname()[1]
        #: Bytes that have arrived, to the daemon and back; how many chunks had to be sent again.
        self.arrived = {True: 0, False: 0}
        self.lost = 0

    @property
    def url(self) -> str:
        """Itself as a target."""
        return f"ftx://127.0.0.1:{self.port}"

    def __enter__(self) -> Shaped:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self._open:
            one.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                daemon = socket.create_connection(("127.0.0.1", self._to), 10)
                daemon.settimeout(None)
                for one in (client, daemon):  # a narrow line holds little
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
                self._open += [client, daemon]
                self._start(self._carry, client, daemon, True)
                self._start(self._carry, daemon, client, False)

    def _carry(self, origin: socket.socket, target: socket.socket, inward: bool) -> None:
        """Take bytes as fast as the line does, for the other thread to bring them later."""
        on_the_way: queue.Queue[tuple[float, bytes]] = queue.Queue(256)
        self._start(self._bring, on_the_way, target, inward)
        free = 0.0
        with contextlib.suppress(OSError):
            while data := origin.recv(1400):
                free = max(free, time.monotonic()) + len(data) / self._rate
                if self._over.wait(max(0.0, free - time.monotonic())):
                    break
                late = self._delay + self._jitter * self._draw.random()
                if self._draw.random() < self._loss:
                    self.lost += 1
                    late += self._again
                on_the_way.put((free + late, data))
        on_the_way.put((0.0, b""))

    def _bring(self, on_the_way: queue.Queue[tuple[float, bytes]], target: socket.socket, inward: bool) -> None:
        """Bring bytes when their time has come, in order."""
        with contextlib.suppress(OSError):
            while True:
                arrival, data = on_the_way.get()
                if not data or self._over.wait(max(0.0, arrival - time.monotonic())):
                    break
                target.sendall(data)
                self.arrived[inward] += len(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
