"""Discovery rules: where is asked, who is answered and how often, and what is remembered of the answers."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network

import attrs
import pytest

from ftx import limits
from ftx.core.discovery import (
    GROUP4,
    GROUP6,
    Address,
    FoundPeers,
    Interface,
    Reply,
    ReplyLimiter,
    destinations,
    forged,
    on_link,
    reachable,
    reply_source,
)
from ftx.wire.announce import Way


def interface(name: str, index: int, *addresses: str, **more: object) -> Interface:
    """An interface with these addresses."""
    return Interface(name, index, tuple(ip_interface(text) for text in addresses), **more)  # type: ignore[arg-type]


LO = interface("lo", 1, "127.0.0.1/8", "::1/128", loopback=True, broadcast=False)
LAN = interface("lan", 2, "192.0.2.2/24", "2001:db8::2/64", "fe80::2/64")
OTHER = interface("other", 3, "198.51.100.1/24")
TUNNEL = interface(
    "tun", 4, "10.8.0.1/32", broadcast=False, far_ends=(ip_address("10.8.0.2"),)
)
OWN: frozenset[Address] = frozenset(item.ip for one in (LO, LAN, OTHER, TUNNEL) for item in one.addresses)
ALL = ("0.0.0.0", "::")


def answered(source: str, on: Interface, port: int = 40000) -> bool:
    """Whether a query from there is answered."""
    address = ip_address(source)
    return not forged(address, port, on, OWN) and on_link(address, on)


# -- where is asked ----------------------------------------------------------------------------------------


def test_groups_are_scoped_to_the_link_and_the_site() -> None:
    """The groups stay within what their ranges promise."""
    assert GROUP4 in ip_network("239.255.0.0/16")
    assert GROUP6 in ip_network("ff12::/16")
    assert int(GROUP6) & 0x80000000  # RFC 3307: dynamic group ids


def test_destinations_of_an_ethernet() -> None:
    """Broadcast, the IPv4 group, and the IPv6 group from the link-local address."""
    found = [(to.way, str(to.address), str(to.source), to.interface) for to in destinations(LAN)]
    assert found == [
        (Way.BROADCAST, "192.0.2.255", "192.0.2.2", 2),
        (Way.MULTICAST4, str(GROUP4), "192.0.2.2", 2),
        (Way.MULTICAST6, str(GROUP6), "fe80::2", 2),
    ]


def test_destinations_of_loopback() -> None:
    """Linux has no IPv6 multicast on lo: ::1 is asked itself."""
    found = [(to.way, str(to.address)) for to in destinations(LO)]
    assert found == [(Way.BROADCAST, "127.255.255.255"), (Way.MULTICAST4, str(GROUP4)), (Way.UNICAST, "::1")]


def test_destinations_of_a_tunnel() -> None:
    """A point-to-point link has no broadcast; its other end is asked itself."""
    found = [(to.way, str(to.address), str(to.source)) for to in destinations(TUNNEL)]
    assert found == [(Way.MULTICAST4, str(GROUP4), "10.8.0.1"), (Way.UNICAST, "10.8.0.2", "10.8.0.1")]


def test_networks_without_broadcast_address() -> None:
    """RFC 3021: a /31 has two hosts and nothing else; several networks are asked each."""
    assert interface("x", 5, "192.0.2.0/31").broadcasts() == ()
    assert interface("x", 5, "192.0.2.0/32").broadcasts() == ()
    assert len(interface("x", 5, "192.0.2.2/24", "198.51.100.2/24").broadcasts()) == 2


# -- who is answered ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "on"),
    [
        ("127.0.0.1", LO),
        ("127.5.5.5", LO),
        ("::1", LO),
        ("192.0.2.2", LO),  # a program of this host that is bound to another of its addresses
        ("2001:db8::2", LO),
        ("192.0.2.7", LAN),
        ("2001:db8::7", LAN),
        ("fe80::7", LAN),
        ("fe80::7", OTHER),  # link-local is on the link whatever addresses we have there
        ("10.8.0.2", TUNNEL),
    ],
)
def test_neighbours_are_answered(source: str, on: Interface) -> None:
    """Loopback, the prefixes of the receiving interface, IPv6 link-local, the other end of a tunnel."""
    assert answered(source, on)


@pytest.mark.parametrize(
    ("source", "on"),
    [
        ("198.51.100.9", LAN),  # another interface's network
        ("203.0.113.1", LAN),
        ("2001:db8:1::7", LAN),
        ("127.0.0.1", LAN),
        ("::1", LAN),
        ("192.0.2.2", LAN),  # our own address
        ("198.51.100.1", LAN),
        ("fe80::2", LAN),
        ("224.0.0.1", LAN),
        (str(GROUP4), LAN),
        (str(GROUP6), LAN),
        ("192.0.2.255", LAN),
        ("192.0.2.0", LAN),
        ("255.255.255.255", LAN),
        ("0.0.0.0", LAN),
        ("::", LAN),
        ("192.0.2.7", LO),
        ("203.0.113.1", LO),
        ("127.255.255.255", LO),
        ("10.8.0.3", TUNNEL),
    ],
)
def test_I140_spoofed_sources_are_not_answered(source: str, on: Interface) -> None:
    """Other networks, loopback and our own addresses elsewhere, multicast, broadcast, unspecified."""
    assert not answered(source, on)


@pytest.mark.parametrize("port", [0, 7, 19, 53, 123, 1900])
def test_I140_service_ports_are_not_answered(port: int) -> None:
    """A reply would go to a service that answers it."""
    assert not answered("192.0.2.7", LAN, port)
    assert not answered("127.0.0.1", LO, port)


@pytest.mark.parametrize(
    ("listening", "on", "expected"),
    [
        (ALL, LAN, ["192.0.2.2/24", "2001:db8::2/64", "fe80::2/64"]),
        (("",), LAN, ["192.0.2.2/24"]),
        (("0.0.0.0",), LAN, ["192.0.2.2/24"]),
        (("::",), LAN, ["2001:db8::2/64", "fe80::2/64"]),
        (("127.0.0.1",), LAN, []),
        (("127.0.0.1",), LO, ["127.0.0.1/8"]),
        (("127.0.0.9",), LO, ["127.0.0.9/8"]),
        (("192.0.2.2",), LAN, ["192.0.2.2/24"]),
        (("192.0.2.2",), LO, []),
        (("::ffff:192.0.2.2",), LAN, ["192.0.2.2/24"]),
        (("fe80::2%lan",), LAN, ["fe80::2/64"]),
        (("fe80::2%2",), LAN, ["fe80::2/64"]),
        (("fe80::2%other",), LAN, []),
        (("not an address", "192.0.2.2"), LAN, ["192.0.2.2/24"]),
        ((), LAN, []),
    ],
)
def test_reachable(listening: tuple[str, ...], on: Interface, expected: list[str]) -> None:
    """Discovery is served where a listener can be reached, and only there."""
    assert [str(item) for item in reachable(on, listening)] == expected


def source_of_reply(source: str, destination: str, on: Interface, listening: tuple[str, ...] = ALL) -> str | None:
    """Where a reply leaves from, as text."""
    served: dict[int, tuple[IPv4Interface | IPv6Interface, ...]] = {
        one.index: found for one in (LO, LAN, OTHER, TUNNEL) if (found := reachable(one, listening))
    }
    found = reply_source(ip_address(source), ip_address(destination), on, served, OWN)
    return None if found is None else str(found)


def test_reply_source() -> None:
    """A reply leaves from the address asked, else from one that fits; never from one nobody listens on."""
    assert source_of_reply("192.0.2.7", "192.0.2.2", LAN) == "192.0.2.2"
    assert source_of_reply("192.0.2.7", "192.0.2.255", LAN) == "192.0.2.2"
    assert source_of_reply("fe80::7", str(GROUP6), LAN) == "fe80::2"
    assert source_of_reply("2001:db8::7", str(GROUP6), LAN) == "2001:db8::2"
    assert source_of_reply("10.8.0.2", "10.8.0.1", TUNNEL) == "10.8.0.1"
    assert source_of_reply("10.8.0.2", str(GROUP4), TUNNEL) == "10.8.0.1"
    assert source_of_reply("127.0.0.1", "127.255.255.255", LO, ("127.0.0.9",)) == "127.0.0.9"
    # a local program that is bound to another address of this host
    assert source_of_reply("192.0.2.2", "127.255.255.255", LO) == "127.0.0.1"


def test_no_reply_where_nobody_listens() -> None:
    """No listener of the family, or not on the address asked."""
    assert source_of_reply("192.0.2.7", "192.0.2.255", LAN, ("::",)) is None
    assert source_of_reply("fe80::7", str(GROUP6), LAN, ("0.0.0.0",)) is None
    assert source_of_reply("192.0.2.7", "192.0.2.255", LAN, ("127.0.0.1",)) is None
    assert source_of_reply("192.0.2.7", "198.51.100.1", LAN) is None  # another interface's address


# -- how often ---------------------------------------------------------------------------------------------


def ask(limiter: ReplyLimiter, source: object, now: float) -> bool:
    """Whether a query is answered, as the responder asks."""
    if limiter.exhausted(now) or limiter.waiting(source, now):
        return False
    limiter.answered(source, now)
    return True


def test_I141_one_reply_per_source_and_second() -> None:
    """10,000 queries a second from one source for three seconds get three or four answers."""
    limiter = ReplyLimiter()
    times = [number / 10_000 for number in range(30_000)]
    assert [now for now in times if ask(limiter, "a", now)] == [0.0, 1.0, 2.0]


def test_I141_fifty_replies_in_any_second() -> None:
    """From however many sources, no second has more than fifty answers."""
    limiter = ReplyLimiter()
    times = [now for number in range(20_000) if ask(limiter, number, now := number / 5_000)]
    assert len(times) >= 4 * limits.REPLIES_TOTAL
    for start in times:
        assert sum(start <= now < start + 1.0 for now in times) <= limits.REPLIES_TOTAL


def test_I143_sources_are_bounded() -> None:
    """65,000 forged sources leave 1,024 behind; the one seen last is among them, the first is not."""
    limiter = ReplyLimiter(total=10**6)
    for number in range(65_000):
        assert ask(limiter, number, 0.0)
    assert len(limiter) == limits.REPLY_SOURCES
    assert limiter.waiting(64_999, 0.5)
    assert not limiter.waiting(0, 0.5)


def test_a_source_that_is_seen_is_kept() -> None:
    """Asking keeps a source from being forgotten, so forged ones cannot push it out."""
    limiter = ReplyLimiter(total=10**6, sources=3)
    for source in "abc":
        ask(limiter, source, 0.0)
    assert limiter.waiting("a", 0.1)
    ask(limiter, "d", 0.1)
    assert limiter.waiting("a", 0.2)
    assert not limiter.waiting("b", 0.2)


# -- who was found -----------------------------------------------------------------------------------------


def reply(number: int, **changes: object) -> Reply:
    """The reply of peer `number`."""
    raw = number.to_bytes(32, "big")
    made = Reply(
        name="peer",
        id=raw,
        public_raw=raw,
        address="192.0.2.7",
        port=7389,
        versions=(1,),
        via="broadcast",
        interface="lan",
        instance=b"instance",
    )
    return attrs.evolve(made, **changes)  # type: ignore[arg-type]


def nobody(_: bytes) -> bool:
    """No identity is known."""
    return False


def test_replies_are_merged() -> None:
    """A peer that answers by several ways is one peer with several addresses."""
    found = FoundPeers(nobody)
    assert found.add(reply(1))
    assert not found.add(reply(1))
    assert not found.add(reply(1, address="fe80::7%lan", via="multicast6"))
    (merged,) = found.replies()
    assert merged.addresses == ("192.0.2.7", "fe80::7%lan")
    assert merged.via == "broadcast"
    assert found.seen(merged.public_raw, b"instance", "fe80::7%lan")
    assert not found.seen(merged.public_raw, b"instance", "192.0.2.8")
    assert not found.seen(merged.public_raw, b"restarts", "192.0.2.7")


def test_a_restarted_daemon_replaces_itself() -> None:
    """Another instance at the same place is the same peer; somewhere else it is a copy of the key."""
    found = FoundPeers(nobody)
    found.add(reply(1))
    assert not found.add(reply(1, instance=b"restarts"))
    assert [one.instance for one in found.replies()] == [b"restarts"]
    assert found.add(reply(1, instance=b"elsewher", address="192.0.2.8"))
    assert len(found.replies()) == 2


def test_peers_of_one_name_are_two() -> None:
    """A name is no identity."""
    found = FoundPeers(nobody)
    assert found.add(reply(1))
    assert found.add(reply(2))
    assert len(found.replies()) == 2


def test_I147_thousands_of_strangers_hide_no_known_peer() -> None:
    """10,000 forged peers fill the table; who is known still gets in, and comes first."""
    known = {reply(20_000).id, reply(20_001).id}
    found = FoundPeers(known.__contains__)
    added = sum(found.add(reply(number, address=f"10.0.{number % 250}.1")) for number in range(10_000))
    assert added == limits.DISCOVERED
    assert found.add(reply(20_000))
    assert found.add(reply(20_001))
    replies = found.replies()
    assert len(replies) == limits.DISCOVERED
    assert [one.id for one in replies[:2]] == sorted(known)
    assert replies[2].id == reply(0).id


def test_addresses_of_a_peer_are_bounded() -> None:
    """Nor can one peer fill the memory with addresses."""
    found = FoundPeers(nobody)
    for number in range(200):
        found.add(reply(1, address=f"192.0.2.{number}"))
    assert len(found.replies()[0].addresses) == limits.DISCOVERED_ADDRESSES
