"""Resuming what is huge: what was durable is read by nobody, neither here nor there."""

from __future__ import annotations

import random

from support.lab import Lab
from support.mostly_done import remember, sparse, stage
from support.trees import MiB

from ftx.core.blocks import block_count
from ftx.disk.keys import load
from ftx.limits import BLOCK

TiB = 1 << 40
#: Blocks at the end that have not travelled.
MISSING = 8


def test_a_tebibyte_goes_on_without_being_read(lab: Lab) -> None:
    """A million blocks less eight are durable there and remembered here: eight are read, sent and written."""
    daemon = lab.daemon()
    tail = random.Random(6).randbytes(MISSING * BLOCK)
    source = sparse(lab.root / "huge", TiB, tail)
    remember(daemon.home, source, MISSING)
    stage(daemon.inbox, load(str(daemon.home / "identity.key")).id, source, MISSING)
    before = daemon.io()["rchar"]
    client = lab.sending(daemon.url, "huge")
    cost = client.cost()
    client.ends(0)
    done = client.one("done")
    assert (done["bytes"], done["bytes_wire"]) == (TiB, len(tail))
    # Digests are 32 bytes in a MiB: the client reads them once, and once more for the digest of the file; the daemon
    # also when it looks what it has. What a process reads of libraries and sockets comes on top.
    digests = block_count(TiB) * 32
    assert cost["rchar"] < 2 * digests + len(tail) + 64 * MiB
    assert daemon.io()["rchar"] - before < 3 * digests + 2 * len(tail) + 32 * MiB
    stored = daemon.inbox / "huge"
    assert stored.stat().st_size == TiB
    with stored.open("rb") as file:
        file.seek(-len(tail), 2)
        assert file.read() == tail
    assert stored.stat().st_blocks * 512 < 2 * len(tail)
    assert daemon.partials() == []
    assert daemon.memory() < 128 * MiB
