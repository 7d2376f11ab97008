"""Answering a `list`: frames of items, as fast as the disk gives them and the client takes them, one at a time."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from ftx.disk.shown import Shown
from ftx.errors import FtxError, ProtocolError
from ftx.net.backlog import Backlog
from ftx.net.parties import Talk
from ftx.net.transfer import Connection
from ftx.net.worker import Worker
from ftx.wire.messages import Item, Listing, Message, Refuse

__all__ = ["Showing"]


@implementer(IPushProducer)
class Showing(Talk):
    """The server's side of one listing. `run()` once: its Deferred fires when nothing of it is left; it never fails."""

    def __init__(self, connection: Connection, job: bytes, shown: Shown, worker: Worker) -> None:
        self._connection = connection
        self._job = job
        self._shown = shown
        self._worker = worker
        self._strand = worker.strand()
        self._backlog = Backlog(connection, self)
        self._reading = False
        self._paused = False
        self._over = False
        self._closing = False
        self._done: Deferred[None] = Deferred()

    def run(self) -> Deferred[None]:
        """Begin."""
        self._connection.job = self
        self._connection.transport.registerProducer(self, True)  # type: ignore[union-attr]
        self._read()
        return self._done

    # -- what the connection calls -------------------------------------------------------------------------

    def message(self, message: Message) -> None:
        """Never: whoever lists has nothing to say."""
        raise ProtocolError("wrong-state")

    def lost(self, error: FtxError) -> None:
        """The client has seen enough."""
        self._end()

    # -- what the transport calls (IPushProducer) ----------------------------------------------------------

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport can take more."""
        self._paused = False
        self._read()

    def stopProducing(self) -> None:
        """The transport is gone; `lost` follows."""
        self._paused = True

    # -- within --------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the listing has ended; disk work may still be under way."""
        return self._over

    def settled(self) -> None:
        """A piece of disk work has ended; see whether it was the last."""
        if self._over:
            self._finish()

    def _read(self) -> None:
        if self._reading or self._paused or self._over:
            return
        self._reading = True
        self._backlog.run(self._strand, self._send, self._frame, failed=self._refuse)

    def _frame(self) -> Sequence[Item]:
        try:
            return self._shown.frame()
        except OSError as error:  # it has gone since it was found, or cannot be read: there is nothing to be seen
            raise FtxError("not-shared") from error

    def _send(self, items: Sequence[Item]) -> None:
        self._reading = False
        self._connection.send(Listing(self._job, list(items), not items))
        if items:
            self._read()
        else:
            self._end()

    def _refuse(self, error: FtxError) -> None:
        self._connection.send(Refuse(self._job, error.number))
        self._end()

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        self._connection.job = None
        if not self._connection.over:
            self._connection.transport.unregisterProducer()  # type: ignore[union-attr]
        self._finish()

    def _finish(self) -> None:
        if self._backlog.empty and not self._closing:
            self._closing = True
            self._worker.run(self._shown.close).addBoth(lambda _: self._done.callback(None))
