"""Probes as both ends see them: which content is due, when it ends, and who may ask how often."""

from __future__ import annotations

import sys

import pytest

from ftx import limits
from ftx.core.blocks import block_digest
from ftx.core.probing import Allowance, Inflow, Outflow
from ftx.core.tcpinfo import TcpInfo
from ftx.errors import FtxError, ProtocolError
from ftx.wire.frames import Encoding, Piece

KEY = b"k" * 32


def piece(
    block: int, size: int, *, entry: int = 0, encoding: Encoding = Encoding.RAW, digest: bytes | None = None
) -> Piece:
    """A block of a probe."""
    content = bytes(size)
    return Piece(entry, block, encoding, [memoryview(content)], size, digest or block_digest([content]))


def test_whole_blocks_and_what_is_left() -> None:
    """The last block is the shorter one; what one side sends is what the other takes."""
    total = 2 * limits.PIECE + 5
    flow, sink = Outflow(total, 0.0), Inflow(total)
    sent = []
    while (due := flow.next(1.0)) is not None:
        sent.append(due)
        sink.piece(piece(*due), float(len(sent)))
    assert sent == [(0, limits.PIECE), (1, limits.PIECE), (2, 5)]
    sink.ended(flow.sent)
    assert (sink.received, sink.elapsed) == (total, 2.0)


def test_who_sends_stops_when_the_time_is_over() -> None:
    """Behind a whole block, and never before the first."""
    flow = Outflow(limits.PROBE, 100.0)
    assert flow.next(200.0) == (0, limits.PIECE)
    assert flow.next(200.0) is None
    flow = Outflow(limits.PROBE, 100.0)
    assert flow.next(100.0) is not None
    assert flow.next(99.9 + limits.PROBE_SECONDS) is not None
    assert flow.next(100.0 + limits.PROBE_SECONDS) is None
    assert flow.sent == 2 * limits.PIECE


@pytest.mark.parametrize(
    "wrong",
    [
        piece(1, limits.PIECE),
        piece(0, limits.PIECE - 1),
        piece(0, limits.PIECE, entry=1),
        piece(0, limits.PIECE, encoding=Encoding.ZSTD),
        Piece(0, 0, Encoding.RAW, [memoryview(bytes(limits.PIECE))], limits.PIECE, None),
        piece(0, limits.PIECE, digest=bytes(32)),
    ],
    ids=["number", "length", "entry", "encoding", "no digest", "digest"],
)
def test_content_that_is_not_due(wrong: Piece) -> None:
    """Ends the session, and counts for nothing."""
    sink = Inflow(2 * limits.PIECE)
    with pytest.raises(ProtocolError):
        sink.piece(wrong, 0.0)
    assert sink.received == 0


def test_more_than_was_asked_for_and_another_account() -> None:
    """Both are violations."""
    sink = Inflow(5)
    sink.piece(piece(0, 5), 0.0)
    with pytest.raises(ProtocolError):
        sink.piece(piece(1, 0), 0.0)
    with pytest.raises(ProtocolError):
        sink.piece(piece(1, 5), 0.0)
    with pytest.raises(ProtocolError):
        sink.ended(4)
    sink.ended(5)


def test_two_at_once() -> None:
    """A third is told to come back, whoever asks."""
    allowance = Allowance()
    for number in range(limits.PROBES_AT_ONCE):
        allowance.take(bytes([number]) * 32, 0.0)
    with pytest.raises(FtxError) as caught:
        allowance.take(KEY, 0.0)
    assert caught.value.name == "busy"
    allowance.give_back()
    allowance.take(KEY, 0.0)


def test_twelve_of_one_key_in_a_minute() -> None:
    """Then it waits until the first is a minute old; others do not."""
    allowance = Allowance()
    for second in range(limits.PROBES_PER_KEY):
        allowance.take(KEY, float(second))
        allowance.give_back()
    with pytest.raises(FtxError) as caught:
        allowance.take(KEY, limits.PROBE_SPAN - 0.1)
    assert caught.value.name == "busy"
    allowance.take(b"o" * 32, 20.0)
    allowance.give_back()
    allowance.take(KEY, limits.PROBE_SPAN)
    with pytest.raises(FtxError):
        allowance.take(KEY, limits.PROBE_SPAN + 0.5)


def test_keys_are_forgotten() -> None:
    """The memory of who asked has a bound: the least recent goes."""
    allowance = Allowance()
    for _ in range(limits.PROBES_PER_KEY):
        allowance.take(KEY, 0.0)
        allowance.give_back()
    for number in range(limits.PROBE_KEYS):
        allowance.take(number.to_bytes(32, "big"), 0.0)
        allowance.give_back()
    allowance.take(KEY, 0.0)


def test_what_the_kernel_says_of_a_connection() -> None:
    """Each field from its place in `struct tcp_info`; what an older kernel lacks is 0."""
    data = bytearray(192)
    fields = [(16, 4, 1448), (60, 4, 1500), (68, 4, 420), (80, 4, 10), (100, 4, 3), (148, 4, 400)]
    for start, length, value in [*fields, (168, 8, 2**40), (176, 8, 7), (184, 8, 9)]:
        data[start : start + length] = value.to_bytes(length, sys.byteorder)
    whole = TcpInfo.of(bytes(data))
    assert whole == TcpInfo(1448, 1500, 420, 400, 10, 3, 2**40, 7, 9)
    assert whole.window_bytes == 14_480
    assert TcpInfo.of(bytes(data[:104])) == TcpInfo(1448, 1500, 420, 0, 10, 3)
    assert TcpInfo.of(b"") == TcpInfo()
    before = TcpInfo(retransmits=1, busy=2**39, stalled=8)
    assert whole.since(before) == TcpInfo(1448, 1500, 420, 400, 10, 2, 2**39, 0, 9)
