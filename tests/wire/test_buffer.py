"""The receive buffer: bytes come out as they went in, in any pieces, without weighing more than they are."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from ftx import limits
from ftx.wire.buffer import ReceiveBuffer


def test_empty() -> None:
    """Nothing comes out of an empty buffer, and nothing can always be had."""
    buffer = ReceiveBuffer()
    buffer.append(b"")
    assert len(buffer) == 0
    assert buffer.take(0) == b""
    assert buffer.take(1) is None
    assert buffer.take_views(5) == []


def test_taking_too_much_takes_nothing() -> None:
    """A frame that is not whole stays."""
    buffer = ReceiveBuffer()
    buffer.append(b"abc")
    assert buffer.take(4) is None
    assert len(buffer) == 3
    assert buffer.take(3) == b"abc"
    assert len(buffer) == 0


def test_large_chunks_are_not_copied() -> None:
    """The views that come out are views of what went in."""
    buffer = ReceiveBuffer()
    first, second = bytes(range(256)) * 16, b"x" * 5000
    buffer.append(first)
    buffer.append(second)
    views = buffer.take_views(6000)
    assert [view.obj for view in views] == [first, second]
    assert b"".join(views) == (first + second)[:6000]
    assert buffer.take(len(buffer)) == (first + second)[6000:]


def test_peeking_takes_nothing_and_joins_no_chunks() -> None:
    """What comes next, from one chunk or from several; only that is copied."""
    buffer = ReceiveBuffer()
    assert buffer.peek(1) is None
    first, second, third = b"a" * 5000, b"b" * 2000, b"c" * 3000
    for chunk in (first, second, third):
        buffer.append(chunk)
    assert buffer.peek(19) == first[:19]
    assert buffer.first() == (first, 0)
    assert buffer.take(4995) == first[:4995]
    assert buffer.first() == (first, 4995)
    assert buffer.peek(7) == b"aaaaabb"
    assert buffer.peek(2010) == b"a" * 5 + second + b"c" * 5
    assert buffer.peek(5006) is None
    assert [view.obj for view in buffer.take_views(5005)] == [first, second, third]


def test_clear() -> None:
    """After clear() it is as new."""
    buffer = ReceiveBuffer()
    buffer.append(b"abc" * 1000)
    buffer.clear()
    assert len(buffer) == 0
    assert buffer.take(1) is None


@given(
    chunks=st.lists(st.binary(max_size=limits.JOINED + 10), max_size=20),
    takes=st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=40),
)
def test_is_a_queue_of_bytes(chunks: list[bytes], takes: list[tuple[bool, int]]) -> None:
    """Appending and taking in any order is the same as slicing one byte string."""
    buffer = ReceiveBuffer()
    model = b""
    for position in range(max(len(chunks), len(takes))):
        if position < len(chunks):
            buffer.append(chunks[position])
            model += chunks[position]
        if position < len(takes):
            views, count = takes[position]
            if views:
                assert b"".join(buffer.take_views(count)) == model[:count]
                model = model[count:]
            elif count > len(model):
                assert buffer.take(count) is None
            else:
                assert buffer.take(count) == model[:count]
                model = model[count:]
        assert len(buffer) == len(model)


def test_single_bytes_do_not_weigh_a_hundred_times_as_much() -> None:
    """What is held of 128 KiB that came in single bytes is below twice that."""
    buffer = ReceiveBuffer()
    pieces = [bytes([number % 256]) for number in range(limits.PIECE)]
    tracemalloc.start()
    try:
        for piece in pieces:
            buffer.append(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * limits.PIECE
    assert buffer.take(limits.PIECE) == b"".join(pieces)
