"""Judgements about this machine: each outcome, its sentence, and that whatever is not well has a way out."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from ftx.core.checks import Check, bad, exit_code, fair, good, of_error
from ftx.core.firewall import Packet, judge_iptables, judge_nftables
from ftx.core.machine_checks import (
    judge_clock,
    judge_daemon_version,
    judge_firewall,
    judge_hearing,
    judge_inbox_space,
    judge_link,
    judge_port,
)
from ftx.core.ports import Bound, bound_sockets
from ftx.errors import FtxError
from ftx.limits import MiB

NOW = 1_800_000_000.0


def outcome(check: Check) -> str:
    """The outcome; what is not well says what to do."""
    assert bool(check.hint) or check.outcome == "pass"
    assert check.message
    assert "\n" not in check.message + check.hint
    return check.outcome


def test_exit_codes() -> None:
    """A peer that is not trusted before one that is not reached, before anything else; a warning is none."""
    ok, warn, fail = good("a", "b"), fair("a", "b", "c"), bad("a", "b", "c")
    away, stranger = bad("tcp", "b", "c", "", 4), of_error("identity", FtxError("untrusted"), peer=True)
    assert [exit_code(checks) for checks in ([], [ok, warn], [ok, fail], [fail, away], [away, stranger])] == [
        0,
        0,
        1,
        4,
        5,
    ]
    assert exit_code([of_error("name", FtxError("not-ftx"), peer=True)]) == 4
    assert exit_code([of_error("files", FtxError("key-unusable"))]) == 1


@pytest.mark.parametrize(
    ("now", "newest", "synchronised", "expected"),
    [
        (NOW, 0.0, True, "pass"),
        (NOW, NOW + 30, None, "pass"),
        (NOW, NOW - 5, False, "warn"),
        (NOW, NOW + 3600, True, "fail"),
        (0.0, 0.0, True, "fail"),
    ],
)
def test_clock(now: float, newest: float, synchronised: bool | None, expected: str) -> None:
    """Behind our own files, or behind the protocol itself, is wrong for sure; nothing else can be known here."""
    check = judge_clock(now, newest, synchronised)
    assert outcome(check) == expected
    assert "timedatectl" in check.hint or expected == "pass"


def test_versions_links_and_ports() -> None:
    """Who is older, which link is down, who holds a port."""
    assert outcome(judge_daemon_version("1", "1")) == "pass"
    assert "restart the daemon" in judge_daemon_version("2", "1").hint
    assert outcome(judge_link("eth0", ["192.0.2.1"], up=True, wanted=True)) == "pass"
    assert outcome(judge_link("eth0", [], up=True, wanted=True)) == "fail"
    assert outcome(judge_link("eth0", [], up=True, wanted=False)) == "warn"
    down = judge_link("eth0\x1b[2J", [], up=False, wanted=True)
    assert (outcome(down), "\x1b" in down.message) == ("fail", False)
    assert outcome(judge_port("tcp", 7389, [], ours=False, daemon=False)) == "pass"
    assert outcome(judge_port("tcp", 7389, ["x (pid 1)"], ours=True, daemon=True)) == "pass"
    held = judge_port("udp", 7389, ["x (pid 1)"], ours=False, daemon=True)
    assert (outcome(held), held.message) == ("fail", "UDP port 7389 is held by x (pid 1)")


@pytest.mark.parametrize(
    ("result", "expected"),
    [("heard", "pass"), ("elsewhere", "fail"), ("port-taken", "warn"), ("not-sent", "warn"), ("not-heard", "warn"),
     ("not-ready", "warn")],
)
@pytest.mark.parametrize("way", ["broadcast", "multicast4", "multicast6"])
def test_own_packets(way: str, result: str, expected: str) -> None:
    """Only where the port makes the difference it is surely a firewall."""
    check = judge_hearing("eth0", way, result, "network is unreachable", 7389)
    assert outcome(check) == expected
    assert ("ufw allow 7389/udp" in check.hint) is (result == "elsewhere")
    assert ("yet" in check.message) is (result == "not-ready")


def test_space() -> None:
    """Full, out of names, little, enough."""
    assert outcome(judge_inbox_space("/in", 0, 10, None)) == "fail"
    assert outcome(judge_inbox_space("/in", 10**12, 10**12, 0)) == "fail"
    assert outcome(judge_inbox_space("/in", 100 * MiB, 10**12, 5)) == "warn"
    assert outcome(judge_inbox_space("/in", 10**12, 10**12, None)) == "pass"


def test_what_is_said_of_a_firewall() -> None:
    """Also where it cannot be read, or not be understood."""
    assert outcome(judge_firewall("udp", 7389, "dropped", "nftables", ["eth0"])) == "fail"
    assert outcome(judge_firewall("udp", 7389, "unclear", "nftables", ["eth0"])) == "warn"
    assert outcome(judge_firewall("udp", 7389, "accepted", "iptables", ["eth0"])) == "pass"
    assert outcome(judge_firewall("udp", 7389, None, "", [])) == "pass"


# -- the kernel's tables -----------------------------------------------------------------------------------

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1CDD 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000
   1: 0100007F:1CDD 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0000000000000000
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0000000000000000
 nonsense
   3: XYZ:0016 00000000:0000 0A 0:0 0:0 0 0 0 99
"""
UDP6 = """\
  sl  local_address                         remote_address                        st tx rx tr tm x uid timeout inode
  10: 00000000000000000000000001000000:1CDD 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 5 2 0 0
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the tables are those of a little-endian machine")
def test_the_kernels_tables() -> None:
    """Listeners of TCP, and sockets of UDP; what is no row is left out."""
    assert bound_sockets(TCP, udp=False) == [
        Bound(IPv4Address("127.0.0.1"), 7389, 1000, 4711),
        Bound(IPv4Address("0.0.0.0"), 22, 0, 99),
    ]
    assert bound_sockets(UDP6, udp=True) == [Bound(IPv6Address("::1"), 7389, 0, 5)]
    assert bound_sockets("", udp=True) == []


# -- firewalls ---------------------------------------------------------------------------------------------

UDP = Packet("udp", 7389, 4, "eth0")


def nft(*rules: str, policy: str = "accept", chains: str = "") -> dict[str, Any]:
    """What `nft -j list ruleset` has for these rules, by nft(8) itself in a network of its own; else skipped."""
    script = (
        f"add table inet f\n{chains}\nadd chain inet f in {{ type filter hook input priority 0; policy {policy}; }}\n"
    )
    script += "".join(f"add rule inet f in {rule}\n" for rule in rules)
    try:
        ran = subprocess.run(
            ["unshare", "-rn", "sh", "-c", "nft -f - && nft -j list ruleset"],
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if ran.returncode:
        pytest.skip("no nft in a network of its own here: " + ran.stderr.strip())
    listing: dict[str, Any] = json.loads(ran.stdout)
    return listing


@pytest.mark.parametrize(
    ("rules", "policy", "expected"),
    [
        ([], "accept", "accepted"),
        ([], "drop", "dropped"),
        (["udp dport 7389 drop"], "accept", "dropped"),
        (["udp dport 7389 reject"], "accept", "dropped"),
        (["tcp dport 7389 drop"], "accept", "accepted"),
        (["udp dport { 53, 7000-7400 } accept"], "drop", "accepted"),
        (["udp dport != 7389 accept"], "drop", "dropped"),
        (["ct state established,related accept"], "drop", "dropped"),
        (["ct state new udp dport 7389 counter accept"], "drop", "accepted"),
        (['iifname "lo" accept'], "drop", "dropped"),
        (['iifname "eth*" accept'], "drop", "accepted"),
        (["meta l4proto udp accept"], "drop", "accepted"),
        (["meta nfproto ipv6 accept"], "drop", "dropped"),
        (["ip saddr 192.0.2.0/24 accept"], "drop", "unclear"),
        (["ip saddr 192.0.2.0/24 drop", "udp dport 7389 accept"], "drop", "unclear"),
        (["udp dport 7389 accept", "ip saddr 192.0.2.0/24 drop"], "drop", "accepted"),
        (["jump ours"], "drop", "accepted"),
        (["udp dport 53 jump ours"], "drop", "dropped"),
        (["goto ours"], "drop", "accepted"),
        (["goto empty", "accept"], "drop", "dropped"),
        (["jump empty", "accept"], "drop", "accepted"),
        (["ip saddr 192.0.2.0/24 goto empty", "accept"], "drop", "unclear"),
        (["ip saddr 192.0.2.0/24 return", "accept"], "drop", "unclear"),
        (["udp dport 7389 return", "accept"], "drop", "dropped"),
        (["udp dport vmap { 53 : accept, 7000-7400 : drop }"], "accept", "dropped"),
        (["tcp dport vmap { 7389 : drop }"], "accept", "accepted"),
        (["udp dport vmap { 7389 : goto empty }", "accept"], "drop", "dropped"),
        (["ct state vmap { established : accept, invalid : drop }", "udp dport 7389 accept"], "drop", "accepted"),
        (["ip saddr vmap { 192.0.2.1 : drop }"], "accept", "unclear"),
        (["udp dport 7389 limit rate 5/second accept"], "drop", "unclear"),
    ],
)
def test_nftables(rules: list[str], policy: str, expected: str) -> None:
    """As nftables itself prints them."""
    chains = "add chain inet f ours\nadd rule inet f ours th dport 7389 accept\nadd chain inet f empty"
    assert judge_nftables(nft(*rules, policy=policy, chains=chains), UDP) == expected


@pytest.mark.parametrize(
    "statement",
    [
        {"xt": {"type": "target", "name": "DROP"}},
        {"xt": None},
        {"queue": {"num": 0}},
        {"a later one": 1},
        {"vmap": {"key": {"payload": {"protocol": "udp", "field": "dport"}}, "data": "@map"}},
        {"vmap": None},
        {},
    ],
)
def test_statements_that_are_not_understood(statement: dict[str, Any]) -> None:
    """Whatever the policy: it is not clear."""
    for policy in ("accept", "drop"):
        base = {"family": "inet", "table": "f", "name": "in", "hook": "input", "prio": 0, "policy": policy}
        rule = {"family": "inet", "table": "f", "chain": "in", "expr": [statement]}
        assert judge_nftables({"nftables": [{"chain": base}, {"rule": rule}]}, UDP) == "unclear"


def test_nothing_that_is_listed_is_trusted() -> None:
    """Chains that jump in circles, and listings that are none."""
    circle = {
        "nftables": [
            {"chain": {"family": "inet", "table": "f", "name": "in", "hook": "input", "prio": 0, "policy": "accept"}},
            {"rule": {"family": "inet", "table": "f", "chain": "in", "expr": [{"jump": {"target": "in"}}]}},
            "metainfo",
            {"rule": 7},
        ]
    }
    assert judge_nftables(circle, UDP) == "unclear"
    assert judge_nftables({}, UDP) == "accepted"


@pytest.mark.parametrize(
    ("rules", "policy", "expected"),
    [
        ([], "ACCEPT", "accepted"),
        ([], "DROP", "dropped"),
        (["-p udp -m udp --dport 7389 -j DROP"], "ACCEPT", "dropped"),
        (["-p tcp -m tcp --dport 7389 -j DROP"], "ACCEPT", "accepted"),
        (["-p udp -m multiport --dports 53,7000:7400 -j ACCEPT"], "DROP", "accepted"),
        (["-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"], "DROP", "dropped"),
        (["-i lo -j ACCEPT"], "DROP", "dropped"),
        (["! -i lo -p udp -j ACCEPT"], "DROP", "accepted"),
        (['-i eth+ -m comment --comment "let in" -j ACCEPT'], "DROP", "accepted"),
        (["-s 192.0.2.0/24 -j ACCEPT"], "DROP", "unclear"),
        (["-j ours"], "DROP", "accepted"),
        (["-j empty", "-j ACCEPT"], "DROP", "accepted"),
        (["-g empty", "-j ACCEPT"], "DROP", "dropped"),
        (["-s 192.0.2.0/24 -g empty", "-j ACCEPT"], "DROP", "unclear"),
        (["-s 192.0.2.0/24 -j RETURN", "-j ACCEPT"], "DROP", "unclear"),
        (["-p udp --dport 7389 -j NFQUEUE --queue-num 0"], "ACCEPT", "unclear"),
        (["-p udp --dport 53 -j NFQUEUE --queue-num 0"], "ACCEPT", "accepted"),
        (['-p udp -j LOG --log-prefix "in: "', "-j ACCEPT"], "DROP", "accepted"),
        (['-m comment --comment "open -j ACCEPT'], "DROP", "unclear"),
    ],
)
def test_iptables(rules: list[str], policy: str, expected: str) -> None:
    """As iptables-save prints them; other tables do not count."""
    saved = f"*nat\n:INPUT DROP [0:0]\nCOMMIT\n*filter\n:INPUT {policy} [0:0]\n:ours - [0:0]\n:empty - [0:0]\n"
    saved += "-A ours -p udp --dport 7389 -j ACCEPT\n" + "".join(f"-A INPUT {rule}\n" for rule in rules) + "COMMIT\n"
    assert judge_iptables(saved, UDP) == expected
