"""A link that does what links do: between a client and a daemon, at the boundaries of TLS records and anywhere else.

What is seen on the wire are TLS records; the N-th boundary of a direction is where its N-th record ends. There, or at
a certain byte, the link does one thing, once.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading

from support.relay import Relay, shut

__all__ = ["MANNERS", "Link", "Records"]

#: What a link may do, and what that is called in a report.
MANNERS = {
    "cut": "the connection is reset, both ways",
    "close": "both ends are closed in order, as by somebody who has had enough",
    "flip": "a bit of what follows is another one",
    "lose": "the record that follows does not arrive",
    "double": "the record that follows arrives twice",
    "delay": "nothing passes for a while, then all does",
    "trickle": "what follows comes in segments of one byte",
    "half-open": "nothing more passes this way, and nobody is told",
}
#: Seconds that a delay takes.
DELAY = 0.25
_RESET = struct.pack("ii", 1, 0)


class Records:
    """Finds the boundaries of TLS records in a stream."""

    def __init__(self) -> None:
        self._header = bytearray()
        #: Bytes that were fed; where the record under way ends, once its header has told; how many have ended.
        self.position = 0
        self.end: int | None = None
        self.ended = 0

    def feed(self, data: bytes, stop: int) -> int:
        """Take in `data` up to the end of record number `stop` (from 1) if that is in it; how many bytes were taken."""
        taken = 0
        while taken < len(data) and self.ended < stop:
            if self.end is None:
                piece = data[taken : taken + 5 - len(self._header)]
                self._header += piece
                taken += len(piece)
                self.position += len(piece)
                if len(self._header) < 5:
                    break
                self.end = self.position + int.from_bytes(self._header[3:5], "big")
                self._header.clear()
            step = min(len(data) - taken, self.end - self.position)
            taken += step
            self.position += step
            if self.position == self.end:
                self.end = None
                self.ended += 1
        return taken


class Link(Relay):
    """A relay to `port`.

    In the direction to the daemon, or back, it behaves in `manner` once: after `record` records, or after `byte` bytes,
    of the connection that was taken as number `only` (from 0), or of whichever comes to it first.
    """

    def __init__(
        self,
        port: int,
        manner: str,
        *,
        inward: bool,
        record: int | None = None,
        byte: int | None = None,
        seed: int = 0,
        only: int | None = None,
    ) -> None:
        super().__init__(port)
        self._manner = manner
        self._inward = inward
        self._record = record
        self._byte = byte
        self._only = only
        self._draw = random.Random(seed)
        #: Set when the moment has come; records that went each way.
        self.struck = threading.Event()
        self.records = {True: 0, False: 0}

    def strike(self) -> None:
        """Do it with the next bytes that come, wherever that is."""
        self._record = 0

    def abandon(self) -> None:
        """The client's host is gone: the client loses its connections, and nobody tells the daemon (`half-open`)."""
        shut(*self._open[::2])

    def _taken(self, end: socket.socket) -> None:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _carry(self, origin: socket.socket, target: socket.socket, inward: bool) -> None:
        """One direction, until either end has had enough."""
        hurt = inward is self._inward and not self.struck.is_set() and self._meant(origin if inward else target)
        seen = Records()
        with contextlib.suppress(OSError):
            if hurt and (self._record == 0 or self._byte == 0):
                hurt = False
                self._strike(origin, target, b"")
            while data := origin.recv(65536):
                if not hurt:
                    seen.feed(data, 1 << 30)
                    self.records[inward] = seen.ended
                    target.sendall(data)
                    continue
                if self._record is not None:
                    taken = seen.feed(data, self._record)
                    now = seen.ended >= self._record
                else:
                    taken = seen.feed(data[: max(0, (self._byte or 0) - seen.position)], 1 << 30)
                    now = seen.position >= (self._byte or 0)
                self.records[inward] = seen.ended
                target.sendall(data[:taken])
                if now:
                    hurt = False
                    self._strike(origin, target, data[taken:])
        if self._manner == "half-open" and self.struck.is_set():
            self._over.wait(60)  # whoever has gone is not missed at the other end
        shut(origin, target)

    def _meant(self, client: socket.socket) -> bool:
        return self._only is None or self._open.index(client) == 2 * self._only

    def _strike(self, origin: socket.socket, target: socket.socket, rest: bytes) -> None:
        """The one thing that is done, and what has come of the rest already. OSError ends this direction."""
        self.struck.set()
        match self._manner:
            case "cut":
                for one in (origin, target):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                for one in (origin, target):
                    _reset(one)
                raise OSError("cut")
            case "close":
                raise OSError("closed")
            case "delay":
                self._over.wait(DELAY)
            case "half-open":
                while origin.recv(65536):
                    pass
                self._over.wait(60)
                raise OSError("over")
            case _:
                rest = rest or origin.recv(65536)
                rest = self._changed(rest, target)
        target.sendall(rest)

    def _changed(self, rest: bytes, target: socket.socket) -> bytes:
        """What follows, as it is after the change."""
        record = 5 + int.from_bytes(rest[3:5], "big") if self._record is not None else self._draw.randint(1, 200)
        match self._manner:
            case "flip":
                changed = bytearray(rest)
                first = 5 if self._record is not None and len(rest) > 6 else 0  # not the length of a record
                if changed:
                    changed[self._draw.randrange(first, min(len(rest), 300))] ^= 1 << self._draw.randrange(8)
                return bytes(changed)
            case "lose":
                return rest[record:]
            case "double":
                return rest[:record] + rest
            case _:
                for place in range(min(len(rest), 120)):
                    target.sendall(rest[place : place + 1])
                    self._over.wait(0.0005)
                return rest[120:]


def _reset(one: socket.socket) -> None:
    """Send a reset now: connecting anew to nothing (AF_UNSPEC) does that even while somebody else reads from it."""
    with contextlib.suppress(OSError):
        libc_connect(one.fileno())


def libc_connect(fd: int) -> None:
    """connect(2) with AF_UNSPEC: ends the connection, with a reset as its linger time is zero."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).connect(fd, struct.pack("H14x", socket.AF_UNSPEC), 16)
