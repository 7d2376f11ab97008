"""Our own packets, on a link of a network namespace."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

SCRIPT = """
import pathlib, subprocess
from ftx.net.hearing import own_packets
from ftx.net.interfaces import interfaces

def ip(*words):
    subprocess.run(["ip", *words], check=True)

ip("link", "add", "near", "type", "veth", "peer", "name", "far")
for name in ("near", "far"):
    ip("link", "set", name, "addrgenmode", "none", "up")
pathlib.Path("/proc/sys/net/ipv6/conf/near/dad_transmits").write_text("60")
ip("addr", "add", "fe80::1/64", "dev", "near")
[near] = [one for one in interfaces() if one.name == "near"]
[heard] = own_packets(near, 7389)
print(heard.way.label, heard.result)
ip("addr", "del", "fe80::1/64", "dev", "near")
[heard] = own_packets(near, 7389)
print(heard.way.label, heard.result)
"""


def test_an_address_in_duplicate_detection() -> None:
    """Nothing may be sent from it yet, which is no mistake of anybody's; one that has gone is another matter."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare(1) and ip(8)")
    ran = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    if "unshare" in ran.stderr or "Operation not permitted" in ran.stderr or "Not supported" in ran.stderr:
        pytest.skip("no network namespaces here: " + ran.stderr.strip())
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["multicast6 not-ready", "multicast6 not-sent"]
