"""A client of an AF_UNIX socket made of nothing but the socket: what a shell, or ten lines of any language, do."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from support.bounded import until

__all__ = ["LocalClient"]


class LocalClient:
    """Non-blocking, so that it lives in the same process as the server; reads by looking again and again."""

    def __init__(self, path: Path | str, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setblocking(False)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        folder = os.open(Path(path).parent, os.O_PATH)
        try:
            self.socket.connect(f"/proc/self/fd/{folder}/{Path(path).name}")
        finally:
            os.close(folder)
        self.received = bytearray()
        self.ended = False
        #: The connection was reset rather than closed.
        self.reset = False

    def __enter__(self) -> LocalClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    async def send(self, data: bytes) -> None:
        """All of `data`, however long it takes the server to read it."""
        rest = memoryview(data)

        def some() -> bool:
            nonlocal rest
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                return False
            return not rest

        await until(some, interval=0.001)

    async def ask(self, method: str, request_id: Any = 1, **params: Any) -> Any:
        """The reply to one request."""
        request = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        await self.send(json.dumps(request).encode() + b"\n")
        return await self.line()

    def half_close(self) -> None:
        """Send nothing more."""
        self.socket.shutdown(socket.SHUT_WR)

    def read(self) -> None:
        """Take what there is."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.reset = self.ended = True
            return
        self.received += data
        self.ended = self.ended or not data

    async def line(self) -> Any:
        """The next line, decoded; EOFError when the server has closed."""

        def whole() -> bool:
            if b"\n" not in self.received:
                self.read()
            return b"\n" in self.received or self.ended

        await until(whole, interval=0.001)
        line, newline, rest = bytes(self.received).partition(b"\n")
        if not newline:
            raise EOFError
        self.received = bytearray(rest)
        return json.loads(line)

    async def rest(self) -> list[Any]:
        """Every line until the server closes."""

        def over() -> bool:
            self.read()
            return self.ended

        await until(over, interval=0.001)
        lines = [json.loads(line) for line in bytes(self.received).splitlines()]
        self.received.clear()
        return lines
