"""A link that is slow: every byte arrives late by a while that varies, and no more than so many a second.

A lost segment looks the same from above: TCP sends it again, and what follows it comes late, all at once.
"""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import time

from support.relay import Relay

__all__ = ["Shaped"]


class Shaped(Relay):
    """A relay to `port`.

    Each direction carries `rate` bytes a second, later by `delay` to `delay + jitter` seconds. Of each chunk a part,
    `loss`, is late by another `again` seconds, and all behind it with it.
    """

    def __init__(
        self, port: int, *, rate: int, delay: float, jitter: float, loss: float = 0.0, again: float = 0.2, seed: int = 1
    ) -> None:
        super().__init__(port)
        self._rate = rate
        self._delay, self._jitter = delay, jitter
        self._loss, self._again = loss, again
        self._draw = random.Random(seed)
        #: Bytes that have arrived, to the daemon and back; how many chunks had to be sent again.
        self.arrived = {True: 0, False: 0}
        self.lost = 0

    def _taken(self, end: socket.socket) -> None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)  # a narrow line holds little

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
                self.arrived[inward] += len(data)  # before an answer to it can be there
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
