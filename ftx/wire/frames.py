"""Frames: the length-prefixed units of the transfer protocol (`docs/protocol.md`, section 2).

`FrameDecoder` turns bytes into `Frame` (a control body, whole) and `Piece` (part of a block, as the views in which it
arrived: content is never joined). It is asked for one item at a time, because what is allowed next may depend on the
item just handled: the owner changes `bounds` when the stage changes. A frame's length is compared with its bound as
soon as the five header bytes are there, before anything is buffered for it.

This is the only module that uses `struct`, and longer than others for it: what is written here is read here, each in
one way that is general and one for what nearly always comes.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final

from msgspec import Struct

from ftx import limits
from ftx.errors import ProtocolError
from ftx.wire.buffer import ReceiveBuffer

__all__ = [
    "AFTER_SIGN_IN",
    "BEFORE_SIGN_IN",
    "DATA_HEADER",
    "HEADER",
    "WHILE_ASKING",
    "WHILE_PAIRING",
    "Encoding",
    "Frame",
    "FrameDecoder",
    "FrameType",
    "Piece",
    "Whole",
    "after_sign_in",
    "copied",
    "copy_frame",
    "data_frames",
    "data_head",
    "encodings",
    "feature_of",
    "frame",
]


class FrameType(IntEnum):
    """The frame types (section 4). Reserved types are unknown until their feature is built."""

    HELLO = 0x01
    ERROR = 0x02
    GOODBYE = 0x03
    PING = 0x04
    PONG = 0x05
    OFFER = 0x10
    ACCEPT = 0x11
    REFUSE = 0x12
    TOTALS = 0x13
    MANIFEST = 0x14
    NEEDS = 0x15
    DATA = 0x16
    ENTRY_FAILED = 0x17
    ENTRY_END = 0x18
    RESULTS = 0x19
    PROGRESS = 0x1A
    END = 0x1B
    RECEIPT = 0x1C
    BASIS = 0x1D
    PAUSE = 0x20
    RESUME = 0x21
    CANCEL = 0x22
    WAITING = 0x23
    REVEAL = 0x24
    JOIN = 0x30
    JOINED = 0x31
    PAIR_START = 0x40
    PAIR_REPLY = 0x41
    PAIR_CONFIRM = 0x42
    PAIR_DONE = 0x43
    LIST = 0x50
    LISTING = 0x51
    REQUEST = 0x52
    OMITTED = 0x53
    PROBE = 0x60
    PROBE_READY = 0x61
    PROBE_END = 0x62
    PROBE_DONE = 0x63


class Encoding(IntEnum):
    """How the piece of a data frame stands for content (section 2)."""

    RAW = 0
    ZERO = 1
    COPY = 2
    ZSTD = 3


_HEADER: Final = struct.Struct(">IB")
_DATA: Final = struct.Struct(">IQBB")
_COPY: Final = struct.Struct(">QQ")
_BOTH: Final = struct.Struct(">IBIQBB")
#: The same, with all but length, type and entry left as they are.
_SMALL: Final = struct.Struct(">IBI10s")
#: Bytes of a frame header, and of the fixed header of a data body.
HEADER: Final = _HEADER.size
DATA_HEADER: Final = _DATA.size
_LAST: Final = 0x01
_DATA_TYPE: Final = int(FrameType.DATA)
#: What the headers say of a block 0 that comes in one piece, and how long its body is when it is small.
_PLAIN: Final = _DATA.pack(0, 0, Encoding.RAW, _LAST)[4:]
_GATHERED: Final = range(DATA_HEADER + limits.DIGEST + 1, DATA_HEADER + limits.GATHERED + limits.DIGEST + 1)
_PIECE_BOUND: Final = DATA_HEADER + limits.PIECE + limits.DIGEST
_BATCHES: Final = frozenset(
    {FrameType.BASIS, FrameType.MANIFEST, FrameType.NEEDS, FrameType.RESULTS, FrameType.LISTING, FrameType.OMITTED}
)

#: Bytes allowed in the body of each frame type that may come before the peer is signed in ...
BEFORE_SIGN_IN: Final[Mapping[int, int]] = {
    FrameType.HELLO: limits.FRAME_BEFORE_SIGN_IN,
    FrameType.ERROR: limits.FRAME_BEFORE_SIGN_IN,
}
_PAIRING: Final = frozenset(
    {FrameType.PAIR_START, FrameType.PAIR_REPLY, FrameType.PAIR_CONFIRM, FrameType.PAIR_DONE}
)
#: ... while two peers pair, which are not signed in either (section 15) ...
WHILE_PAIRING: Final[Mapping[int, int]] = dict.fromkeys(
    {FrameType.ERROR, FrameType.GOODBYE} | _PAIRING, limits.FRAME_PAIRING
)
#: ... while somebody who is not known here asks for approval (section 18), and nothing of a job has been accepted ...
WHILE_ASKING: Final[Mapping[int, int]] = dict.fromkeys(
    {
        FrameType.ERROR,
        FrameType.GOODBYE,
        FrameType.PING,
        FrameType.PONG,
        FrameType.OFFER,
        FrameType.TOTALS,
        FrameType.REVEAL,
    },
    limits.FRAME_BEFORE_SIGN_IN,
)
#: Frame types that may only be sent where both hellos listed this feature (section 12).
_FEATURES: Final[Mapping[FrameType, str]] = {
    FrameType.BASIS: "delta",
    **dict.fromkeys((FrameType.PAUSE, FrameType.RESUME, FrameType.CANCEL), "steer"),
    **dict.fromkeys(_PAIRING, "pairing"),
    **dict.fromkeys((FrameType.LIST, FrameType.LISTING, FrameType.REQUEST, FrameType.OMITTED), "pull"),
    **dict.fromkeys((FrameType.WAITING, FrameType.REVEAL), "approval"),
    **dict.fromkeys((FrameType.JOIN, FrameType.JOINED), "lanes"),
    **dict.fromkeys(
        (FrameType.PROBE, FrameType.PROBE_READY, FrameType.PROBE_END, FrameType.PROBE_DONE), "probe"
    ),
}


#: Encodings that need one, too.
_ENCODINGS: Final[Mapping[Encoding, str]] = {Encoding.COPY: "delta", Encoding.ZSTD: "zstd"}


def encodings(features: Collection[str]) -> frozenset[Encoding]:
    """The encodings of data frames that may be used when these features were agreed."""
    return frozenset(kind for kind in Encoding if _ENCODINGS.get(kind, "") in ("", *features))


def feature_of(kind: FrameType) -> str:
    """The feature without which frames of this type must not be sent; empty when it needs none."""
    return _FEATURES.get(kind, "")


def _bound(kind: FrameType) -> int:
    if kind is FrameType.DATA:
        return _PIECE_BOUND
    return limits.FRAME_BATCH if kind in _BATCHES else limits.FRAME_CONTROL


#: ... and after, when no feature was agreed.
AFTER_SIGN_IN: Final[Mapping[int, int]] = {kind: _bound(kind) for kind in FrameType if kind not in _FEATURES}


def after_sign_in(features: Collection[str]) -> Mapping[int, int]:
    """The bounds after sign-in when these features were agreed. Who is signed in does not pair on that connection."""
    return _after_sign_in(frozenset(features)) if features else AFTER_SIGN_IN


@lru_cache(maxsize=len(_FEATURES))  # what was agreed is ours, too, so there are few, and mostly one
def _after_sign_in(features: frozenset[str]) -> Mapping[int, int]:
    return {
        kind: _bound(kind)
        for kind in FrameType
        if kind not in _PAIRING and (kind not in _FEATURES or _FEATURES[kind] in features)
    }


class Frame(Struct, frozen=True, gc=False):
    """A control frame: its type and its whole body."""

    type: FrameType
    body: bytes


class Piece(Struct, frozen=True, gc=False, eq=False):
    """A data frame: part of block `block` of entry `entry`. `digest` is the block's, in its last piece only.

    `pieces` is how many such frames it is, where several that follow each other were put together.
    """

    entry: int
    block: int
    encoding: Encoding
    chunks: Sequence[memoryview]
    length: int
    digest: bytes | None
    pieces: int = 1


class Whole(Struct, frozen=True, gc=False):
    """A file of one block: its content, in pieces, and its block digest as the sender states it.

    From the decoder, which makes it of a data frame with all of a small file in one piece, to the disk it stays one.
    """

    number: int
    chunks: Sequence[bytes | memoryview]
    digest: bytes


def frame(kind: FrameType, body: bytes) -> bytes:
    """The bytes of one control frame."""
    return _HEADER.pack(len(body), kind) + body


def data_head(entry: int, block: int, length: int, encoding: Encoding | int = 0) -> bytes:
    """What stands before a block that is sent in one piece, of `length` bytes; behind that is its digest."""
    return _BOTH.pack(DATA_HEADER + length + limits.DIGEST, _DATA_TYPE, entry, block, encoding, _LAST)


def data_frames(
    entry: int,
    block: int,
    content: bytes | memoryview,
    digest: bytes,
    *,
    zero: bool = False,
    encoding: Encoding = Encoding.RAW,
) -> list[bytes | memoryview]:
    """One block as data frames, in pieces to be joined or written in order; `content` is not copied.

    With `zero` the block is sent as a zero run: its digest travels, its bytes do not. `encoding` says what `content`
    is.
    """
    if zero or not content:
        encoding = Encoding.ZERO if zero else encoding
        head = _HEADER.pack(DATA_HEADER + len(digest), FrameType.DATA)
        return [head, _DATA.pack(entry, block, encoding, _LAST), digest]
    if len(content) <= limits.PIECE:
        return [data_head(entry, block, len(content), encoding), content, digest]
    view = memoryview(content)
    out: list[bytes | memoryview] = []
    for start in range(0, len(view), limits.PIECE):
        piece = view[start : start + limits.PIECE]
        last = start + limits.PIECE >= len(view)
        length = DATA_HEADER + len(piece) + (len(digest) if last else 0)
        head = _HEADER.pack(length, FrameType.DATA) + _DATA.pack(entry, block, encoding, _LAST if last else 0)
        out += (head, piece)
    out.append(digest)
    return out


def copy_frame(entry: int, block: int, offset: int, length: int, digest: bytes) -> bytes:
    """The data frame that says: this block is the `length` bytes at `offset` of the older copy (feature `delta`)."""
    body = _DATA.pack(entry, block, Encoding.COPY, _LAST) + _COPY.pack(offset, length) + digest
    return _HEADER.pack(len(body), FrameType.DATA) + body


def copied(piece: Piece) -> tuple[int, int]:
    """Offset and length in the older copy, of a piece whose encoding is COPY."""
    offset, length = _COPY.unpack(b"".join(piece.chunks))
    return offset, length


def _wholes(data: bytes, at: int, most: int, found: list[Whole]) -> int:
    """Add the small files that follow each other in `data` from `at` on to `found`, up to `most`; where they end."""
    unpack, headers, tail, size = _SMALL.unpack_from, _SMALL.size, limits.DIGEST, len(data)
    while size - at >= headers and len(found) < most:
        length, kind, entry, plain = unpack(data, at)
        end = at + HEADER + length
        if end > size or plain != _PLAIN or kind != _DATA_TYPE or length not in _GATHERED:
            break
        digest = end - tail
        found.append(Whole(entry, (data[at + headers : digest],), data[digest:end]))
        at = end
    return at


class FrameDecoder:
    """Bytes in, frames out.

    `feed()` adds bytes, `next_item()` gives the next complete item or None. A violation raises ProtocolError
    (`unknown-frame`, `frame-too-large`, `bad-message`); the decoder is of no further use then.
    """

    def __init__(self, bounds: Mapping[int, int] = BEFORE_SIGN_IN) -> None:
        #: Bytes allowed per frame type; a type that is not in it is refused. May be replaced between items.
        self.bounds = bounds
        #: The encodings of content that are understood. May be replaced, too.
        self.encodings = encodings(())
        self._buffer = ReceiveBuffer()
        self._type: FrameType | None = None
        self._length = 0
        self._data: tuple[int, int, Encoding, bool] | None = None

    @property
    def buffered(self) -> int:
        """Bytes held back because what they belong to is not complete."""
        return len(self._buffer)

    @property
    def begun(self) -> bool:
        """Whether a frame is under way: its first byte has come, its last has not."""
        return self._type is not None or len(self._buffer) > 0

    @property
    def content_begun(self) -> tuple[int, int] | None:
        """Entry and block of the data frame under way, once its header has come."""
        return None if self._data is None else self._data[:2]

    def feed(self, data: bytes) -> None:
        """Add bytes as they came from the transport."""
        self._buffer.append(data)

    def feed_all(self, parts: Iterable[bytes]) -> None:
        """Add what came from the transport at once."""
        self._buffer.extend(parts)

    def clear(self) -> None:
        """Forget everything that was fed."""
        self._buffer.clear()

    def next_item(self) -> Frame | Piece | None:
        """The next frame, or None when more bytes are needed."""
        if self._type is None:
            head = self._buffer.take(HEADER)
            if head is None:
                return None
            self._begin(*_HEADER.unpack(head))
        if self._type is FrameType.DATA:
            return self._next_piece()
        body = self._buffer.take(self._length)
        if body is None:
            return None
        kind, self._type = self._type, None
        return Frame(kind, body) if kind is not None else None

    def next_wholes(self, most: int) -> list[Whole]:
        """The blocks 0 of at most `limits.GATHERED` bytes that come next, each complete in one data frame, as it is.

        They are what `next_item` would give one by one. Whatever is different, or not all there, is left to it.
        """
        found: list[Whole] = []
        if self._type is not None or FrameType.DATA not in self.bounds:
            return found
        buffer = self._buffer
        while len(found) < most:
            data, at = buffer.first()
            buffer.skip(_wholes(data, at, most, found) - at)
            # The next one may go over the end of the chunk.
            if len(found) == most or (head := buffer.peek(_SMALL.size)) is None:
                break
            length, kind, _, plain = _SMALL.unpack(head)
            if kind != _DATA_TYPE or plain != _PLAIN or length not in _GATHERED:
                break
            joined = buffer.take(HEADER + length)
            if joined is None:
                break
            _wholes(joined, 0, most, found)
        return found

    def lengthened(self, piece: Piece, most: int) -> Piece:
        """`piece`, which `next_item` has just given, with the pieces of the same block that have come behind it, in
        all at most `most`.

        They are what `next_item` would give one by one. Whatever is different, or not all there, is left to it.
        """
        if piece.digest is not None or self._type is not None:
            return piece
        buffer, same = self._buffer, (FrameType.DATA, piece.entry, piece.block, piece.encoding)
        chunks, size, pieces = list(piece.chunks), piece.length, piece.pieces
        digest = None
        while digest is None and pieces < most and (head := buffer.peek(_BOTH.size)) is not None:
            length, kind, entry, block, encoding, flags = _BOTH.unpack_from(head)
            content = length - DATA_HEADER - (limits.DIGEST if flags else 0)
            fits = 0 < content <= limits.PIECE and HEADER + length <= len(buffer)
            if (kind, entry, block, encoding) != same or flags not in (0, _LAST) or not fits:
                break
            buffer.take(_BOTH.size)
            chunks += self._content(content)
            size += content
            pieces += 1
            digest = buffer.take(limits.DIGEST) if flags else None
        return Piece(piece.entry, piece.block, piece.encoding, chunks, size, digest, pieces)

    def _begin(self, length: int, number: int) -> None:
        bound = self.bounds.get(number)
        if bound is None:
            known = number in FrameType.__members__.values()
            raise ProtocolError(
                "wrong-state" if known else "unknown-frame",
                f"a frame of type {number:#04x} is not allowed here",
            )
        if length > bound:
            raise ProtocolError("frame-too-large", f"a frame of {length:,} bytes came where {bound:,} are allowed")
        self._type = FrameType(number)
        self._length = length

    def _next_piece(self) -> Piece | None:
        if self._data is None:
            head = self._buffer.take(DATA_HEADER) if self._length >= DATA_HEADER else b""
            if head is None:
                return None
            self._begin_piece(head)
        if self._data is None or len(self._buffer) < self._length - DATA_HEADER:
            return None
        entry, block, encoding, last = self._data
        self._type = self._data = None
        content = self._length - DATA_HEADER - (limits.DIGEST if last else 0)
        chunks = self._content(content)
        return Piece(entry, block, encoding, chunks, content, self._buffer.take(limits.DIGEST) if last else None)

    def _content(self, length: int) -> Sequence[memoryview]:
        """The next `length` bytes. A view keeps all that it came with alive: what is small is copied out of it."""
        if length > limits.COPIED:
            return self._buffer.take_views(length)
        content = self._buffer.take(length)
        return [memoryview(content)] if content else []

    def _begin_piece(self, head: bytes) -> None:
        if len(head) < DATA_HEADER:
            raise ProtocolError("bad-message", "a data frame was shorter than its header")
        entry, block, encoding, flags = _DATA.unpack(head)
        content = self._length - DATA_HEADER - (limits.DIGEST if flags & _LAST else 0)
        if encoding not in self.encodings or flags & ~_LAST:
            raise ProtocolError("bad-message", "a data frame had an unknown encoding or flag")
        if not 0 <= content <= limits.PIECE:
            raise ProtocolError("bad-message", "a data frame had a piece of a wrong length")
        if encoding == Encoding.ZERO and (content or not flags & _LAST):
            raise ProtocolError("bad-message", "a zero run carried content, or no digest")
        if encoding == Encoding.COPY and (content != _COPY.size or not flags & _LAST):
            raise ProtocolError("bad-message", "a copy did not say from where, or had no digest")
        if content == 0 and not flags & _LAST:
            raise ProtocolError("bad-message", "a data frame carried nothing")
        self._data = (entry, block, Encoding(encoding), bool(flags & _LAST))
