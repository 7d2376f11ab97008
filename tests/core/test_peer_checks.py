"""Judgements about the way to a peer: each outcome, and what limits a transfer."""

from __future__ import annotations

import pytest

from ftx.core.checks import Check
from ftx.core.peer_checks import (
    Speed,
    judge_dial,
    judge_echo,
    judge_mtu,
    judge_peer_clock,
    judge_query,
    judge_speed,
    limited_by,
)
from ftx.errors import FtxError
from ftx.limits import MiB

HOST = "192.0.2.7"


def outcome(check: Check) -> str:
    """The outcome; what is not well says what to do."""
    assert bool(check.hint) or check.outcome == "pass"
    return check.outcome


def test_icmp() -> None:
    """Round trips and loss; why nothing came; and what TCP says where nothing may be sent."""
    fine = judge_echo(HOST, "raw", 4, [0.001, 0.003], "")
    assert outcome(fine) == "warn"
    assert fine.figures["loss"] == 0.5
    assert fine.figures["round_trip_ms"] == 2.0
    assert outcome(judge_echo(HOST, "datagram", 1, [0.001], "")) == "pass"
    for why in ("", "no-host", "no-route", "forbidden", "too-far", "unreachable"):
        assert outcome(judge_echo(HOST, "raw", 3, [], why)) == "warn"
    alone = judge_echo(HOST, "none", 0, [], "", tcp=0.25)
    assert (outcome(alone), alone.figures["means"], alone.figures["round_trip_ms"]) == ("pass", "tcp", 250.0)
    assert outcome(judge_echo(HOST, "none", 0, [], "")) == "pass"


def test_path_mtu() -> None:
    """Known by one of three means, or not; a black hole is worth a word."""
    assert judge_mtu(HOST, "raw", 0, 1500, black_hole=False) is None
    for means in ("raw", "datagram", "tcp"):
        check = judge_mtu(HOST, means, 1420, 1500, black_hole=False)
        assert check is not None
        assert outcome(check) == "pass"
        assert "1420" in check.message
    hole = judge_mtu(HOST, "raw", 1420, 1500, black_hole=True)
    assert hole is not None
    assert (outcome(hole), "mtu 1420" in hole.hint) == ("warn", True)


def test_queries() -> None:
    """Found by its name, found by its address only, not found, and not to be found behind a router."""
    ways = ["unicast", "broadcast", "multicast4"]
    assert outcome(judge_query(HOST, ways, ways, near=True, port=7389)) == "pass"
    assert outcome(judge_query(HOST, ["unicast", "broadcast"], ways, near=True, port=7389)) == "pass"
    assert outcome(judge_query(HOST, ["unicast"], ways, near=True, port=7389)) == "warn"
    assert "ufw allow 7389/udp" in judge_query(HOST, [], ways, near=True, port=7389).hint
    assert outcome(judge_query(HOST, [], ["unicast"], near=False, port=7389)) == "pass"


@pytest.mark.parametrize("near", [True, False])
def test_a_query_that_cannot_arrive(near: bool) -> None:
    """Where there is no way, no firewall there is to blame, nor a router; an answer all the same is one."""
    check = judge_query(HOST, [], ["unicast"], near=near, port=7389, cut_off=True)
    assert outcome(check) == "warn"
    assert "firewall" not in check.hint
    assert "router" not in check.message
    assert "no way" not in check.message
    assert outcome(judge_query(HOST, ["unicast"], ["unicast"], near=near, port=7389, cut_off=True)) == "pass"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("connection-refused", "TCP refused"),
        ("connect-timeout", "TCP filtered"),
        ("network-unreachable", "TCP cannot be tried: there is no way"),
    ],
)
def test_nobody_takes_the_connection(name: str, words: str) -> None:
    """Each is another thing to mend; all mean that the peer cannot be reached."""
    [check] = judge_dial(HOST, HOST, 7389, FtxError(name), 0.0, proved=False)
    assert (check.name, outcome(check), check.code) == ("tcp", "fail", 4)
    assert words in check.message
    assert "{" not in check.hint


@pytest.mark.parametrize("name", ["tls-failed", "not-ftx", "hello-timeout", "connection-reset", "connection-lost"])
def test_something_else_takes_it(name: str) -> None:
    """TCP is fine, and it is no ftx."""
    tcp, tls = judge_dial(HOST, HOST, 7389, FtxError(name), 0.0, proved=False)
    assert (outcome(tcp), outcome(tls), tls.code) == ("pass", "fail", 4)
    assert "no ftx" in tls.message


def test_slow_and_well() -> None:
    """A first packet that was lost takes a second."""
    assert outcome(judge_dial(HOST, HOST, 7389, None, 1.1, proved=True)[0]) == "warn"
    assert outcome(judge_dial(HOST, HOST, 7389, None, 0.2, proved=True)[0]) == "pass"


def test_two_clocks() -> None:
    """A minute apart is too much, in either direction."""
    assert outcome(judge_peer_clock(0.5, 0.1)) == "pass"
    assert "3 min ahead of ours" in judge_peer_clock(180.0, 0.1).message
    assert "behind ours" in judge_peer_clock(-180.0, 0.1).message


@pytest.mark.parametrize(
    ("speed", "expected"),
    [
        (Speed("up", 100 * MiB), "network"),
        (Speed("up", 19 * MiB, limit=20 * MiB), "rate limit"),
        (Speed("up", 5 * MiB, limit=20 * MiB), "network"),
        (Speed("up", 100 * MiB, disk=50 * MiB), "disk there"),
        (Speed("down", 100 * MiB, disk=50 * MiB), "disk here"),
        (Speed("down", 100 * MiB, disk=500 * MiB, here=0.95), "processor here"),
        (Speed("up", 100 * MiB, here=0.95), "processor here"),
        (Speed("up", 100 * MiB, here=0.95, there=0.97), "processor there"),
        (Speed("down", 100 * MiB, held_up=0.8), "processor here"),
    ],
)
def test_what_limits(speed: Speed, expected: str) -> None:
    """The rate limit before the disk, the disk before the processors, and else the network."""
    assert limited_by(speed) == expected
    check = judge_speed(speed)
    assert outcome(check) == "pass"
    assert check.figures["limited_by"] == expected
    assert expected.split()[0] in check.message or "processor" in check.message


def test_a_long_path_limits_one_connection() -> None:
    """A job takes lanes there, so the speed of one connection is not the last word; nearby it is."""
    assert "one connection, and much content takes several" in judge_speed(Speed("up", MiB, round_trip=0.1)).message
    assert "several" not in judge_speed(Speed("up", MiB, round_trip=0.002)).message
    assert "several" not in judge_speed(Speed("up", MiB, limit=MiB, round_trip=0.1)).message


def test_a_network_that_loses() -> None:
    """Noticed from one in a hundred, and not from a few in all."""
    lossy = Speed("up", MiB, retransmits=200, segments=11_000, window=14_480, round_trip=0.02)
    assert outcome(judge_speed(lossy)) == "warn"
    assert "200 packets sent again" in judge_speed(lossy).message
    assert outcome(judge_speed(Speed("up", MiB, retransmits=4, segments=250))) == "pass"
