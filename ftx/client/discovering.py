"""Asking on the network who is there, and putting the answers beside what is known here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ftx.client.find import DEFAULT_PORT, place_of
from ftx.client.settings import Settings
from ftx.core.identity import format_id, same
from ftx.core.peers import TrustStore
from ftx.disk.keys import load_or_create
from ftx.disk.peers import load
from ftx.errors import FtxError
from ftx.net.discovery import Reply, find
from ftx.net.interfaces import interfaces, missing
from ftx.net.worker import Worker
from ftx.text import show
from ftx.wire.events import Discovered

__all__ = ["search"]


async def search(
    reactor: Any, settings: Settings, wait: float, put: Callable[[Discovered], object]
) -> list[Discovered]:
    """See `ftx.client.api.discover`; `put` gets every answer as it comes."""
    absent = missing(settings.discovery_interfaces, interfaces())
    if absent and len(absent) == len(settings.discovery_interfaces):
        names = ", ".join(show(name) for name in absent)
        raise FtxError("usage", f"this machine has no network interface {names}", "see --discovery-interface")
    worker = Worker(reactor, 1)
    worker.start()
    try:
        own, peers = await worker.run(_own, settings)
    finally:
        await worker.stop()

    def event(reply: Reply, address: str) -> Discovered:
        mine = own is not None and same(reply.id, own)
        peer = peers.by_id(reply.id)
        return Discovered(
            name=reply.name if peer is None else peer.name,
            id=format_id(reply.id),
            address=address,
            port=reply.port,
            verified=mine or peer is not None,
            paired=peer is not None,
            via=reply.via,
            interface=reply.interface,
            versions=list(reply.versions),
            announced=reply.name,
        )

    def tell(reply: Reply) -> None:
        put(event(reply, reply.address))

    hosts = [place_of(hint, DEFAULT_PORT).host for peer in peers.peers for hint in peer.addresses]
    recent = sorted(peers.peers, key=lambda peer: peer.seen or peer.added, reverse=True)
    known = dict.fromkeys([*([] if own is None else [own]), *(peer.id for peer in recent)])
    replies = await find(
        reactor,
        port=settings.discovery_port,
        wait=wait,
        interfaces=settings.discovery_interfaces,
        exclude=settings.discovery_exclude,
        extra_hosts=hosts,
        known=known.keys(),
        own=own,
        on_reply=tell,
        on_address=tell,
    )
    return [event(reply, address) for reply in replies for address in reply.addresses]


def _own(settings: Settings) -> tuple[bytes | None, TrustStore]:
    own = load_or_create(settings.places.key).id if os.path.exists(settings.places.key) else None
    return own, load(settings.places.peers)
