"""From a target to the places where it may be, and the rule for who may answer there.

The order is fixed (`docs/cli.md`): paired names, discovered names, the resolver. A paired name means its key: its
remembered addresses and the replies that carry its key are dialled at once, and whoever else announces the name
only causes a warning. An unpaired name waits out the discovery burst, so that two peers of one name are an error
and not a coin toss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from ftx import limits
from ftx.client.target import Target
from ftx.core.identity import format_id, same
from ftx.core.peers import Peer, TrustStore
from ftx.errors import FtxError
from ftx.net.dial import Place
from ftx.net.discovery import Reply, find
from ftx.text import show

__all__ = ["Found", "locate", "place_of"]

DEFAULT_PORT = 7389


@attrs.frozen
class Found:
    """Where to dial, and the identity that must answer (None: any that is trusted)."""

    places: tuple[Place, ...]
    expected: bytes | None
    name: str


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


async def locate(
    reactor: Any,
    target: Target,
    peers: TrustStore,
    *,
    own_id: bytes,
    port: int,
    interfaces: Sequence[str],
    warn: Callable[[str], object],
) -> Found:
    """Find `target`. `port` is the UDP port of discovery.

    Raises FtxError `name-not-found`, `ambiguous-name` or `no-such-peer`.
    """
    dial_port = target.port or DEFAULT_PORT
    expected = target.id
    peer = peers.by_id(expected) if expected is not None else peers.by_name(target.name) if target.name else None
    if peer is not None:
        expected = peer.id
    pinned = bool(target.host) and target.kind in ("ipv4", "ipv6", "host") and target.host != target.name
    if pinned or (target.host and not target.name and expected is None):
        if target.name and target.name != target.host and peer is None:
            raise FtxError("no-such-peer", f"no peer is called {show(target.name)}", "ftx-client peers list shows them")
        return Found((Place(target.host, dial_port),), expected, target.label)
    if expected is not None:
        return await _paired(reactor, target, peer, expected, dial_port, port, interfaces, warn, own_id)
    return await _unpaired(reactor, target, dial_port, port, interfaces)


async def _paired(
    reactor: Any,
    target: Target,
    peer: Peer | None,
    expected: bytes,
    dial_port: int,
    port: int,
    interfaces: Sequence[str],
    warn: Callable[[str], object],
    own_id: bytes,
) -> Found:
    hints = peer.addresses if peer is not None else ()
    places = [place_of(hint, dial_port) for hint in hints]
    if not places or target.port is None:
        # With remembered addresses a short look is enough: they are dialled anyway.
        wait = limits.DISCOVERY_LOOK if places else limits.DISCOVERY_BURST
        for reply in await find(reactor, port=port, wait=wait, interfaces=interfaces, known={expected}):
            if same(reply.id, expected):
                places.append(Place(reply.address, reply.port))
            elif peer is not None and reply.name == peer.name and not same(reply.id, own_id):
                warn(f"another machine calls itself {show(reply.name)}; it is not the one that is paired")
    name = peer.name if peer is not None else target.label
    if not places:
        raise FtxError("name-not-found", f"{show(name)} was not found on the network, and has no remembered address")
    return Found(tuple(dict.fromkeys(places)), expected, name)


async def _unpaired(
    reactor: Any, target: Target, dial_port: int, port: int, interfaces: Sequence[str]
) -> Found:
    name = target.name or target.host
    replies = await find(reactor, port=port, wait=limits.DISCOVERY_BURST, interfaces=interfaces)
    matching: dict[bytes, Reply] = {reply.id: reply for reply in replies if reply.name == name}
    if len(matching) > 1:
        ids = ", ".join(format_id(one) for one in matching)
        raise FtxError("ambiguous-name", f"{len(matching)} machines call themselves {show(name)}: {ids}")
    for reply in matching.values():
        return Found((Place(reply.address, target.port or reply.port),), reply.id, name)
    if not target.host:
        seen = sorted({show(reply.name) for reply in replies})
        hint = f"seen on the network: {', '.join(seen)}" if seen else ""
        raise FtxError("name-not-found", f"nobody called {show(name)} answered", hint)
    return Found((Place(target.host, dial_port),), None, target.label)
