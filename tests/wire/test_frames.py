"""Frames: every bound at and above it, every type in every stage, data frames in all their forms."""

from __future__ import annotations

import random
import struct
import sys
import tracemalloc
from collections.abc import Iterable
from types import FrameType as CodeFrame
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.decoding import check, outcome

from ftx import limits
from ftx.errors import ProtocolError
from ftx.wire.frames import (
    AFTER_SIGN_IN,
    BEFORE_SIGN_IN,
    DATA_HEADER,
    HEADER,
    WHILE_ASKING,
    WHILE_PAIRING,
    Encoding,
    Frame,
    FrameDecoder,
    FrameType,
    Piece,
    Whole,
    after_sign_in,
    data_frames,
    feature_of,
    frame,
)

DIGEST = bytes(range(32))
#: What `docs/protocol.md` section 4 reserves, and its neighbours.
UNKNOWN = sorted(set(range(256)) - set(FrameType))


def head(kind: int, length: int) -> bytes:
    """A frame header by the book."""
    return struct.pack(">IB", length, kind)


def data(content: bytes = b"", *, entry: int = 1, block: int = 2, encoding: int = 0, flags: int = 1) -> bytes:
    """A data frame by the book; `content` includes the digest, if there is to be one."""
    return head(0x16, 14 + len(content)) + struct.pack(">IQBB", entry, block, encoding, flags) + content


# -- bounds and types --------------------------------------------------------------------------------------


def test_the_bounds_are_those_of_the_specification() -> None:
    """Section 13."""
    assert BEFORE_SIGN_IN == {FrameType.HELLO: 4096, FrameType.ERROR: 4096}
    batches = {FrameType.MANIFEST, FrameType.NEEDS, FrameType.RESULTS}
    batches |= {FrameType.BASIS, FrameType.LISTING, FrameType.OMITTED}
    pairing = {FrameType.PAIR_START, FrameType.PAIR_REPLY, FrameType.PAIR_CONFIRM, FrameType.PAIR_DONE}
    assert dict.fromkeys({FrameType.ERROR, FrameType.GOODBYE, *pairing}, 256) == WHILE_PAIRING
    asking = {"ERROR", "GOODBYE", "PING", "PONG", "OFFER", "TOTALS", "REVEAL"}
    assert {FrameType[name]: 4096 for name in asking} == WHILE_ASKING
    assert set(AFTER_SIGN_IN) == {kind for kind in FrameType if not feature_of(kind)}
    everything = after_sign_in({feature_of(kind) for kind in FrameType})
    assert set(everything) == set(FrameType) - pairing
    for kind, bound in everything.items():
        assert bound == (14 + 131_072 + 32 if kind is FrameType.DATA else 65_536 if kind in batches else 16_384)


@pytest.mark.case("A2", "C58")
@pytest.mark.parametrize("bounds", [BEFORE_SIGN_IN, WHILE_PAIRING, AFTER_SIGN_IN], ids=["before", "pairing", "after"])
@pytest.mark.parametrize("kind", FrameType)
def test_every_bound(kind: FrameType, bounds: dict[int, int]) -> None:
    """A length at the bound is waited for; one more is refused when the five bytes are there, and not before."""
    if kind not in bounds:
        check(head(kind, 1), [], "wrong-state", bounds)
        return
    check(head(kind, bounds[kind] + 1), [], "frame-too-large", bounds)
    check(head(kind, 2**32 - 1), [], "frame-too-large", bounds)
    decoder = FrameDecoder(bounds)
    decoder.feed(head(kind, bounds[kind]))
    assert decoder.next_item() is None
    if kind is not FrameType.DATA:
        body = bytes(bounds[kind])
        decoder.feed(body)
        assert decoder.next_item() == Frame(kind, body)


@pytest.mark.case("A7")
@pytest.mark.parametrize("bounds", [BEFORE_SIGN_IN, WHILE_PAIRING, AFTER_SIGN_IN], ids=["before", "pairing", "after"])
def test_every_unknown_type(bounds: dict[int, int]) -> None:
    """Reserved types too: their feature is not agreed."""
    assert {0x00, 0x06, 0x28, 0x32, 0x44, 0xFF} <= set(UNKNOWN)
    for kind in UNKNOWN:
        assert outcome([head(kind, 0)], bounds) == ([], "unknown-frame")
        assert outcome([head(kind, 2**31)], bounds) == ([], "unknown-frame")


def test_the_bounds_can_change_between_items() -> None:
    """What comes behind a hello in the same bytes is judged by the bounds that the hello led to."""
    decoder = FrameDecoder()
    decoder.feed(frame(FrameType.HELLO, b"h") + frame(FrameType.PING, b"p"))
    assert decoder.next_item() == Frame(FrameType.HELLO, b"h")
    decoder.bounds = AFTER_SIGN_IN
    assert decoder.next_item() == Frame(FrameType.PING, b"p")
    assert decoder.next_item() is None


def test_cleared() -> None:
    """After clear() nothing is held."""
    decoder = FrameDecoder()
    decoder.feed(head(1, 100) + bytes(50))
    assert decoder.next_item() is None
    assert decoder.buffered == 50
    decoder.clear()
    assert decoder.buffered == 0


# -- data frames -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (data(b"hello" + DIGEST), (1, 2, 0, b"hello", 5, DIGEST)),
        (data(DIGEST), (1, 2, 0, b"", 0, DIGEST)),
        (data(DIGEST, encoding=1), (1, 2, 1, b"", 0, DIGEST)),
        (data(b"x", flags=0), (1, 2, 0, b"x", 1, None)),
        (data(DIGEST, entry=2**32 - 1, block=2**64 - 1), (2**32 - 1, 2**64 - 1, 0, b"", 0, DIGEST)),
        (data(b"\x07" * limits.PIECE, flags=0), (1, 2, 0, b"\x07" * limits.PIECE, limits.PIECE, None)),
        (data(b"\x07" * limits.PIECE + DIGEST), (1, 2, 0, b"\x07" * limits.PIECE, limits.PIECE, DIGEST)),
        (data(b"\x07" * 65_537 + DIGEST), (1, 2, 0, b"\x07" * (limits.COPIED + 1), 65_537, DIGEST)),
    ],
    ids=["last", "empty", "zero", "more", "largest numbers", "full", "full and last", "larger than copied"],
)
def test_a_valid_data_frame(wire: bytes, expected: Any) -> None:
    """However it is cut."""
    check(wire, [expected])


@pytest.mark.case("A3", "A8")
@pytest.mark.parametrize(
    ("wire", "error"),
    [
        (head(0x16, 0), "bad-message"),
        (head(0x16, 13) + bytes(13), "bad-message"),
        (data(b"x" + DIGEST, encoding=1), "bad-message"),
        (data(b"", encoding=1, flags=0), "bad-message"),
        (data(b"x", encoding=1, flags=0), "bad-message"),
        (data(b"x" + DIGEST, encoding=2), "bad-message"),
        (data(b"x" + DIGEST, encoding=3), "bad-message"),
        (data(b"x" + DIGEST, encoding=255), "bad-message"),
        *((data(b"x" + DIGEST, flags=1 | 1 << bit), "bad-message") for bit in range(1, 8)),
        (data(b"", flags=0), "bad-message"),
        (data(DIGEST[:31], flags=1), "bad-message"),
        (data(bytes(limits.PIECE + 1), flags=0), "bad-message"),
        (data(bytes(limits.PIECE + 1) + DIGEST), "frame-too-large"),
    ],
)
def test_an_invalid_data_frame(wire: bytes, error: str) -> None:
    """Wrong lengths, encodings and flags."""
    check(wire, [], error)


@pytest.mark.parametrize(
    "size", [0, 1, limits.PIECE - 1, limits.PIECE, limits.PIECE + 1, 3 * limits.PIECE, limits.BLOCK]
)
def test_our_own_data_frames(size: int) -> None:
    """What we write is what we read, in pieces of at most 128 KiB, with the digest in the last."""
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    wire = b"".join(data_frames(7, 8, content, DIGEST))
    items, error = outcome([wire[:100], wire[100:]])
    assert error is None
    pieces: list[Any] = items
    assert b"".join(piece[3] for piece in pieces) == content
    assert [piece[5] for piece in pieces] == [None] * (len(pieces) - 1) + [DIGEST]
    assert len(pieces) == max(1, -(-size // limits.PIECE)) <= limits.BLOCK_PIECES
    assert {piece[:2] for piece in pieces} == {(7, 8)}


@pytest.mark.parametrize("size", [1, limits.COPIED + 1, limits.GATHERED, limits.GATHERED + 1])
def test_small_files_are_taken_together(size: int) -> None:
    """Up to a size, as many as are asked for, as far as they are all there; what is larger goes piece by piece."""
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    wire = b"".join(data(content + DIGEST, entry=number, block=0) for number in range(4))
    decoder = FrameDecoder(AFTER_SIGN_IN)
    decoder.feed(wire[:-1])
    expected = [Whole(number, (content,), DIGEST) for number in range(4)]
    if size > limits.GATHERED:
        assert decoder.next_wholes(9) == []
        return
    assert decoder.next_wholes(2) == expected[:2]
    assert decoder.next_wholes(9) == expected[2:3]
    assert decoder.next_item() is None
    assert decoder.begun
    decoder.feed(wire[-1:])
    assert decoder.next_wholes(9) == []  # it has begun
    item = decoder.next_item()
    assert isinstance(item, Piece)
    assert item.digest is not None
    assert Whole(item.entry, (b"".join(item.chunks),), item.digest) == expected[3]
    before = FrameDecoder(BEFORE_SIGN_IN)
    before.feed(wire)
    assert before.next_wholes(9) == []


def lengthened(wire: bytes, cut: int | None = None) -> tuple[Piece, FrameDecoder]:
    """The first piece of `wire`, or of what comes before `cut`, with those behind it, and the decoder."""
    decoder = FrameDecoder(AFTER_SIGN_IN)
    decoder.feed(wire[:cut])
    piece = decoder.next_item()
    assert isinstance(piece, Piece)
    return decoder.lengthened(piece, limits.FRAMES_PER_TURN), decoder


def test_pieces_of_a_block_are_put_together() -> None:
    """As far as they are all there: the same content, in the same memory, and how many they were."""
    content = bytes(range(256)) * (limits.BLOCK // 256)
    wire = b"".join(data_frames(7, 8, content, DIGEST))
    whole, decoder = lengthened(wire + b"".join(data_frames(7, 9, content, DIGEST)))
    assert (whole.entry, whole.block, whole.length, whole.digest, whole.pieces) == (7, 8, limits.BLOCK, DIGEST, 8)
    assert b"".join(whole.chunks) == content
    assert len({id(chunk.obj) for chunk in whole.chunks}) == 1
    assert decoder.lengthened(whole, 9) is whole  # the next block is another piece
    part, decoder = lengthened(wire, -1)
    assert (part.length, part.digest, part.pieces) == (7 * limits.PIECE, None, 7)
    decoder.feed(wire[-1:])
    rest = decoder.next_item()
    assert isinstance(rest, Piece)
    assert (b"".join((*part.chunks, *rest.chunks)), rest.digest) == (content, DIGEST)
    assert not decoder.begun


@pytest.mark.parametrize(
    ("other", "allowed"),
    [
        (data(b"y", entry=2, flags=0), True),
        (data(b"y", block=3, flags=0), True),
        (frame(FrameType.PING, b"\x90" * 20), True),
        (data(b"y", encoding=3, flags=0), False),
        (data(b"y", flags=2), False),
        (data(b"", flags=0), False),
        (data(b"y" * 31), False),
        (data(bytes(limits.PIECE + 1), flags=0), False),
        (head(0x7F, 20) + bytes(20), False),
    ],
)
def test_what_does_not_go_on_with_a_block_is_left_alone(other: bytes, allowed: bool) -> None:
    """Another block, another type, a violation: it comes next, or is found, as if nothing had been put together."""
    piece, decoder = lengthened(data(b"x" * 10, flags=0) + other)
    assert (b"".join(piece.chunks), piece.pieces, piece.digest) == (b"x" * 10, 1, None)
    assert decoder.buffered == len(other)
    if allowed:
        assert decoder.next_item() is not None
    else:
        with pytest.raises(ProtocolError):
            decoder.next_item()


def test_no_more_pieces_are_put_together_than_a_turn_has() -> None:
    """A megabyte of pieces of one byte is 50,000 of them: they would keep all others waiting, and take 18 MB."""
    decoder = FrameDecoder(AFTER_SIGN_IN)
    decoder.feed(data(b"x", flags=0) * 100)
    found = 0
    while (item := decoder.next_item()) is not None:
        assert isinstance(item, Piece)
        piece = decoder.lengthened(item, 7)
        assert piece.pieces == piece.length == min(7, 100 - found)
        found += piece.pieces
    assert found == 100


def _items(parts: list[bytes], most: int) -> tuple[list[tuple[Any, ...]], str]:
    """What comes out of `parts`, fed one after the other: pieces one by one, and how it ended; `most` 0: the slow way.

    """
    decoder = FrameDecoder(AFTER_SIGN_IN)
    found: list[tuple[Any, ...]] = []
    try:
        for part in parts:
            decoder.feed(part)
            while (item := decoder.next_item()) is not None:
                if not isinstance(item, Piece):
                    found.append((item.type, item.body))
                    continue
                piece = decoder.lengthened(item, most) if most else item
                assert sum(map(len, piece.chunks)) == piece.length
                assert piece.pieces <= max(most, 1)
                content = b"".join(piece.chunks)
                key = (piece.entry, piece.block, piece.encoding)
                if found and found[-1][0] == key and found[-1][2] is None:  # as whoever gets them would see it
                    content, pieces = found[-1][1] + content, found[-1][3] + piece.pieces
                    found[-1] = (key, content, piece.digest, pieces)
                else:
                    found.append((key, content, piece.digest, piece.pieces))
    except ProtocolError as error:
        return found, error.name
    return found, f"{decoder.buffered} left"


@pytest.mark.parametrize("seed", range(40))
def test_pieces_put_together_are_the_same_however_they_come(seed: int) -> None:
    """Any frames, good and bad, split anywhere: what comes out, and where it ends, is what came one by one."""
    chance = random.Random(seed)
    frames = []
    for _ in range(chance.randrange(2, 30)):
        size = chance.choice([0, 1, 2, 31, 32, 33, 100, 100, limits.COPIED, limits.COPIED + 1, limits.PIECE])
        kind = chance.random()
        flags = 2 if kind < 0.01 else int(kind > 0.8)
        where = {"entry": chance.choice([1, 1, 1, 1, 2]), "block": chance.choice([0, 0, 0, 0, 1])}
        frames.append(data(chance.randbytes(size) + DIGEST * bool(flags and kind > 0.82), flags=flags, **where))
        if chance.random() < 0.05:
            frames.append(frame(FrameType.PING, b"\x90"))
        if chance.random() < 0.03:
            frames.append(chance.choice([head(0x7F, 3), head(FrameType.DATA, 2**31), chance.randbytes(9)]))
    wire = b"".join(frames)
    cuts = sorted(chance.randrange(len(wire)) for _ in range(chance.randrange(6)))
    parts = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    slow = _items(parts, 0)
    assert _items(parts, chance.choice([1, 2, 5, limits.FRAMES_PER_TURN])) == slow, seed


_FRAMES = st.one_of(
    st.builds(
        lambda size, entry: data(b"x" * size + DIGEST, entry=entry, block=0), st.integers(1, 40), st.integers(0, 5)
    ),
    st.builds(
        lambda size, *rest: data(b"y" * size + DIGEST, block=rest[0], encoding=rest[1], flags=rest[2]),
        st.integers(0, 40),
        st.integers(0, 1),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    st.builds(lambda size: frame(FrameType.END, b"z" * size), st.integers(0, 40)),
    st.binary(max_size=30),
)


@given(st.lists(_FRAMES, max_size=12), st.lists(st.integers(1, 60)), st.integers(1, 3))
def test_taken_together_or_one_by_one(frames: list[bytes], cuts: list[int], most: int) -> None:
    """The same comes out, and goes wrong, of whatever came in whatever parts."""
    outcomes = []
    for together in (False, True):
        decoder = FrameDecoder(AFTER_SIGN_IN)
        found: list[Any] = []
        wire, sizes = b"".join(frames), iter(cuts)
        try:
            while wire:
                size = next(sizes, 1000)
                decoder.feed(wire[:size])
                wire = wire[size:]
                while (together and (run := decoder.next_wholes(most))) or (item := decoder.next_item()) is not None:
                    if together and run:
                        found += run
                    elif isinstance(item, Frame):
                        found.append(item)
                    elif (item.block, item.encoding) == (0, Encoding.RAW) and item.digest and item.length:
                        found.append(Whole(item.entry, (b"".join(item.chunks),), item.digest))
                    else:
                        found.append((item.entry, item.block, item.encoding, b"".join(item.chunks), item.digest))
            found.append(decoder.buffered)
        except ProtocolError as error:
            found.append(error.name)
        outcomes.append(found)
    assert outcomes[0] == outcomes[1]


def test_what_has_begun_is_known_from_its_header() -> None:
    """Entry and block of a data frame, from the last byte of its header to the last of its content."""
    wire = b"".join(data_frames(7, 5, b"abc", bytes(32)))
    decoder = FrameDecoder(AFTER_SIGN_IN)
    for position in range(len(wire)):
        decoder.feed(wire[position : position + 1])
        item = decoder.next_item()
        begun = HEADER + DATA_HEADER <= position + 1 < len(wire)
        assert decoder.content_begun == ((7, 5) if begun else None)
        assert (item is not None) is (position + 1 == len(wire))


def test_our_own_zero_run() -> None:
    """A zero block is its header and its digest."""
    wire = b"".join(data_frames(7, 8, bytes(limits.BLOCK), DIGEST, zero=True))
    assert len(wire) == HEADER + DATA_HEADER + 32
    check(wire, [(7, 8, Encoding.ZERO, b"", 0, DIGEST)])


def test_content_is_not_copied() -> None:
    """The chunks of a large piece are views of what arrived; those of a small one keep nothing else alive."""
    content = bytes(limits.PIECE)
    arrived = data(content + DIGEST) + data(b"small" + DIGEST)
    decoder = FrameDecoder(AFTER_SIGN_IN)
    decoder.feed(arrived)
    large, small = decoder.next_item(), decoder.next_item()
    assert isinstance(large, Piece)
    assert isinstance(small, Piece)
    assert [chunk.obj for chunk in large.chunks] == [arrived]
    assert [chunk.obj for chunk in small.chunks] == [b"small"]


# -- anything at all ---------------------------------------------------------------------------------------


def _walk(chunks: Iterable[bytes], decoder: FrameDecoder) -> None:
    for chunk in chunks:
        decoder.feed(chunk)
        while decoder.next_item() is not None:
            pass


@given(
    start=st.sampled_from([*AFTER_SIGN_IN, 0x20, 0x40, 0xFF]),
    chunks=st.lists(st.binary(max_size=200), max_size=10),
    length=st.integers(0, 300) | st.integers(0, 2**32 - 1),
)
def test_nothing_but_protocol_errors(start: int, chunks: list[bytes], length: int) -> None:
    """Bytes of any kind: items, or a ProtocolError."""
    decoder = FrameDecoder(AFTER_SIGN_IN)
    failure = ""
    try:
        _walk([head(start, length), *chunks], decoder)
    except ProtocolError as error:
        failure = error.name
    assert failure in ("", "unknown-frame", "frame-too-large", "bad-message", "wrong-state")


def test_memory_of_a_frame_in_single_bytes() -> None:
    """A frame that comes byte by byte is held in less than twice its size, data and control alike."""
    for wire in (head(0x14, 65_536) + bytes(65_535), data(bytes(limits.PIECE) + DIGEST)[:-1]):
        pieces = [wire[i : i + 1] for i in range(len(wire))]
        decoder = FrameDecoder(AFTER_SIGN_IN)
        tracemalloc.start()
        try:
            _walk(pieces, decoder)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert decoder.buffered <= len(wire)
        assert held < 2 * len(wire) + 10_000


def _calls(chunks: list[bytes]) -> int:
    """How many calls, of Python and C functions, decoding takes."""
    count = 0

    def note(_frame: CodeFrame, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    decoder = FrameDecoder(AFTER_SIGN_IN)
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        _walk(chunks, decoder)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_work_is_linear(size: int) -> None:
    """Twice the bytes take twice the calls, not four times, however small the chunks are."""
    one = data(bytes(9_000) + DIGEST) + frame(FrameType.MANIFEST, bytes(9_000)) + frame(FrameType.PING, b"p") * 50

    def work(wire: bytes) -> int:
        return _calls([wire[i : i + size] for i in range(0, len(wire), size)])

    assert work(one * 2) < 2.1 * work(one)
