"""ICMP echo: packets built and taken apart, for IPv4 (RFC 792) and IPv6 (RFC 4443). Nothing here sees a socket.

An echo request goes out with an identifier and a number, and comes back as a reply with the same; or an error comes
that quotes the beginning of the packet which caused it, and so the same two. Whatever `decode_icmp()` is given, it
returns what it has understood, or None.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Final

import attrs

__all__ = [
    "ECHO_HEADER",
    "IP_HEADER",
    "EchoReply",
    "Unreached",
    "checksum",
    "decode_icmp",
    "encode_echo",
    "pseudo_header",
]

#: Bytes of the ICMP header of an echo, and of the IP header before it, by version.
ECHO_HEADER: Final = 8
IP_HEADER: Final = {4: 20, 6: 40}
_ICMP: Final = {4: 1, 6: 58}
_REQUEST: Final = {4: 8, 6: 128}
_REPLY: Final = {4: 0, 6: 129}
#: (type, code) of the errors that mean something to us; a code of -1 stands for all others.
_ERRORS: Final = {
    4: {
        (3, 4): "too-big",
        (3, 0): "no-route",
        (3, 1): "no-host",
        (3, 9): "forbidden",
        (3, 10): "forbidden",
        (3, 13): "forbidden",
        (3, -1): "unreachable",
        (11, -1): "too-far",
    },
    6: {
        (2, 0): "too-big",
        (1, 0): "no-route",
        (1, 3): "no-host",
        (1, 1): "forbidden",
        (1, 5): "forbidden",
        (1, 6): "forbidden",
        (1, -1): "unreachable",
        (3, -1): "too-far",
    },
}


@attrs.frozen
class EchoReply:
    """Somebody answered."""

    identifier: int
    sequence: int
    payload: bytes


@attrs.frozen
class Unreached:
    """Somebody on the way says why an echo did not arrive.

    `why` is `too-big` (then `mtu` is the size that would pass, 0 if it was not said), `no-route`, `no-host`,
    `forbidden`, `unreachable` or `too-far`.
    """

    why: str
    identifier: int
    sequence: int
    mtu: int = 0


def checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071: over data that contains its own, it is 0."""
    padded = data + b"\0" if len(data) % 2 else data
    total = sum(int.from_bytes(padded[place : place + 2], "big") for place in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(source: IPv6Address, destination: IPv6Address, length: int) -> bytes:
    """What the checksum of an ICMPv6 message of `length` bytes counts besides the message (RFC 8200, section 8.1)."""
    return source.packed + destination.packed + length.to_bytes(4, "big") + bytes(3) + bytes([_ICMP[6]])


def encode_echo(version: int, identifier: int, sequence: int, payload: bytes, *, counted: bytes = b"") -> bytes:
    """An echo request for IP `version`; identifier and sequence are 16 bits.

    `counted` is the pseudo-header for IPv6. A socket's kernel computes that checksum itself (RFC 3542, section 3.1), so
    without it the field is left 0.
    """
    rest = identifier.to_bytes(2, "big") + sequence.to_bytes(2, "big") + payload
    head = bytes([_REQUEST[version], 0])
    sum_of = 0 if version == 6 and not counted else checksum(counted + head + b"\0\0" + rest)
    return head + sum_of.to_bytes(2, "big") + rest


def decode_icmp(version: int, data: bytes, *, ip_header: bool = False) -> EchoReply | Unreached | None:
    """What an ICMP message says, if it is about an echo; None for everything else.

    `ip_header`: an IPv4 header stands before it, as raw sockets deliver it; then the checksum is verified as well. (For
    IPv6 the kernel has done both.)
    """
    if ip_header:
        inner = _behind_ip(version, data)
        if inner is None or checksum(inner):
            return None
        data = inner
    if len(data) < ECHO_HEADER:
        return None
    if data[0] == _REPLY[version] and data[1] == 0:
        return EchoReply(int.from_bytes(data[4:6], "big"), int.from_bytes(data[6:8], "big"), data[ECHO_HEADER:])
    errors = _ERRORS[version]
    why = errors.get((data[0], data[1])) or errors.get((data[0], -1))
    if why is None:
        return None
    quoted = _behind_ip(version, data[ECHO_HEADER:])
    if quoted is None or len(quoted) < ECHO_HEADER or quoted[0] != _REQUEST[version]:
        return None
    mtu = int.from_bytes(data[6:8] if version == 4 else data[4:8], "big") if why == "too-big" else 0
    return Unreached(why, int.from_bytes(quoted[4:6], "big"), int.from_bytes(quoted[6:8], "big"), mtu)


def _behind_ip(version: int, packet: bytes) -> bytes | None:
    """What is behind the IP header of an ICMP packet; None if it is no such packet."""
    if len(packet) < IP_HEADER[version] or packet[0] >> 4 != version:
        return None
    if version == 6:
        return packet[IP_HEADER[6] :] if packet[6] == _ICMP[6] else None
    length = (packet[0] & 0x0F) * 4
    if length < IP_HEADER[4] or packet[9] != _ICMP[4]:
        return None
    return packet[length:]
