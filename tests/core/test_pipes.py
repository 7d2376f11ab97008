"""Files of unknown size in a job: in order, once, with a size and a digest at the end."""

from __future__ import annotations

from typing import Any

import pytest

from ftx import limits
from ftx.core.blocks import block_digest, file_digest
from ftx.core.events import CloseEntry, LookUp, Publish, ReadPipe, Resolved, Send, There, WriteBlock
from ftx.core.receiver import Receiver
from ftx.core.sender import Sender
from ftx.errors import KINDS, ProtocolError
from ftx.wire.frames import Encoding, Piece
from ftx.wire.messages import (
    FEATURES,
    Accept,
    EntryEnd,
    EntryFailed,
    Failed,
    Manifest,
    Needs,
    Offer,
    PipeEntry,
    Results,
    Stored,
    WantAgain,
    WantAll,
)

OFFER = Offer(bytes(16), 0, [], None, None, None, None)
BLOCK = b"x" * limits.BLOCK


def piece(block: int, content: bytes, encoding: Encoding = Encoding.RAW) -> list[Piece]:
    """A block as the decoder gives it."""
    digest = block_digest([content])
    if encoding is Encoding.ZERO:
        return [Piece(0, block, encoding, [], 0, digest)]
    parts = [content[start : start + limits.PIECE] for start in range(0, len(content), limits.PIECE)] or [b""]
    return [
        Piece(0, block, encoding, [memoryview(part)], len(part), digest if number == len(parts) - 1 else None)
        for number, part in enumerate(parts)
    ]


def receiving(features: tuple[str, ...] = FEATURES) -> Receiver:
    """A receiver that has asked for a pipe."""
    machine = Receiver(OFFER, 0.0, features=frozenset(features))
    (asked,) = machine.receive(Manifest([PipeEntry(0, [b"p"], 1, 0o644)], True), 0.0)
    assert isinstance(asked, LookUp)
    machine.want(0, None, 0.0)
    sent = [effect.message for effect in machine.flush(0.0) if isinstance(effect, Send)]
    assert sent == [Needs([WantAll(0)])]
    return machine


def take(machine: Receiver, block: int, content: bytes, encoding: Encoding = Encoding.RAW) -> list[Any]:
    effects: list[Any] = []
    for part in piece(block, content, encoding):
        effects += machine.piece(part)
    return effects


@pytest.mark.parametrize("tail", [b"", b"the end", BLOCK])
def test_a_stream_is_written_in_order_and_published_at_its_end(tail: bytes) -> None:
    """Whether its end is in a block, at a block's end, or is all there is of it."""
    machine = receiving()
    content = BLOCK + bytes(limits.BLOCK) + tail
    (first,) = take(machine, 0, BLOCK)
    (zeros,) = take(machine, 1, bytes(limits.BLOCK), Encoding.ZERO)
    last = take(machine, 2, tail) if tail else []
    assert [type(effect) for effect in (first, zeros, *last)] == [WriteBlock] * (3 if tail else 2)
    for block in range(3 if tail else 2):
        assert machine.block_written(0, block, True, 9.0) == []
    digest = file_digest(len(content), [b"d" * 32])
    assert machine.receive(EntryEnd(0, len(content), digest), 9.0) == [Publish(0, digest)]
    (there,) = machine.stored([(0, (b"p",), digest)])
    assert isinstance(there, There)
    (resolved,) = there.each()
    assert (resolved.size, resolved.status) == (len(content), "stored")
    assert machine.verified == machine.durable == len(content)


def test_an_empty_stream() -> None:
    """Nothing but its end."""
    machine = receiving()
    digest = file_digest(0, [block_digest([b""])])
    assert machine.receive(EntryEnd(0, 0, digest), 0.0) == [Publish(0, digest)]


@pytest.mark.parametrize(
    "wrong",
    [
        [(1, BLOCK)],
        [(0, BLOCK), (0, BLOCK)],
        [(0, BLOCK), (2, b"x")],
        [(0, b"short"), (1, b"x")],
        [(0, b"")],
    ],
)
def test_blocks_out_of_turn_end_the_session(wrong: list[tuple[int, bytes]]) -> None:
    """Skipped, repeated, behind a short one, empty."""
    machine = receiving()
    *before, last = wrong
    for block, content in before:
        take(machine, block, content)
    with pytest.raises(ProtocolError):
        take(machine, *last)


def test_a_wrong_end_ends_the_session() -> None:
    """A size that is not what came; an end in the middle of a block; compressed blocks, whose size nobody knows."""
    machine = receiving()
    take(machine, 0, BLOCK)
    with pytest.raises(ProtocolError):
        machine.receive(EntryEnd(0, limits.BLOCK + 1, bytes(32)), 0.0)
    machine = receiving()
    machine.piece(piece(0, BLOCK)[0])
    with pytest.raises(ProtocolError):
        machine.receive(EntryEnd(0, limits.PIECE, bytes(32)), 0.0)
    with pytest.raises(ProtocolError):
        take(receiving(), 0, b"packed", Encoding.ZSTD)


def test_nobody_agreed() -> None:
    """Without the feature it is no entry."""
    machine = Receiver(OFFER, 0.0)
    with pytest.raises(ProtocolError) as caught:
        machine.receive(Manifest([PipeEntry(0, [b"p"], 1, 0o644)], True), 0.0)
    assert caught.value.name == "bad-message"


def test_a_stream_that_fails_has_no_size() -> None:
    """A block that does not verify fails it at once, what still comes is dropped, and its line says 0 bytes."""
    machine = receiving()
    take(machine, 0, BLOCK)
    effects = machine.block_written(0, 0, False, 0.0)
    (resolved,) = [effect for effect in effects if isinstance(effect, Resolved)]
    assert (resolved.status, resolved.error, resolved.size) == ("failed", KINDS["digest-mismatch"].number, 0)
    assert take(machine, 1, BLOCK) == []
    assert machine.receive(EntryFailed(0, 614), 0.0) == []
    assert machine.verified == machine.durable == 0


def sending() -> Sender:
    """A sender whose pipe was asked for."""
    machine = Sender(OFFER, features=frozenset(FEATURES))
    machine.receive(Accept(OFFER.job, 2048, 4096, 2, 0))
    machine.add_pipe((b"p",), 1, 0o644, "source")
    machine.end_manifest()
    machine.receive(Needs([WantAll(0)]))
    return machine


def test_a_sender_reads_one_block_at_a_time() -> None:
    """Then it says size and digest, and believes the receiver only about those."""
    machine = sending()
    for block in range(3):
        assert machine.next_work() == ReadPipe(0, block)
        assert machine.next_work() is None
        if block < 2:
            assert machine.pipe_read(0, limits.BLOCK, None) == []
    size = 2 * limits.BLOCK + 5
    assert machine.pipe_read(0, 5, b"d" * 32) == [Send(EntryEnd(0, size, b"d" * 32))]
    assert machine.next_work() is None
    effects = machine.receive(Results([Stored(0, b"d" * 32, None)]))
    assert isinstance(effects[0], There)
    assert [file.size for file in effects[0].each()] == [size]
    assert machine.transcript.counts.bytes == size


def test_a_stream_that_the_receiver_gave_up_is_closed_once() -> None:
    """While a block is read, too; its line says 0 bytes, as the receiver's does."""
    machine = sending()
    machine.next_work()
    (resolved,) = machine.receive(Results([Failed(0, KINDS["no-space"].number)]))
    assert isinstance(resolved, Resolved)
    assert resolved.size == 0
    assert machine.pipe_read(0, limits.BLOCK, None) == []
    assert machine.next_work() == CloseEntry(0, False)
    closed = machine.closed(0, b"")
    assert closed[0] == Send(EntryFailed(0, KINDS["cancelled"].number))


def test_a_stream_is_not_asked_for_again() -> None:
    """Whoever does breaks the protocol; so does who asks for a part of it."""
    machine = sending()
    machine.next_work()
    machine.pipe_read(0, 5, b"d" * 32)
    with pytest.raises(ProtocolError):
        machine.receive(Needs([WantAgain(0, 0)]))
