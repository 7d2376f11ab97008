"""A link that does not keep bytes as they are: between a client and a daemon, it drops, doubles, swaps or changes some.

TCP would never do that, and whoever stands in the middle can.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading

__all__ = ["MANNERS", "Mangler"]

#: What can happen to a chunk of bytes.
MANNERS = ("drop", "double", "swap", "flip", "insert", "cut")


class Mangler:
    """Listens on 127.0.0.1 and passes connections on to `port`; use as a context manager.

    From the client's byte `after` on, in the direction `to_daemon` or back, one chunk of each connection is treated
    in the given manner.
    """

    def __init__(self, port: int, manner: str, after: int, seed: int, *, to_daemon: bool = True) -> None:
        self._to = port
        self._manner = manner
        self._after = after
        self._draw = random.Random(seed)
        self._to_daemon = to_daemon
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = [self._listening]
        self._threads: list[threading.Thread] = []
        #: How often something was changed.
        self.done = 0

    def __enter__(self) -> Mangler:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for one in self._open:
            one.close()

    @property
    def url(self) -> str:
        """Itself as a target."""
        return f"ftx://127.0.0.1:{self.port}"

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
                self._open += [client, daemon]
                self._start(self._carry, client, daemon, self._to_daemon)
                self._start(self._carry, daemon, client, not self._to_daemon)

    def _carry(self, origin: socket.socket, target: socket.socket, mangled: bool) -> None:
        passed, done = 0, False
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
        for one in (origin, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

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
                return data[place:] + data[:place]
            case "flip":
                changed = bytearray(data)
                changed[place] ^= 1 << self._draw.randrange(8)
                return bytes(changed)
            case "insert":
                return data[:place] + self._draw.randbytes(length) + data[place:]
            case _:
                return data[:place]
