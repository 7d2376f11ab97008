"""A connection and the turns of the reactor: what arrives at once need not be dealt with at once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from ftx import limits
from ftx.core.stages import Role
from ftx.errors import FtxError
from ftx.net.tls import PeerKey
from ftx.net.transfer import Connection, our_hello
from ftx.wire.frames import Piece, data_frames
from ftx.wire.messages import Accept, Hello, Message, Offer, encode

JOB = bytes(16)


class Wire(StringTransport):
    """A transport that notes an abort."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Receiver:
    """Owner and job of a connection: lets everybody in, and notes what comes."""

    def __init__(self) -> None:
        self.pieces: list[int] = []
        self.turns = 0
        self.lost_with: FtxError | None = None
        self.wrong = -1

    def key_proved(self, connection: Connection, peer: PeerKey) -> None: ...

    def greeted(self, connection: Connection, hello: Hello) -> None:
        connection.send(our_hello("attic", signed_in=True))

    def offered(self, connection: Connection, offer: Offer) -> None:
        connection.job = self
        connection.send(Accept(JOB, 2048, 4096, 2, 0))

    def ended(self, connection: Connection, error: FtxError | None) -> None: ...

    def message(self, message: Message) -> None: ...

    def piece(self, piece: Piece) -> None:
        if piece.entry == self.wrong:
            raise FtxError("protocol-error")
        self.pieces.append(piece.entry)

    def turn(self) -> None:
        self.turns += 1

    def next_deadline(self) -> float | None:
        return None

    def tick(self, now: float) -> None: ...

    def lost(self, error: FtxError) -> None:
        self.lost_with = error


class End:
    """A server's connection in a job, whose clock and transport are the test's."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.receiver = Receiver()
        self.wire = Wire()
        owner: Any = self.receiver
        self.connection = Connection(self.clock, Role.SERVER, "attic", owner, "somewhere")
        self.connection.makeConnection(self.wire)
        offer = Offer(JOB, 0, [], None, None, None, None)
        self.connection.dataReceived(encode(our_hello("desk")) + encode(offer))

    def turn(self) -> None:
        """One turn of the reactor: what became due before it, and not what that leads to."""
        for call in self.clock.getDelayedCalls():
            if call.getTime() <= self.clock.seconds():
                function = call.func
                call.cancel()
                function()

    @property
    def reading(self) -> bool:
        return self.wire.producerState == "producing"


def frames(first: int, count: int) -> bytes:
    """So many small files, one frame each."""
    return b"".join(b"".join(data_frames(number, 0, b"x", bytes(32))) for number in range(first, first + count))


@pytest.fixture
def end() -> Any:
    made = End()
    yield made
    from twisted.internet.error import ConnectionDone
    from twisted.python.failure import Failure

    made.connection.connectionLost(Failure(ConnectionDone()))
    assert made.clock.getDelayedCalls() == []


def test_A5_ten_thousand_frames_at_once(end: End) -> None:
    """A bounded number in each turn; nothing is read meanwhile, nothing is lost, and all stay in order."""
    end.connection.dataReceived(frames(0, 10_000))
    turns = 1  # after the one of the offer
    while not end.reading:
        assert len(end.receiver.pieces) == turns * limits.FRAMES_PER_TURN
        end.turn()
        turns += 1
    assert end.receiver.pieces == list(range(10_000))
    assert end.receiver.turns - 1 == turns == -(-10_000 // limits.FRAMES_PER_TURN)


def test_A5_what_arrives_in_between_comes_after(end: End) -> None:
    """The transport may still deliver what it had read: it waits for its turn."""
    end.connection.dataReceived(frames(0, limits.FRAMES_PER_TURN + 1))
    end.connection.dataReceived(frames(limits.FRAMES_PER_TURN + 1, 1))
    assert len(end.receiver.pieces) == limits.FRAMES_PER_TURN
    end.turn()
    assert end.receiver.pieces == list(range(limits.FRAMES_PER_TURN + 2))
    assert end.reading


def test_a_slow_disk_and_a_full_turn_are_two_reasons_not_to_read(end: End) -> None:
    """Reading goes on when neither is left, whichever ends first."""
    end.connection.dataReceived(frames(0, limits.FRAMES_PER_TURN + 1))
    end.connection.pause_reading(True)
    end.turn()
    assert not end.reading
    end.connection.pause_reading(False)
    assert end.reading
    end.connection.dataReceived(frames(0, limits.FRAMES_PER_TURN + 1))
    end.connection.pause_reading(True)
    end.connection.pause_reading(False)
    assert not end.reading
    end.turn()
    assert end.reading


def test_what_waits_is_dropped_when_the_session_ends(end: End) -> None:
    """A violation in a later turn ends it; what stands behind it is never looked at."""
    end.receiver.wrong = limits.FRAMES_PER_TURN + 5
    end.connection.dataReceived(frames(0, 5000))
    end.turn()
    assert end.connection.over
    end.turn()
    assert len(end.receiver.pieces) == limits.FRAMES_PER_TURN + 5


def test_what_waits_is_dropped_when_the_connection_is_lost(end: End) -> None:
    """So is what had arrived before the connection was cut, and its call is gone."""
    end.connection.dataReceived(frames(0, 5000))
    end.connection.abort(FtxError("cancelled"))
    end.turn()
    assert len(end.receiver.pieces) == limits.FRAMES_PER_TURN
    assert end.wire.aborted
