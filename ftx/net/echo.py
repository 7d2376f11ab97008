"""ICMP echo to one host: round trips, losses, and the largest packet that passes. It blocks: for worker threads only.

A raw socket where that is allowed (root, or CAP_NET_RAW), else the unprivileged ICMP socket (icmp(7),
`net.ipv4.ping_group_range`), where the kernel chooses the identifier and keeps errors in a queue of their own
(IP_RECVERR, ip(7)). What goes out and what comes in is `ftx.wire.icmp`'s.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import select
import socket
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final, Literal

import attrs

from ftx import limits
from ftx.core.pathmtu import PathMtu
from ftx.wire.icmp import ECHO_HEADER, IP_HEADER, EchoReply, Unreached, decode_icmp, encode_echo

__all__ = ["Echoed", "Means", "echo_means", "measure_echo"]

#: How echoes are sent: by a raw socket, by the ICMP datagram socket, or not at all.
Means = Literal["raw", "datagram", "none"]

# Numbers of <linux/in.h> and <linux/in6.h> that Python's socket module does not name.
_LEVEL: Final = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
_MTU_DISCOVER: Final = {4: 10, 6: 23}
_MTU: Final = {4: 14, 6: 24}
_RECVERR: Final = {4: 11, 6: 25}
#: Do not cut packets up, and take no notice of what was learnt before.
_PMTUDISC_PROBE: Final = 3
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOL: Final = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
#: Bytes of an IP packet at most: the loopback interface would take more.
_LARGEST: Final = 65_535
_UNREACHED: Final = {errno.EHOSTUNREACH: "no-host", errno.ENETUNREACH: "no-route", errno.EACCES: "forbidden"}


@attrs.frozen
class Echoed:
    """What echoes to one address told. Round trips in seconds."""

    means: Means
    sent: int = 0
    trips: tuple[float, ...] = ()
    #: Why it did not arrive, as somebody on the way said; empty when nobody said anything.
    why: str = ""
    #: The largest packet that passes in bytes, 0 when that is not known.
    mtu: int = 0
    #: Whether larger ones vanish without a word.
    black_hole: bool = False
    #: What our own link takes.
    link_mtu: int = 0


def echo_means(version: int, *, raw: bool = True) -> Means:
    """How this process may send echoes; `raw=False` does without a raw socket."""
    for means in ("raw", "datagram") if raw else ("datagram",):
        with contextlib.suppress(OSError), _opened(version, means):
            return means
    return "none"


def measure_echo(address: str, means: Means) -> Echoed:
    """Send `limits.ECHOES` echoes to `address` (IPv6 with its zone), then find the path MTU if any came back."""
    host, _, zone = address.partition("%")
    version = ip_address(host).version
    if means == "none":
        return Echoed("none")
    try:
        scope = socket.if_nametoindex(zone) if zone and not zone.isdecimal() else int(zone or 0)
        with _opened(version, means) as made:
            echoes = _Echoes(made, version, means, (host, 0) if version == 4 else (host, 0, 0, scope))
            return echoes.measure(_route_mtu(version, host, scope))
    except OSError as error:
        return Echoed(means, why=_UNREACHED.get(error.errno or 0, "unreachable"))


@contextlib.contextmanager
def _opened(version: int, means: Means) -> Iterator[socket.socket]:
    kind = socket.SOCK_RAW if means == "raw" else socket.SOCK_DGRAM
    with socket.socket(_FAMILY[version], kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _PROTOCOL[version]) as made:
        yield made


def _route_mtu(version: int, host: str, scope: int) -> int:
    """What the kernel would send to `host` in one packet: it asks no one for that."""
    with socket.socket(_FAMILY[version], socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asked:
        asked.connect((host, 9) if version == 4 else (host, 9, 0, scope))
        return min(asked.getsockopt(_LEVEL[version], _MTU[version]), _LARGEST)


@attrs.define(eq=False)
class _Echoes:
    """Echoes on one socket, one after the other."""

    made: socket.socket
    version: int
    means: Means
    to: tuple[str, int] | tuple[str, int, int, int]
    _identifier: int = attrs.field(init=False)
    _sequence: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        level = _LEVEL[self.version]
        self.made.setsockopt(level, _MTU_DISCOVER[self.version], _PMTUDISC_PROBE)
        if self.means == "datagram":
            self.made.setsockopt(level, _RECVERR[self.version], 1)
            self.made.bind(("", 0))
            self._identifier = self.made.getsockname()[1]  # the kernel's choice
        else:
            self._identifier = secrets.randbelow(1 << 16)

    def measure(self, link_mtu: int) -> Echoed:
        """Everything there is to know."""
        trips: list[float] = []
        why = ""
        sent = 0
        for sent in range(1, limits.ECHOES + 1):
            outcome = self._echo(56)
            if isinstance(outcome, float):
                trips.append(outcome)
            elif outcome is not None:
                why = outcome.why
            if sent >= limits.ECHOES_UNANSWERED and not trips:
                break
        if not trips:
            return Echoed(self.means, sent, why=why, link_mtu=link_mtu)
        search = PathMtu(self.version, link_mtu)
        while (size := search.next_size()) is not None:
            outcome = self._echo(size - IP_HEADER[self.version] - ECHO_HEADER)
            if isinstance(outcome, float):
                search.passed(size)
            elif outcome is not None and outcome.why == "too-big":
                search.refused(size, outcome.mtu)
            else:
                search.lost(size)
        return Echoed(self.means, sent, tuple(trips), why, search.passes, search.black_hole, link_mtu)

    def _echo(self, size: int) -> float | Unreached | None:
        """One echo with `size` bytes: its round trip, why it did not arrive, or None when nothing was heard."""
        self._sequence += 1
        payload = secrets.token_bytes(min(size, 16)).ljust(size, b"\0")
        began = time.monotonic()
        try:
            self.made.sendto(encode_echo(self.version, self._identifier, self._sequence, payload), self.to)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return Unreached("too-big", self._identifier, self._sequence)
            return Unreached(_UNREACHED.get(error.errno or 0, "unreachable"), self._identifier, self._sequence)
        deadline = began + limits.ECHO_WAIT
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.made], [], [self.made], left)[0] and not self._queued():
                continue
            answer = self._take(payload)
            if isinstance(answer, EchoReply):
                return time.monotonic() - began
            if answer is not None:
                return answer
        return None

    def _queued(self) -> bool:
        """Whether the kernel has an error for us: it makes a socket readable only in some versions."""
        watch = select.poll()
        watch.register(self.made, select.POLLERR)
        return bool(watch.poll(0))

    def _take(self, payload: bytes) -> EchoReply | Unreached | None:
        """What has come, if it is about the last echo."""
        found = self._error() if self.means == "datagram" else None
        if found is not None:
            return found
        try:
            data = self.made.recv(_LARGEST)
        except OSError:  # nothing there, or an error that is in the queue, too
            return None
        answer = decode_icmp(self.version, data, ip_header=self.version == 4 and self.means == "raw")
        if answer is None or (answer.identifier, answer.sequence) != (self._identifier, self._sequence):
            return None
        return None if isinstance(answer, EchoReply) and answer.payload != payload else answer

    def _error(self) -> Unreached | None:
        """The next error in the socket's queue, `struct sock_extended_err` of ip(7)."""
        level = _LEVEL[self.version]
        try:
            quoted, ancillary, _flags, _source = self.made.recvmsg(_LARGEST, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return None
        if len(quoted) < ECHO_HEADER or int.from_bytes(quoted[6:8], "big") != self._sequence:
            return None
        for at, kind, data in ancillary:
            if (at, kind) == (level, _RECVERR[self.version]) and len(data) >= 16:
                number = int.from_bytes(data[:4], sys.byteorder)
                too_big = number == errno.EMSGSIZE
                why = "too-big" if too_big else _UNREACHED.get(number, "unreachable")
                mtu = int.from_bytes(data[8:12], sys.byteorder) if too_big else 0
                return Unreached(why, self._identifier, self._sequence, mtu)
        return None
