"""The client's side of shares: asking what there is, and asking for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from ftx.core.links import ASKED_FOR
from ftx.errors import FtxError, ProtocolError, kind_from_peer
from ftx.net.parties import Talk
from ftx.net.transfer import Connection
from ftx.wire.messages import LINKS, Item, List, Listing, Message, Offer, Refuse, Request

__all__ = ["Asking", "Looking"]


class _Asked(Talk):
    """What both have in common: a job on a connection that waits for an answer."""

    def __init__(self, connection: Connection, job: bytes) -> None:
        self._connection = connection
        self._job = job

    def begin(self, message: List | Request) -> None:
        """Ask. FtxError `not-supported` when the server has no shares at all, `connection-lost` when it has gone."""
        if self._connection.over:
            raise self._connection.stopped_by or FtxError("connection-lost")
        if "pull" not in self._connection.session.features:
            raise FtxError("not-supported", "the daemon there has no shares: its version is too old")
        self._connection.job = self  # type: ignore[assignment]
        self._connection.send(message)

    def check(self, job: bytes) -> None:
        """Raise ProtocolError when an answer is one to something else."""
        if job != self._job:
            raise ProtocolError("protocol-error", "an answer came to something that was not asked")


    def refused(self, message: Refuse, done: Deferred[Any]) -> None:
        """There is no answer but this."""
        self.check(message.job)
        self._connection.job = None
        done.errback(FtxError(kind_from_peer(message.number, (4, 5, 6, 7, 8), "refused").name))


class Looking(_Asked):
    """One listing. `on_items` gets the items of a frame; while it says False, the connection is not read."""

    def __init__(self, connection: Connection, job: bytes, on_items: Callable[[Sequence[Item]], bool]) -> None:
        super().__init__(connection, job)
        self._on_items = on_items
        self._paused = False
        self._done: Deferred[None] = Deferred(lambda _: connection.abort(FtxError("interrupted")))

    def run(self, path: Sequence[bytes], *, deep: bool) -> Deferred[None]:
        """Ask what is at `path`. Fires when all was handed over; fails with FtxError. May be cancelled."""
        self.begin(List(self._job, list(path), deep))
        return self._done

    def more(self) -> None:
        """The items so far were dealt with: go on reading."""
        if self._paused:
            self._paused = False
            self._connection.pause_reading(False)

    def message(self, message: Message) -> None:
        """The next items, or why there are none."""
        match message:
            case Listing():
                self.check(message.job)
                if not self._on_items(message.items) and not message.last and not self._paused:
                    self._paused = True
                    self._connection.pause_reading(True)
                if message.last:
                    self._connection.job = None
                    self._done.callback(None)
            case Refuse():
                self.refused(message, self._done)
            case _:
                raise ProtocolError("wrong-state")

    def lost(self, error: FtxError) -> None:
        """The connection ended before the listing did."""
        if not self._done.called:
            self._done.errback(error)


class Asking(_Asked):
    """One request, up to the server's offer."""

    def __init__(self, connection: Connection, job: bytes) -> None:
        super().__init__(connection, job)
        self._done: Deferred[Offer] = Deferred(lambda _: connection.abort(FtxError("interrupted")))

    def run(self, paths: Sequence[Sequence[bytes]], exclude: Sequence[str], links: str = "skip") -> Deferred[Offer]:
        """Ask for `paths`, without what `exclude` matches; `links` says what becomes of symbolic links.

        Fires with the server's offer, which is to be accepted or refused at once. Fails with FtxError, `not-supported`
        when the server can only leave links out. May be cancelled.
        """
        if links != "skip" and not self._connection.over and ASKED_FOR not in self._connection.session.features:
            raise FtxError("not-supported", "the daemon there only leaves symbolic links out: its version is too old")
        self.begin(Request(self._job, [list(path) for path in paths], list(exclude), LINKS.index(links)))
        return self._done

    def message(self, message: Message) -> None:
        """The offer, or why there is none."""
        match message:
            case Offer():
                self.check(message.job)
                if message.into:
                    raise ProtocolError("protocol-error", "the server wants to say where its files go here")
                self._connection.job = None
                self._done.callback(message)
            case Refuse():
                self.refused(message, self._done)
            case _:
                raise ProtocolError("wrong-state")

    def lost(self, error: FtxError) -> None:
        """The connection ended before the offer came."""
        if not self._done.called:
            self._done.errback(error)
