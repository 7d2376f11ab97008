"""Discovery datagrams: every one that is not exactly as specified is dropped by one error type."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ftx import limits
from ftx.core.identity import SIGN_DISCOVERY
from ftx.disk.keys import Identity, verify
from ftx.errors import ProtocolError
from ftx.wire.announce import (
    Announcement,
    Kind,
    Query,
    ReplyBody,
    SignedReply,
    Way,
    decode,
    encode_announcement,
    encode_query,
    encode_reply,
    fit_name,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "discovery"
IDENTITY = Identity.of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
NONCE = bytes(range(0xA0, 0xB0))
INSTANCE = bytes.fromhex("0123456789abcdef")
QUERY = Query(Way.BROADCAST, NONCE)


def body(**changes: object) -> ReplyBody:
    """A reply like the one of the vectors, with `changes`."""
    fields: dict[str, object] = {
        "way": Way.MULTICAST6,
        "nonce": NONCE,
        "public_raw": IDENTITY.public_raw,
        "instance": INSTANCE,
        "port": 7389,
        "lowest": 1,
        "highest": 2,
        "name": "Küche",
    }
    return ReplyBody(**{**fields, **changes})  # type: ignore[arg-type]


def signed(reply: ReplyBody) -> bytes:
    """`reply` as a datagram."""
    unsigned = encode_reply(reply)
    return unsigned + IDENTITY.sign(SIGN_DISCOVERY, unsigned)


def accepted(data: bytes) -> bool:
    """Whether a client would believe `data` as a reply of this very daemon to this very search."""
    try:
        message = decode(data)
    except ProtocolError:
        return False
    return (
        isinstance(message, SignedReply)
        and message.body.nonce == NONCE
        and verify(message.body.public_raw, SIGN_DISCOVERY, message.signed, message.signature)
    )


def vector(name: str) -> bytes:
    """The datagram in a vector file."""
    lines = (VECTORS / name).read_text("ascii").splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


@pytest.mark.parametrize("way", list(Way))
def test_query_round_trip(way: Way) -> None:
    """A query keeps its way and nonce, in the length that is specified."""
    data = encode_query(Query(way, NONCE))
    assert len(data) == limits.DISCOVERY_QUERY
    assert decode(data) == Query(way, NONCE)


@pytest.mark.parametrize("way", list(Way))
def test_reply_round_trip(way: Way) -> None:
    """A reply keeps every field, and its signature verifies."""
    reply = body(way=way)
    message = decode(signed(reply))
    assert isinstance(message, SignedReply)
    assert message.body == reply
    assert message.signed == encode_reply(reply)
    assert verify(IDENTITY.public_raw, SIGN_DISCOVERY, message.signed, message.signature)


@pytest.mark.parametrize("kind", [Kind.STARTED, Kind.STOPPING])
def test_announcement_round_trip(kind: Kind) -> None:
    """An announcement keeps every field."""
    announcement = Announcement(kind, Way.MULTICAST4, IDENTITY.public_raw, INSTANCE)
    assert decode(encode_announcement(announcement)) == announcement


def test_ways_are_named_as_in_events() -> None:
    """The labels are those of the `via` field."""
    assert [way.label for way in Way] == ["broadcast", "multicast4", "multicast6", "unicast"]


def test_longest_reply_is_no_longer_than_a_query() -> None:
    """Nothing is amplified, whatever the name."""
    for name in ("x" * 64, "é" * 64, "\U0001f600" * 64, "€" * 64, "a" + "\U0001f600" * 63):
        data = signed(body(name=fit_name(name)))
        assert len(data) <= limits.DISCOVERY_QUERY
        assert accepted(data)


def test_every_truncation_is_dropped() -> None:
    """No beginning of a valid datagram is a valid datagram."""
    announcement = encode_announcement(Announcement(Kind.STARTED, Way.BROADCAST, IDENTITY.public_raw, INSTANCE))
    for whole in (encode_query(QUERY), signed(body()), announcement):
        for length in range(len(whole)):
            with pytest.raises(ProtocolError):
                decode(whole[:length])


def test_trailing_bytes_are_dropped() -> None:
    """Nothing may follow a datagram, not even zeros."""
    announcement = encode_announcement(Announcement(Kind.STARTED, Way.BROADCAST, IDENTITY.public_raw, INSTANCE))
    for whole in (encode_query(QUERY), signed(body()), announcement):
        for tail in (b"\0", b"x", bytes(64)):
            with pytest.raises(ProtocolError):
                decode(whole + tail)


def test_no_changed_byte_of_a_reply_is_believed() -> None:
    """Whichever byte of a reply is changed, and however, it is dropped or its signature fails."""
    whole = signed(body())
    assert accepted(whole)
    for place in range(len(whole)):
        for change in (0x01, 0x80, 0xFF):
            data = bytearray(whole)
            data[place] ^= change
            assert not accepted(bytes(data)), place


def test_changed_bytes_of_a_query() -> None:
    """Changing a query gives another way or nonce, or nothing: header and padding are checked."""
    whole = encode_query(QUERY)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0x02
        if place == 6 or 8 <= place < 24:
            message = decode(bytes(data))
            assert isinstance(message, Query)
            assert message != QUERY
        elif place == 5:  # 3, an announcement, of another length
            with pytest.raises(ProtocolError):
                decode(bytes(data))
        else:
            with pytest.raises(ProtocolError):
                decode(bytes(data))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (64, b"\0\0"),
        (66, b"\0"),
        (67, b"\0"),
        (66, b"\x03"),
        (68, b"\0"),
        (68, b"\xff"),
        (69, b"\xff"),
        (5, b"\x05"),
        (5, b"\x06"),
        (6, b"\0"),
        (6, b"\x05"),
        (7, b"\x01"),
        (4, b"\x02"),
    ],
)
def test_fields_out_of_range_are_dropped(place: int, value: bytes) -> None:
    """Port 0, an empty range of versions, a name that is none, reserved values."""
    data = bytearray(signed(body()))
    data[place : place + len(value)] = value
    with pytest.raises(ProtocolError):
        decode(bytes(data))


def test_too_many_characters_are_dropped() -> None:
    """A name of more than 64 characters is dropped though its bytes would fit."""
    fits = bytearray(encode_reply(body(name="n" * 64)))
    fits[68] = 65
    with pytest.raises(ProtocolError):
        decode(bytes(fits) + b"n" + bytes(64))


@pytest.mark.parametrize("length", [0, 1, 7, 1_471, 65_507])
def test_I137_sizes(length: int) -> None:
    """Datagrams of any size are dropped."""
    for filler in (b"\0", b"\xe6", b"x"):
        with pytest.raises(ProtocolError):
            decode(filler * length)


@given(st.binary(max_size=600))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    """Random bytes never get in, and only one error comes out."""
    with pytest.raises(ProtocolError):
        decode(data)


@given(
    st.sampled_from(["query", "reply", "announcement"]),
    st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=6),
    st.integers(0, 520),
)
def test_mangled_datagrams_raise_nothing_else(which: str, changes: list[tuple[int, int]], length: int) -> None:
    """A datagram with some bytes changed and the end cut off decodes or raises ProtocolError."""
    whole = {
        "query": encode_query(QUERY),
        "reply": signed(body()),
        "announcement": encode_announcement(
            Announcement(Kind.STOPPING, Way.BROADCAST, IDENTITY.public_raw, INSTANCE)
        ),
    }[which]
    data = bytearray(whole[: length if length < len(whole) else None])
    for place, value in changes:
        if place < len(data):
            data[place] = value
    try:
        message = decode(bytes(data))
    except ProtocolError:
        return
    assert isinstance(message, Query | SignedReply | Announcement)


@given(st.text(max_size=300))
def test_every_name_can_be_made_fit(name: str) -> None:
    """Whatever a host is called, its daemon can answer."""
    fit = fit_name(name)
    assert accepted(signed(body(name=fit)))


def test_fit_name() -> None:
    """Names are cut between characters; an empty one gets a stand-in."""
    assert fit_name("laptop") == "laptop"
    assert fit_name("  laptop ") == "laptop"
    assert fit_name("") == "unnamed"
    assert fit_name("x" * 100) == "x" * 64
    assert fit_name("\U0001f600" * 100) == "\U0001f600" * 63
    assert fit_name("a\udc80b") == "a?b"


@pytest.mark.parametrize(
    "changes",
    [
        {"port": 0},
        {"port": 65536},
        {"lowest": 0},
        {"lowest": 2, "highest": 1},
        {"highest": 256},
        {"name": ""},
        {"name": "x" * 65},
        {"name": "\U0001f600" * 64},
        {"nonce": b"short"},
        {"public_raw": b""},
        {"instance": bytes(9)},
    ],
)
def test_wrong_fields_are_our_mistake(changes: dict[str, object]) -> None:
    """What could not be decoded is not encoded."""
    with pytest.raises(ValueError, match=r"."):
        encode_reply(body(**changes))


def test_wrong_announcements_and_queries_are_our_mistake() -> None:
    """Nor are other kinds as announcements, or nonces of another length."""
    with pytest.raises(ValueError, match="kind"):
        encode_announcement(Announcement(Kind.QUERY, Way.BROADCAST, IDENTITY.public_raw, INSTANCE))
    with pytest.raises(ValueError, match="nonce"):
        encode_query(Query(Way.BROADCAST, b""))


def test_vectors() -> None:
    """The datagrams of the specification, byte by byte."""
    assert vector("query.hex") == encode_query(QUERY)
    assert vector("reply.hex") == signed(body())
    started = Announcement(Kind.STARTED, Way.BROADCAST, IDENTITY.public_raw, INSTANCE)
    stopping = Announcement(Kind.STOPPING, Way.MULTICAST4, IDENTITY.public_raw, INSTANCE)
    assert vector("started.hex") == encode_announcement(started)
    assert vector("stopping.hex") == encode_announcement(stopping)
    assert accepted(vector("reply.hex"))


@pytest.mark.parametrize("name", sorted(path.name for path in VECTORS.glob("bad-*.hex")))
def test_bad_vectors(name: str) -> None:
    """The invalid datagrams are dropped, one of them only because of its signature."""
    data = vector(name)
    assert not accepted(data)
    if name == "bad-signature.hex":
        assert isinstance(decode(data), SignedReply)
    else:
        with pytest.raises(ProtocolError):
            decode(data)
