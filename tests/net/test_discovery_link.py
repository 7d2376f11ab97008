"""Discovery between two hosts: two network namespaces joined by a private link, with a real kernel in between."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "support" / "two_hosts.py"


def namespaces() -> bool:
    """Whether this user may make network namespaces and links in them."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    made = subprocess.run(
        ["unshare", "-rn", "ip", "link", "add", "near", "type", "veth", "peer", "name", "far"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    return made.returncode == 0


@pytest.mark.skipif(not namespaces(), reason="network namespaces cannot be made here")
def test_every_way_between_two_hosts() -> None:
    """Broadcast, both groups (IPv6 too, which loopback cannot show) and unicast reach the daemon on the link."""
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "daemon": {"interfaces": ["far"], "problem": ""},
        "broadcast": ["broadcast", "192.0.2.2", "near"],
        "multicast4": ["multicast4", "192.0.2.2", "near"],
        "multicast6": ["multicast6", "fe80::2%near", "near"],
        "unicast": ["unicast", "192.0.2.2", "near"],
    }
