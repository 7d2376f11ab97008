"""A long path on loopback, as a TCP proxy: `python -m benchmarks.delay PORT SECONDS [WINDOW]`.

Everything passes half of SECONDS, the round trip, later, in both directions. With WINDOW, each direction of each
connection has at most so many bytes under way that are not acknowledged, which takes the whole round trip: that is
what one TCP connection can do on a long path whose send buffer is so large (`net.ipv4.tcp_wmem`), however fat the path
is. Slow start, loss and the round trip that opens a connection are left out.

Prints the port it listens at, and for each connection, as soon as 1 MiB has come in from the side that opened it, the
seconds since its first byte. One loop without threads, and a ring of memory for each direction that is read into and
written from: it should take less of a processor than either end.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.measure import BenchmarkError
from benchmarks.processes import end, start, tell

__all__ = ["Delaying", "LongPath", "Way"]

MiB = 1 << 20
#: Under way in one direction where there is no window: more than any rate here times any delay.
_RING = 64 * MiB
#: Read at once at most, so that one connection does not hold up the others.
_PIECE = MiB


class Way:
    """One direction of a connection: what was read from `source` and is due at `target` later."""

    def __init__(self, source: socket.socket, target: socket.socket, delay: float, window: int | None) -> None:
        self.source, self.target = source, target
        self._delay = delay
        self._ring = memoryview(bytearray(window or _RING))
        #: Bytes read, due, written and acknowledged so far.
        self.read = self._due = self._written = self._acknowledged = 0
        #: When which byte is due, and when it is acknowledged.
        self._line: deque[tuple[float, int]] = deque()
        self._answers: deque[tuple[float, int]] = deque()
        self._bounded = window is not None
        self.first = 0.0
        self._ended = self.over = False

    @property
    def reads(self) -> bool:
        """Whether there is room for more."""
        taken = self.read - (self._acknowledged if self._bounded else self._written)
        return not self._ended and taken < len(self._ring)

    @property
    def writes(self) -> bool:
        """Whether something is due."""
        return self._due > self._written

    def take(self, now: float) -> None:
        """Read what there is, up to the end of the ring or of the window."""
        size = len(self._ring)
        at = self.read % size
        room = size - (self.read - (self._acknowledged if self._bounded else self._written))
        try:
            count = self.source.recv_into(self._ring[at : min(size, at + min(room, _PIECE))])
        except BlockingIOError:
            return
        if not count:
            self._ended = True
        if not self.read:
            self.first = now
        self.read += count
        self._line.append((now + self._delay, self.read))

    def turn(self, now: float) -> float | None:
        """Write what is due; when there is something to do again, or None where that depends on a socket."""
        while self._line and self._line[0][0] <= now:
            self._due = self._line.popleft()[1]
        size = len(self._ring)
        while self._due > self._written:
            at = self._written % size
            try:
                self._written += self.target.send(self._ring[at : min(size, at + self._due - self._written)])
            except BlockingIOError:
                break
        if self._bounded:
            self._answer(now)
        if self._ended and not self._line and self._written == self.read and not self.over:
            self.over = True
            self.target.shutdown(socket.SHUT_WR)
        times = [line[0][0] for line in (self._line, self._answers) if line]
        return min(times, default=None)

    def _answer(self, now: float) -> None:
        """Acknowledge what was delivered as long ago as it was under way."""
        noted = self._answers[-1][1] if self._answers else self._acknowledged
        if self._written > noted:
            self._answers.append((now + self._delay, self._written))
        while self._answers and self._answers[0][0] <= now:
            self._acknowledged = self._answers.popleft()[1]


class LongPath:
    """The loop that passes connections on to `port`."""

    def __init__(self, port: int, trip: float, window: int | None) -> None:
        self._to, self._delay, self._window = port, trip / 2, window
        self._selector = selectors.DefaultSelector()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listening.setblocking(False)
        self._selector.register(self._listening, selectors.EVENT_READ)
        #: There and back, of each connection.
        self._pairs: list[tuple[Way, Way]] = []
        self._told: set[Way] = set()
        print(self._listening.getsockname()[1], flush=True)

    def run(self) -> None:
        """Pass on, for ever."""
        next_turn: float | None = None
        while True:
            wait = None if next_turn is None else max(0.0, next_turn - time.monotonic())
            ready = {key.fileobj for key, mask in self._selector.select(wait) if mask & selectors.EVENT_READ}
            if self._listening in ready:
                self._open()
            now, next_turn = time.monotonic(), None
            for pair in list(self._pairs):
                try:
                    turns = [self._turn(way, way.source in ready, now) for way in pair]
                except OSError:
                    self._close(pair)
                    continue
                if all(way.over for way in pair):
                    self._close(pair)
                    continue
                self._interest(pair)
                next_turn = min([one for one in (next_turn, *turns) if one is not None], default=None)

    def _turn(self, way: Way, ready: bool, now: float) -> float | None:
        if ready and way.reads:
            way.take(now)
            if way.read >= MiB and way not in self._told and any(way is there for there, _ in self._pairs):
                self._told.add(way)
                print(f"{now - way.first:.6f}", flush=True)
        return way.turn(now)

    def _open(self) -> None:
        near, _ = self._listening.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            near.close()
            return
        for one in (near, far):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(one, selectors.EVENT_READ)
        there = Way(near, far, self._delay, self._window)
        self._pairs.append((there, Way(far, near, self._delay, self._window)))

    def _interest(self, pair: tuple[Way, Way]) -> None:
        """Wait for what can go on: reading where there is room, writing where something is due."""
        for way, other in (pair, pair[::-1]):
            events = (selectors.EVENT_READ if way.reads else 0) | (selectors.EVENT_WRITE if other.writes else 0)
            known = self._selector.get_map().get(way.source)
            if known is None and events:
                self._selector.register(way.source, events)
            elif known is not None and not events:
                self._selector.unregister(way.source)
            elif known is not None and known.events != events:
                self._selector.modify(way.source, events)

    def _close(self, pair: tuple[Way, Way]) -> None:
        self._pairs.remove(pair)
        self._told -= set(pair)
        for way in pair:
            with contextlib.suppress(KeyError):
                self._selector.unregister(way.source)
            way.source.close()


class Delaying:
    """Such a path to `port`, in a process of its own, with a round trip of so many seconds; a context."""

    def __init__(self, port: int, seconds: float, window: int | None = None) -> None:
        words: list[str | Path] = [sys.executable, "-m", "benchmarks.delay", str(port), str(seconds)]
        self._command = words if window is None else [*words, str(window)]
        #: Where it listens.
        self.port = 0
        #: In the end, for each connection that brought as much: the seconds from its first byte to its first MiB.
        self.first_mib: list[float] = []

    def __enter__(self) -> Self:
        self._process = start(self._command, stdout=subprocess.PIPE)
        self.port = int((self._process.stdout.readline() if self._process.stdout else b"") or b"0")
        if not self.port:
            end(self._process)
            raise BenchmarkError("the proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tell(self._process, signal.SIGTERM)
        if self._process.stdout is not None:
            self.first_mib = [float(line) for line in self._process.stdout.read().split()]
        end(self._process)


if __name__ == "__main__":
    LongPath(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None).run()
