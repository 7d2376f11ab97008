"""ICMP: checksums, echoes and errors, by the examples of the RFCs and by packets put together by hand."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftx.wire.icmp import EchoReply, Unreached, checksum, decode_icmp, encode_echo, pseudo_header


def ip4(body: bytes, *, options: int = 0, protocol: int = 1) -> bytes:
    """A packet with an IPv4 header."""
    return bytes([0x45 + options, 0, 0, 0, 0, 0, 0, 0, 64, protocol]) + bytes(10 + 4 * options) + body


def ip6(body: bytes, *, following: int = 58) -> bytes:
    """A packet with an IPv6 header."""
    return bytes([0x60, 0, 0, 0, 0, len(body), following, 64]) + bytes(32) + body


def message(kind: int, code: int, rest: bytes) -> bytes:
    """An ICMPv4 message with its checksum."""
    return bytes([kind, code]) + checksum(bytes([kind, code, 0, 0]) + rest).to_bytes(2, "big") + rest


def test_the_example_of_rfc_1071() -> None:
    """Section 3: the sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2; the checksum is its complement."""
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert checksum(data) == 0xFFFF - 0xDDF2
    assert checksum(data + checksum(data).to_bytes(2, "big")) == 0
    assert checksum(b"") == 0xFFFF
    assert checksum(b"\x01") == checksum(b"\x01\x00"), "an odd byte is filled up"


@given(st.binary(max_size=200))
def test_a_checksum_verifies_itself(data: bytes) -> None:
    """Over data and its own checksum the sum is 0, at an even place."""
    even = data + b"\0" * (len(data) % 2)
    assert checksum(even + checksum(even).to_bytes(2, "big")) == 0


def test_an_echo_as_ping_sends_it() -> None:
    """RFC 792: type 8, code 0, checksum, identifier, number, data."""
    packet = encode_echo(4, 0x1234, 1, b"abcdefgh")
    assert packet == bytes.fromhex("0800" "5435" "1234" "0001") + b"abcdefgh"
    assert checksum(packet) == 0


def test_an_echo_of_version_6_counts_the_addresses() -> None:
    """RFC 4443, section 2.3; without them the field is left to the kernel."""
    one, other = IPv6Address("fe80::1"), IPv6Address("fe80::2")
    counted = pseudo_header(one, other, 12)
    assert counted == one.packed + other.packed + bytes.fromhex("0000000c" "0000003a")
    packet = encode_echo(6, 7, 9, b"data", counted=counted)
    assert packet[:2] == b"\x80\x00"
    assert checksum(counted + packet) == 0
    assert encode_echo(6, 7, 9, b"data") == packet[:2] + b"\0\0" + packet[4:]


def test_replies() -> None:
    """Of both versions, with and without an IP header, with options in it."""
    reply = message(0, 0, bytes.fromhex("12340001") + b"data")
    expected = EchoReply(0x1234, 1, b"data")
    assert decode_icmp(4, reply) == expected
    assert decode_icmp(4, ip4(reply), ip_header=True) == expected
    assert decode_icmp(4, ip4(reply, options=2), ip_header=True) == expected
    assert decode_icmp(6, b"\x81\x00\xff\xff" + reply[4:]) == expected


@pytest.mark.parametrize(
    "data",
    [
        ip4(message(0, 0, bytes(4)) + b"x"),
        ip4(message(0, 0, bytes(4)), protocol=17),
        b"\x65" + ip4(message(0, 0, bytes(4)))[1:],
        b"\x44" + ip4(message(0, 0, bytes(4)))[1:],
        ip4(b"")[:19],
        ip4(b"\0\0\xff\xff"),
    ],
    ids=["checksum", "protocol", "version", "header", "cut", "short"],
)
def test_what_is_no_reply_of_version_4(data: bytes) -> None:
    """A broken checksum, another protocol, a header that is none."""
    assert decode_icmp(4, data, ip_header=True) is None


def test_too_large_says_what_would_do() -> None:
    """RFC 1191, section 4, and RFC 4443, section 3.2; both quote the packet that was too large."""
    quoted = ip4(encode_echo(4, 5, 6, b"x" * 100))
    assert decode_icmp(4, message(3, 4, bytes.fromhex("0000" "05a0") + quoted[:28])) == Unreached("too-big", 5, 6, 1440)
    six = ip6(encode_echo(6, 5, 6, b"x" * 100))
    assert decode_icmp(6, b"\x02\x00\0\0" + (1280).to_bytes(4, "big") + six) == Unreached("too-big", 5, 6, 1280)


@pytest.mark.parametrize(
    ("version", "kind", "code", "why"),
    [
        (4, 3, 0, "no-route"), (4, 3, 1, "no-host"), (4, 3, 13, "forbidden"), (4, 3, 3, "unreachable"),
        (4, 11, 0, "too-far"), (6, 1, 0, "no-route"), (6, 1, 3, "no-host"), (6, 1, 1, "forbidden"),
        (6, 1, 4, "unreachable"), (6, 3, 0, "too-far"),
    ],
)  # fmt: skip
def test_errors(version: int, kind: int, code: int, why: str) -> None:
    """Each says which echo it is about."""
    quoted = (ip4 if version == 4 else ip6)(encode_echo(version, 1, 2, b""))
    assert decode_icmp(version, message(kind, code, bytes(4) + quoted)) == Unreached(why, 1, 2)
    assert decode_icmp(version, message(kind, code, bytes(4) + quoted[:-1])) is None, "the quotation is cut"
    other = (ip4 if version == 4 else ip6)(b"\x00" + bytes(7))
    assert decode_icmp(version, message(kind, code, bytes(4) + other)) is None, "it quotes no request"


@given(st.sampled_from([4, 6]), st.binary(max_size=120), st.booleans())
def test_anything_at_all(version: int, data: bytes, ip_header: bool) -> None:
    """Is understood or is not; nothing is raised."""
    assert decode_icmp(version, data, ip_header=ip_header) is None or len(data) >= 8
