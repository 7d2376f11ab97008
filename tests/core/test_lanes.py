"""Lanes: how many, and what a receiver makes of content that overtakes what is said of it."""

from __future__ import annotations

import gc
import random
import weakref
from typing import Any

import pytest
from support.memory_disk import MTIME, MemoryDisk, items
from support.pair import Pair, offer

from ftx import limits
from ftx.core.blocks import BlockSet
from ftx.core.events import CloseEntry, OpenEntry, ReadBlock
from ftx.core.lanes import Withdrawn, exporter_context, lanes_for
from ftx.core.receiver import Receiver
from ftx.core.sender import Sender
from ftx.errors import KINDS, ProtocolError
from ftx.wire.frames import Encoding, Piece, Whole
from ftx.wire.messages import Accept, EntryEnd, EntryFailed, FileEntry, Manifest, Needs, PipeEntry, WantAgain, WantAll

MIB = limits.BLOCK
NOISE = random.Random(11).randbytes(6 * MIB + 77)
TREE = {
    b"a": b"small",
    b"folder": {b"%d" % number: NOISE[number : 3 * MIB + number] for number in range(3)} | {b"empty": b""},
    b"large": NOISE,
    b"mixed": NOISE[:MIB] + bytes(MIB) + NOISE[:9],
    b"z": bytes(2 * MIB + 1),
}
LARGE = (b"large",)


def flat(tree: dict[bytes, Any], above: tuple[bytes, ...] = ()) -> dict[tuple[bytes, ...], bytes]:
    """The files of a tree by path."""
    found: dict[tuple[bytes, ...], bytes] = {}
    for name, value in tree.items():
        found |= flat(value, (*above, name)) if isinstance(value, dict) else {(*above, name): value}
    return found


def results(pair: Pair) -> dict[tuple[bytes, ...], str]:
    """What became of each file, as both ends tell it."""
    told = []
    for end in (pair.client, pair.server):
        entries = [entry for entry in end.resolved if not entry.folder]
        assert len({entry.path for entry in entries}) == len(entries)
        names = {kind.number: name for name, kind in KINDS.items()}
        told.append({entry.path: names[entry.error] if entry.error else entry.status for entry in entries})
    assert told[0] == told[1]
    return told[0]


# -- how many ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("round_trip", "processors", "content", "expected"),
    [
        (None, 8, 2**40, 0),
        (0.0002, 8, 2**40, 0),
        (0.014, 8, 2**40, 0),
        (0.02, 8, 2**40, 1),
        (0.02, 1, 2**40, 0),
        (0.05, 2, 2**40, 3),
        (0.1, 2, 2**40, limits.LANES),
        (0.1, 1, 2**40, 3),
        (0.1, 0, 2**40, 3),
        (0.2, 64, 2**40, limits.LANES),
        (900.0, 64, 2**62, limits.LANES),
        (0.2, 4, 0, 0),
        (0.2, 4, 16 * MIB - 1, 0),
        (0.2, 4, 16 * MIB, 1),
        (0.2, 4, 64 * MIB, 7),
    ],
)
def test_how_many_lanes_are_opened(round_trip: float | None, processors: int, content: int, expected: int) -> None:
    """None on a short path, more the longer it is, and never more than there is content for."""
    assert lanes_for(round_trip, processors, content) == expected


def test_a_proof_is_for_one_lane_of_one_job() -> None:
    """The contexts of no two lanes are the same."""
    jobs = [bytes(16), bytes(15) + b"\1"]
    contexts = {exporter_context(job, number) for job in jobs for number in range(1, limits.LANES + 1)}
    assert len(contexts) == 2 * limits.LANES


# -- any order ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["whole", "random"])
@pytest.mark.parametrize("lanes", [1, 3, limits.LANES])
@pytest.mark.parametrize("seed", range(6))
def test_a_tree_arrives(seed: int, lanes: int, cut: str) -> None:
    """Whatever overtakes what: each block once, each file once, and both ends agree."""
    disk = MemoryDisk()
    pair = Pair(items(TREE), disk, seed=seed, cut=cut, lanes=lanes).run()
    assert pair.complete, pair.explain()
    assert set(results(pair).values()) == {"stored"}
    assert disk.files == flat(TREE)
    assert any(pair.client.lanes.values()), "nothing has gone by a lane"


@pytest.mark.parametrize("seed", range(4))
def test_a_tree_is_pulled(seed: int) -> None:
    """The same the other way round."""
    disk = MemoryDisk()
    pair = Pair(items(TREE), disk, seed=seed, cut="random", lanes=3, pull=list(TREE)).run()
    assert pair.complete, pair.explain()
    assert disk.files == flat(TREE)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("block", [0, 3, 6])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_block_that_arrives_broken(block: int, times: int, seed: int) -> None:
    """It is asked for again, also when its file's end had come before it; the third time fails the file alone."""
    disk = MemoryDisk()
    entries = items(TREE, {LARGE: {"lies": block, "times": times}})
    pair = Pair(entries, disk, seed=seed, cut="random", lanes=3).run()
    assert pair.complete, pair.explain()
    expected = dict.fromkeys(flat(TREE), "stored") | ({LARGE: "digest-mismatch"} if times == 3 else {})
    assert results(pair) == expected, pair.explain()


FAULTS = ["look-up no-space", "write 0 storage-failed", "write 3 no-space", "write 6 no-space", "sync storage-failed"]


@pytest.mark.parametrize("fault", [*FAULTS, "publish exists"])
@pytest.mark.parametrize("seed", range(8))
def test_a_disk_that_fails(fault: str, seed: int) -> None:
    """What is on its way for a file that is over harms nobody, and a second run mends it."""
    disk, memory = MemoryDisk(faults={LARGE: fault}), {}
    pair = Pair(items(TREE), disk, seed=seed, cut="random", memory=memory, lanes=3).run()
    assert pair.complete, pair.explain()
    assert results(pair) == dict.fromkeys(flat(TREE), "stored") | {LARGE: fault.split()[-1]}, pair.explain()
    disk.faults.clear()
    assert Pair(items(TREE), disk, seed=seed, memory=memory, lanes=3).run().complete
    assert disk.files == flat(TREE)


@pytest.mark.parametrize("fields", [{"fault": "read 1"}, {"fault": "read 5"}, {"fault": "close"}])
@pytest.mark.parametrize("seed", range(8))
def test_a_source_that_fails(fields: dict[str, Any], seed: int) -> None:
    """The word of it overtakes blocks that were sent before."""
    disk = MemoryDisk()
    pair = Pair(items(TREE, {LARGE: fields}), disk, seed=seed, cut="random", lanes=3).run()
    assert pair.complete, pair.explain()
    assert results(pair) == dict.fromkeys(flat(TREE), "stored") | {LARGE: "source-changed"}, pair.explain()
    assert LARGE not in disk.files


@pytest.mark.parametrize("seed", range(8))
def test_everything_at_once(seed: int) -> None:
    """Half of many files fail somewhere, some blocks are broken, older copies change, and lanes are cut anywhere."""
    draw = random.Random(seed)
    old = {b"%02d" % number: NOISE[number : number + draw.choice([1, 2, 4]) * MIB + number] for number in range(12)}
    new = {name: content[:-1] + b"?" for name, content in old.items()}
    disk = MemoryDisk()
    disk.conflict = "overwrite"
    assert Pair(items(old), disk, seed=seed).run().complete
    stages = ["look-up", "write 0", "write 1", "sync", "publish"]
    for name in draw.sample(list(new), 4):
        disk.faults[(name,)] = f"{draw.choice(stages)} no-space"
    sources: dict[Any, dict[str, Any]] = {(name,): {"mtime": MTIME + 1} for name in new}
    for name in draw.sample(list(new), 5):
        broken = {"lies": 0, "times": draw.randint(1, 3)}
        sources[(name,)] |= draw.choice([{"fault": "read 0"}, {"fault": "close"}, broken])
    changed = list(items(new, sources))
    pair = Pair(changed, disk, seed=seed, cut="random", lanes=draw.randint(1, 7), spoil=draw.random() < 0.5).run()
    assert pair.complete, pair.explain()
    allowed = {"stored", "no-space", "source-changed", "digest-mismatch"}
    assert set(results(pair).values()) <= allowed
    for entry in pair.client.resolved:
        if entry.status == "stored":
            assert disk.files[entry.stored_as] == new[entry.path[0]]


@pytest.mark.parametrize("seed", range(4))
def test_lost_and_resumed(seed: int) -> None:
    """Blocks that were on a lane when all was lost come again, and no others that were durable."""
    disk, memory = MemoryDisk(), {}
    for attempt in range(40):
        lose = ("client", 200_000) if attempt < 3 else None
        pair = Pair(items(TREE), disk, seed=seed + attempt, cut="random", memory=memory, lanes=3, lose=lose).run()
        if pair.complete:
            break
    assert disk.files == flat(TREE)


# -- what a receiver takes, and what not -------------------------------------------------------------------


def receiving(size: int, *, laned: bool = True, pipe: bool = False) -> Receiver:
    """A receiver that has asked for a file of `size` bytes."""
    machine = Receiver(offer(), 0.0, features=frozenset({"repair", "pipes"}))
    entry = PipeEntry(0, [b"f"], MTIME, 0o644) if pipe else FileEntry(0, [b"f"], size, MTIME, 0o644)
    machine.receive(Manifest([entry], True), 0.0)
    machine.want(0, None, 0.0)
    machine.flush(0.0)
    if laned:
        machine.lanes_joined()
    return machine


def zero(block: int, entry: int = 0) -> Piece:
    """A whole block in a few bytes."""
    return Piece(entry, block, Encoding.ZERO, [], 0, bytes(32))


def part(block: int, *, last: bool = False) -> Piece:
    """A piece of a block."""
    content = memoryview(bytes(limits.PIECE))
    return Piece(0, block, Encoding.RAW, [content], len(content), bytes(32) if last else None)


def test_an_end_that_overtakes_blocks_is_kept() -> None:
    """The file is published when the last of them is written, and not before."""
    machine = receiving(3 * MIB)
    machine.piece(zero(1), 2)
    assert machine.receive(EntryEnd(0, 3 * MIB, bytes(32)), 0.0) == []
    machine.piece(zero(0), 1)
    machine.block_written(0, 0, True, 0.0)
    machine.block_written(0, 1, True, 0.0)
    machine.piece(zero(2), 1)
    assert [type(effect).__name__ for effect in machine.block_written(0, 2, True, 0.0)] == ["Publish"]


def test_without_lanes_nothing_overtakes() -> None:
    """A file that is closed before all of it has come breaks the protocol, as ever."""
    machine = receiving(2 * MIB, laned=False)
    machine.piece(zero(0))
    with pytest.raises(ProtocolError, match="before all"):
        machine.receive(EntryEnd(0, 2 * MIB, bytes(32)), 0.0)


@pytest.mark.parametrize(
    ("before", "piece", "lane"),
    [
        ([], zero(2), 1),
        ([], zero(0, entry=1), 1),
        ([(zero(0), 1)], zero(0), 2),
        ([(part(0), 1)], part(0), 2),
        ([(part(0), 1)], part(1), 1),
        ([(part(0), 1)], zero(1), 1),
        ([(part(0), 0)], zero(0), 1),
    ],
    ids=["no such block", "no such file", "twice", "begun elsewhere", "in between", "other encoding", "begun at home"],
)
def test_what_a_lane_may_not_carry(before: list[tuple[Piece, int]], piece: Piece, lane: int) -> None:
    """What was not asked for, what is there already, and what comes by two ways at once."""
    machine = receiving(2 * MIB)
    for sent, where in before:
        machine.piece(sent, where)
    with pytest.raises(ProtocolError):
        machine.piece(piece, lane)


def test_a_small_file_comes_once() -> None:
    """One that has begun on a lane is not taken whole from another connection; others are, whatever lanes carry."""
    machine = receiving(6)
    begun = Piece(0, 0, Encoding.RAW, [memoryview(b"abc")], 3, None)
    assert machine.piece(begun, 2) == []
    assert machine.wholes([Whole(0, (b"abcdef",), bytes(32))]) == 0
    with pytest.raises(ProtocolError):
        machine.piece(Piece(0, 0, Encoding.RAW, [memoryview(b"abcdef")], 6, bytes(32)))
    machine = Receiver(offer(), 0.0)
    entries = [FileEntry(0, [b"a"], MIB, MTIME, 0o644), FileEntry(1, [b"b"], 6, MTIME, 0o644)]
    machine.receive(Manifest(entries, True), 0.0)
    for number in range(2):
        machine.want(number, None, 0.0)
    machine.lanes_joined()
    assert machine.piece(part(0), 1) == []
    assert machine.wholes([Whole(1, (b"abcdef",), bytes(32)), Whole(0, (b"x",), bytes(32))]) == 1
    assert machine.wholes([Whole(1, (b"abcdef",), bytes(32))]) == 0  # it was there


def test_a_pipe_stays_on_its_own_connection() -> None:
    """Its blocks have an order."""
    with pytest.raises(ProtocolError, match="must not"):
        receiving(0, pipe=True).piece(zero(0), 1)


def test_what_was_asked_for_again_stays_on_its_own_connection() -> None:
    """Otherwise nobody could tell which end of the file counts."""
    machine = receiving(2 * MIB)
    machine.piece(zero(0), 1)
    machine.block_written(0, 0, False, 0.0)
    with pytest.raises(ProtocolError, match="must not"):
        machine.piece(zero(0), 1)


@pytest.mark.parametrize("second", [EntryEnd(0, 2 * MIB, bytes(32)), EntryFailed(0, 307)])
def test_a_file_is_closed_once(second: Any) -> None:
    """Also while its end is kept."""
    machine = receiving(2 * MIB)
    machine.receive(EntryEnd(0, 2 * MIB, bytes(32)), 0.0)
    with pytest.raises(ProtocolError):
        machine.receive(second, 0.0)


def test_what_comes_for_a_file_that_failed_is_dropped() -> None:
    """In the middle of a block, and from its beginning; on a lane and on the connection itself."""
    machine = receiving(4 * MIB)
    machine.piece(part(0), 1)
    machine.receive(EntryFailed(0, 307), 0.0)
    assert machine.under_way([(0, None), (1, None)]) == {}
    for piece, lane in [(part(0), 1), (part(0, last=True), 1), (zero(1), 2), (zero(2), 0)]:
        assert machine.piece(piece, lane) == []


@pytest.mark.parametrize("how", ["the disk", "a third broken block", "a third one behind the end"])
def test_half_a_block_of_a_file_that_failed_is_let_go(how: str) -> None:
    """Nobody waits for its other half, which may never come."""
    machine = receiving(2 * MIB)
    half = part(1)
    kept = weakref.ref(half.chunks[0])
    machine.piece(half, 1)
    del half
    gc.collect()
    assert kept() is not None
    if how == "the disk":
        machine.failed(0, "no-space")
    for _ in range(3 if "third" in how else 0):
        machine.piece(zero(0))
        if "end" in how:
            machine.receive(EntryEnd(0, 2 * MIB, bytes(32)), 0.0)
        machine.block_written(0, 0, False, 0.0)
    gc.collect()
    assert kept() is None
    assert machine.under_way([(0, None), (1, None)]) == {}
    assert machine.piece(part(1), 1) == []


def test_only_so_many_files_that_failed_are_remembered() -> None:
    """The oldest is forgotten: what comes for it then breaks the protocol."""
    withdrawn = Withdrawn()
    for number in range(limits.WITHDRAWN + 1):
        withdrawn.add(number)
    assert 0 not in withdrawn
    assert 1 in withdrawn
    assert limits.WITHDRAWN in withdrawn


def test_every_block_under_way_counts() -> None:
    """Whether its first piece has come, or only the header of it."""
    machine = receiving(3 * MIB + 5)
    machine.piece(part(0), 1)
    assert machine.under_way([(0, None), (1, None), (2, (0, 3))]) == {1: (0, 0, MIB, limits.PIECE), 2: (0, 3, 5, 0)}


def test_a_sender_says_what_must_not_go_by_a_lane() -> None:
    """That is what is asked for again; everything else may."""
    machine = Sender(offer(), features=frozenset({"repair"}))
    machine.receive(Accept(offer().job, limits.WINDOW_UNANSWERED, limits.WINDOW_UNACKNOWLEDGED, 0, 0))
    machine.add_file((b"f",), 2 * MIB, MTIME, 0o644, None)
    machine.end_manifest()
    machine.receive(Needs([WantAll(0)]))
    told = []
    for again in (False, True):
        work = machine.next_work()
        assert isinstance(work, OpenEntry)
        machine.opened(0, BlockSet.full(2) if again else BlockSet(2))
        while not isinstance(work := machine.next_work(), CloseEntry):
            assert isinstance(work, ReadBlock)
            told.append((work.block, work.again))
        machine.closed(0, bytes(32))
        if not again:
            machine.receive(Needs([WantAgain(0, 1)]))
    assert told == [(0, False), (1, False), (1, True)]
