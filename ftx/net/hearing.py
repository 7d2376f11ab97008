"""Whether what this machine sends to everybody on a link is heard there: its own packet, heard by itself. It blocks.

The kernel hands broadcasts and multicasts of its own back to every socket of the machine that they are for, through the
firewall's rules for what comes in. So a packet that is not heard back was not sent, or was dropped here. The socket
that listens is bound to the broadcast address or the group itself: no datagram for anybody else can reach it.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import select
import socket
import sys
import time
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

import attrs

from ftx import limits
from ftx.core.discovery import Destination, Interface, destinations
from ftx.wire.announce import NONCE_BYTES, Query, Way, encode_query

__all__ = ["Heard", "own_packets"]

#: `port-taken`: the port cannot be listened on beside whoever holds it; `elsewhere`: heard, but not on that port.
#: `not-ready`: our IPv6 address on the link is one that nothing may be sent from yet.
Result = Literal["heard", "not-heard", "elsewhere", "not-sent", "not-ready", "port-taken"]
_IP_PKTINFO: Final = 8
_IP_MULTICAST_ALL: Final = 49
#: The IPv6 addresses of this machine: address, interface, prefix, scope, flags and name (<linux/if_addr.h>).
_ADDRESSES: Final = "/proc/net/if_inet6"
_TENTATIVE: Final = 0x40


@attrs.frozen
class Heard:
    """What became of one packet. `address` is where it went."""

    way: Way
    address: IPv4Address | IPv6Address
    result: Result
    #: The system's word for why it was not sent.
    reason: str = ""


def own_packets(interface: Interface, port: int) -> list[Heard]:
    """Send a query by every way that reaches all on this link, and listen for it on `port`."""
    return [_tried(interface, to, port) for to in destinations(interface) if to.way != Way.UNICAST]


def _tried(interface: Interface, to: Destination, port: int) -> Heard:
    result, reason = _once(interface, to, port)
    if result in ("not-heard", "port-taken"):
        again, _ = _once(interface, to, 0)
        if again == "heard" and result == "not-heard":
            result = "elsewhere"
        elif again != "heard":
            result = again
    return Heard(to.way, to.address, result, reason)


def _once(interface: Interface, to: Destination, port: int) -> tuple[Result, str]:
    """One packet to `port`, 0 for any that is free."""
    family = socket.AF_INET if to.address.version == 4 else socket.AF_INET6
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(family, kind) as ear, socket.socket(family, kind) as mouth:
        try:
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            ear.bind(_place(to, interface, port))
            _join(ear, to, interface)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            return ("port-taken", "") if taken else ("not-heard", (error.strerror or "").lower())
        query = encode_query(Query(to.way, secrets.token_bytes(NONCE_BYTES)))
        try:
            _send(mouth, query, to, interface, ear.getsockname()[1])
        except OSError as error:
            if to.address.version == 6 and _tentative(to.source.packed, interface.index):
                return "not-ready", ""
            return "not-sent", (error.strerror or "input/output error").lower()
        return ("heard" if _comes(ear, query) else "not-heard"), ""


def _place(to: Destination, interface: Interface, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    return (str(to.address), port) if to.address.version == 4 else (str(to.address), port, 0, interface.index)


def _join(ear: socket.socket, to: Destination, interface: Interface) -> None:
    number = interface.index.to_bytes(4, sys.byteorder)
    if to.way == Way.MULTICAST4:
        with contextlib.suppress(OSError):
            ear.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, to.address.packed + bytes(4) + number)
    elif to.way == Way.MULTICAST6:
        ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, to.address.packed + number)


def _send(mouth: socket.socket, query: bytes, to: Destination, interface: Interface, port: int) -> None:
    """Send it out by that interface, with that address of it, and no further than the link."""
    number = interface.index.to_bytes(4, sys.byteorder)
    if to.address.version == 4:
        mouth.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        ancillary = [(socket.IPPROTO_IP, _IP_PKTINFO, number + to.source.packed + bytes(4))]
    else:
        mouth.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, to.source.packed + number)]
    mouth.sendmsg([query], ancillary, 0, _place(to, interface, port))


def _tentative(address: bytes, index: int) -> bool:
    """Whether the kernel still looks for another machine with that IPv6 address of ours (RFC 4862, 5.4)."""
    with contextlib.suppress(OSError), open(_ADDRESSES, encoding="ascii") as listed:
        for row in (line.split() for line in listed):
            if row[:1] == [address.hex()] and int(row[1], 16) == index:
                return bool(int(row[4], 16) & _TENTATIVE)
    return False


def _comes(ear: socket.socket, query: bytes) -> bool:
    deadline = time.monotonic() + limits.HEARING
    while (left := deadline - time.monotonic()) > 0:
        if select.select([ear], [], [], left)[0]:
            with contextlib.suppress(OSError):
                if ear.recv(limits.DISCOVERY_QUERY + 1) == query:
                    return True
    return False
