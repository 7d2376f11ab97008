"""Who hears what happens: a connection's owner, the job that runs on it, and who watches a job that sends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ftx.core.events import Resolved, There
from ftx.disk.source import SourceProblem
from ftx.errors import FtxError, ProtocolError
from ftx.wire.frames import Piece, Whole
from ftx.wire.messages import Hello, Join, List, Message, Offer, Probe, Request

if TYPE_CHECKING:
    from ftx.net.sending import Sending
    from ftx.net.tls import PeerKey
    from ftx.net.transfer import Connection

__all__ = ["Gathering", "Job", "Owner", "Talk", "Watcher"]


class Job(Protocol):
    """What runs on a connection: a `Sending` or a `Receiving`."""

    def message(self, message: Message) -> None:
        """A message of the job. May raise FtxError, which ends the session with that reason."""

    def piece(self, piece: Piece) -> None:
        """Part of a block. May raise FtxError."""

    def turn(self) -> None:
        """Everything that had arrived was handed over, if only the beginning of a frame."""

    def next_deadline(self) -> float | None:
        """When `tick` is due, or None."""

    def tick(self, now: float) -> None:
        """It is due."""

    def lost(self, error: FtxError) -> None:
        """The connection ended before the job did."""


class Gathering(Job, Protocol):
    """A job that takes small files many at once."""

    def wholes(self, run: Sequence[Whole]) -> None:
        """Files of one block, each complete. May raise FtxError."""


class Talk:
    """What a job of messages alone makes of the rest: no content may come, nothing is gathered, and nothing timed.

    A peer that says nothing is found out by the session.
    """

    def piece(self, piece: Piece) -> None:
        """Never."""
        raise ProtocolError("wrong-state")

    def turn(self) -> None:
        """Nothing follows from that."""

    def next_deadline(self) -> float | None:
        """None."""
        return None

    def tick(self, now: float) -> None:
        """Nothing is ever due."""


class Owner(Protocol):
    """Who decides about a connection: a daemon or a client."""

    def key_proved(self, connection: Connection, peer: PeerKey) -> None:
        """The handshake is complete and `peer` proved its key. May raise FtxError to refuse it."""

    def greeted(self, connection: Connection, hello: Hello) -> None:
        """The peer's hello came. May raise FtxError. A server's owner answers with its own hello here."""

    def offered(self, connection: Connection, offer: Offer) -> None:
        """A client offers a job (servers only). May raise FtxError."""

    def asked(self, connection: Connection, message: List | Request | Probe | Join) -> None:
        """A client asks what there is, or for it, to measure, or for a lane (servers only). May raise FtxError."""

    def ended(self, connection: Connection, error: FtxError | None) -> None:
        """The connection is over; None after a goodbye. Called once, last."""


class Watcher:
    """Who watches a sending job; every method may be left as it is."""

    def waiting(self, job: Sending, seconds: int, phrase: str | None) -> None:
        """Somebody at the receiver's end is asked, for so many seconds; a `phrase` is to be compared."""

    def accepted(self, job: Sending) -> None:
        """The receiver takes the job."""

    def resolved(self, job: Sending, entry: Resolved) -> None:
        """An entry has its result."""

    def there(self, job: Sending, run: There) -> None:
        """Files are there now. Unless this is done together, each of them is `resolved`."""
        for entry in run.each():
            self.resolved(job, entry)

    def problem(self, job: Sending, problem: SourceProblem) -> None:
        """Something below the sources cannot be sent and was left out."""

    def progressed(self, job: Sending) -> None:
        """The figures changed."""
