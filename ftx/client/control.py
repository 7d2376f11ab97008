"""Asking the daemon on this machine: one call, or a stream of its events (`docs/control.md`)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.task import deferLater
from twisted.internet.unix import Server
from twisted.python.failure import Failure

from ftx import limits
from ftx.errors import FtxError
from ftx.net.local import reachable
from ftx.text import show
from ftx.wire.jsonlines import LineSplitter, decode_reply, encode_request

__all__ = ["all_pages", "call", "subscribe"]


async def call(
    reactor: Any, path: str, method: str, params: Any = None, timeout: float | None = limits.CONTROL_ANSWER
) -> Any:
    """The result of `method`, decoded, from the daemon whose control socket is at `path`.

    `params` is a mapping or None; `timeout` is in seconds and covers connecting and the answer, None waits for
    ever. Raises `no-daemon` (with the path) when nobody listens, `not-authorised`, `timeout`,
    `connection-lost`, and every error that the method itself answers with.
    """
    lines, result = await _ask(reactor, path, encode_request(method, params), timeout)
    lines.close()
    return _decode(result)


async def all_pages(reactor: Any, path: str, method: str, items: str) -> dict[str, Any]:
    """The result of a method with a cursor, its pages put together: `items` has those of all of them."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = await call(reactor, path, method, {"cursor": cursor} if cursor else {})
        if not isinstance(page, dict):
            raise FtxError("protocol-error", f"the daemon answered {method} with something else than pages")
        found.extend(page.get(items) or [])
        cursor = page.get("cursor")
        if not cursor:
            return {**page, items: found}


async def subscribe(
    reactor: Any,
    path: str,
    types: Sequence[str] | None,
    interval: float,
    on_event: Callable[[dict[str, Any]], None],
) -> None:
    """Call `on_event` with each event of the daemon at `path`, decoded, the snapshot first.

    `types` are the names of the events to get, None for all; `interval` is the least number of seconds between
    two progress events of one job. Returns when the daemon ends the stream, because it stops. Raises as
    `call()` does, and what `on_event` raises. Cancelling ends the subscription.
    """
    chosen = None if types is None else list(types)
    line = encode_request("events.subscribe", {"types": chosen, "interval": interval})
    lines, _ = await _ask(reactor, path, line, limits.CONTROL_ANSWER)
    try:
        while (event := await lines.next_or_end()) is not None:
            on_event(_decode(event, dict[str, Any]))
    finally:
        lines.close()


async def _ask(reactor: Any, path: str, line: bytes, timeout: float | None) -> tuple[_Lines, bytes]:
    """Connect and ask; the open connection, and the result still encoded."""

    async def ask() -> tuple[_Lines, bytes]:
        lines = await _connect(reactor, path)
        try:
            lines.send(line)
            return lines, decode_reply(await lines.next())
        except BaseException:
            lines.close()
            raise

    asking = Deferred.fromCoroutine(ask())
    if timeout is not None:
        asking.addTimeout(timeout, reactor)
    try:
        return await asking
    except TimeoutError:
        message = f"the daemon at {_shown(path)} did not answer within {timeout:g} s"
        raise FtxError("timeout", message, "is it stopped or very busy? its log may tell") from None


def _decode(raw: bytes, kind: Any = Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FtxError("protocol-error", f"the daemon sent what is not JSON: {show(str(error))}") from None


class _Lines(Protocol):
    """A connection as lines to be awaited one by one; reads no further than one read ahead of who takes them."""

    transport: Server

    def __init__(self, path: str) -> None:
        self._path = path
        self._splitter = LineSplitter()
        self._waiting: Deferred[bytes | None] | None = None
        self._reading = True
        self._over: Failure | None = None

    def send(self, line: bytes) -> None:
        self.transport.write(line + b"\n")

    def close(self) -> None:
        """Take nothing more."""
        if self._over is None:
            self.transport.abortConnection()

    async def next(self) -> bytes:
        """The next line; `connection-lost` when there is none."""
        line = await self.next_or_end()
        if line is None:
            raise FtxError(
                "connection-lost", f"the daemon at {_shown(self._path)} hung up without an answer", "see its log"
            )
        return line

    async def next_or_end(self) -> bytes | None:
        """The next line, None when the daemon has closed the connection."""
        line = self._take()
        if line is not None or self._over is not None:
            return line
        self._read(True)
        self._waiting = Deferred()
        return await self._waiting

    def dataReceived(self, data: bytes) -> None:
        self._splitter.feed(data)
        if self._waiting is None:
            self._read(False)
            return
        try:
            line = self._take()
        except FtxError:
            self._fire(Failure())
            return
        if line is not None:
            self._fire(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = reason
        self._fire(None)

    def _take(self) -> bytes | None:
        try:
            return self._splitter.next_line()
        except FtxError as error:
            raise FtxError("protocol-error", f"the daemon's answer: {error.message}") from None

    def _fire(self, outcome: bytes | Failure | None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        if isinstance(outcome, Failure):
            waiting.errback(outcome)
        else:
            waiting.callback(outcome)

    def _read(self, wanted: bool) -> None:
        if wanted != self._reading and self._over is None:
            self._reading = wanted
            if wanted:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()


class _Factory(ServerFactory):
    """Holds the one protocol that a connection gets."""

    noisy = False

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def buildProtocol(self, addr: IAddress | None) -> _Lines:
        return self._lines


async def _connect(reactor: Any, path: str) -> _Lines:
    if not path or "\0" in path:  # a NUL in front would be an abstract name, which anybody can take
        raise FtxError("usage", f"not a path: {_shown(path)}")
    lines = _Lines(path)
    try:
        with reachable(path) as address, socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            # connecting to an AF_UNIX socket is done at once, or there is no room in its queue: then nothing
            # tells when there is, and Twisted's endpoint takes it for a failure
            while (number := connection.connect_ex(address)) == errno.EAGAIN:
                await deferLater(reactor, limits.CONTROL_CONNECT_AGAIN)
            if number:
                raise _unreachable(path, number)
            reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, _Factory(lines))
    except OSError as error:
        raise _unreachable(path, error.errno or 0) from None
    return lines


def _unreachable(path: str, number: int) -> FtxError:
    if number in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
        return FtxError("no-daemon", f"no ftx daemon listens at {_shown(path)}")
    if number in (errno.EACCES, errno.EPERM):
        return FtxError("not-authorised", f"this user may not use the control socket {_shown(path)}")
    return FtxError("no-daemon", f"the control socket {_shown(path)} cannot be used: {os.strerror(number).lower()}")


def _shown(path: str) -> str:
    return show(path, limits.PATH)
