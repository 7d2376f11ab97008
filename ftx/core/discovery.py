"""Discovery rules: where to ask, who is answered and how often, and the peers found (`docs/discovery.md`).

Nothing here sees a socket or a clock. An `Interface` is a value that the net floor fills in, `now` is a
number of seconds that only ever grows, and addresses are those of the standard library, which compare by value
whatever way they were written. An IPv6 address carries no zone here: the interface it was seen on says the same.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Hashable, Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Final

import attrs

from ftx import limits
from ftx.wire.announce import Way

__all__ = [
    "FORGED_PORTS",
    "GROUP4",
    "GROUP6",
    "Address",
    "Counters",
    "Destination",
    "FoundPeers",
    "Interface",
    "Network",
    "Reply",
    "ReplyLimiter",
    "chosen",
    "destinations",
    "forged",
    "near",
    "on_link",
    "reachable",
    "reply_source",
]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: The IPv4 group: local scope of the administratively scoped block, RFC 2365.
GROUP4: Final = IPv4Address("239.255.73.89")
#: The IPv6 group: transient, link-local, RFC 4291 section 2.7 and RFC 3307 section 4.3.
GROUP6: Final = IPv6Address("ff12::e674:7801")
#: Source ports no client has: zero, and services that answer datagrams (echo, chargen, DNS, NTP, SSDP).
FORGED_PORTS: Final = frozenset({0, 7, 19, 53, 123, 1900})

_LIMITED_BROADCAST: Final = IPv4Address("255.255.255.255")
#: Networks smaller than this have no broadcast address (RFC 3021).
_BROADCAST_PREFIX: Final = 30


@attrs.frozen
class Interface:
    """A network interface that is up, as discovery sees it."""

    name: str
    #: The kernel's number for it, from 1.
    index: int
    #: Its addresses with their prefixes, in the kernel's order.
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    loopback: bool = False
    #: Whether it carries broadcasts.
    broadcast: bool = True
    #: Addresses at the other end of a point-to-point link.
    far_ends: tuple[Address, ...] = ()

    def broadcasts(self) -> tuple[tuple[IPv4Address, IPv4Address], ...]:
        """Own address and broadcast address of every IPv4 network here that has one."""
        if not (self.broadcast or self.loopback):
            return ()
        return tuple(
            (item.ip, item.network.broadcast_address)
            for item in self.addresses
            if isinstance(item, IPv4Interface) and item.network.prefixlen <= _BROADCAST_PREFIX
        )


@attrs.frozen
class Destination:
    """Where one copy of a query or an announcement goes."""

    way: Way
    address: Address
    #: The own address it leaves from, and the index of the interface it leaves by.
    source: Address
    interface: int


def chosen(present: Iterable[Interface], include: Collection[str], exclude: Collection[str]) -> list[Interface]:
    """The interfaces to use: those in `include`, all where that is empty, without those in `exclude`."""
    return [one for one in present if (not include or one.name in include) and one.name not in exclude]


def destinations(interface: Interface) -> tuple[Destination, ...]:
    """Everywhere a query is sent on `interface` (section 1).

    Announcements go to the same places, without the unicast ones.
    """
    index = interface.index
    found = [Destination(Way.BROADCAST, broadcast, own, index) for own, broadcast in interface.broadcasts()]
    four = [item.ip for item in interface.addresses if item.version == 4]
    six = [item.ip for item in interface.addresses if item.version == 6]
    six.sort(key=lambda ip: not ip.is_link_local)
    if four:
        found.append(Destination(Way.MULTICAST4, GROUP4, four[0], index))
    if interface.loopback:
        found += [Destination(Way.UNICAST, ip, ip, index) for ip in six if ip.is_loopback]
    elif six:
        found.append(Destination(Way.MULTICAST6, GROUP6, six[0], index))
    for far in interface.far_ends:
        own = next((item.ip for item in interface.addresses if item.version == far.version), None)
        if own is not None:
            found.append(Destination(Way.UNICAST, far, own, index))
    return tuple(found)


# -- who is answered ---------------------------------------------------------------------------------------


def forged(source: Address, port: int, interface: Interface, own: frozenset[Address]) -> bool:
    """Whether a datagram from `source` and `port` on `interface` cannot be honest (section 6).

    `own` are all addresses of this host, on whatever interface.
    """
    if port in FORGED_PORTS or source.is_unspecified or source.is_multicast or source == _LIMITED_BROADCAST:
        return True
    if interface.loopback:
        return not (source.is_loopback or source in own) or _is_broadcast(source, interface)
    return source.is_loopback or source in own or _is_broadcast(source, interface)


def on_link(source: Address, interface: Interface) -> bool:
    """Whether `source`, which is not forged, is a neighbour on `interface`.

    True on loopback (what else could come from there), for IPv6 link-local addresses, for addresses in a
    network of the interface and for the other end of a point-to-point link.
    """
    if interface.loopback or (source.version == 6 and source.is_link_local) or source in interface.far_ends:
        return True
    return any(source in item.network for item in interface.addresses if item.version == source.version)


def near(host: str, interface: Interface) -> bool:
    """Whether the address `host`, which may have a zone, is a neighbour on `interface`; a name never is."""
    text, _, zone = host.strip("[]").partition("%")
    try:
        address = _parse(text)
    except ValueError:
        return False
    if zone and zone not in (interface.name, str(interface.index)):
        return False
    if interface.loopback:
        return address.is_loopback
    return not address.is_loopback and on_link(address, interface)


def _is_broadcast(source: Address, interface: Interface) -> bool:
    """Whether `source` is the last or the first address of a network here: both are, or were, broadcasts."""
    return any(
        source in (item.network.broadcast_address, item.network.network_address)
        for item in interface.addresses
        if item.version == 4 and item.network.prefixlen <= _BROADCAST_PREFIX
    )


def reachable(interface: Interface, listening: Iterable[str]) -> tuple[IPv4Interface | IPv6Interface, ...]:
    """The addresses of `interface` on which a TCP listener answers.

    `listening` are the addresses listened on as text; the wildcards `0.0.0.0`, `::` and the empty text (all
    of IPv4) match every address of their family, a zone (`fe80::1%eth0`) only that interface. What is no
    address matches nothing. On Linux all of 127.0.0.0/8 is there, whichever of it the interface shows.
    """
    found: dict[IPv4Interface | IPv6Interface, None] = {}
    for text in listening:
        host, _, zone = text.partition("%")
        try:
            wanted: Address = _parse(host or "0.0.0.0")
        except ValueError:
            continue
        if zone and zone not in (interface.name, str(interface.index)):
            continue
        for item in interface.addresses:
            if item.version != wanted.version:
                continue
            if wanted.is_unspecified or item.ip == wanted:
                found[item] = None
            elif interface.loopback and isinstance(item, IPv4Interface) and wanted in item.network:
                found[IPv4Interface((int(wanted), item.network.prefixlen))] = None
    return tuple(found)


def _parse(host: str) -> Address:
    """`host` as an address, an IPv4-mapped one as what it stands for; ValueError if it is none."""
    if ":" not in host:
        return IPv4Address(host)
    address = IPv6Address(host)
    return address.ipv4_mapped or address


def reply_source(
    source: Address,
    destination: Address,
    interface: Interface,
    served: dict[int, tuple[IPv4Interface | IPv6Interface, ...]],
    own: frozenset[Address],
) -> Address | None:
    """The own address that a reply to `source` leaves from, or None if no listener could be reached there.

    `destination` is where the query was sent, `interface` where it arrived, `served` maps the index of every
    interface to its addresses on which a listener answers.
    """
    here = served.get(interface.index, ())
    if destination in own:  # asked by address: that address answers, or none
        return destination if any(item.ip == destination for item in here) else None
    family = [item for item in here if item.version == source.version]
    for item in family:
        if source in item.network:
            return item.ip
    for item in family:
        if item.ip.is_link_local == source.is_link_local:
            return item.ip
    return family[0].ip if family else None


class ReplyLimiter:
    """How often is answered: once a second per source and fifty times a second in all, in bounded memory."""

    def __init__(
        self,
        *,
        per_source: int = limits.REPLIES_PER_SOURCE,
        total: int = limits.REPLIES_TOTAL,
        sources: int = limits.REPLY_SOURCES,
    ) -> None:
        self._pause = 1.0 / per_source
        self._sources = sources
        # When the last `total` replies were sent: the oldest must be a second old before the next one.
        self._recent: deque[float] = deque(maxlen=total)
        self._last: OrderedDict[Hashable, float] = OrderedDict()

    def exhausted(self, now: float) -> bool:
        """Whether nobody can be answered at `now`; asked first, as it is the cheapest question."""
        recent = self._recent
        return len(recent) == recent.maxlen and now - recent[0] < 1.0

    def waiting(self, source: Hashable, now: float) -> bool:
        """Whether `source` was answered less than a second ago; it counts as seen."""
        last = self._last.get(source)
        if last is None:
            return False
        self._last.move_to_end(source)
        return now - last < self._pause

    def answered(self, source: Hashable, now: float) -> None:
        """A reply went to `source`."""
        self._recent.append(now)
        self._last[source] = now
        self._last.move_to_end(source)
        if len(self._last) > self._sources:
            self._last.popitem(last=False)

    def __len__(self) -> int:
        """Sources remembered."""
        return len(self._last)


@attrs.define
class Counters:
    """What became of the datagrams: every one received is counted under exactly one of the other names."""

    received: int = 0
    #: Queries answered, or replies taken by a client.
    answered: int = 0
    #: Replies, queries and announcements that came to the side that has no use for them.
    other: int = 0
    #: Cut, too long, no datagram of ours, a signature that does not verify.
    malformed: int = 0
    #: From where nobody honest asks, or from where nobody is answered.
    refused: int = 0
    #: On an interface, or to an address, that is not served.
    elsewhere: int = 0
    #: Over the rate, or replies seen before.
    limited: int = 0
    #: Replies and queries that could not be sent; not among the received.
    unsent: int = 0


# -- who was found -----------------------------------------------------------------------------------------


@attrs.frozen
class Reply:
    """A peer that answered, its signature checked: it holds the key. The name is only what it says."""

    name: str
    #: The identity, 32 bytes, computed from the key.
    id: bytes
    public_raw: bytes
    #: Where the reply came from, with a zone if it is link-local: `fe80::1%eth0`.
    address: str
    #: Its TCP port.
    port: int
    #: The versions of the transfer protocol it speaks, ascending.
    versions: tuple[int, ...]
    #: `broadcast`, `multicast4`, `multicast6` or `unicast`.
    via: str
    #: The name of the interface the reply came by.
    interface: str
    #: Random bytes, new at every start of the daemon.
    instance: bytes
    #: All addresses it answered from, `address` first.
    addresses: tuple[str, ...] = ()


class FoundPeers:
    """The peers that answered one search: merged by key and instance, bounded, those the user knows first.

    `known` says whether an identity is one the user knows: such a peer finds room even when strangers (of
    whom anybody on the link can make thousands) have filled the table.
    """

    def __init__(self, known: Callable[[bytes], bool], size: int = limits.DISCOVERED) -> None:
        self._known = known
        self._size = size
        self._found: dict[tuple[bytes, bytes], Reply] = {}

    def seen(self, public_raw: bytes, instance: bytes, address: str) -> bool:
        """Whether this daemon has answered from `address` before."""
        reply = self._found.get((public_raw, instance))
        return reply is not None and address in reply.addresses

    def add(self, reply: Reply) -> bool:
        """Take in a verified reply; True if its peer is new, False if it was merged or there is no room."""
        key = (reply.public_raw, reply.instance)
        before = self._found.get(key)
        if before is not None:
            if reply.address not in before.addresses and len(before.addresses) < limits.DISCOVERED_ADDRESSES:
                self._found[key] = attrs.evolve(before, addresses=(*before.addresses, reply.address))
            return False
        restarted = [
            other
            for other, old in self._found.items()
            if old.id == reply.id and old.port == reply.port and reply.address in old.addresses
        ]
        for other in restarted:
            del self._found[other]
        if len(self._found) >= self._size and not self._make_room(reply.id):
            return False
        self._found[key] = attrs.evolve(reply, addresses=(reply.address,))
        return not restarted

    def _make_room(self, identity: bytes) -> bool:
        """Forget the newest stranger for a known peer; False if `identity` is none, or all are known."""
        if not self._known(identity):
            return False
        stranger = next((key for key, old in reversed(self._found.items()) if not self._known(old.id)), None)
        if stranger is None:
            return False
        del self._found[stranger]
        return True

    def replies(self) -> list[Reply]:
        """The peers: the known ones first, then in the order in which they answered."""
        return sorted(self._found.values(), key=lambda reply: not self._known(reply.id))
