"""The doctor on the way to one peer: its name, its addresses one by one, who answers there, and how fast it is.

Each address is looked at from below: ICMP, the query, TCP, TLS and the key, versions. The first address at which the
peer answers as it should is measured with probes. Nothing is written: not even where the peer was seen.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import attrs
from twisted.internet.task import deferLater

from ftx import limits
from ftx.client.find import Found, check_expected, locate
from ftx.client.settings import Settings
from ftx.client.target import Target
from ftx.core.checks import Check, bad, fair, good, of_error
from ftx.core.discovery import Reply, on_link
from ftx.core.identity import format_id, same
from ftx.core.peer_checks import (
    Speed,
    judge_dial,
    judge_echo,
    judge_mtu,
    judge_peer_clock,
    judge_query,
    judge_speed,
)
from ftx.core.peers import TrustStore
from ftx.core.trust import Trusted, judge
from ftx.disk.health import speed_of
from ftx.disk.keys import Identity
from ftx.errors import FtxError
from ftx.net.dial import Dialled, Place, dial
from ftx.net.discovery import Finder
from ftx.net.echo import Echoed, echo_means, measure_echo
from ftx.net.interfaces import interfaces, own_addresses
from ftx.net.probing import Measured, Measuring, tcp_info
from ftx.net.tls import Credentials
from ftx.net.worker import Worker
from ftx.text import show
from ftx.wire.announce import Way
from ftx.wire.messages import ProbeKind

__all__ = ["PeerExamination"]


@attrs.define(eq=False)
class _Met:
    """Who was met at an address."""

    key: bytes = b""
    #: Why that key is not one that we want; None where it is.
    stranger: FtxError | None = None


@attrs.define(eq=False)
class PeerExamination:
    """One look at a peer. `own` is this machine's key, None where it has none yet: then one is made up for this."""

    reactor: Any
    settings: Settings
    target: Target
    own: Identity | None
    peers: TrustStore
    worker: Worker
    put: Callable[[Check], object]
    #: Whether a raw socket may be tried for ICMP.
    raw: bool = True
    _identity: Identity = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._identity = self.own or Identity.generate()

    async def run(self) -> None:
        """Look at everything, until something makes the rest pointless."""
        if self.own is None:
            hint = "the first ftx-client pair, or the daemon's first start, makes one"
            self.put(fair("identity", "this machine has no key yet, so nobody can know it", hint))
        found = await self._name()
        if found is None:
            return
        places = await self._addresses(found)
        failures: list[Check] = []
        met = False
        for place in places[: limits.DOCTOR_ADDRESSES]:
            met = await self._address(found, place, failures) or met
        for check in failures:
            # One address that works is enough: the others are old, or of another network.
            self.put(check if not met else attrs.evolve(check, outcome="warn"))

    # -- the name ------------------------------------------------------------------------------------------

    async def _name(self) -> Found | None:
        warnings: list[str] = []
        try:
            found = await locate(
                self.reactor,
                self.target,
                self.peers,
                own_id=self._identity.id,
                port=self.settings.discovery_port,
                interfaces=self.settings.discovery_interfaces,
                exclude=self.settings.discovery_exclude,
                warn=warnings.append,
            )
        except FtxError as error:
            self.put(of_error("name", error, peer=True))
            return None
        for sentence in warnings:
            self.put(fair("name", sentence, "see who that is: ftx-client discover"))
        return found

    async def _addresses(self, found: Found) -> list[Place]:
        """The places as addresses, each once."""
        addresses: dict[Place, None] = {}
        for place in found.places:
            try:
                ip_address(place.host.partition("%")[0])
                addresses[place] = None
                continue
            except ValueError:
                pass
            try:
                for host in await self.worker.run(_resolved, place.host):
                    addresses[Place(host, place.port)] = None
            except FtxError as error:
                if found.hint:
                    error.hint = f"{found.hint}; {error.hint}"
                self.put(of_error("name", error, show(place.host), peer=True))
        if addresses:
            where = ", ".join(str(place) for place in addresses)
            self.put(good("name", f"{show(found.name)} may be at {where}"))
        return list(addresses)

    # -- one address ---------------------------------------------------------------------------------------

    async def _address(self, found: Found, place: Place, failures: list[Check]) -> bool:
        """Look at one address; what failed there goes to `failures`. Whether the peer answers there as it should."""
        where = str(place)
        version = ip_address(place.host.partition("%")[0]).version
        echoed: Echoed = await self.worker.run(lambda: measure_echo(place.host, echo_means(version, raw=self.raw)))
        near, ways, answered = await self._query(place.host, found.expected)
        met, began = _Met(), self.reactor.seconds()
        dialled, error = None, None
        try:
            dialled = await self._dial(found, place, met)
        except FtxError as failure:
            error = failure
        stood = 0.0 if dialled is None else dialled.connection.session.opened - began
        info = None if dialled is None else tcp_info(dialled.connection)
        trip = info.round_trip / 1e6 if info is not None and info.round_trip else stood or None
        self.put(judge_echo(place.host, echoed.means, echoed.sent, echoed.trips, echoed.why, tcp=trip))
        mtu = judge_mtu(place.host, echoed.means, echoed.mtu, echoed.link_mtu, black_hole=echoed.black_hole)
        if mtu is None and info is not None:
            mtu = judge_mtu(place.host, "tcp", info.path_mtu, 0, black_hole=False)
        if mtu is not None:
            self.put(mtu)
        cut_off = echoed.why in ("no-host", "no-route") or (error is not None and error.name == "network-unreachable")
        port = self.settings.discovery_port
        self.put(judge_query(place.host, answered, ways, near=near, port=port, cut_off=cut_off))
        for check in judge_dial(where, place.host, place.port, error, stood, proved=bool(met.key)):
            (failures.append if check.outcome == "fail" else self.put)(check)
        if not met.key and error is not None:
            return False
        own = dialled is not None and dialled.trusted.own
        identity = self._judged("this machine's own user" if own else show(found.name), where, met, error)
        (failures.append if identity.outcome == "fail" else self.put)(identity)
        if dialled is None:
            return False
        try:
            self._versions(dialled)
            if identity.outcome == "pass":
                await self._speed(dialled)
        finally:
            dialled.connection.finish()
        return identity.outcome == "pass"

    async def _query(self, host: str, expected: bytes | None) -> tuple[bool, list[str], list[str]]:
        """Ask by each way that may lead there, one after the other: a daemon answers one source once a second.

        Returns whether it is on a link of ours, the ways that were tried, and those that were answered.
        """
        address = ip_address(host.partition("%")[0])
        present = interfaces()
        near = address.is_loopback or any(on_link(address, one) for one in present)
        ways = [Way.UNICAST]
        if near and not address.is_loopback:
            ways += [Way.BROADCAST, Way.MULTICAST4] if address.version == 4 else [Way.MULTICAST6]
        answered: list[str] = []
        for way in ways:
            if answered:
                await deferLater(self.reactor, 1.05 / limits.REPLIES_PER_SOURCE, lambda: None)
            if await self._asked(way, host, expected):
                answered.append(way.label)
        return near, [way.label for way in ways], answered

    async def _asked(self, way: Way, host: str, expected: bytes | None) -> bool:
        heard: list[Reply] = []

        def wanted(reply: Reply) -> bool:
            return same(reply.id, expected) if expected is not None else host in (reply.address, *reply.addresses)

        def on_reply(reply: Reply) -> None:
            if wanted(reply):
                heard.append(reply)

        finder = Finder(
            self.reactor,
            port=self.settings.discovery_port,
            include=self.settings.discovery_interfaces,
            exclude=self.settings.discovery_exclude,
            hosts=[host] if way == Way.UNICAST else [],
            known=[peer.id for peer in self.peers.peers],
            own=self._identity.id,
            ways={way},
            on_reply=on_reply,
            on_address=on_reply,
        )
        finder.start()
        try:
            until = self.reactor.seconds() + limits.DOCTOR_QUERY
            while not heard and self.reactor.seconds() < until:
                await deferLater(self.reactor, limits.DOCTOR_LOOK, lambda: None)
        finally:
            finder.stop()
        return bool(heard)

    async def _dial(self, found: Found, place: Place, met: _Met) -> Dialled:
        addresses = await self.worker.run(lambda: own_addresses(interfaces()))

        def accept(key: bytes, address: str) -> Trusted:
            met.key = key
            check_expected(found, key, address, self.peers)
            try:
                return judge(
                    key,
                    address,
                    own_id=self._identity.id,
                    own_name=self.settings.own_name,
                    own_addresses=addresses,
                    own_key_anywhere=self.settings.own_key_anywhere,
                    peers=self.peers,
                    unknown="unknown-peer",
                )
            except FtxError as error:
                if error.name != "unknown-peer":
                    raise
                met.stranger = error
                return Trusted(key, found.name, own=False)

        credentials = Credentials(self._identity)
        name, timeout = self.settings.own_name, limits.DOCTOR_CONNECT
        return await dial(self.reactor, credentials, [place], name=name, accept=accept, timeout=timeout)

    # -- who is there --------------------------------------------------------------------------------------

    def _judged(self, name: str, where: str, met: _Met, error: FtxError | None) -> Check:
        """What TLS has proved, and what the peer made of our key."""
        key = format_id(met.key)
        if met.stranger is not None:
            both = "; nor is this machine's key known there" if error is not None and error.name == "untrusted" else ""
            hint = f"if it is the machine you mean: ftx-client pair --open there, then ftx-client pair {name} here"
            return bad("identity", f"its key is not paired here{both}: {key}", hint, where, 5)
        if error is None:
            return good("identity", f"it proved the key of {name}, {key}", where)
        check = of_error("identity" if error.exit_code == 5 else "session", error, where, peer=True)
        return attrs.evolve(check, name="versions") if error.name == "no-common-version" else check

    def _versions(self, dialled: Dialled) -> None:
        session = dialled.connection.session
        hello = session.peer
        if hello is None:
            return
        software = show(hello.software, 64)
        lacks = sorted(set(session.hello.features) - set(hello.features))
        sentence = f"it runs {software}, protocol {session.version or hello.highest}"
        self.put(good("versions", sentence, lacks=" ".join(lacks), software=software))

    # -- how fast it is ------------------------------------------------------------------------------------

    async def _speed(self, dialled: Dialled) -> None:
        """Probes in both directions, and of both disks; where the peer wants none, that is no failure."""
        measuring = Measuring(dialled.connection)
        try:
            disk_there = (await measuring.run(ProbeKind.DISK)).rate
        except FtxError as error:
            if dialled.connection.over or error.name == "not-supported":
                self.put(_no_probe(error))
                if dialled.connection.over or "probe" not in dialled.connection.session.features:
                    return
            disk_there = 0.0
        disk_here = await self.worker.run(speed_of, self.settings.places.state)
        last: Measured | None = None
        for kind, direction, disk in ((ProbeKind.UP, "up", disk_there), (ProbeKind.DOWN, "down", disk_here)):
            try:
                last = await measuring.run(kind)
            except FtxError as error:
                self.put(_no_probe(error))
                return
            self.put(judge_speed(_speed(last, direction, disk)))
        if last is not None:
            self.put(judge_peer_clock(last.ahead, last.info.round_trip / 1e6))


def _no_probe(error: FtxError) -> Check:
    if error.name == "busy":
        return fair("speed", "it takes part in no more probes at the moment", "try again in a minute")
    if error.name == "not-supported":
        return good("speed", "it takes part in no probes: it is older, or its operator wants none")
    return fair("speed", f"the speed could not be measured: {error.message}", error.hint or "try again")


def _speed(measured: Measured, direction: Any, disk: float) -> Speed:
    """What a probe has shown, from the sender's side of TCP: that one knows the losses and the window."""
    account, info = measured.account, measured.info
    up = direction == "up"
    segment = info.segment or 1448
    stalled = info.stalled / 1e6 if up else account.stalled / 1e6
    return Speed(
        direction=direction,
        rate=measured.rate,
        limit=account.rate,
        here=measured.here,
        there=measured.there,
        disk=disk,
        held_up=min(1.0, stalled / measured.elapsed) if measured.elapsed > 0 else 0.0,
        retransmits=info.retransmits if up else account.retransmits,
        segments=measured.bytes // segment,
        window=info.window_bytes if up else account.window,
        round_trip=(info.round_trip if up else account.round_trip) / 1e6,
    )


def _resolved(host: str) -> list[str]:
    """The addresses of a host name; FtxError `name-not-found`. Blocks."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        why = "the name server does not answer" if again else "neither a peer nor a host is called so"
        hint = "write it as ftx-client peers list or ftx-client discover shows it, or use an address"
        if again:
            hint += "; for the name of a host, look at the name server in /etc/resolv.conf"
        raise FtxError("name-not-found", f"{show(host)} was not found: {why}", hint) from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))[: limits.DOCTOR_ADDRESSES]
