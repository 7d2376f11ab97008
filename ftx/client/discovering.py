"""Asking on the network who is there, and putting the answers beside what is known here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from ftx import limits
from ftx.client.find import place_of
from ftx.client.settings import Settings
from ftx.client.sightings import Sightings
from ftx.core.discovery import Interface, chosen, near
from ftx.core.identity import format_id, parse_id, same
from ftx.core.peers import Peer, TrustStore
from ftx.disk.defaults import DEFAULT_PORT
from ftx.disk.keys import load_or_create
from ftx.disk.peers import load
from ftx.disk.seen import SeenName, remember
from ftx.errors import FtxError
from ftx.net.discovery import Finder, Reply
from ftx.net.dnssd import Browser, Offered, available
from ftx.net.interfaces import interfaces, missing
from ftx.net.links import LinkWatch
from ftx.net.worker import Worker
from ftx.text import show
from ftx.wire.events import Discovered

__all__ = ["nobody", "search", "watch"]

Put = Callable[[Discovered], object]


async def search(
    reactor: Any, settings: Settings, wait: float, put: Put, hosts: Sequence[str] = ()
) -> list[Discovered]:
    """See `ftx.client.api.discover`; `put` gets every answer as it comes."""
    asking = await _begin(reactor, settings, hosts)
    try:
        found = await asking.round(wait, put)
        await asking.keep(found)
        return found
    finally:
        await asking.worker.stop()


async def watch(reactor: Any, settings: Settings, put: Put, hosts: Sequence[str] = ()) -> None:
    """Search again and again until cancelled; `put` gets every answer, and who has gone.

    Between searches pass DISCOVERY_WATCH seconds, or less when links or addresses of this machine change.
    """
    asking = await _begin(reactor, settings, hosts)
    sightings = Sightings()
    kept: set[str] = set()
    pausing = _Pause(reactor)
    links = LinkWatch(reactor, pausing.end)
    links.start()

    def take(event: Discovered) -> None:
        new = sightings.take(event, reactor.seconds())
        put(event if new else msgspec.structs.replace(event, state="still"))

    try:
        while True:
            began = reactor.seconds()
            found = await asking.round(limits.DISCOVERY_BURST, take)
            for event in sightings.gone(began - (limits.DISCOVERY_MISSED - 1) * limits.DISCOVERY_WATCH):
                put(event)
            names = {one.name for one in found}
            if names - kept:
                kept = names
                await asking.keep(found)
            await pausing.wait(limits.DISCOVERY_WATCH - limits.DISCOVERY_BURST)
    finally:
        links.close()
        await asking.worker.stop()


class _Pause:
    """A wait that can be cut short."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._over: Deferred[None] | None = None

    async def wait(self, seconds: float) -> None:
        """Until `seconds` have passed, or `end` is called; cancelling it cancels whoever waits."""
        over: Deferred[None] = Deferred()
        self._over = over
        timer = self._reactor.callLater(seconds, self.end)
        try:
            await over
        finally:
            self._over = None
            if timer.active():
                timer.cancel()

    def end(self) -> None:
        """Wait no longer; does nothing when nobody waits."""
        over, self._over = self._over, None
        if over is not None:
            over.callback(None)


@attrs.define(eq=False)
class _Asking:
    """What every search of one run has in common."""

    reactor: Any
    settings: Settings
    worker: Worker
    own: bytes | None
    peers: TrustStore
    #: Hosts that were named: asked wherever they are.
    hosts: tuple[str, ...]

    async def round(self, wait: float, put: Put) -> list[Discovered]:
        """One search of `wait` seconds: every answer, known peers first."""
        settings, peers = self.settings, self.peers.peers
        recent = sorted(peers, key=lambda peer: peer.seen or peer.added, reverse=True)
        known = dict.fromkeys([*([] if self.own is None else [self.own]), *(peer.id for peer in recent)])
        events: list[Discovered] = []
        began = self.reactor.seconds()

        def tell(reply: Reply) -> None:
            event = self._event(reply, self.reactor.seconds() - began, events)
            events.append(event)
            put(event)

        finder = Finder(
            self.reactor,
            port=settings.discovery_port,
            include=settings.discovery_interfaces,
            exclude=settings.discovery_exclude,
            hosts=(*self.hosts, *self._remembered(recent)),
            on_reply=tell,
            on_address=tell,
            known=known.keys(),
            own=self.own,
        )
        published: list[Discovered] = []

        def heard(one: Offered) -> None:
            event = self._published(one, self.reactor.seconds() - began)
            if event is None or len(published) >= limits.DISCOVERED:
                return
            published.append(event)
            put(event)
            for address in self._allowed(list(one.addresses)):
                finder.ask(address)  # a claim so far: the daemon there can sign for itself

        browser = Browser(self.reactor, heard) if settings.mdns and available() else None
        finder.start()
        try:
            if browser is not None:
                browser.start(chosen(interfaces(), settings.discovery_interfaces, settings.discovery_exclude))
            await deferLater(self.reactor, wait, lambda: None)
        finally:
            finder.stop()
            if browser is not None:
                await browser.stop()
        order = {format_id(reply.id): place for place, reply in enumerate(finder.replies())}
        proven = sorted((one for one in events if one.id in order), key=lambda one: order[one.id])
        return [*proven, *published]

    async def keep(self, found: Iterable[Discovered]) -> None:
        """Keep the names for the completion of command lines."""
        now = time.time()
        seen = {one.name: SeenName(one.name, one.address, now) for one in found if show(one.name) == one.name}
        if seen:
            await self.worker.run(remember, self.settings.places.state, list(seen.values()), now)

    def _published(self, one: Offered, after: float) -> Discovered | None:
        """What DNS-SD says of somebody, which nobody signed; None for an identity that is none."""
        try:
            identity = parse_id(one.id) if one.id else None
        except FtxError:
            return None
        peer = None if identity is None else self.peers.by_id(identity)
        present = [interface.name for interface in interfaces() if near(one.addresses[0], interface)]
        return Discovered(
            name=one.name if peer is None else peer.name,
            id=one.id and one.id.lower(),
            address=one.addresses[0],
            port=one.port,
            verified=False,
            paired=peer is not None,
            via="dns-sd",
            interface=present[0] if present else "",
            versions=list(one.versions),
            announced=one.name,
            conflict=peer is None and self.peers.by_name(one.name) is not None,
            after_s=round(after, 4),
        )

    def _remembered(self, peers: Iterable[Peer]) -> list[str]:
        """Where these peers were seen, as far as one may ask there."""
        return self._allowed([place_of(hint, DEFAULT_PORT).host for peer in peers for hint in peer.addresses])

    def _allowed(self, hosts: list[str]) -> list[str]:
        """Those of some addresses that may be asked: on other interfaces than the chosen ones nobody is."""
        include, exclude = self.settings.discovery_interfaces, self.settings.discovery_exclude
        if not include and not exclude:
            return hosts
        used = chosen(interfaces(), include, exclude)
        return [host for host in hosts if any(near(host, interface) for interface in used)]

    def _event(self, reply: Reply, after: float, before: Iterable[Discovered]) -> Discovered:
        mine = self.own is not None and same(reply.id, self.own)
        peer = self.peers.by_id(reply.id)
        written = format_id(reply.id)
        known = mine or peer is not None
        namesake = self.peers.by_name(reply.name) is not None or any(
            one.name == reply.name and one.id != written for one in before
        )
        return Discovered(
            name=reply.name if peer is None else peer.name,
            id=written,
            address=reply.address,
            port=reply.port,
            verified=known,
            paired=peer is not None,
            via=reply.via,
            interface=reply.interface,
            versions=list(reply.versions),
            announced=reply.name,
            conflict=namesake and not known,
            after_s=round(after, 4),
        )


async def _begin(reactor: Any, settings: Settings, hosts: Sequence[str]) -> _Asking:
    absent = missing(settings.discovery_interfaces, interfaces())
    if absent and len(absent) == len(settings.discovery_interfaces):
        names = ", ".join(show(name) for name in absent)
        raise FtxError("usage", f"this machine has no network interface {names}", "see --discovery-interface")
    worker = Worker(reactor, 1)
    worker.start()
    try:
        own, peers = await worker.run(_own, settings)
    except BaseException:
        await worker.stop()
        raise
    return _Asking(reactor, settings, worker, own, peers, tuple(hosts))


def _own(settings: Settings) -> tuple[bytes | None, TrustStore]:
    own = load_or_create(settings.places.key).id if os.path.exists(settings.places.key) else None
    return own, load(settings.places.peers)


def nobody(settings: Settings) -> list[str]:
    """What is worth checking when nobody answered, as sentences: what was asked here first, then what is there."""
    used = chosen(interfaces(), settings.discovery_interfaces, settings.discovery_exclude)
    outside = [one for one in used if not one.loopback and one.addresses]
    said = []
    if outside:
        said.append("asked on " + "; ".join(_on(one) for one in outside[: limits.FAILURES_SHOWN]))
    elif used:
        said.append("asked on loopback only: nobody outside this machine can have heard it")
    else:
        said.append("no network interface is up: is a cable, or a Wi-Fi, connected?")
    if settings.discovery_interfaces:
        names = ", ".join(show(name) for name in settings.discovery_interfaces)
        said.append(f"no other interface was used: discovery_interface is {names}")
    if settings.discovery_exclude:
        names = ", ".join(show(name) for name in settings.discovery_exclude)
        said.append(f"left out: discovery_exclude is {names}")
    return [
        *said,
        "is a daemon running there, without --no-discovery? (ftx-client ctl status, on that machine)",
        'a daemon with discovery = "paired" answers paired machines only',
        "guest Wi-Fi, VPNs and containers keep machines apart; discovery does not cross routers",
        f"a firewall there must let in UDP port {settings.discovery_port}",
        "an address needs no discovery: ftx-client send FILE ADDRESS:",
    ]


def _on(interface: Interface) -> str:
    addresses = ", ".join(str(item.ip) for item in interface.addresses[:2])
    return f"{show(interface.name)} ({addresses})"
