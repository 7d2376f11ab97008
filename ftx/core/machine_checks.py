"""Judgements about this machine: from what was measured to a sentence and a way out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ftx.core.checks import Check, Figure, bad, fair, good
from ftx.core.firewall import Verdict
from ftx.limits import MiB
from ftx.text import show, size

__all__ = [
    "judge_clock",
    "judge_daemon_version",
    "judge_firewall",
    "judge_hearing",
    "judge_inbox_space",
    "judge_link",
    "judge_port",
]

#: No clock that is right says an earlier time than this: the protocol is younger (2026-11-01, seconds since 1970).
_OLDEST: Final = 1_793_491_200.0
#: Free space below which a receiver is about to refuse things.
_LITTLE: Final = 512 * MiB
_WAYS: Final = {"broadcast": "broadcasts", "multicast4": "IPv4 multicasts", "multicast6": "IPv6 multicasts"}


def judge_clock(now: float, newest: float, synchronised: bool | None) -> Check:
    """`now` is the time of this machine, `newest` that of the newest file of ours, in seconds since 1970.

    `synchronised`: whether something keeps the clock right, None where nobody knows.
    """
    if now < _OLDEST or newest > now + 60:
        return bad(
            "clock",
            "the clock of this machine is behind: it says a time that has passed already",
            "set it, or let it be kept right: timedatectl set-ntp true",
            behind_s=round(max(_OLDEST, newest) - now),
        )
    if synchronised is False:
        return fair(
            "clock",
            "nothing keeps the clock of this machine right; times of files and quotas go by it",
            "let it be kept right: timedatectl set-ntp true",
        )
    return good("clock", "the clock is plausible" + (", and kept right" if synchronised else ""))


def judge_daemon_version(ours: str, daemons: str) -> Check:
    """The daemon that runs should be the program that is installed."""
    if ours == daemons:
        return good("versions", f"client and daemon are ftx {show(ours)}", client=ours, daemon=daemons)
    return fair(
        "versions",
        f"the daemon runs ftx {show(daemons)}, this client is ftx {show(ours)}",
        "restart the daemon: ftx-client ctl drain, then ftx-server (or systemctl --user restart ftx)",
        client=ours,
        daemon=daemons,
    )


def judge_link(name: str, addresses: Sequence[str], *, up: bool, wanted: bool) -> Check:
    """An interface: `wanted` if discovery was restricted to it by name."""
    about = show(name)
    if not up and wanted:
        return bad("interface", f"{about} is down or not there", f"ip link set {about} up, or plug the cable in", about)
    if not up:
        return fair("interface", f"{about} is down", f"if it should be used: ip link set {about} up", about)
    if not addresses:
        hint = f"does it get one? ip addr show {about}"
        make = bad if wanted else fair
        return make("interface", f"{about} is up and has no address", hint, about)
    return good("interface", f"{about} has {', '.join(addresses)}", about)


def judge_hearing(name: str, way: str, result: str, reason: str, port: int) -> Check:
    """What became of a packet of ours to everybody on the link; `way` and `result` as `ftx.net.hearing` has them."""
    about, what = show(name), _WAYS[way]
    if result == "heard":
        return good(way, f"{what} on {about} are sent, and our own is heard back", about)
    if result == "elsewhere":
        return bad(
            way,
            f"{what} to UDP port {port} on {about} are not heard, those to another port are: a firewall of this "
            "machine drops them",
            f"let UDP port {port} in: ufw allow {port}/udp, or nft add rule inet filter input udp dport {port} accept",
            about,
        )
    if result == "port-taken":
        return fair(
            way,
            f"{what} on {about} are sent and heard back on another port; port {port} is held by another user's program",
            "see the check of the UDP port",
            about,
        )
    if result == "not-ready":
        return fair(
            way,
            f"{what} on {about} cannot be sent yet: its IPv6 address is still being checked for duplicates",
            f"try again in a few seconds; if that stays so, another machine may have it: ip -6 addr show {about}",
            about,
        )
    if result == "not-sent":
        return fair(way, f"{what} cannot be sent on {about}: {reason}", "peers there are found by other ways", about)
    return fair(
        way,
        f"{what} on {about} are sent, and our own is not heard back",
        "a firewall of this machine may drop them; peers there are found by other ways",
        about,
    )


def judge_port(protocol: str, port: int, holders: Sequence[str], *, ours: bool, daemon: bool) -> Check:
    """Who has a port: `ours` if our daemon is among them, `daemon` if it runs at all."""
    about = f"{protocol} {port}"
    if ours:
        return good("port", f"{protocol.upper()} port {port} is the daemon's", about)
    if not holders:
        if daemon:
            return good("port", f"{protocol.upper()} port {port} is free", about)
        return good("port", f"{protocol.upper()} port {port} is free for the daemon", about)
    who = ", ".join(holders)
    other = "--listen tcp:PORT" if protocol == "tcp" else "--discovery-port PORT (there and on the other machines)"
    return bad(
        "port", f"{protocol.upper()} port {port} is held by {who}", f"stop it, or start the daemon with {other}", about
    )


def judge_firewall(protocol: str, port: int, verdict: Verdict | None, source: str, interfaces: Sequence[str]) -> Check:
    """What the rules do to a packet for a port on some interfaces; `verdict` None where the rules cannot be read."""
    about = f"{protocol} {port}"
    where = ", ".join(show(name) for name in interfaces)
    if verdict is None:
        return good(
            "firewall",
            f"the firewall's rules for {protocol.upper()} port {port} cannot be read (root can, with nft or iptables); "
            "nothing that was heard looks as if they dropped anything",
            about,
        )
    if verdict == "dropped":
        return bad(
            "firewall",
            f"the firewall ({source}) drops what comes to {protocol.upper()} port {port} on {where}",
            f"ufw allow {port}/{protocol}, or nft add rule inet filter input {protocol} dport {port} accept",
            about,
        )
    if verdict == "unclear":
        return fair(
            "firewall",
            f"the firewall ({source}) has rules for {where} of which it is not clear what they do to "
            f"{protocol.upper()} port {port}",
            "look at them: nft list ruleset",
            about,
        )
    return good("firewall", f"the firewall ({source}) lets {protocol.upper()} port {port} in", about)


def judge_inbox_space(path: str, free: int, total: int, files: int | None) -> Check:
    """Room in the inbox: `free` is what may be used beyond the floor, `files` the inodes that are left."""
    about = show(path)
    figures: dict[str, Figure] = {"free": free, "total": total}
    if files == 0:
        return bad("space", f"{about} has no room for another file, though there is space", "remove files there", about)
    if free <= 0:
        return bad(
            "space",
            f"{about} is full: all files are refused",
            "free some space there, or move the inbox: --inbox",
            about,
            1,
            **figures,
        )
    if free < _LITTLE:
        hint = "larger files are refused: free some space there"
        return fair("space", f"{about} has room for {size(free)} only", hint, about, **figures)
    return good("space", f"{about} has room for {size(free)}", about, **figures)
