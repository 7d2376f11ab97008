"""UDP sockets for discovery: bound to the wildcard address, told by the kernel where each datagram arrived.

Twisted's own UDP port is not used, for three reasons. It reads until it has read a number of *bytes*, so a flood of
empty datagrams keeps the reactor in one call; it does not say which interface a datagram came by; and its way of
sharing a port also sets `SO_REUSEADDR`, with which any local user could take our unicast queries.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from ftx import limits
from ftx.core.discovery import GROUP4, GROUP6, Address, Counters
from ftx.net.readable import Readable

__all__ = ["Datagram", "DatagramSocket", "ephemeral_sockets", "shared_sockets"]

# Numbers of <linux/in.h> and <linux/in6.h> that Python's socket module does not name in every version.
_IP_PKTINFO: Final = 8
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29
_SOL_IP: Final = socket.IPPROTO_IP
_SOL_IPV6: Final = socket.IPPROTO_IPV6
#: One byte more than anything valid, so that the longer ones are seen to be cut.
_READ: Final = limits.DISCOVERY_QUERY + 1
_ANCILLARY: Final = 128


class Datagram(NamedTuple):
    """One datagram as it arrived. A tuple, because one is made for every datagram of a flood."""

    data: bytes
    #: Where it came from: address as text without a zone, and port.
    source: str
    port: int
    #: Where it was sent to, in network byte order: 4 or 16 bytes.
    destination: bytes
    #: The index of the interface it arrived on.
    interface: int

    def addresses(self) -> tuple[Address, Address]:
        """Source and destination as addresses."""
        return ip_address(self.source), ip_address(self.destination)


class DatagramSocket(Readable):
    """One UDP socket of one family in the reactor.

    `receive` is called with the socket and a Datagram for every one that was not cut; it may close the socket.
    At most DATAGRAMS_PER_TURN are read in one turn of the reactor, whatever their size. Nothing is ever raised
    out of a read or a send because of the network: it is counted.
    """

    called = "discovery"

    def __init__(
        self,
        reactor: Any,
        bound: socket.socket,
        receive: Callable[[DatagramSocket, Datagram], None],
        counters: Counters,
    ) -> None:
        super().__init__(reactor)
        self.version = 4 if bound.family == socket.AF_INET else 6
        self._receive = receive
        self._counters = counters
        self._joined: set[int] = set()
        self._read_from(bound)

    def doRead(self) -> None:
        """Read and hand on what is there, at most DATAGRAMS_PER_TURN."""
        counters = self._counters
        for _ in range(limits.DATAGRAMS_PER_TURN):
            if self._socket is None:
                return
            try:
                data, ancillary, flags, sender = self._socket.recvmsg(_READ, _ANCILLARY)
            except OSError:  # nothing there any more, or an error of an earlier send
                return
            counters.received += 1
            arrived = _arrival(ancillary)
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or arrived is None:
                counters.malformed += 1
                continue
            self._receive(self, Datagram(data, sender[0], sender[1], *arrived))

    # -- for the owner ---------------------------------------------------------------------------------------

    def join(self, indexes: Iterable[int]) -> None:
        """Be in the group on exactly these interfaces; where the kernel refuses, broadcasts have to do."""
        if self._socket is None:
            return
        wanted = set(indexes)
        for index in self._joined - wanted:
            with contextlib.suppress(OSError):  # the interface has gone, and the membership with it
                self._membership(self._socket, index, join=False)
        for index in wanted - self._joined:
            try:
                self._membership(self._socket, index, join=True)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:  # in the group already is what is wanted
                    wanted.discard(index)
        self._joined = wanted

    def _membership(self, bound: socket.socket, index: int, *, join: bool) -> None:
        number = index.to_bytes(4, sys.byteorder)
        if self.version == 4:
            option = socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP
            bound.setsockopt(_SOL_IP, option, GROUP4.packed + bytes(4) + number)
        else:
            option = socket.IPV6_JOIN_GROUP if join else socket.IPV6_LEAVE_GROUP
            bound.setsockopt(_SOL_IPV6, option, GROUP6.packed + number)

    def send(
        self,
        data: bytes,
        address: Address,
        port: int,
        *,
        source: Address | None = None,
        interface: int = 0,
        hops: int | None = None,
    ) -> bool:
        """Send `data` to `address` and `port` now or not at all; False, and counted, if it could not be sent.

        `source` and `interface` choose the own address and the interface it leaves from (ip(7), ipv6(7): for
        one datagram this is what IP_MULTICAST_IF is for a socket), `hops` its TTL or hop limit; what is not
        given is the kernel's choice.
        """
        if self._socket is None or address.version != self.version:
            return False
        ancillary: list[tuple[int, int, bytes]] = []
        number = interface.to_bytes(4, sys.byteorder)
        to: tuple[str, int] | tuple[str, int, int, int]
        if self.version == 4:
            if source is not None or interface:
                own = bytes(4) if source is None else source.packed
                ancillary.append((_SOL_IP, _IP_PKTINFO, number + own + bytes(4)))
            if hops is not None:
                ancillary.append((_SOL_IP, socket.IP_TTL, hops.to_bytes(4, sys.byteorder)))
            to = (str(address), port)
        else:
            if source is not None or interface:
                own = bytes(16) if source is None else source.packed
                ancillary.append((_SOL_IPV6, socket.IPV6_PKTINFO, own + number))
            if hops is not None:
                ancillary.append((_SOL_IPV6, socket.IPV6_HOPLIMIT, hops.to_bytes(4, sys.byteorder)))
            to = (socket.inet_ntop(socket.AF_INET6, address.packed), port, 0, interface)
        try:
            self._socket.sendmsg([data], ancillary, 0, to)
        except OSError:
            self._counters.unsent += 1
            return False
        return True


def _arrival(ancillary: Iterable[tuple[int, int, bytes]]) -> tuple[bytes, int] | None:
    """Destination and interface index from `struct in_pktinfo` or `struct in6_pktinfo`."""
    for level, kind, value in ancillary:
        if level == _SOL_IP and kind == _IP_PKTINFO and len(value) == 12:
            return value[8:12], int.from_bytes(value[:4], sys.byteorder)
        if level == _SOL_IPV6 and kind == socket.IPV6_PKTINFO and len(value) == 20:
            return value[:16], int.from_bytes(value[16:20], sys.byteorder)
    return None


def shared_sockets(port: int) -> list[socket.socket]:
    """Sockets for IPv4 and IPv6 on `port`, which other sockets of this user may have open as well.

    A family that this host does not have is left out. OSError if the port cannot be had: EADDRINUSE if another
    user's, or a program that does not share, has it, EACCES below 1024.
    """
    return _sockets(port, share=True)


def adopted_sockets(bound: Iterable[socket.socket]) -> list[socket.socket]:
    """UDP sockets that somebody else has bound, made to tell where datagrams arrive; OSError where that fails."""
    made = list(bound)
    for one in made:
        _tell_arrival(one, one.family)
    return made


def ephemeral_sockets() -> list[socket.socket]:
    """Sockets for IPv4 and IPv6 on ports of their own; empty if there is no network at all."""
    return _sockets(0, share=False)


def _sockets(port: int, *, share: bool) -> list[socket.socket]:
    made: list[socket.socket] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            made.append(_bound(family, port, share=share))
        except OSError as error:
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                continue
            for bound in made:
                bound.close()
            raise
    return made


def _bound(family: socket.AddressFamily, port: int, *, share: bool) -> socket.socket:
    """A non-blocking UDP socket of `family`, bound to the wildcard address and `port`."""
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if share:  # and never SO_REUSEADDR: with it, sockets of other users may share too
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _tell_arrival(made, family)
        if family == socket.AF_INET:
            made.bind(("0.0.0.0", port))
        else:
            made.setsockopt(_SOL_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(("::", port))
    except OSError:
        made.close()
        raise
    return made


def _tell_arrival(made: socket.socket, family: int) -> None:
    """Have the kernel say where each datagram arrived; groups only where joined, and not beyond the link."""
    if family == socket.AF_INET:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        made.setsockopt(_SOL_IP, _IP_PKTINFO, 1)
        made.setsockopt(_SOL_IP, socket.IP_MULTICAST_TTL, 1)
        made.setsockopt(_SOL_IP, _IP_MULTICAST_ALL, 0)  # only from interfaces this socket joined on
    else:
        made.setsockopt(_SOL_IPV6, socket.IPV6_RECVPKTINFO, 1)
        made.setsockopt(_SOL_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        with contextlib.suppress(OSError):  # Linux 4.20
            made.setsockopt(_SOL_IPV6, _IPV6_MULTICAST_ALL, 0)
