"""The doctor, by the real programs between two hosts of their own: what is well, and what users see of what is broken.

The two hosts are network namespaces joined by a link. The doctor runs on the first, the peer on the second. Runs that
do not disturb each other are started together.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hostile_server import HostileServer
from support.lab import NOBODY, Client, Daemon, Lab, until
from support.processor import held_up

from ftx import __version__
from ftx.core.identity import format_id
from ftx.disk import many
from ftx.disk.keys import Identity
from ftx.wire.messages import Hello

PORT = 7389
NEAR = {"FTX_DISCOVERY_INTERFACE": "near"}
#: Everything that takes long, too (`make doctor`).
ALL = os.environ.get("DOCTOR") == "all"


class Hosts:
    """Two hosts with a daemon each; the first may have none."""

    def __init__(self, lab: Lab) -> None:
        found = lab.two_hosts(six=True)
        if found is None:
            pytest.skip("no network namespaces here")
        self.lab = lab
        self.near, self.far = found

    def sh(self, host: int, script: str) -> str:
        """Run a shell command on a host."""
        ran = subprocess.run(
            ["nsenter", "-t", str(host), "-n", "sh", "-c", script], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def daemon(self, host: int, home: str, *options: str) -> Daemon:
        """A daemon on a host's address of the link."""
        address, link = ("192.0.2.1", "near") if host == self.near else ("192.0.2.2", "far")
        return self.lab.daemon(
            home,
            *options,
            port=PORT,
            address=address,
            host=host,
            discovery=True,
            environ={"FTX_DISCOVERY_INTERFACE": link},
        )

    def doctor(self, *words: str, home: str = "me", user: int | None = None) -> Client:
        """Start the doctor on the first host."""
        return self.lab.client("doctor", *words, home=home, host=self.near, user=user, environ=NEAR)

    def program(self, host: int, script: str) -> Any:
        """A program of somebody else's on a host, that says when it is there."""
        command = ["nsenter", "-t", str(host), "-n", sys.executable, "-c", script]
        running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        assert running.stdout.readline() == "here\n"
        return running


HOLD = """
import socket, sys
kind, host, port = socket.{kind}, "{host}", {port}
made = socket.socket(socket.AF_INET, kind)
made.bind((host, port))
if kind == socket.SOCK_STREAM:
    made.listen()
print("here", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hosts(short_tmp: Path) -> Iterator[Hosts]:
    """Two hosts."""
    with Lab(short_tmp) as lab:
        yield Hosts(lab)


def found(client: Client, code: int) -> dict[str, list[dict[str, Any]]]:
    """What a doctor that has ended said, by the name of the check."""
    client.ends(code)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for line in client.events:
        if "check" in line:
            by_name.setdefault(line["check"], []).append(line)
    assert client.events[-1]["event"] == "summary"
    assert client.events[-1]["exit"] == code
    for check in (one for checks in by_name.values() for one in checks):
        assert check["outcome"] in ("pass", "warn", "fail")
        assert "\n" not in check["message"]
        assert bool(check["hint"]) or check["outcome"] == "pass", check
    return by_name


def one(client: Client, code: int, name: str) -> dict[str, Any]:
    """The worst check of this name."""
    checks = found(client, code)[name]
    return max(checks, key=lambda check: ("pass", "warn", "fail").index(check["outcome"]))


def state(*folders: Path) -> dict[str, tuple[int, int, int]]:
    """Every name below some folders, with size, time and mode; the sockets and the log's own files aside."""
    seen = {}
    for folder in folders:
        for top, below, files in os.walk(folder):
            for name in (*below, *files):
                status = os.lstat(os.path.join(top, name))
                seen[os.path.join(top, name)] = (status.st_size, status.st_mtime_ns, status.st_mode)
    return seen


def settled(daemon: Daemon, *folders: Path) -> dict[str, tuple[int, int, int]]:
    """The same, once a daemon that has just started has put its things in order."""
    seen: list[dict[str, tuple[int, int, int]]] = []
    waited = [held_up(daemon.pid)]

    def at_rest() -> bool:
        seen.append(state(*folders))
        waited.append(held_up(daemon.pid))
        # The first has none before it; and it was let run in between, had it had anything to do.
        return seen[-2:-1] == seen[-1:] and waited[-1] - waited[-2] < 0.25

    until(at_rest, "nothing changes any more", interval=0.5)
    return seen[-1]


def test_a_peer_that_is_well_and_the_three_ways_of_icmp(hosts: Hosts) -> None:
    """Everything passes; by raw socket, ICMP socket and TCP alone; and nothing is changed on either side."""
    lab = hosts.lab
    there = hosts.daemon(hosts.far, "there", "--name", "attic")
    user = lab.folder_of(NOBODY, "user")
    theirs = lab.identity("user", user=NOBODY)
    lab.pair("me", "there", "attic", f"192.0.2.2:{PORT}")
    lab.pair("there", "me", "desk")
    lab.pair("user", "there", "attic", "192.0.2.2", user=NOBODY)
    lab.client("peers", "add", "guest", theirs, home="there").ends()
    hosts.sh(hosts.near, "ip link set near mtu 1400")
    hosts.sh(hosts.near, "echo '1 0' > /proc/sys/net/ipv4/ping_group_range")
    until(lambda: there.call("daemon.status")["peers_paired"] == 2, "both are paired", said=there)
    before = settled(there, lab.root / "me", lab.root / "there", user)
    by_raw = found(hosts.doctor("attic"), 0)
    by_tcp = found(hosts.doctor("attic", home="user", user=NOBODY), 0)
    hosts.sh(hosts.near, "echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range")
    by_socket = found(hosts.doctor("attic", home="user", user=NOBODY), 0)
    assert state(lab.root / "me", lab.root / "there", user) == before, "it changes nothing"
    for checks, means, words in (
        (by_raw, "raw", "raw socket"),
        (by_socket, "datagram", "unprivileged ICMP socket"),
        (by_tcp, "tcp", "may send no ICMP"),
    ):
        assert checks["icmp"][0]["figures"]["means"] == means
        assert words in checks["icmp"][0]["message"]
        assert checks["icmp"][0]["figures"]["round_trip_ms"] > 0
        assert checks["mtu"][0]["figures"]["mtu"] == 1400
        assert checks["mtu"][0]["figures"]["means"] == means
        assert checks["discovery"][0]["figures"]["answered"] == "unicast broadcast multicast4"
        assert checks["tcp"][0]["outcome"] == checks["identity"][0]["outcome"] == "pass"
        assert "ftx" in checks["versions"][0]["message"]
        up, down = checks["speed"]
        assert (up["about"], down["about"]) == ("up", "down")
        for speed in (up, down):
            assert speed["figures"]["rate"] > 0
            assert speed["figures"]["limited_by"]
            assert speed["figures"]["window"] > 0
            assert speed["figures"]["round_trip_ms"] > 0
        assert abs(checks["clock"][0]["figures"]["ahead_s"]) < 5
    there.clean_log()


def test_a_machine_that_is_well(hosts: Hosts) -> None:
    """Every check of this machine passes, but for a clock that nothing keeps right; and nothing is changed."""
    daemon = hosts.daemon(hosts.near, "me", "--name", "desk")
    before = settled(daemon, daemon.home)
    checks = found(hosts.doctor(), 0)
    assert state(daemon.home) == before, "it changes nothing"
    library = "with" if many.available() else "without"
    assert f"ftx {__version__} {library} its native library, Python" in checks["versions"][0]["message"]
    names = "versions clock files daemon discovery port interface broadcast multicast4 firewall reachable inbox space"
    assert set(names.split()) <= set(checks)
    for name, several in checks.items():
        for check in several:
            assert check["outcome"] == "pass" or name == "clock", check
    assert checks["interface"][0]["message"].startswith("near has 192.0.2.1")
    assert "192.0.2.1:7389" in checks["reachable"][0]["message"]
    assert [check["message"] for check in checks["port"]] == [
        "TCP port 7389 is the daemon's",
        f"UDP port {hosts.lab.discovery_port} is the daemon's",
    ]


def test_broken_set_ups_of_this_machine(hosts: Hosts) -> None:
    """No daemon; ports held by others; the interface down; an inbox that cannot be written."""
    lab = hosts.lab
    udp = lab.discovery_port
    lab.key("me")
    mine = hosts.program(hosts.near, HOLD.format(kind="SOCK_STREAM", host="192.0.2.1", port=PORT))
    other = hosts.program(hosts.near, HOLD.format(kind="SOCK_DGRAM", host="0.0.0.0", port=udp))
    lab.folder_of(NOBODY, "user")
    lab.client("id", home="user", user=NOBODY).ends()
    (lab.root / "user" / "inbox").mkdir(mode=0o755)
    (lab.root / "user" / "identity.key").chmod(0o644)
    try:
        held, rights = hosts.doctor(), hosts.doctor(home="user", user=NOBODY)
        checks = found(held, 1)
        [daemon] = checks["daemon"]
        assert daemon["outcome"] == "fail"
        assert "no ftx daemon listens" in daemon["message"]
        assert "ftx-server" in daemon["hint"]
        tcp_port, udp_port = checks["port"]
        assert tcp_port["message"].startswith(f"TCP port {PORT} is held by python")
        assert f"(pid {mine.pid})" in tcp_port["message"]
        assert "--listen" in tcp_port["hint"]
        assert f"(pid {other.pid})" in udp_port["message"]
        assert "--discovery-port" in udp_port["hint"]
        checks = found(rights, 1)
        [key] = [check for check in checks["files"] if check["about"] == "key"]
        assert (key["outcome"], key["hint"].split()[:2]) == ("fail", ["chmod", "600"])
        assert checks["inbox"][0]["outcome"] == "fail"
        assert "cannot be written" in checks["inbox"][0]["message"]
    finally:
        for program in (mine, other):
            program.communicate("")
    hosts.sh(hosts.near, "ip link set near down")
    away = hosts.doctor("192.0.2.2")
    down = one(hosts.doctor(), 1, "interface")
    assert (down["message"], down["hint"]) == (
        "near is down or not there",
        "ip link set near up, or plug the cable in",
    )
    checks = found(away, 4)
    assert checks["tcp"][0]["message"] == "TCP cannot be tried: there is no way to that address"
    assert checks["discovery"][0]["message"] == "no query reaches that address"


def test_a_firewall_of_this_machine(hosts: Hosts) -> None:
    """Read where that is permitted; and inferred from our own packets, which are not heard back."""
    if shutil.which("nft") is None:
        pytest.skip("no nft here")
    udp = hosts.lab.discovery_port
    hosts.daemon(hosts.near, "me")
    hosts.sh(
        hosts.near,
        "nft add table inet f && nft 'add chain inet f in { type filter hook input priority 0; policy accept; }'"
        f" && nft add rule inet f in udp dport {udp} drop && nft add rule inet f in ct state established accept",
    )
    root = hosts.doctor()
    hosts.lab.folder_of(NOBODY, "user")
    nobody = hosts.doctor(home="user", user=NOBODY)
    checks = found(root, 1)
    tcp, read = checks["firewall"]
    assert (tcp["outcome"], read["outcome"]) == ("pass", "fail")
    assert read["message"] == f"the firewall (nftables) drops what comes to UDP port {udp} on near"
    assert f"ufw allow {udp}/udp" in read["hint"]
    inferred = checks["broadcast"][0]
    assert (inferred["outcome"], inferred["about"]) == ("fail", "near")
    assert "a firewall of this machine drops them" in inferred["message"]
    checks = found(nobody, 1)
    assert "cannot be read" in checks["firewall"][0]["message"]


def test_broken_ways_to_a_peer(hosts: Hosts) -> None:
    """UDP dropped, TCP dropped, refused, another key, unpaired, no such name, no ftx at all."""
    if shutil.which("nft") is None:
        pytest.skip("no nft here")
    lab = hosts.lab
    there = hosts.daemon(hosts.far, "there")
    lab.pair("me", "there", "attic", f"192.0.2.2:{PORT}")
    lab.pair("there", "me", "desk")
    lab.pair("wrong", "someone", "attic", f"192.0.2.2:{PORT}")
    lab.key("stranger")
    web = hosts.program(hosts.far, HOLD.format(kind="SOCK_STREAM", host="192.0.2.2", port=7300).replace(
        "sys.stdin.read()", "made.accept()[0].sendall(b'HTTP/1.0 400 Bad Request\\r\\n\\r\\n'); sys.stdin.read()"
    ))  # fmt: skip
    until(lambda: there.call("daemon.status")["peers_paired"] == 1, "it is paired", said=there)
    try:
        runs = {"key": hosts.doctor("attic", home="wrong"), "web": hosts.doctor("192.0.2.2", "-p", "7300")}
        runs["name"] = hosts.doctor("nobody")
        if ALL:
            runs["unpaired"] = hosts.doctor("192.0.2.2", home="stranger")
            runs["refused"] = hosts.doctor("192.0.2.2", "-p", "7301")
            runs["away"] = hosts.doctor("192.0.2.77")
        key = one(runs["key"], 5, "identity")
        assert "answered with the key" in key["message"]
        assert "peers remove attic" in key["hint"]
        no_ftx = one(runs["web"], 4, "tls")
        assert "is no ftx" in no_ftx["message"]
        name = one(runs["name"], 4, "name")
        assert "nobody was not found" in name["message"]
        assert "write it as ftx-client peers list" in name["hint"]
        if ALL:
            unpaired = one(runs["unpaired"], 5, "identity")
            assert "its key is not paired here; nor is this machine's key known there" in unpaired["message"]
            assert "ftx-client pair --open there" in unpaired["hint"]
            refused = one(runs["refused"], 4, "tcp")
            assert refused["message"].startswith("TCP refused")
            assert "-p PORT" in refused["hint"]
            away = found(runs["away"], 4)
            assert away["tcp"][0]["outcome"] == "fail"
            assert away["icmp"][0]["outcome"] == "warn"
    finally:
        web.communicate("")
    hosts.sh(
        hosts.far,
        "nft add table inet f && nft 'add chain inet f in { type filter hook input priority 0; policy accept; }'"
        f" && nft add rule inet f in udp dport {lab.discovery_port} drop",
    )
    if ALL:
        udp = hosts.doctor("attic")
        assert one(udp, 0, "discovery")["message"].startswith("it answers no query on UDP port")
    hosts.sh(hosts.far, f"nft add rule inet f in tcp dport {PORT} drop")
    tcp = one(hosts.doctor("attic"), 4, "tcp")
    assert tcp["message"].startswith("TCP filtered")
    assert f"ufw allow {PORT}/tcp" in tcp["hint"]
    there.clean_log()


def test_a_peer_of_another_version(lab: Lab) -> None:
    """Both ranges are named."""
    key = Identity.generate()
    lab.client("peers", "add", "future", format_id(key.id), home="me").ends()
    with HostileServer(key) as server:
        client = lab.client("doctor", server.url, home="me", environ={"FTX_DISCOVERY_INTERFACE": "lo"})
        server.accept()
        server.until(Hello)
        server.send(Hello("ftx", 7, 9, [], "x", "x", True))
        check = one(client, 4, "versions")
    assert "7 to 9" in check["message"]
    assert check["hint"] == "update the older side"
