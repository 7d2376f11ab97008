"""A few hosts on one bridge: network namespaces with a real kernel between them, reached by nothing else.

Every host is a process that sleeps in a network of its own; what is run "on" it enters that network (nsenter(1)). Host
number N, from 1, has the interface `eth0` with 192.0.2.N/24 and fe80::N. Nothing of it leaves the namespaces.
"""

from __future__ import annotations

import subprocess

import attrs
from support.lab import Lab, Running, until

__all__ = ["Bridge", "bridge"]


@attrs.frozen
class Bridge:
    """The hosts, by the pids that `Lab` takes as `host`."""

    hosts: tuple[int, ...]

    def run(self, number: int, *words: str) -> str:
        """Run a command on host `number`, which must succeed; what it printed."""
        command = ["nsenter", "-t", str(self.hosts[number - 1]), "-n", "--", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        if done.returncode:
            raise AssertionError(f"{words}: {done.stderr}")
        return done.stdout

    def ip(self, number: int, words: str) -> None:
        """ip(8) on host `number`."""
        self.run(number, "ip", *words.split())

    def address(self, number: int, address: str) -> None:
        """Give `eth0` of host `number` an IPv4 address, with the broadcast address of its network."""
        self.ip(number, f"addr add {address} broadcast + dev eth0")

    def link_local(self, number: int) -> None:
        """Give it its IPv6 address, without the seconds that looking for duplicates takes."""
        self.ip(number, f"addr add fe80::{number}/64 dev eth0 nodad")

    def filter(self, number: int, *rules: str) -> None:
        """Drop what host `number` sends and a rule of nft(8) fits."""
        self.run(number, "nft", "add table inet test; add chain inet test out { type filter hook output priority 0; }")
        for rule in rules:
            self.run(number, "nft", f"add rule inet test out {rule} drop")

    def unfilter(self, number: int) -> None:
        """Drop nothing any more."""
        self.run(number, "nft", "delete table inet test")


def _host(lab: Lab, number: int) -> int | None:
    log = lab.root / f"bridge-{number}.log"
    words = ["unshare", "-n", "--", "sh", "-c", "ip link set lo up && echo here && exec sleep 600"]
    with log.open("wb") as file:
        started = Running(lab._popen(words, file, file, None), log, log)
    lab._started.append(started)
    until(lambda: log.read_text() or not started.alive, "a network")
    return started.pid if log.read_text() == "here\n" else None


def bridge(lab: Lab, count: int) -> Bridge | None:
    """`count` hosts; None where this user may not make networks."""
    pids = [_host(lab, number) for number in range(count + 1)]
    found = tuple(pid for pid in pids if pid is not None)
    if len(found) != count + 1:
        return None
    switch = Bridge(found[:1])
    made = Bridge(found[1:])
    try:
        switch.ip(1, "link add br0 type bridge")
    except AssertionError:
        return None
    switch.ip(1, "link set br0 up")
    for number in range(1, count + 1):
        switch.ip(1, f"link add port{number} type veth peer name eth0 netns {made.hosts[number - 1]}")
        switch.ip(1, f"link set port{number} master br0 up")
        made.ip(number, "link set eth0 addrgenmode none")
        made.address(number, f"192.0.2.{number}/24")
        made.link_local(number)
        made.ip(number, "link set eth0 up")
    return made
