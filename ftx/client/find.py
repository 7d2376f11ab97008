"""From a target to the places where it may be, and the rule for who may answer there.

The order is fixed (`docs/cli.md`): paired names, discovered names, the resolver. A paired name means its key: its
remembered addresses and the replies that carry its key are dialled at once, and whoever else announces the name
only causes a warning. An unpaired name waits out the discovery burst, so that two peers of one name are an error
and not a coin toss.

What a person names explicitly is taken exactly: `NAME@ADDRESS` is that key at that address and nowhere else, and a
port that was named replaces every port that was remembered or announced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from ftx import limits
from ftx.client.alike import alike
from ftx.client.target import Target
from ftx.core.identity import format_id, same
from ftx.core.peers import Peer, TrustStore
from ftx.disk.defaults import DEFAULT_PORT
from ftx.errors import FtxError
from ftx.net.dial import Place
from ftx.text import show

if TYPE_CHECKING:
    from ftx.net.discovery import Reply

__all__ = ["Elsewhere", "Found", "check_expected", "locate", "pair_again", "place_of"]


@attrs.frozen
class Found:
    """Where to dial, and the identity that must answer (None: any that is trusted)."""

    places: tuple[Place, ...]
    expected: bytes | None
    name: str
    #: What to say when none of the places has an address: names that are known and look alike. Clean.
    hint: str = ""


def place_of(hint: str, port: int) -> Place:
    """An address hint of a peer as a place: `HOST`, `HOST:PORT`, `[IPv6]`, `[IPv6]:PORT`, or bare IPv6."""
    if hint.startswith("["):
        host, _, rest = hint[1:].partition("]")
        return Place(host, _port(rest[1:], port) if rest.startswith(":") else port)
    if hint.count(":") == 1:
        host, _, number = hint.partition(":")
        return Place(host, _port(number, port))
    return Place(hint, port)


def _port(text: str, default: int) -> int:
    return int(text) if text.isdigit() and 0 < int(text) < 65536 else default


@attrs.frozen
class Elsewhere:
    """How a peer that was found once is found again: by its identity, over discovery. `port`: one that was named."""

    reactor: Any
    own_id: bytes
    discovery_port: int
    interfaces: Sequence[str]
    exclude: Sequence[str]
    port: int | None

    async def look(self, identity: bytes) -> list[Place]:
        """Everywhere that `identity` answers from within a short look; nothing when it does not."""
        from ftx.net.discovery import find  # who sends to an address asks nobody

        replies = await find(
            self.reactor,
            port=self.discovery_port,
            wait=limits.DISCOVERY_LOOK,
            interfaces=self.interfaces,
            exclude=self.exclude,
            known={identity},
            own=self.own_id,
        )
        places = [
            Place(address, self.port or reply.port)
            for reply in replies
            if same(reply.id, identity)
            for address in dict.fromkeys((reply.address, *reply.addresses))
        ]
        return places[: limits.PLACES // 2]


@attrs.frozen
class _Search:
    """What looking for one target takes: `port`, `interfaces` and `exclude` are discovery's."""

    reactor: Any
    target: Target
    peers: TrustStore
    own_id: bytes
    port: int
    interfaces: Sequence[str]
    exclude: Sequence[str]
    warn: Callable[[str], object]

    def place(self, hint: str) -> Place:
        """A remembered address as a place; a port that was named replaces the remembered one."""
        place = place_of(hint, DEFAULT_PORT)
        return place if self.target.port is None else Place(place.host, self.target.port)

    def places(self, reply: Reply) -> list[Place]:
        """Everywhere that a reply came from."""
        port = self.target.port or reply.port
        return [Place(address, port) for address in dict.fromkeys((reply.address, *reply.addresses))]

    async def ask(self, wait: float, known: frozenset[bytes] = frozenset()) -> list[Reply]:
        from ftx.net.discovery import find

        return await find(
            self.reactor,
            port=self.port,
            wait=wait,
            interfaces=self.interfaces,
            exclude=self.exclude,
            known=known,
            own=self.own_id,
        )


async def locate(
    reactor: Any,
    target: Target,
    peers: TrustStore,
    *,
    own_id: bytes,
    port: int,
    interfaces: Sequence[str],
    exclude: Sequence[str] = (),
    warn: Callable[[str], object],
) -> Found:
    """Find `target`. `port` is the UDP port of discovery.

    Raises FtxError `name-not-found`, `ambiguous-name` or `no-such-peer`.
    """
    search = _Search(reactor, target, peers, own_id, port, interfaces, exclude, warn)
    peer = peers.by_id(target.id) if target.id is not None else peers.by_name(target.name) if target.name else None
    expected = target.id if peer is None else peer.id
    name = target.label if peer is None else peer.name
    if target.pinned:
        if expected is None:
            raise _no_account(target, peers)
        return Found((Place(target.host, target.port or DEFAULT_PORT),), expected, name)
    if expected is not None:
        return await _paired(search, peer, expected, name)
    if target.name:
        return await _unpaired(search, target.name)
    return Found((Place(target.host, target.port or DEFAULT_PORT),), None, name)


def _no_account(target: Target, peers: TrustStore) -> FtxError:
    """`user@host` is what ssh and scp have; here it names a key, and nobody is called so."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    hint = alike(target.name, (peer.name for peer in peers.peers))
    if not hint:
        hint = f"ftx has no accounts: write {show(host)}:, or put the name of a paired peer before the @"
    return FtxError("no-such-peer", f"no peer is called {show(target.name)}", hint)


async def _paired(search: _Search, peer: Peer | None, expected: bytes, name: str) -> Found:
    places = [search.place(hint) for hint in (peer.addresses if peer is not None else ())]
    # With remembered addresses a short look is enough: they are dialled anyway.
    wait = limits.DISCOVERY_LOOK if places else limits.DISCOVERY_BURST
    impostor = False
    for reply in await search.ask(wait, frozenset({expected})):
        if same(reply.id, expected):
            places += search.places(reply)
        elif peer is not None and reply.name == peer.name and not same(reply.id, search.own_id):
            impostor = True
            search.warn(
                f"another machine calls itself {show(name)}; it is not the one that is paired "
                f"(id {format_id(reply.id)[:15]}…, paired is {format_id(expected)[:15]}…)"
            )
    if not places:
        raise FtxError(
            "name-not-found",
            f"{show(name)} was not found on the network, and has no remembered address",
            pair_again(name) if impostor else "",
        )
    return Found(tuple(dict.fromkeys(places)), expected, name)


def check_expected(found: Found, key: bytes, address: str, peers: TrustStore) -> None:
    """FtxError `key-changed`, with both ids, when whoever answers from `address` is not the one that must."""
    if found.expected is not None and not same(key, found.expected):
        raise FtxError(
            "key-changed",
            f"{found.name} ({address}) answered with the key {format_id(key)}, not {format_id(found.expected)}",
            pair_again(found.name) if peers.by_id(found.expected) is not None else "",
        )


def pair_again(name: str) -> str:
    """The way out when the paired machine `name` has another key now, as a hint."""
    return (
        f"if it was installed anew: ftx-client peers remove {show(name)}, then ftx-client pair {show(name)}: "
        "with the code that `ftx-client pair --open` shows there"
    )


async def _unpaired(search: _Search, name: str) -> Found:
    target = search.target
    replies = await search.ask(limits.DISCOVERY_BURST)
    # A daemon that was started again in the meantime has answered twice, with one key.
    matching: dict[bytes, list[Reply]] = {}
    for reply in replies:
        if reply.name == name:
            matching.setdefault(reply.id, []).append(reply)
    if len(matching) > 1:
        ids = ", ".join(format_id(one) for one in matching)
        raise FtxError("ambiguous-name", f"{len(matching)} machines call themselves {show(name)}: {ids}")
    for identity, ones in matching.items():
        places = [place for reply in ones for place in search.places(reply)]
        return Found(tuple(dict.fromkeys(places)), identity, name)
    hint = alike(name, [*(peer.name for peer in search.peers.peers), *(reply.name for reply in replies)])
    if not hint and replies:
        seen = sorted({show(reply.name) for reply in replies})[: limits.FAILURES_SHOWN]
        hint = f"seen on the network: {', '.join(seen)}"
    if not target.host:
        raise FtxError("name-not-found", f"nobody called {show(name)} answered", hint)
    return Found((Place(target.host, target.port or DEFAULT_PORT),), None, target.label, hint)
