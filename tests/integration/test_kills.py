"""Kill either side at any moment, and run the same command again.

The moment is drawn from a seed, as a part of what the daemon will have written by the end. Afterwards everything must
be there, byte for byte, under its own names; nothing may ever have been visible that was not complete; nothing that was
durable may have come again, and nothing may be read again that either side remembers.

Two seeds per side belong to the ordinary run; `make kills` runs many (the variable KILL_SEEDS says how many).
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from support.durable import durable_bytes
from support.lab import Client, Daemon, Lab, until
from support.trees import MiB, digest_of, make_tree, snapshot, visible

from ftx import limits

SEEDS = range(int(os.environ.get("KILL_SEEDS", "2")))

#: Bytes besides content that a resuming client reads (journals, its tree), beyond what starting up costs.
SLACK = MiB
#: Bytes in zero blocks: read, and never sent.
ZEROS = 4 * MiB
#: Files of more than one block: for each of them one block may travel or be read again.
LARGE = 3


@attrs.frozen
class Source:
    """The tree to send. It is old enough for the sender's memory."""

    path: Path
    total: int
    tree: dict[bytes, tuple[object, ...]]


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    """Some large files, and many small ones, made once."""
    folder = Path(tempfile.mkdtemp(prefix="ftx-", dir="/tmp"))
    sizes: dict[str | bytes, int] = {f"small/{number // 40}/{number}": 50 + number for number in range(400)}
    sizes |= {"a large one": 32 * MiB + 77, "middle": 3 * MiB, "small/zeros": -(ZEROS + 1)}
    total = make_tree(folder / "source", sizes)
    ready = time.time() + limits.RACY_SECONDS + 0.2
    tree = snapshot(folder / "source")
    until(lambda: time.time() > ready, "the source is old enough to be remembered")
    yield Source(folder / "source", total, tree)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def start_up(source: Source) -> int:
    """What a client reads when there is nothing to send: its own code, mostly."""
    with Lab(Path(tempfile.mkdtemp(prefix="ftx-", dir="/tmp"))) as lab:
        daemon = lab.daemon()
        lab.send(daemon, source.path)
        client = lab.sending(daemon.url, source.path)
        cost = client.cost()["rchar"]
        client.ends()
    shutil.rmtree(lab.root)
    return cost


@attrs.define(eq=False)
class Watch:
    """Looks at the inbox as a user would, and fails at the first name whose content is not complete."""

    source: Source
    inbox: Path
    seen: set[bytes] = attrs.Factory(set)

    def look(self) -> int:
        """Check what is new; the bytes in all complete files."""
        found = visible(self.inbox)
        for path in found.keys() - self.seen:
            top, _, below = path.partition(b"/")
            assert top == b"source", path
            assert below in self.source.tree, f"a second copy, or a partial: {path!r}"
            _, _, size, digest = self.source.tree[below]
            assert found[path] == size, path
            assert digest_of(os.path.join(os.fsencode(self.inbox), path)) == digest, path
            self.seen.add(path)
        return sum(found.values())


def written(daemon: Daemon) -> int:
    """Bytes it has written so far; a dead one has written all it could."""
    try:
        return daemon.io()["wchar"]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 1 << 60


def until_moment(seed: int, daemon: Daemon, client: Client, watch: Watch) -> None:
    """Watch the transfer until the moment that `seed` stands for, or its end."""
    dice = random.Random(seed)
    total = watch.source.total
    # Half of the moments lie anywhere, half near the end of the large file and behind it: syncs, names, records.
    part = dice.random() if dice.random() < 0.5 else 0.75 + dice.random() * 0.5
    begun = written(daemon)
    until(
        lambda: (watch.look() < 0) or written(daemon) - begun >= part * total or not client.alive,
        "the moment to kill",
        interval=0.0005,
        said=client,
    )


def complete(lab: Lab, daemon: Daemon, watch: Watch) -> None:
    """What must be true in the end."""
    assert snapshot(daemon.inbox / "source") == watch.source.tree
    assert len(visible(daemon.inbox)) == len([1 for entry in watch.source.tree.values() if len(entry) == 4])
    assert daemon.partials() == []
    daemon.clean_log()
    again = lab.send(daemon, watch.source.path).one("done")
    assert (again["bytes_wire"], again["files_identical"]) == (0, again["files"])


@pytest.mark.case("G112")
@pytest.mark.parametrize("seed", SEEDS)
def test_kill_the_receiver(seed: int, source: Source, start_up: int, lab: Lab) -> None:
    """kill -9 of the daemon. With even seeds the client has given up and is run again, with odd ones it goes on."""
    goes_on = bool(seed % 2)
    daemon = lab.daemon()
    watch = Watch(source, daemon.inbox)
    client = lab.sending(daemon.url, source.path, *(() if goes_on else ("--retries", "0")))
    until_moment(seed, daemon, client, watch)
    over = not client.alive
    daemon.kill()
    there = watch.look()
    durable = durable_bytes(daemon.inbox)
    if goes_on or over:
        daemon = lab.again(daemon)
        client.ends()
    else:
        client.ends(4)
        assert client.one("failed")["resumable"] is True
        assert "run the same command again" in client.text()
        watch.look()
        daemon = lab.again(daemon)
        client = lab.sending(daemon.url, source.path)
        cost = client.cost()
        client.ends()
        sent = client.one("done")["bytes_wire"]
        assert cost["rchar"] - start_up <= sent + ZEROS + SLACK + LARGE * MiB, "the sender read again what it remembers"
    came = daemon.call("daemon.status")["bytes_in"]
    assert came <= source.total - there - durable, f"{there} were there, {durable} durable, {came} came again"
    # What was durable is not read. What was on the disk without a journal yet may be, to be taken over instead of sent
    # again: for its digests, for its copy, and for the check of that.
    read = daemon.io()["rchar"]
    assert read < 16 * MiB + source.total // 4 + 3 * (source.total - durable), f"{read} were read, {durable} durable"
    complete(lab, daemon, watch)


@pytest.mark.case("G112", "K171")
@pytest.mark.parametrize("seed", SEEDS)
def test_kill_the_sender(seed: int, source: Source, start_up: int, lab: Lab) -> None:
    """kill -9 of the client; the daemon keeps what came, and the next run sends the rest."""
    daemon = lab.daemon()
    watch = Watch(source, daemon.inbox)
    client = lab.sending(daemon.url, source.path)
    until_moment(1000 + seed, daemon, client, watch)
    client.kill()
    daemon.idle()
    there = watch.look()
    durable = durable_bytes(daemon.inbox)
    before = daemon.call("daemon.status")["bytes_in"]
    reads = daemon.io()["rchar"]
    client = lab.sending(daemon.url, source.path)
    cost = client.cost()
    client.ends()
    watch.look()
    sent = client.one("done")["bytes_wire"]
    came = daemon.call("daemon.status")["bytes_in"] - before
    assert came == sent <= source.total - there - durable, f"{there} were there, {durable} durable"
    assert before - there - durable <= LARGE * MiB, "what came before the kill was lost"
    assert cost["rchar"] - start_up <= sent + ZEROS + SLACK + LARGE * MiB, "the sender read again what it remembers"
    assert daemon.io()["rchar"] - reads < 4 * MiB, "the receiver read its partials again"
    complete(lab, daemon, watch)
