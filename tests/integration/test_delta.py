"""A large file that has changed: what travels between the real programs."""

from __future__ import annotations

import os
import random
from pathlib import Path

from support.hostile import Hostile, data, entry
from support.lab import Lab
from support.trees import MiB

from ftx.disk.keys import load
from ftx.wire.messages import ProgressMessage

OLD = random.Random(12).randbytes(8 * MiB + 5)


def put(path: Path, content: bytes, second: int) -> None:
    """Content with a time of its own, old enough to be remembered."""
    path.write_bytes(content)
    os.utime(path, ns=(1, 1_700_000_000_000_000_000 + second * 10**9))


def test_only_the_changed_block_travels(lab: Lab) -> None:
    """One MiB of eight; both versions are there whole, and the receipt counts all of it."""
    daemon = lab.daemon()
    source = lab.root / "file"
    put(source, OLD, 1)
    lab.send(daemon, "file")
    new = OLD[: 3 * MiB] + b"!" + OLD[3 * MiB + 1 :]
    put(source, new, 2)
    before = daemon.io()["rchar"]
    client = lab.send(daemon, "file")
    done = client.one("done")
    assert (done["bytes"], done["bytes_wire"]) == (len(new), MiB)
    copied = len(new) - MiB
    assert daemon.io()["rchar"] - before < copied + MiB, "what was stored is read once, while it is copied"
    assert client.one("file")["stored_as"] == "file (1)"
    assert (daemon.inbox / "file").read_bytes() == OLD
    assert (daemon.inbox / "file (1)").read_bytes() == new
    assert daemon.partials() == []
    daemon.clean_log()


def test_a_source_that_changes_between_two_attempts_does_not_start_from_nothing(lab: Lab) -> None:
    """Half of it durable, cut, edited, sent again: what was durable and is the same does not travel again."""
    daemon = lab.daemon()
    source = lab.root / "file"
    put(source, OLD, 1)
    with Hostile(daemon.port, load(str(daemon.home / "identity.key"))) as first:
        first.job(entry(0, b"file", size=len(OLD), mtime=source.stat().st_mtime_ns))
        for index in range(4):
            first.send(data(0, index, OLD[index * MiB : (index + 1) * MiB]))
        while first.until(ProgressMessage).durable < 4 * MiB:
            pass
    daemon.idle()
    assert len(daemon.partials()) == 2
    new = OLD[:MiB] + b"!" + OLD[MiB + 1 :]
    put(source, new, 2)
    done = lab.send(daemon, "file").one("done")
    assert (done["bytes"], done["bytes_wire"]) == (len(new), len(new) - 3 * MiB)
    assert (daemon.inbox / "file").read_bytes() == new
    assert daemon.partials() == []
    daemon.clean_log()
