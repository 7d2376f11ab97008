"""Discovery and transfers between hosts of their own on one bridge, with real programs: what the network may do to us.

One network serves many checks, for it is making it that costs. `make network` adds what takes longer: a peer whose
address goes away while nothing tells us so.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import msgspec
import pytest
from support.bridge import Bridge, bridge
from support.lab import Client, Daemon, Lab, Running, until

from ftx.client.sightings import discovered_table
from ftx.wire.events import Discovered

MiB = 1 << 20
#: Not `lo`: discovery may use what the namespaces have.
EVERYWHERE = {"FTX_DISCOVERY_INTERFACE": ""}
ANY = ("--listen", "tcp6:7389")


@attrs.frozen
class Net:
    """A client on host 1; `attic` on host 2, for everyone; `nas` on host 3, for who is paired; nothing on host 4."""

    lab: Lab
    hosts: Bridge
    attic: Daemon
    nas: Daemon

    def client(self, *words: str, home: str = "desk", json: bool = True) -> Client:
        """Run the client on host 1."""
        return self.lab.client(*words, home=home, host=self.hosts.hosts[0], environ=EVERYWHERE, json=json)

    def seen(self) -> set[tuple[str, str, str]]:
        """Who was found in a short look, by which way, and where."""
        found = self.client("discover", "--wait", "0.3").ends(None).of("peer")
        return {(one["name"], one["via"], one["address"]) for one in found}

    def sees(self, condition: Callable[[set[tuple[str, str, str]]], bool], what: str) -> None:
        """Look until what is seen fulfils a condition: whoever asked a moment ago is not answered again."""
        until(lambda: condition(self.seen()), what)


@pytest.fixture
def net(lab: Lab) -> Net:
    """The hosts and the daemons."""
    hosts = bridge(lab, 4)
    if hosts is None:
        pytest.skip("networks cannot be made here")
    for name, address in (("attic", "192.0.2.2"), ("nas", "192.0.2.3")):
        lab.pair(name, "desk", "desk")
        lab.pair("desk", name, name, address)

    def start(name: str, number: int, *more: str) -> Daemon:
        options = ("--name", name, *ANY, *more)
        host = hosts.hosts[number - 1]
        return lab.daemon(
            name, *options, port=7389, address="0.0.0.0", host=host, discovery=True, environ=EVERYWHERE
        )

    return Net(lab, hosts, start("attic", 2), start("nas", 3, "--discovery", "paired"))


@pytest.mark.case("I146", "I147", "I149", "F107", "F109")
def test_who_is_found_whatever_the_network_does(net: Net) -> None:
    """Every way at once; some of them blocked; IPv6 alone; links that go and come; a neighbour who forges."""
    there = {("attic", "192.0.2.2"), ("attic", "fe80::2%eth0"), ("nas", "192.0.2.3"), ("nas", "fe80::3%eth0")}
    net.sees(lambda seen: {(name, address) for name, _, address in seen} == there, "both at all addresses")
    _blocked(net)
    _ipv6_alone(net)
    _links(net)
    _forger(net)
    _our_address_goes_away(net)
    for daemon in (net.attic, net.nas):
        daemon.clean_log()


def _blocked(net: Net) -> None:
    """Multicast and broadcast are dropped: who is remembered answers where it was, and an address works."""
    if shutil.which("nft") is None:
        return
    net.hosts.filter(1, "ip daddr 224.0.0.0/4", "ip daddr 192.0.2.255", "ip6 daddr ff12::/16")
    remembered = {("attic", "unicast", "192.0.2.2"), ("nas", "unicast", "192.0.2.3")}
    net.sees(lambda seen: {one for one in seen if one[2][0].isdigit()} == remembered, "those remembered")
    (net.lab.root / "a").write_bytes(b"1")
    net.client("send", "a", "192.0.2.2:").ends(0)
    assert (net.attic.inbox / "a").read_bytes() == b"1"
    net.hosts.unfilter(1)


def _ipv6_alone(net: Net) -> None:
    """No host has an IPv4 address but for its own loopback."""
    for number in (1, 2, 3):
        net.hosts.ip(number, "addr flush dev eth0 scope global")
    six = {("attic", "multicast6", "fe80::2%eth0"), ("nas", "multicast6", "fe80::3%eth0")}
    net.sees(lambda seen: seen == six, "IPv6 alone")
    for number in (1, 2, 3):
        net.hosts.address(number, f"192.0.2.{number}/24")


def _links(net: Net) -> None:
    """A cable is pulled here: nobody is there, with a sentence; another is plugged in there: it is served at once."""
    net.hosts.ip(1, "link set eth0 down")
    alone = net.client("discover", "--wait", "0.3", json=False).ends(11)
    assert "no network interface is up" in alone.text() or "loopback only" in alone.text()
    assert "send FILE ADDRESS" in alone.text()
    net.hosts.ip(1, "link set eth0 up")
    net.hosts.link_local(1)

    def served() -> list[str]:
        return sorted(net.attic.call("daemon.status")["discovery"]["interfaces"])

    assert served() == ["eth0", "lo"]
    net.hosts.ip(2, "link add eth1 type bridge")
    net.hosts.ip(2, "addr add 198.51.100.1/24 dev eth1")
    net.hosts.ip(2, "link set eth1 up")
    until(lambda: served() == ["eth0", "eth1", "lo"], "the new interface is served", 5)
    net.hosts.ip(2, "link del eth1")
    until(lambda: served() == ["eth0", "lo"], "the interface that went is served no more", 5)


def _forger(net: Net) -> None:
    """Hundreds of forged peers of one name: the list is bounded, who is paired comes first, and nobody is dialled."""
    log = net.lab.root / "forger.log"
    script = Path(__file__).parent.parent / "support" / "hostile_responder.py"
    command = ["nsenter", "-t", str(net.hosts.hosts[3]), "-n", "--", sys.executable, str(script)]
    with log.open("wb") as file:
        forger = Running(
            net.lab._popen([*command, str(net.lab.discovery_port), "300", "attic"], file, file, None), log, log
        )
    net.lab._started.append(forger)
    until(lambda: "ready" in log.read_text(), "the forger")
    found = net.client("discover").ends(0).of("peer")
    assert len({one["id"] for one in found}) <= 256 + 2
    assert all(one["conflict"] for one in found if not one["verified"])
    assert {(one["name"], one["paired"]) for one in found if one["verified"]} == {("attic", True), ("nas", True)}
    table = discovered_table([msgspec.convert(one, Discovered) for one in found])
    assert len(table) <= 1 + 256 + 2 * 8
    assert [re.split(r"  +", line)[3] for line in table[1:] if line.startswith("attic")][:1] == ["paired"]
    assert log.read_text() == "ready\n", "nobody connects to whom nobody chose"
    # Chosen by hand, it is spoken to in TLS alone, and let go as soon as it is none.
    chosen = net.client("send", "a", "ftx://192.0.2.4:22").ends(None)
    assert chosen.one("summary")["exit"] in (4, 5, 8)
    lines = log.read_text().splitlines()
    assert {line.partition(" ")[2] for line in lines[1:]} == {"160301"}
    forger.kill()


def _sending(net: Net) -> Client:
    """A transfer to attic over IPv4 that goes on for a while, in the middle of it."""
    for number in (1, 2):
        net.hosts.ip(number, f"addr del fe80::{number}/64 dev eth0")
    (net.lab.root / "large").write_bytes(os.urandom(12 * MiB))
    client = net.client("send", "--limit", "2M", "large", "attic:")
    until(lambda: any(one["bytes_confirmed"] > MiB for one in client.of("progress")), "some of it", said=client)
    return client


def _whole(net: Net, client: Client) -> None:
    client.ends(0)
    assert (net.attic.inbox / "large").read_bytes() == (net.lab.root / "large").read_bytes()
    again = client.of("retry")
    assert again
    assert again[0]["error"]["name"] == "connection-lost"


def _our_address_goes_away(net: Net) -> None:
    """In the middle of a transfer, with the network: both hosts have others, the peer is found, the rest travels."""
    client = _sending(net)
    for number in (1, 2):
        net.hosts.address(number, f"198.51.100.{number}/24")
    net.hosts.ip(2, "addr del 192.0.2.2/24 dev eth0")
    net.hosts.ip(1, "addr del 192.0.2.1/24 dev eth0")
    _whole(net, client)
    assert client.one("done")["peer"]["address"] == "198.51.100.2"


@pytest.mark.skipif(not os.environ.get("SLOW_NETWORK"), reason="takes longer: make network")
@pytest.mark.case("F107", "F109")
def test_the_address_of_the_peer_goes_away(net: Net) -> None:
    """Ours stays: nothing is heard; the peer is looked for and found elsewhere, long before the silence ends."""
    client = _sending(net)
    net.hosts.ip(2, "addr del 192.0.2.2/24 dev eth0")
    net.hosts.address(2, "192.0.2.77/24")
    _whole(net, client)
    assert client.one("done")["peer"]["address"] == "192.0.2.77"


class Avahi:
    """An mDNS daemon that is not ours, on one host: with a bus and a /run of its own."""

    def __init__(self, net: Net, number: int) -> None:
        self._net, self._host = net, net.hosts.hosts[number - 1]
        self._bus = f"unix:path={net.lab.root}/bus"
        config = net.lab.root / "avahi.conf"
        config.write_text("[server]\nallow-interfaces=eth0\nenable-dbus=yes\n", "ascii")
        self._begin("bus", "dbus-daemon", "--session", f"--address={self._bus}", "--nofork")
        until((net.lab.root / "bus").exists, "a bus")
        start = "mount -t tmpfs none /run && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f "
        self.log = self._begin("avahi", "unshare", "-m", "sh", "-c", start + str(config))
        until(lambda: "Server startup complete" in self.log.read_text(), "avahi", said=None)

    def _begin(self, name: str, *words: str) -> Path:
        log = self._net.lab.root / f"{name}.log"
        with log.open("wb") as file:
            command = ["nsenter", "-t", str(self._host), "-n", "--", *words]
            environ = {"DBUS_SYSTEM_BUS_ADDRESS": self._bus}
            self._net.lab._started.append(Running(self._net.lab._popen(command, file, file, environ), log, log))
        return log

    def publish(self, name: str, port: int) -> None:
        """avahi-publish(1), until the test ends."""
        log = self._begin("publish", "avahi-publish", "-s", name, "_ftx._tcp", str(port), "txtvers=1")
        until(lambda: "Established" in log.read_text(), "it is published")

    def browse(self) -> str:
        """What avahi-browse(1) sees, resolved."""
        log = self._begin("browse", "avahi-browse", "-rtp", "_ftx._tcp")
        self._net.lab._started[-1].wait(20)
        return log.read_text()


@pytest.mark.skipif(not os.environ.get("SLOW_NETWORK"), reason="takes longer: make network")
@pytest.mark.skipif(shutil.which("avahi-browse") is None, reason="avahi is not installed")
def test_programs_that_know_nothing_of_ftx_see_us_and_we_see_them(net: Net) -> None:
    """avahi-browse lists who answers everyone, and nobody else; what avahi-publish offers is listed, unproven."""
    lab = net.lab
    net.attic.signal(15)
    net.attic.wait()
    avahi = Avahi(net, 4)
    host = net.hosts.hosts[1]
    everywhere = {**EVERYWHERE, "FTX_MDNS": "yes"}
    how = {"port": 7389, "address": "0.0.0.0", "host": host, "discovery": True, "environ": everywhere}
    attic = lab.daemon("attic", "--name", "Ada's attic", *ANY, **how)
    until(lambda: re.search(r"^=;eth0;IPv4;Ada.*;192\.0\.2\.2;7389;.*txtvers=1", avahi.browse(), re.M), "avahi sees us")
    assert ";nas;" not in avahi.browse()
    assert "127.0.0.1" not in avahi.browse()
    avahi.publish("somebody", 4711)
    found = lab.client("discover", "--wait", "4", home="desk", host=net.hosts.hosts[0], environ=everywhere).ends(0)
    one = next(one for one in found.of("peer") if one["name"] == "somebody")
    assert (one["via"], one["verified"], one["address"], one["port"]) == ("dns-sd", False, "192.0.2.4", 4711)
    assert {one["via"] for one in found.of("peer") if one["id"] == lab.identity("attic")} > {"dns-sd"}
    attic.signal(15)
    attic.wait()
    until(lambda: "Ada" not in avahi.browse(), "it is withdrawn")
