"""The kernel's tables of bound sockets, as `/proc/net/tcp` and its siblings print them (proc_net(5)). Pure."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import attrs

__all__ = ["Bound", "bound_sockets"]

_LISTENING: Final = "0A"
_UNCONNECTED: Final = "07"


@attrs.frozen
class Bound:
    """A socket that has a port of this machine: a TCP listener, or a UDP socket."""

    address: IPv4Address | IPv6Address
    port: int
    #: Whose it is, and the number by which `/proc/PID/fd` knows it.
    uid: int
    inode: int


def bound_sockets(text: str, *, udp: bool) -> list[Bound]:
    """The listeners of a TCP table, or the unconnected sockets of a UDP table; a line that is none is left out."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        try:
            host, _, port = fields[1].partition(":")
            state, uid, inode = fields[3], int(fields[7]), int(fields[9])
            if state == (_UNCONNECTED if udp else _LISTENING):
                found.append(Bound(_address(host), int(port, 16), uid, inode))
        except (IndexError, ValueError):
            continue
    return found


def _address(digits: str) -> IPv4Address | IPv6Address:
    """An address as the kernel prints it: words of 32 bits, each in the order of this machine."""
    raw = bytes.fromhex(digits)
    words = [raw[place : place + 4] for place in range(0, len(raw), 4)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
