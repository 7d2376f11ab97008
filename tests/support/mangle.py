"""A link that does not keep bytes as they are: between a client and a daemon, it drops, doubles, swaps or changes some.

TCP would never do that, and whoever stands in the middle can.
"""

from __future__ import annotations

import contextlib
import random
import socket

from support.relay import Relay, shut

__all__ = ["MANNERS", "Mangler"]

#: What can happen to a chunk of bytes.
MANNERS = ("drop", "double", "swap", "flip", "insert", "cut")


class Mangler(Relay):
    """A relay to `port`.

    From the client's byte `after` on, in the direction `to_daemon` or back, one chunk of each connection is treated
    in the given manner.
    """

    def __init__(self, port: int, manner: str, after: int, seed: int, *, to_daemon: bool = True) -> None:
        super().__init__(port)
        self._manner = manner
        self._after = after
        self._draw = random.Random(seed)
        self._to_daemon = to_daemon
        #: How often something was changed.
        self.done = 0

    def _carry(self, origin: socket.socket, target: socket.socket, inward: bool) -> None:
        passed, done, mangled = 0, False, inward is self._to_daemon
        with contextlib.suppress(OSError):
            while data := origin.recv(4096):
                if mangled and not done and passed + len(data) > self._after:
                    done = True
                    self.done += 1
                    data = self._changed(data)
                passed += len(data)
                target.sendall(data)
                if done and self._manner == "cut":
                    break
        shut(origin, target)

    def _changed(self, data: bytes) -> bytes:
        place = self._draw.randrange(len(data))
        length = self._draw.randint(1, max(1, len(data) - place))
        part = data[place : place + length]
        match self._manner:
            case "drop":
                return data[:place] + data[place + length :]
            case "double":
                return data[: place + length] + part + data[place + length :]
            case "swap":
                return data[place or 1 :] + data[: place or 1]
            case "flip":
                changed = bytearray(data)
                changed[place] ^= 1 << self._draw.randrange(8)
                return bytes(changed)
            case "insert":
                return data[:place] + self._draw.randbytes(length) + data[place:]
            case _:
                return data[:place]
