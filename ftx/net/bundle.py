"""The connections of one job: its own, and the lanes that have joined it (`docs/protocol.md`, section 20).

A `Bundle` is to a job what a connection would be: what holds up or ends one of the connections holds up or ends all.
Both ends of a transfer have one, on the client's side and on the server's; without lanes it is the connection alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from zope.interface import implementer

from ftx import limits
from ftx.core.identity import same
from ftx.core.lanes import EXPORTER, FEATURE, exporter_context
from ftx.errors import FtxError, ProtocolError
from ftx.net.throttle import Limit
from ftx.net.transfer import Connection
from ftx.wire.frames import Piece
from ftx.wire.messages import Join, Joined, Message

__all__ = ["Bundle", "Bundled"]


class Bundled(Protocol):
    """The job that a bundle is for."""

    def lanes_joined(self) -> None:
        """From now on something may come on a lane."""

    def piece(self, piece: Piece, lane: int = 0) -> None:
        """Part of a block, that came on this lane. May raise FtxError, which ends the session."""

    def turn(self) -> None:
        """All that a read brought was handed over."""

    def flow(self) -> None:
        """One of the connections takes more content, or no more for now."""


@implementer(IPushProducer)
class _Lane:
    """What runs on a lane (`ftx.net.parties.Job`); where this end sends, also the producer of its transport."""

    def __init__(self, bundle: Bundle, number: int, connection: Connection) -> None:
        self.connection = connection
        #: Whether its transport has enough for now.
        self.full = False
        self._bundle = bundle
        self._number = number

    def message(self, message: Message) -> None:
        """Never: the session lets nothing but content come."""
        raise ProtocolError("wrong-state")

    def piece(self, piece: Piece) -> None:
        """Part of a block. What is wrong with it ends the job, and so this lane."""
        if self._bundle.own.over:
            return  # the job ends as soon as that is lost
        try:
            self._bundle.job.piece(piece, self._number)
        except FtxError as error:
            self._bundle.fail(error)

    def turn(self) -> None:
        """All that had arrived was handed over."""
        self._bundle.job.turn()

    def next_deadline(self) -> float | None:
        """Nothing is timed here."""
        return None

    def tick(self, now: float) -> None:
        """Nothing is timed here."""

    def lost(self, error: FtxError) -> None:
        """It has ended: in order, or with what was on it."""
        if self.connection.stopped_by is not None:
            self._bundle.lost(error)

    def pauseProducing(self) -> None:
        """See IPushProducer."""
        self.full = True
        self._bundle.job.flow()

    def resumeProducing(self) -> None:
        """See IPushProducer."""
        self.full = False
        self._bundle.job.flow()

    def stopProducing(self) -> None:
        """See IProducer: `lost` follows."""
        self.full = True


class Bundle:
    """The connections of `job`, which runs on `own`; `sends` says whether it sends."""

    def __init__(self, own: Connection, job: Bundled, *, sends: bool) -> None:
        self.own = own
        self.job = job
        #: Whether the job's own connection has enough content for now.
        self.own_full = False
        self._sends = sends
        self._lanes: dict[int, _Lane] = {}
        self._used: set[int] = set()
        self._paused = False
        #: Whether there is no room for what comes on a lane that joins.
        self._short = False
        self._over = False
        #: Will end the job whose lane is lost, unless its own connection says first why that is.
        self._giving_up: IDelayedCall | None = None
        self._read_size: int | None = None
        self._limits: tuple[Sequence[Limit], Sequence[Limit]] | None = None

    def __len__(self) -> int:
        """How many lanes there are beside the job's own connection."""
        return len(self._lanes)

    def _all(self) -> Iterator[Connection]:
        yield self.own
        for lane in self._lanes.values():
            yield lane.connection

    # -- joining -------------------------------------------------------------------------------------------

    def proof(self, job: bytes, number: int) -> bytes:
        """What shows that lane `number` is for this job on this connection. FtxError `connection-lost`."""
        return self.own.exported(*EXPORTER, exporter_context(job, number))

    def open_to(self, message: Join, connection: Connection) -> bool:
        """Whether `connection` may join, at the server's end.

        FtxError `protocol-error` when the proof is wrong or the number was used.
        """
        if self._over or self.own.over or FEATURE not in self.own.session.features:
            return False
        if connection.peer is None or self.own.peer is None or not same(connection.peer.id, self.own.peer.id):
            return False
        try:
            proof = self.proof(message.job, message.number)
        except FtxError:  # its connection is ending, and nobody has been told yet
            return False
        if message.number in self._used or not same(message.proof, proof):
            raise ProtocolError("protocol-error", "a lane was to be joined without a right to it")
        return True

    def admit(self, message: Join, connection: Connection) -> None:
        """Let `connection` join, and tell its client."""
        self.job.lanes_joined()
        connection.send(Joined(message.job, not self._sends))
        self.take(message.number, connection)

    def take(self, number: int, connection: Connection) -> None:
        """`connection` is lane `number` of this job from now on."""
        self._used.add(number)
        if self._over:
            connection.goodbye()
            return
        lane = self._lanes[number] = _Lane(self, number, connection)
        connection.job, connection.lane = lane, True
        if self._limits is not None:
            connection.limit(*self._limits)
        if self._read_size is not None:
            connection.read_at_once(self._read_size)
        if self._paused:
            connection.pause_reading(True)
        if self._short:
            connection.pause_reading(True, "room")
        if self._sends:
            for one in self._all():
                one.carry_part()
            connection.transport.registerProducer(lane, True)  # type: ignore[union-attr]
            self.job.flow()

    # -- receiving -----------------------------------------------------------------------------------------

    def pause_reading(self, paused: bool) -> None:
        """Stop or go on reading from all of them."""
        self._paused = paused
        for connection in self._all():
            connection.pause_reading(paused)

    def read_only(self, let: Collection[int] | None) -> None:
        """There is no room but for these lanes (0 is the job's own connection): read no others. None: read all."""
        self._short = let is not None
        self.own.pause_reading(let is not None and 0 not in let, "room")
        for number, lane in self._lanes.items():
            lane.connection.pause_reading(let is not None and number not in let, "room")

    def read_at_once(self, size: int) -> None:
        """No more than `size` bytes are read at once from any of them."""
        self._read_size = size
        for connection in self._all():
            connection.read_at_once(size)

    @property
    def read_slowly(self) -> bool:
        """Whether it is for us that content comes no faster: nothing is read, or at a rate that somebody has set.

        Room is no matter of that.
        """
        return self._paused or self.own.limited

    def begun(self) -> Iterator[tuple[int, tuple[int, int] | None]]:
        """Each lane, 0 for the job's own connection, with the entry and the block of the data frame that is coming."""
        yield 0, self.own.session.content_begun
        for number, lane in self._lanes.items():
            yield number, lane.connection.session.content_begun

    def hush(self) -> None:
        """Hear nothing more of what comes on any of them."""
        for connection in self._all():
            connection.hush()

    # -- sending -------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether none of them takes more content for now: one that has ended never does, and has nobody to say so.

        Nor does any once one of them was lost.
        """
        if self._giving_up is not None:
            return True
        if not (self.own_full or self.own.over):
            return False
        return all(lane.full or lane.connection.over for lane in self._lanes.values())

    @property
    def unsent(self) -> int:
        """Bytes that wait on all of them at this end, or did when they were lost."""
        return sum(one.unsent for one in self._all())

    def write_content(self, frames: Sequence[bytes | memoryview], *, own: bool = False) -> None:
        """Send whole blocks by the connection on which least waits, or by the job's `own`."""
        chosen = self.own
        if not own and self._lanes:
            chosen = min((one for one in self._all() if not one.over), key=_unsent, default=self.own)
        chosen.write_data(frames)
        if self.full:  # also when it was the end of a connection that made it so
            self.job.flow()

    # -- all of them ---------------------------------------------------------------------------------------

    def limit(self, incoming: Sequence[Limit], outgoing: Sequence[Limit]) -> None:
        """From now on the bytes of all of them together pass at these rates and no faster."""
        self._limits = incoming, outgoing
        for connection in self._all():
            connection.limit(incoming, outgoing)

    def unlimited(self) -> None:
        """Hold nothing up any more."""
        self._limits = None
        for connection in self._all():
            connection.unlimited()

    def fail(self, error: FtxError) -> None:
        """End the job's own connection with a reason, which the peer is told; the lanes end with it."""
        self.own.fail(error)

    def lost(self, error: FtxError) -> None:
        """A lane is lost, and what was on it: so is the job, unless the peer is ending it and is about to say why."""
        if not self._over and self._giving_up is None:
            lost = f"one of {len(self._lanes) + 1} connections to {self.own.where} was lost"
            said = error.message.removeprefix(f"the connection to {self.own.where} was lost")  # not twice
            reason = FtxError("connection-lost", f"{lost}: {said}" if said else lost)
            self._giving_up = self.own.clock.callLater(limits.LANE_LAST_WORD, self.own.abort, reason)
            self.job.flow()

    def close(self) -> None:
        """The job is over: end the lanes, in order where nothing waits on them, and take no more."""
        self._over = True
        if self._giving_up is not None and self._giving_up.active():
            self._giving_up.cancel()
        for lane in self._lanes.values():
            connection = lane.connection
            connection.hush()
            if connection.unsent:
                connection.abort()
            else:
                connection.goodbye()


def _unsent(connection: Connection) -> int:
    return connection.unsent
