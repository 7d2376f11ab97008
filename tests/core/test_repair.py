"""Repair: a block that does not verify is asked for once more, alone, and the third fails the file."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support.memory_disk import MemoryDisk, items
from support.pair import Pair, offer

from ftx import limits
from ftx.core.blocks import BlockSet, block_count
from ftx.core.events import OpenEntry, ReadBlock, Send
from ftx.core.receiver import Receiver
from ftx.core.sender import Sender
from ftx.errors import KINDS, ProtocolError
from ftx.wire.frames import Encoding, Piece
from ftx.wire.messages import (
    Accept,
    EntryEnd,
    EntryFailed,
    Failed,
    FileEntry,
    Manifest,
    Message,
    Needs,
    Results,
    WantAgain,
    WantAll,
)

MIB = limits.BLOCK
NOISE = random.Random(7).randbytes(5 * MIB + 12_345)
TREE = {b"a": b"small", b"large": NOISE, b"z": NOISE[: 2 * MIB]}
LARGE, SMALL = (b"large",), (b"a",)


def statuses(pair: Pair) -> dict[Any, str]:
    """What became of each entry, by the sender's account."""
    return {
        entry.path: next(name for name, kind in KINDS.items() if kind.number == entry.error)
        if entry.error
        else entry.status
        for entry in pair.client.resolved
    }


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("path", "block"), [(SMALL, 0), (LARGE, 0), (LARGE, 3), (LARGE, 5)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_block_that_arrives_broken_is_asked_for_again_alone(
    path: tuple[bytes, ...], block: int, times: int, seed: int
) -> None:
    """Everything is stored, and no more has travelled than the file and the block once more each time."""
    disk = MemoryDisk()
    entries = items(TREE, {path: {"lies": block, "times": times}})
    pair = Pair(entries, disk, seed=seed, cut="random").run()
    assert pair.complete, pair.explain()
    assert set(statuses(pair).values()) == {"stored"}
    assert disk.files == {(name,): content for name, content in TREE.items()}
    content = TREE[path[0]]
    again = len(content[block * MIB : (block + 1) * MIB])
    assert pair.server.machine is not None
    assert pair.server.machine.received == sum(map(len, TREE.values())) + times * again
    assert [read[:2] for read in pair.client.reads].count((path, block)) == times + 1
    assert not disk.partials


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("path", "block"), [(SMALL, 0), (LARGE, 1), (LARGE, 5)])
def test_the_third_broken_block_fails_the_file_alone(path: tuple[bytes, ...], block: int, seed: int) -> None:
    """The others arrive, and a second run, with a source that is well again, mends it."""
    disk = MemoryDisk()
    pair = Pair(items(TREE, {path: {"lies": block, "times": 3}}), disk, seed=seed, cut="random").run()
    assert pair.complete, pair.explain()
    expected = {(name,): "stored" for name in TREE} | {path: "digest-mismatch"}
    assert statuses(pair) == expected
    assert path not in disk.files
    again = Pair(items(TREE), disk, seed=seed).run()
    assert again.complete
    assert disk.files[path] == TREE[path[0]]


@pytest.mark.parametrize("seed", range(4))
def test_without_the_feature_the_first_broken_block_fails_the_file(seed: int) -> None:
    """An older peer knows no repair: it is not asked."""
    pair = Pair(items(TREE, {LARGE: {"lies": 2, "times": 1}}), MemoryDisk(), seed=seed, features=()).run()
    assert pair.complete, pair.explain()
    assert statuses(pair)[LARGE] == "digest-mismatch"


@pytest.mark.parametrize("seed", range(8))
def test_a_source_that_cannot_be_read_again_fails_its_file(seed: int) -> None:
    """The file changed between the first reading and the second: `entry-failed`, and the job goes on."""

    entries = items(TREE, {LARGE: {"lies": 4, "times": 1, "fault": "again 4"}})
    pair = Pair(entries, MemoryDisk(), seed=seed, cut="random").run()
    assert pair.complete, pair.explain()
    assert statuses(pair) == {(name,): "stored" for name in TREE} | {LARGE: "source-changed"}


# -- the sender, told what a hostile receiver might say ------------------------------------------------------


def _asked(size: int, features: frozenset[str] = frozenset({"repair"})) -> Sender:
    machine = Sender(offer(), features=features)
    machine.receive(Accept(machine.offer.job, 2048, 4096, 2, 0))
    machine.add_file((b"f",), size, 0, 0o644, None)
    machine.end_manifest()
    machine.receive(Needs([WantAll(0)]))
    return machine


def _sent_all(machine: Sender, size: int) -> list[Message]:
    """Let the owner do all that the machine asks for; the messages that came of it."""
    said: list[Message] = []
    while (work := machine.next_work()) is not None:
        if isinstance(work, OpenEntry):
            machine.opened(work.number, BlockSet(block_count(size)))
        elif not isinstance(work, ReadBlock):
            said += [effect.message for effect in machine.closed(0, bytes(32)) if isinstance(effect, Send)]
    return said


def test_a_closed_file_is_closed_anew_behind_the_repeated_block() -> None:
    """Opened, read, closed once more; and what was sent before is not sent again."""
    machine = _asked(2 * MIB)
    assert _sent_all(machine, 2 * MIB) == [EntryEnd(0, 2 * MIB, bytes(32))]
    machine.receive(Needs([WantAgain(0, 1)]))
    work = machine.next_work()
    assert work == OpenEntry(0)
    machine.opened(0, BlockSet.full(2))
    assert machine.next_work() == ReadBlock(0, 1, True, again=True)
    assert _sent_all(machine, 2 * MIB) == [EntryEnd(0, 2 * MIB, bytes(32))]


def test_what_failed_at_the_source_stays_failed() -> None:
    """Behind an entry-failed nothing is sent, whatever is asked for."""
    machine = _asked(2 * MIB)
    work = machine.next_work()
    assert work == OpenEntry(0)
    assert machine.source_failed(0, "source-changed") == [Send(EntryFailed(0, KINDS["source-changed"].number))]
    machine.receive(Needs([WantAgain(0, 1)]))
    assert machine.next_work() is None
    machine.receive(Results([Failed(0, KINDS["source-changed"].number)]))
    assert machine.idle


@pytest.mark.parametrize(
    ("again", "sent"), [([(0, 2)], True), ([(1, 0)], True), ([(0, 1)] * 3, True), ([(0, 0)], False)]
)
def test_what_cannot_be_asked_for_again(again: list[tuple[int, int]], sent: bool) -> None:
    """A block that there is not, a file that there is not, more than twice, before it was sent."""
    size = 2 * MIB if sent else 5
    machine = _asked(size)
    if sent:
        _sent_all(machine, size)
    with pytest.raises(ProtocolError):
        machine.receive(Needs([WantAgain(number, block) for number, block in again]))


def test_nobody_asks_again_without_the_feature() -> None:
    """What was not agreed is not understood."""
    machine = _asked(2 * MIB, frozenset())
    with pytest.raises(ProtocolError, match="agreed"):
        machine.receive(Needs([WantAgain(0, 0)]))


def test_an_entry_end_that_crossed_the_question_is_void() -> None:
    """It was sent before the sender knew; the one that follows the block counts."""
    machine = Receiver(offer(), 0.0, features=frozenset({"repair"}))
    machine.receive(Manifest([FileEntry(0, [b"f"], 2 * MIB, 0, 0o644)], True), 0.0)
    machine.want(0, None, 0.0)
    for block in (0, 1):
        for start in range(0, MIB, limits.PIECE):
            last = start + limits.PIECE == MIB
            chunks = [memoryview(bytes(limits.PIECE))]
            machine.piece(Piece(0, block, Encoding.RAW, chunks, limits.PIECE, bytes(32) if last else None))
    machine.block_written(0, 0, False, 0.0)
    machine.flush(0.0)
    end = EntryEnd(0, 2 * MIB, bytes(32))
    assert machine.receive(end, 0.0) == []
    machine.block_written(0, 1, True, 0.0)
    machine.piece(Piece(0, 0, Encoding.ZERO, [], 0, bytes(32)))
    machine.receive(end, 0.0)
    assert [type(effect).__name__ for effect in machine.block_written(0, 0, True, 0.0)] == ["Publish"]
