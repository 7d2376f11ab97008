"""One checker for every decoder case: whole, byte by byte, cut at every point, cut short, and with bytes behind it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ftx.errors import ProtocolError
from ftx.wire.frames import AFTER_SIGN_IN, FrameDecoder, Piece, encodings
from ftx.wire.messages import Message, Ping, decode, encode

__all__ = ["Item", "Outcome", "check", "outcome", "plain"]

#: A message, or a piece as a tuple that compares: entry, block, encoding, content, length, digest.
Item = Message | tuple[int, int, int, bytes, int, bytes | None]
#: What a stream of bytes decodes to, and the name of the error at which it ended, if it did.
Outcome = tuple[list[Item], str | None]

#: Up to this many bytes a case is cut at every point; beyond, at points drawn with the seed below.
_EVERY_POINT = 300
_SAMPLES = 24


def plain(piece: Piece) -> Item:
    """A piece in a form that compares."""
    return (piece.entry, piece.block, piece.encoding, b"".join(piece.chunks), piece.length, piece.digest)


def outcome(
    chunks: Iterable[bytes], bounds: Mapping[int, int] = AFTER_SIGN_IN, features: Sequence[str] = ()
) -> Outcome:
    """Feed the chunks one by one, taking what is complete after each; `features` say which encodings are known."""
    decoder = FrameDecoder(bounds)
    decoder.encodings = encodings(features)
    items: list[Item] = []
    try:
        for chunk in chunks:
            decoder.feed(chunk)
            while (item := decoder.next_item()) is not None:
                items.append(plain(item) if isinstance(item, Piece) else decode(item))
    except ProtocolError as error:
        return items, error.name
    return items, None


def check(
    wire: bytes,
    expected: Sequence[Item],
    error: str | None = None,
    bounds: Mapping[int, int] = AFTER_SIGN_IN,
    features: Sequence[str] = (),
) -> None:
    """Assert that `wire` decodes to `expected`, then fails with `error` (None: does not), however it is cut."""
    wanted: Outcome = (list(expected), error)
    assert outcome([wire], bounds, features) == wanted, "whole"
    assert outcome((wire[i : i + 1] for i in range(len(wire))), bounds, features) == wanted, "byte by byte"
    for cut in _cuts(len(wire)):
        assert outcome([wire[:cut], wire[cut:]], bounds, features) == wanted, f"cut at {cut}"
        items, failure = outcome([wire[:cut]], bounds, features)
        assert items == wanted[0][: len(items)], f"cut short at {cut}"
        assert failure in (None, error), f"cut short at {cut}"
        if error is None and cut < len(wire):
            assert len(items) < len(expected), f"cut short at {cut}: complete too early"
    if error is None and bounds is AFTER_SIGN_IN:
        more = outcome([wire + encode(Ping(7)) + b"\x00\x00"], bounds, features)
        assert more == ([*expected, Ping(7)], None), "more behind"
    elif error is not None:
        assert outcome([wire + bytes(64)], bounds, features) == wanted, "more behind"


def _cuts(length: int) -> Iterator[int]:
    if length <= _EVERY_POINT:
        yield from range(1, length)
    else:
        yield from sorted(random.Random(length).sample(range(1, length), _SAMPLES))
