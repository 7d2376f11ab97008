"""The doctor on this machine: what others need to find it and to send to it, looked at and never changed.

Measuring is in `ftx.net` and `ftx.disk`, judging in `ftx.core.machine_checks`; here is in which order, and what follows
from what. What blocks runs in a worker thread.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import OpenSSL

import twisted
from ftx import __version__
from ftx.client.control import call
from ftx.client.settings import Settings
from ftx.core.checks import Check, bad, fair, good, of_error
from ftx.core.discovery import Interface, chosen
from ftx.core.firewall import Packet, Verdict, judge_iptables, judge_nftables
from ftx.core.identity import parse_id, same
from ftx.core.machine_checks import (
    judge_clock,
    judge_daemon_version,
    judge_firewall,
    judge_hearing,
    judge_inbox_space,
    judge_link,
    judge_port,
)
from ftx.core.trust import Trusted
from ftx.disk.defaults import DEFAULT_PORT
from ftx.disk.health import look_at_inbox, newest, problems
from ftx.disk.holders import Holder, holders
from ftx.disk.keys import Identity, load
from ftx.disk.linux import clock_synchronised
from ftx.disk.many import available
from ftx.disk.rulesets import Ruleset, read_ruleset
from ftx.errors import FtxError
from ftx.net.dial import Place, dial
from ftx.net.hearing import own_packets
from ftx.net.interfaces import interfaces, links
from ftx.net.tls import Credentials
from ftx.net.worker import Worker
from ftx.text import show

__all__ = ["LocalExamination"]

_STRICTEST: Sequence[Verdict] = ("dropped", "unclear", "accepted")


@attrs.define(eq=False)
class LocalExamination:
    """One look at this machine; `put` gets each check as it is done. `control` is the socket of the daemon to ask.

    `inbox` is where a daemon would put things, if none runs that says so."""

    reactor: Any
    settings: Settings
    control: str
    inbox: str
    worker: Worker
    put: Callable[[Check], object]
    _status: Mapping[str, Any] = attrs.field(factory=dict, init=False)
    _used: list[Interface] = attrs.field(factory=list, init=False)
    #: Ways of asking that were not heard: the nearest thing to a firewall's rules where those may not be read.
    _dropped: bool = attrs.field(default=False, init=False)

    async def run(self) -> None:
        """Look at everything, in the order in which one thing explains the next."""
        self.put(good("versions", _versions(many=await self.worker.run(available)), "programs"))
        await self._files()
        await self._daemon()
        await self._ports()
        await self._links()
        await self._firewall()
        await self._reachable()
        await self._inbox()

    # -- what is on the disk -------------------------------------------------------------------------------

    async def _files(self) -> None:
        places = self.settings.places
        kept = [places.key, places.peers, places.state]
        latest, in_time = await self.worker.run(lambda: (newest(kept), clock_synchronised()))
        self.put(judge_clock(time.time(), latest, in_time))
        found = await self.worker.run(problems, places)
        for about, error in found:
            self.put(of_error("files", error, about))
        if not found:
            self.put(good("files", f"the home, the key and the peers are private: {show(places.home or places.state)}"))

    async def _inbox(self) -> None:
        usual = self.settings.places.inbox
        path = str(self._status.get("inbox") or self.inbox or usual)
        look = await self.worker.run(lambda: look_at_inbox(path, usual=path == usual))
        if look.error is not None:
            self.put(of_error("inbox", look.error, show(look.path)))
            return
        made = "will be made when the daemon starts" if look.missing else "can be written"
        self.put(good("inbox", f"{show(look.path)} {made}", show(look.path)))
        self.put(judge_inbox_space(look.path, look.free, look.total, look.files))

    # -- the daemon ----------------------------------------------------------------------------------------

    async def _daemon(self) -> None:
        try:
            self._status = await call(self.reactor, self.control, "daemon.status")
        except FtxError as error:
            hint = error.hint
            if error.name == "no-daemon":
                hint = "start it: ftx-server (or at each login: systemctl --user enable --now ftx); without it this "
                hint += "machine can send and get, and nobody can find it or send to it"
            self.put(bad("daemon", error.message, hint))
            return
        where = ", ".join(_address(one) for one in self._status["listening"])
        self.put(good("daemon", f"{show(str(self._status['name']))} runs, listening on {where}"))
        self.put(judge_daemon_version(__version__, str(self._status["version"])))
        discovery = self._status["discovery"]
        if discovery is None:
            self.put(
                fair(
                    "discovery",
                    "the daemon does not answer discovery: nobody finds this machine by its name",
                    "it was started with --no-discovery, or the check of the UDP port says who is in the way",
                )
            )
        else:
            on = ", ".join(show(name) for name in discovery["interfaces"]) or "no interface"
            make = good if discovery["interfaces"] else bad
            sentence = f"the daemon answers discovery on {on}"
            self.put(
                make("discovery", sentence, "") if make is good else bad("discovery", sentence, "see its --listen")
            )

    async def _ports(self) -> None:
        """Who holds the ports that the daemon has, or would want."""
        listening = {("tcp", int(one["port"])) for one in self._status.get("listening", ())} or {("tcp", DEFAULT_PORT)}
        discovery = self._status.get("discovery")
        udp = int(discovery["port"]) if discovery else self.settings.discovery_port
        for protocol, port in [*sorted(listening), ("udp", udp)]:
            found: list[Holder] = await self.worker.run(holders, "udp" if protocol == "udp" else "tcp", port)
            mine = [one for one in found if one.pid and one.pid == self._status.get("pid")]
            unknown = [one for one in found if not one.pid]
            ours = bool(self._status) and (
                bool(mine) or (bool(unknown) and (protocol == "tcp" or discovery is not None))
            )
            others = sorted({one.named for one in found if one not in mine})
            self.put(judge_port(protocol, port, others, ours=ours, daemon=bool(self._status)))

    async def _reachable(self) -> None:
        """Whether the daemon answers on each address of this machine that it listens on, with its own key."""
        if not self._status:
            return
        try:
            identity = await self.worker.run(load, self.settings.places.key)
        except FtxError:
            identity = None
        daemon = parse_id(str(self._status["id"]))
        for place in _places(self._status["listening"], interfaces()):
            self.put(await self._dialled(place, identity or Identity.generate(), daemon))

    async def _dialled(self, place: Place, identity: Identity, daemon: bytes) -> Check:
        proved: list[bytes] = []

        def accept(key: bytes, _: str) -> Trusted:
            proved.append(key)
            return Trusted(key, "", own=same(key, identity.id))

        about = str(place)
        try:
            dialled = await dial(
                self.reactor, Credentials(identity), [place], name=self.settings.own_name, accept=accept
            )
        except FtxError as error:
            if not proved or error.exit_code != 5:  # who does not know us has answered all the same
                hint = "a firewall of this machine may drop it, or another program has that address"
                return bad("reachable", f"the daemon does not answer on {about}: {error.message}", hint, about)
        else:
            dialled.connection.finish()
        if not same(proved[0], daemon):
            return bad("reachable", f"another ftx daemon answers on {about}", "see who holds the port", about)
        return good("reachable", f"the daemon answers on {about}", about)

    # -- the network ---------------------------------------------------------------------------------------

    async def _links(self) -> None:
        """Each interface, and whether what is sent to all on it is heard."""
        present = interfaces()
        settings = self.settings
        wanted = settings.discovery_interfaces
        self._used = list(chosen(present, wanted, settings.discovery_exclude))
        by_name = {interface.name: interface for interface in present}
        up = links()
        for name in [*up, *(name for name in wanted if name not in up)]:
            interface = by_name.get(name)
            if wanted and name not in wanted:
                continue
            running = up.get(name, False) and (interface is not None or name not in by_name)
            if not running and name not in wanted and any(not one.loopback for one in present):
                self.put(good("interface", f"{show(name)} is down, and not used", show(name)))
                continue
            texts = [str(one.ip) for one in interface.addresses] if interface is not None else []
            self.put(judge_link(name, texts, up=running, wanted=name in wanted))
        if not wanted and all(one.loopback for one in present):
            self.put(bad("interface", "no network interface is up but loopback", "connect this machine to a network"))
        for interface in self._used:
            for heard in await self.worker.run(own_packets, interface, settings.discovery_port):
                self._dropped |= heard.result == "elsewhere"
                check = judge_hearing(
                    interface.name, heard.way.label, heard.result, heard.reason, settings.discovery_port
                )
                self.put(check)

    async def _firewall(self) -> None:
        """What the rules say, where they may be read; else what was heard has said it."""
        ruleset: Ruleset | None = await self.worker.run(read_ruleset)
        ports = {("tcp", int(one["port"])) for one in self._status.get("listening", ())} or {("tcp", DEFAULT_PORT)}
        for protocol, port in [*sorted(ports), ("udp", self.settings.discovery_port)]:
            if ruleset is None:
                if not self._dropped or protocol == "tcp":
                    self.put(judge_firewall(protocol, port, None, "", ()))
                continue
            verdicts: dict[Verdict, list[str]] = {}
            for interface in self._used:
                for version in sorted({one.version for one in interface.addresses}):
                    packet = Packet(protocol, port, version, interface.name)
                    verdicts.setdefault(_verdict(ruleset, packet), []).append(interface.name)
            for verdict in _STRICTEST:
                if verdict in verdicts:
                    names = list(dict.fromkeys(verdicts[verdict]))
                    self.put(judge_firewall(protocol, port, verdict, ruleset.source, names))
                    break


def _verdict(ruleset: Ruleset, packet: Packet) -> Verdict:
    if ruleset.source == "nftables":
        return judge_nftables(ruleset.listing, packet)
    return judge_iptables(ruleset.saved.get(packet.version, ""), packet)


def _versions(*, many: bool) -> str:
    system = f"{platform.system()} {platform.release()}"
    python = platform.python_version()
    library = "with" if many else "without"
    return (
        f"ftx {__version__} {library} its native library, Python {python}, Twisted {twisted.__version__}, "
        f"pyOpenSSL {OpenSSL.__version__}, {system}"
    )


def _address(one: Mapping[str, Any]) -> str:
    return str(Place(str(one["address"]), int(one["port"])))


def _places(listening: Sequence[Mapping[str, Any]], present: Sequence[Interface]) -> list[Place]:
    """Every address of this machine that the daemon listens on; link-local ones with their zone."""
    places: dict[Place, None] = {}
    for one in listening:
        host, port = str(one["address"]), int(one["port"])
        if host not in ("0.0.0.0", "::", ""):
            places[Place(host, port)] = None
            continue
        version = 6 if host == "::" else 4
        for interface in present:
            for own in interface.addresses:
                if own.version == version:
                    zone = f"%{interface.name}" if version == 6 and own.ip.is_link_local else ""
                    places[Place(f"{own.ip}{zone}", port)] = None
    return list(places)
