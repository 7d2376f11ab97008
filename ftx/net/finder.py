"""The client's side of discovery: ask on every interface, collect and check what comes back."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Collection, Iterable
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IDelayedCall, IHostResolution, IResolutionReceiver
from twisted.internet.task import deferLater
from zope.interface import implementer

from ftx import limits
from ftx.core.blind import Asking
from ftx.core.discovery import Address, Counters, FoundPeers, Interface, Reply, chosen, destinations
from ftx.core.identity import SIGN_DISCOVERY, identity_of, same
from ftx.disk.keys import verify
from ftx.errors import ProtocolError
from ftx.net.datagrams import Datagram, DatagramSocket, ephemeral_sockets
from ftx.net.interfaces import interfaces, missing
from ftx.text import show
from ftx.wire.announce import NONCE_BYTES, BlindReply, Query, SignedReply, Way, decode, encode_query

__all__ = ["Finder", "find"]


def _ignore(_: Reply) -> None:
    """Nobody wants to hear of it."""


class Finder:
    """One search: `start()` asks, `stop()` ends it, `replies()` are the peers found so far.

    `port` is the UDP port asked; `include` names the interfaces to ask on (empty: all that are up), `exclude` those
    not to ask on; `hosts` are addresses (`fe80::1%eth0` with its zone) or host names asked as well, wherever they are.
    `on_reply` is called with the first verified reply of every peer, `on_address` with the later ones that come from
    another address of it. `known` are the identities the user knows: they find room even among thousands of strangers
    and come first. With `own`, the identity of whoever asks, they are also asked for in the form that only they
    recognise. `ways` restricts how is asked.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        port: int,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        hosts: Iterable[str] = (),
        on_reply: Callable[[Reply], object] = _ignore,
        on_address: Callable[[Reply], object] = _ignore,
        known: Collection[bytes] = frozenset(),
        own: bytes | None = None,
        ways: Collection[Way] = frozenset(Way),
    ) -> None:
        self.counters = Counters()
        #: Why nobody could be asked, as a sentence; empty when a query got out.
        self.problem = ""
        self._reactor = reactor
        self._port = port
        self._include = tuple(include)
        self._exclude = tuple(exclude)
        self._hosts = tuple(hosts)[: limits.DISCOVERY_HOSTS]
        self._on_reply = on_reply
        self._on_address = on_address
        self._ways = frozenset(ways)
        self._found = FoundPeers(lambda identity: identity in known)
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._asking_blindly = None if own is None or not known else Asking(own, known, self._nonce)
        self._datagrams: dict[Way, list[bytes]] = {}
        self._burst = list(limits.DISCOVERY_QUERIES)
        self._started = 0.0
        self._sockets: list[DatagramSocket] = []
        self._present: dict[int, Interface] = {}
        self._named: dict[tuple[Address, int], None] = {}
        self._asking: IDelayedCall | None = None
        self._running = False

    def start(self) -> None:
        """Send the first query; the others follow until `stop()`. A finder is started once."""
        if self._running:
            return
        self._running = True
        try:
            made = ephemeral_sockets()
        except OSError:
            made = []
        self._sockets = [DatagramSocket(self._reactor, one, self._received, self.counters) for one in made]
        if not self._sockets:
            self.problem = "no UDP socket can be opened on this host"
            return
        self._started = self._reactor.seconds()
        self._look_up()
        self._ask()

    def stop(self) -> None:
        """End the search: nothing is sent or taken in any more. Again does nothing."""
        self._running = False
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        for one in self._sockets:
            one.close()
        self._sockets = []

    def ask(self, host: str) -> None:
        """Ask at an address (with its zone) as well, now and with every further query; what is none is passed over."""
        text, _, zone = host.partition("%")
        try:
            address, index = ip_address(text), _index(zone)
        except ValueError:
            return
        room = len(self._named) < limits.DISCOVERY_HOSTS and (address, index) not in self._named
        if room and self._running and Way.UNICAST in self._ways:
            self._named[address, index] = None
            self._send(Way.UNICAST, address, index=index)

    def replies(self) -> list[Reply]:
        """The peers that answered, known ones first, each with all its addresses."""
        return self._found.replies()

    # -- asking ----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Send one query everywhere and arrange for the next."""
        now = self._reactor.seconds()
        while self._burst and self._started + self._burst[0] <= now:
            self._burst.pop(0)
        wait = self._started + self._burst[0] - now if self._burst else limits.DISCOVERY_REPEAT
        self._asking = self._reactor.callLater(wait, self._ask)
        present = interfaces()
        self._present = {interface.index: interface for interface in present}
        sent = False
        for interface in chosen(present, self._include, self._exclude):
            for to in destinations(interface):
                if to.way in self._ways:
                    hops = None if to.way == Way.UNICAST else 1
                    sent |= self._send(to.way, to.address, source=to.source, index=to.interface, hops=hops)
        if Way.UNICAST in self._ways:
            for address, index in self._named:
                sent |= self._send(Way.UNICAST, address, index=index)
        if sent:
            self.problem = ""
        elif self.counters.answered == 0:
            self.problem = self._why_nobody(present)

    def _send(
        self,
        way: Way,
        address: Address,
        *,
        source: Address | None = None,
        index: int = 0,
        hops: int | None = None,
    ) -> bool:
        sent = False
        for data in self._queries(way):
            for one in self._sockets:
                if one.version == address.version:
                    sent |= one.send(data, address, self._port, source=source, interface=index, hops=hops)
        return sent

    def _queries(self, way: Way) -> list[bytes]:
        """What is sent to one place by `way`: the query for everybody, and those that only known peers recognise."""
        if way not in self._datagrams:
            blind = self._asking_blindly
            others = [] if blind is None else blind.queries(way, secrets.token_bytes(blind.fill))
            self._datagrams[way] = [encode_query(Query(way, self._nonce)), *others]
        return self._datagrams[way]

    def _why_nobody(self, present: tuple[Interface, ...]) -> str:
        absent = missing(self._include, present)
        if absent:
            return "there is no interface " + ", ".join(show(name) for name in absent)
        if not present:
            return "no network interface is up"
        return "no query could be sent"

    def _look_up(self) -> None:
        """Find the addresses of the named hosts; those that are addresses need no resolver."""
        for host in self._hosts:
            text, _, zone = host.strip("[]").partition("%")
            try:
                self._named[ip_address(text), _index(zone)] = None
                continue
            except ValueError:
                pass
            try:
                host.encode("idna")  # as getaddrinfo will: what it cannot encode has no address
            except UnicodeError:
                continue
            resolver = self._reactor.nameResolver
            resolver.resolveHostName(_Addresses(self._resolved), host, transportSemantics="UDP")

    def _resolved(self, address: Address) -> None:
        """The resolver knows an address of a named host; it is asked now and with every further query."""
        if self._running and Way.UNICAST in self._ways and len(self._named) < limits.DISCOVERY_HOSTS:
            self._named[address, 0] = None
            if self._send(Way.UNICAST, address):
                self.problem = ""

    # -- replies ---------------------------------------------------------------------------------------------

    def _received(self, _: DatagramSocket, datagram: Datagram) -> None:
        """Take in a reply to this search, or drop the datagram."""
        counters = self.counters
        try:
            message = decode(datagram.data)
        except ProtocolError:
            counters.malformed += 1
            return
        expected: bytes | None = None
        if isinstance(message, BlindReply):
            opened = self._opened(message)
            if opened is None:
                counters.refused += 1
                return
            expected, message = opened
        if not isinstance(message, SignedReply):
            counters.other += 1
            return
        body = message.body
        if expected is not None and not same(identity_of(body.public_raw), expected):
            counters.malformed += 1
            return
        if body.nonce != self._nonce or body.way not in self._ways:
            counters.refused += 1
            return
        address, interface = self._origin(datagram)
        if self._found.seen(body.public_raw, body.instance, address):
            counters.limited += 1
            return
        if not verify(body.public_raw, SIGN_DISCOVERY, message.signed, message.signature):
            counters.malformed += 1
            return
        counters.answered += 1
        reply = Reply(
            name=body.name,
            id=identity_of(body.public_raw),
            public_raw=body.public_raw,
            address=address,
            port=body.port,
            versions=tuple(range(body.lowest, body.highest + 1)),
            via=body.way.label,
            interface=interface,
            instance=body.instance,
            addresses=(address,),
        )
        if self._found.add(reply):
            self._on_reply(reply)
        elif self._found.seen(body.public_raw, body.instance, address):
            self._on_address(reply)

    def _opened(self, reply: BlindReply) -> tuple[bytes, Any] | None:
        """Who must have signed what a blinded reply contains, and that; None for one that is not for this search."""
        if self._asking_blindly is None or reply.nonce != self._nonce:
            return None
        opened = self._asking_blindly.open(reply)
        try:
            return None if opened is None else (opened[0], decode(opened[1]))
        except ProtocolError:
            return None

    def _origin(self, datagram: Datagram) -> tuple[str, str]:
        """The address a datagram came from, with its zone if it needs one, and the interface's name."""
        known = self._present.get(datagram.interface)
        name = str(datagram.interface) if known is None else known.name
        link_local = len(datagram.destination) == 16 and ip_address(datagram.source).is_link_local
        return (f"{datagram.source}%{name}" if link_local else datagram.source), name


def _index(zone: str) -> int:
    """The index of the interface that a zone names, by name or number; ValueError if there is none."""
    if not zone:
        return 0
    try:
        return int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    except OSError:
        raise ValueError("no such interface") from None


@implementer(IResolutionReceiver)
class _Addresses:
    """Hands on the addresses that a resolver finds."""

    def __init__(self, found: Callable[[Address], None]) -> None:
        self._found = found

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """The resolver has begun; it cannot be stopped, what comes late is ignored."""

    def addressResolved(self, address: IAddress) -> None:
        """One address."""
        if isinstance(address, IPv4Address | IPv6Address):
            self._found(ip_address(address.host.partition("%")[0]))

    def resolutionComplete(self) -> None:
        """That was all, perhaps nothing."""


async def find(
    reactor: Any,
    *,
    port: int,
    wait: float,
    interfaces: Iterable[str] = (),
    exclude: Iterable[str] = (),
    extra_hosts: Iterable[str] = (),
    on_reply: Callable[[Reply], object] = _ignore,
    on_address: Callable[[Reply], object] = _ignore,
    known: Collection[bytes] = frozenset(),
    own: bytes | None = None,
    ways: Collection[Way] = frozenset(Way),
) -> list[Reply]:
    """Search for `wait` seconds and return the peers that answered, known ones first.

    The arguments are those of `Finder`, with `interfaces` for `include` and `extra_hosts` for `hosts`. Nothing
    is raised: nobody found is an empty list. Cancelling ends the search at once.
    """
    finder = Finder(
        reactor,
        port=port,
        include=interfaces,
        exclude=exclude,
        hosts=extra_hosts,
        on_reply=on_reply,
        on_address=on_address,
        known=known,
        own=own,
        ways=ways,
    )
    finder.start()
    try:
        await deferLater(reactor, wait)
        await deferLater(reactor, 0)  # in a turn of its own: answers that came while this process had to wait are read
    finally:
        finder.stop()
    return finder.replies()
