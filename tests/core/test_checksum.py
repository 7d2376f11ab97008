"""Files that are announced with their digests: recognised by content, and never more than was agreed."""

from __future__ import annotations

import random

import attrs
import pytest
from support.memory_disk import File, MemoryDisk, items
from support.pair import Pair, offer

from ftx import limits
from ftx.core.receiver import Receiver
from ftx.core.sender import Sender
from ftx.errors import ProtocolError
from ftx.wire.messages import Accept, DigestedEntry, Identical, Manifest, Results

NOISE = random.Random(2).randbytes(3 * limits.BLOCK + 9)
TREE = {b"large": NOISE, b"nothing": b"", b"small": b"small"}


def touched(extra: int = 1) -> list[File]:
    """The tree with other times."""
    return [attrs.evolve(file, mtime=file.mtime + extra) for file in items(TREE)]


@pytest.mark.parametrize("seed", range(3))
def test_a_touched_tree_is_identical_by_content(seed: int) -> None:
    """No content travels, and nothing is stored a second time."""
    disk = MemoryDisk()
    Pair(items(TREE), disk, seed=seed).run()
    before = dict(disk.files)
    pair = Pair(touched(), disk, seed=seed, cut="random", checksum=True).run()
    assert pair.complete, pair.explain()
    assert {entry.status for entry in pair.client.resolved} == {"identical"}
    assert pair.server.machine is not None
    assert pair.server.machine.received == 0
    assert disk.files == before


def test_the_same_size_and_time_but_other_content_travels() -> None:
    """What a look at size and time would have missed."""
    disk = MemoryDisk()
    Pair(items(TREE), disk).run()
    changed = NOISE[:-1] + bytes([NOISE[-1] ^ 1])
    pair = Pair([File((b"large",), changed)], disk, checksum=True).run()
    assert pair.complete, pair.explain()
    assert [entry.status for entry in pair.client.resolved] == ["stored"]
    assert changed in disk.files.values()


def test_an_older_receiver_is_not_told_digests() -> None:
    """Without the feature the entries are those of version 1, and touched files travel."""
    disk = MemoryDisk()
    Pair(items(TREE), disk).run()
    pair = Pair(touched(), disk, checksum=True, features=()).run()
    assert pair.complete, pair.explain()
    assert {entry.status for entry in pair.client.resolved} == {"stored"}


def test_digests_that_nobody_agreed_to_end_the_session() -> None:
    """The entry is one of a feature."""
    machine = Receiver(offer(), 0.0)
    with pytest.raises(ProtocolError, match="agreed"):
        machine.receive(Manifest([DigestedEntry(0, [b"a"], 1, 0, 0, bytes(32))], True), 0.0)


def test_a_receiver_that_takes_another_content_for_the_same_is_not_believed() -> None:
    """Identical means: with the digest that was announced."""
    machine = Sender(offer(), features=frozenset({"checksum"}))
    machine.receive(Accept(machine.offer.job, 2048, 4096, 2, 0))
    machine.add_file((b"f",), 5, 0, 0o644, None, bytes(32))
    machine.end_manifest()
    with pytest.raises(ProtocolError) as caught:
        machine.receive(Results([Identical(0, b"x" * 32, None)]))
    assert caught.value.name == "digest-mismatch"


def test_a_manifest_of_digests_stays_within_its_frame() -> None:
    """The digests count when entries are packed into frames (the decoder checks the bound)."""
    tree = {b"%04d" % number + b"n" * 100: b"" for number in range(1200)}
    pair = Pair(items(tree), MemoryDisk(), checksum=True).run()
    assert pair.complete, pair.explain()
