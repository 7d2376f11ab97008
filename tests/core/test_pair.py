"""Whole jobs: a real client and a real server, in memory, on networks and disks that do as they like."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.memory_disk import File, MemoryDisk, items
from support.pair import Pair, offer

from ftx import limits
from ftx.core.stages import Role, Stage
from ftx.errors import KINDS
from ftx.wire import messages

MIB = limits.BLOCK
_random = random.Random(20)
NOISE = _random.randbytes(5 * MIB)
TREE: dict[bytes, Any] = {
    b"empty": b"",
    b"folder": {
        b"5": NOISE,
        b"exact": NOISE[:MIB],
        b"more": NOISE[: MIB + 1],
        b"nothing": {},
        b"sub": {b"page": NOISE[:4096], b"zeros": bytes(3 * MIB)},
    },
    b"one": b"1",
    b"\xff\x01 % ": b"odd",
}
#: The same shape without the weight, for what is run thousands of times.
SMALL: dict[bytes, Any] = {b"a": b"", b"b": {b"c": b"content", b"d": {}}, b"e": b"\0\0"}


def flat(tree: dict[bytes, Any], above: tuple[bytes, ...] = ()) -> dict[tuple[bytes, ...], Any]:
    """Every path of a tree, with the content of files and None for folders."""
    found: dict[tuple[bytes, ...], Any] = {}
    for name, value in tree.items():
        found[(*above, name)] = value if isinstance(value, bytes) else None
        if not isinstance(value, bytes):
            found |= flat(value, (*above, name))
    return found


def check_agreement(pair: Pair) -> None:
    """Both ends came to the same results in the same order, and the receipt says so."""
    assert pair.complete, pair.explain()
    assert pair.client.session.stage is pair.server.session.stage is Stage.CLOSED, pair.explain()
    assert [entry.line for entry in pair.client.resolved] == [entry.line for entry in pair.server.resolved]
    machine, receipt = pair.server.machine, pair.client.receipt
    assert machine is not None
    assert receipt is not None
    assert pair.client.machine.transcript.digest() == machine.transcript.digest() == receipt.transcript
    assert pair.client.machine.transcript.counts == machine.transcript.counts
    assert machine.verified == machine.durable == receipt.bytes, pair.explain()


def check_order(pair: Pair) -> None:
    """Every folder has its result after everything in it."""
    seen: set[tuple[bytes, ...]] = set()
    for entry in pair.client.resolved:
        assert entry.path[:-1] not in seen or not entry.path[:-1], (entry.path, pair.explain())
        seen.add(entry.path)


def results(pair: Pair) -> dict[tuple[bytes, ...], str]:
    """The status of every entry; the name of the error for those that failed."""
    names = {row.number: row.name for row in KINDS.values()}
    return {entry.path: names.get(entry.error, entry.status) for entry in pair.client.resolved}


# -- what goes well ----------------------------------------------------------------------------------------


@pytest.mark.case("C72")
@pytest.mark.parametrize("cut", ["whole", "random"])
@pytest.mark.parametrize("seed", range(4))
def test_a_tree_arrives(seed: int, cut: str) -> None:
    """Files of all sizes and folders, on any network, in any order of disk work."""
    disk = MemoryDisk()
    pair = Pair(items(TREE), disk, seed=seed, cut=cut).run()
    check_agreement(pair)
    check_order(pair)
    expected = flat(TREE)
    assert disk.files == {path: content for path, content in expected.items() if content is not None}
    assert disk.folders == {path: (0o755, 1_700_000_000_000_000_000) for path, c in expected.items() if c is None}
    assert not disk.partials
    assert set(results(pair).values()) == {"stored"}


@pytest.mark.parametrize("seed", range(3))
def test_a_tree_is_pulled(seed: int) -> None:
    """The same machines with the roles swapped: the server sends what the client asked for."""
    disk = MemoryDisk()
    pair = Pair(items(TREE), disk, seed=seed, cut="random", pull=list(TREE)).run()
    check_agreement(pair)
    check_order(pair)
    assert disk.files == {path: content for path, content in flat(TREE).items() if content is not None}
    assert pair.client.session.role is Role.SERVER
    again = Pair(items(TREE), disk, seed=seed, pull=list(TREE)).run()
    check_agreement(again)
    assert {status for path, status in results(again).items() if path in disk.files} == {"identical"}
    assert not [read for read in again.client.reads if read[2]], "nothing travels twice"


def test_a_pull_that_is_lost_goes_on() -> None:
    """What was durable when the connection went is not asked for again."""
    disk = MemoryDisk()
    lose = ("client", 3 * MIB + 5000)
    first = Pair(items({b"large": NOISE}), disk, seed=1, cut="random", pull=[b"large"], lose=lose).run()
    assert not first.server.concluded
    assert disk.partials
    again = Pair(items({b"large": NOISE}), disk, seed=2, pull=[b"large"]).run()
    check_agreement(again)
    assert len(again.client.sent) < 5 * MIB, "less than the whole travelled"
    assert disk.files == {(b"large",): NOISE}


def test_nothing_comes_in_that_was_not_asked_for() -> None:
    """A server cannot choose which files of the client it writes: not at the top, and not by what it leaves out."""
    disk = MemoryDisk()
    pair = Pair(items({b".bashrc": b"evil", b"asked": b"good"}), disk, seed=1, pull=[b"asked"]).run()
    assert pair.server.error is not None
    assert pair.server.error.name == "protocol-error"
    assert (b".bashrc",) not in disk.files
    pair = Pair([((b"other",), "special-file")], MemoryDisk(), seed=1, pull=[b"asked"]).run()
    assert pair.server.error is not None
    assert pair.server.left_out == []


def test_what_is_left_out_is_told_and_is_no_entry() -> None:
    """Thousands of them, in frames that stay within their bound; the job is complete, and the account is the same."""
    gone = [((b"asked", b"%05d" % number + b"n" * 200), "source-unreadable") for number in range(2000)]
    start, *rest = items({b"asked": {b"a": b"content"}})
    pair = Pair([start, *gone, *rest], MemoryDisk(), seed=1, pull=[b"asked"]).run()
    check_agreement(pair)
    assert [(left.path, left.error) for left in pair.server.left_out] == [(path, 302) for path, _ in gone]
    pushed = Pair([start, *gone, *rest], MemoryDisk(), seed=1).run()
    check_agreement(pushed)
    assert pushed.server.left_out == [], "in a push the sender shows them itself"


def test_byte_by_byte() -> None:
    """A network that delivers single bytes changes nothing."""
    disk = MemoryDisk()
    pair = Pair(items(SMALL | {b"large": bytes(MIB + 1)}), disk, seed=3, cut="bytes").run()
    check_agreement(pair)
    assert disk.files[(b"large",)] == bytes(MIB + 1)


def test_nothing_to_send() -> None:
    """A job of no entries is complete."""
    pair = Pair([], MemoryDisk(), seed=1).run()
    check_agreement(pair)


@pytest.mark.case("C72")
def test_zeros_do_not_travel() -> None:
    """A zero block travels as its digest."""
    pair = Pair(items({b"zeros": bytes(3 * MIB)}), MemoryDisk(), seed=1).run()
    check_agreement(pair)
    assert len(pair.client.sent) < 2000


def test_more_entries_than_the_windows() -> None:
    """Ten thousand entries pass through windows of 2,048 and 4,096."""
    tree = {b"%05d" % number: (b"" if number % 5 else {}) for number in range(10_000)}
    disk = MemoryDisk()
    pair = Pair(items(tree), disk, seed=5).run()
    check_agreement(pair)
    assert len(disk.files) == 8_000
    assert len(disk.folders) == 2_000


@pytest.mark.case("C53")
def test_the_longest_path_and_the_largest_batch() -> None:
    """Paths as deep and as long as they may be, in frames that stay within their bound (the decoder checks)."""
    deep: Any = b"content"
    for depth in range(limits.DEPTH):
        deep = {bytes([97 + depth % 26]) * (63 if depth else 64): deep}
    wide = {b"%03d" % number + b"n" * 250: b"" for number in range(600)}
    disk = MemoryDisk()
    pair = Pair(items(deep | wide), disk, seed=6).run()
    check_agreement(pair)
    longest = max(disk.files, key=len)
    assert (len(longest), len(b"/".join(longest))) == (limits.DEPTH, limits.PATH)


def test_into_a_folder_and_under_another_name() -> None:
    """The result names the path below the inbox only where it is not what was asked for."""
    disk = MemoryDisk()
    disk.files[(b"in", b"a")] = b"other content"
    pair = Pair(items({b"a": b"1", b"b": b"2"}), disk, job_offer=offer([b"in"])).run()
    check_agreement(pair)
    assert {entry.path: entry.stored_as for entry in pair.client.resolved} == {
        (b"a",): (b"in", b"a (1)"),
        (b"b",): (b"in", b"b"),
    }


@pytest.mark.parametrize(("conflict", "status"), [("fail", "exists"), ("skip", "skipped"), ("rename", "stored")])
def test_conflicts(conflict: str, status: str) -> None:
    """What is in the way is left, skipped or stepped around, and the job goes on."""
    disk = MemoryDisk(conflict=conflict)
    disk.files[(b"a",)] = b"other content"
    pair = Pair(items({b"a": NOISE[: 2 * MIB], b"b": b"2"}), disk, seed=9).run()
    check_agreement(pair)
    assert results(pair) == {(b"a",): status, (b"b",): "stored"}
    assert disk.files[(b"a",)] == b"other content"


def test_again_is_identical() -> None:
    """The same tree again: nothing travels, everything is there, and no second copy is made."""
    disk = MemoryDisk()
    disk.files[(b"one",)] = b"in the way"
    Pair(items(TREE), disk, seed=1).run()
    before = dict(disk.files)
    pair = Pair(items(TREE), disk, seed=2).run()
    check_agreement(pair)
    assert disk.files == before
    assert {entry.status for entry in pair.client.resolved if not entry.folder} == {"identical"}
    assert not pair.client.reads
    assert pair.server.machine is not None
    assert pair.server.machine.received == 0


def test_a_finished_job_is_answered_with_its_receipt() -> None:
    """The client that lost the receipt asks again with the same job, and has it without sending anything."""
    disk, receipts = MemoryDisk(), {}
    first = Pair(items(SMALL), disk, receipts=receipts).run()
    unknowing = Pair(items(SMALL), disk, receipts=receipts).run()
    assert not unknowing.complete  # whoever has sent nothing believes no receipt
    again = Pair(items(SMALL), disk, receipts=receipts, concluded=first.client.machine.concluded).run()
    assert again.complete
    assert again.client.machine.repeated
    assert again.client.receipt == first.client.receipt
    assert again.client.machine.transcript.counts == first.client.machine.transcript.counts
    assert again.server.machine is None


def test_refused() -> None:
    """A refused offer is an error of the client alone; the connection is still good."""
    pair = Pair(items(SMALL), MemoryDisk(), refusal="busy").run()
    assert pair.client.error is not None
    assert pair.client.error.name == "busy"
    assert pair.server.session.stage is not Stage.CLOSED
    assert pair.server.machine is None


# -- resume ------------------------------------------------------------------------------------------------


@pytest.mark.case("C70")
@pytest.mark.parametrize("seed", range(6))
def test_resume_sends_only_what_is_not_durable(seed: int) -> None:
    """After a lost connection no durable block is sent again, and none that is known is read again."""
    disk, memory = MemoryDisk(), {}
    tree = {b"large": NOISE, b"second": NOISE[: 3 * MIB + 7]}
    draw = random.Random(seed)
    lost = Pair(
        items(tree), disk, seed=seed, cut="random", memory=memory, lose=("client", draw.randint(2 * MIB, 8 * MIB))
    )
    lost.run()
    assert not lost.server.concluded
    assert lost.client.receipt is None
    durable = {path: set(blocks) for (path, _, _), blocks in disk.partials.items()}
    known = {path: set(digests) for path, digests in memory.items()}
    assert durable or disk.files, "a lost connection leaves what it brought"
    pair = Pair(items(tree), disk, seed=seed + 100, memory=memory).run()
    check_agreement(pair)
    assert disk.files == flat(tree)
    for path, block, sent in pair.client.reads:
        if sent:
            assert block not in durable.get(path, ()), (path, block, pair.explain())
        else:
            assert block not in known[path], (path, block, pair.explain())


def test_resume_with_all_blocks_there() -> None:
    """Only the entry-end is missing: no content travels."""
    disk = MemoryDisk()
    file = File((b"large",), NOISE)
    disk.partials[(file.path, len(NOISE), file.mtime)] = {index: file.block(index) for index in range(5)}
    pair = Pair([file], disk, seed=1).run()
    check_agreement(pair)
    assert disk.files == {(b"large",): NOISE}
    assert pair.server.machine is not None
    assert pair.server.machine.received == 0


@pytest.mark.case("A22")
@pytest.mark.parametrize("seed", range(3))
def test_lost_again_and_again(seed: int) -> None:
    """A connection that is lost every few megabytes gets everything through in the end, without repeating itself."""
    disk, memory = MemoryDisk(), {}
    total = 0
    for attempt in range(40):
        pair = Pair(
            items(TREE), disk, seed=seed * 50 + attempt, cut="random", memory=memory, lose=("client", 3 * MIB)
        ).run()
        total += min(len(pair.client.sent), 3 * MIB)
        if pair.complete:
            break
    check_agreement(pair)
    assert disk.files == {path: content for path, content in flat(TREE).items() if content is not None}


# -- what fails --------------------------------------------------------------------------------------------

LARGE = (b"folder", b"5")
DISK_FAULTS = [
    ((b"one",), "look-up bad-name", {(b"one",): "bad-name"}),
    ((b"one",), "store no-space", {(b"one",): "no-space"}),
    (LARGE, "look-up no-space", {LARGE: "no-space"}),
    (LARGE, "write 0 storage-failed", {LARGE: "storage-failed"}),
    (LARGE, "write 2 no-space", {LARGE: "no-space"}),
    (LARGE, "write 4 no-space", {LARGE: "no-space"}),
    (LARGE, "sync storage-failed", {LARGE: "storage-failed"}),
    (LARGE, "publish exists", {LARGE: "exists"}),
    ((b"folder", b"nothing"), "look-up exists", {(b"folder", b"nothing"): "exists"}),
    ((b"folder", b"nothing"), "finish storage-failed", {(b"folder", b"nothing"): "storage-failed"}),
    (
        (b"folder", b"sub"),
        "look-up bad-name",
        {
            (b"folder", b"sub"): "bad-name",
            (b"folder", b"sub", b"page"): "bad-name",
            (b"folder", b"sub", b"zeros"): "bad-name",
        },
    ),
]


@pytest.mark.parametrize(("path", "fault", "failing"), DISK_FAULTS, ids=[f"{p[-1]!r} {f}" for p, f, _ in DISK_FAULTS])
@pytest.mark.parametrize("seed", range(3))
def test_a_disk_that_fails(path: tuple[bytes, ...], fault: str, failing: dict[Any, str], seed: int) -> None:
    """One entry fails, at whatever stage; the rest arrives, both ends agree, and a second run mends it."""
    disk, memory = MemoryDisk(faults={path: fault}), {}
    pair = Pair(items(TREE), disk, seed=seed, cut="random", memory=memory).run()
    check_agreement(pair)
    expected = dict.fromkeys(flat(TREE), "stored") | failing
    assert results(pair) == expected, pair.explain()
    assert not set(disk.files) & set(failing)
    disk.faults.clear()
    check_agreement(Pair(items(TREE), disk, seed=seed, memory=memory).run())
    assert disk.files == {path: content for path, content in flat(TREE).items() if content is not None}


SOURCE_FAULTS = [
    ((b"one",), {"fault": "open"}, "source-changed"),
    (LARGE, {"fault": "open"}, "source-vanished"),
    (LARGE, {"fault": "read 0"}, "source-changed"),
    (LARGE, {"fault": "read 3"}, "source-changed"),
    (LARGE, {"fault": "close"}, "source-changed"),
    (LARGE, {"lies": 1}, "digest-mismatch"),
    (LARGE, {"lies": 4}, "digest-mismatch"),
    ((b"one",), {"lies": 0}, "digest-mismatch"),
]


@pytest.mark.parametrize(
    ("path", "fields", "error"), SOURCE_FAULTS, ids=[f"{p[-1]!r} {f}" for p, f, _ in SOURCE_FAULTS]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_source_that_fails(path: tuple[bytes, ...], fields: dict[str, Any], error: str, seed: int) -> None:
    """One file cannot be read, changes, or is not what its digest says; everything else arrives."""
    disk = MemoryDisk()
    pair = Pair(items(TREE, {path: fields}), disk, seed=seed, cut="random").run()
    check_agreement(pair)
    assert results(pair) == dict.fromkeys(flat(TREE), "stored") | {path: error}, pair.explain()
    assert path not in disk.files
    if error == "source-changed":
        assert not disk.partials, "what was read of a file that changed is of no use"
    check_agreement(Pair(items(TREE), disk, seed=seed).run())
    assert disk.files[path] == flat(TREE)[path]


def test_many_files_fail_while_they_are_sent() -> None:
    """Draining and the windows do not get into each other's way."""
    tree = {b"%04d" % number: bytes([1]) * (MIB + 1) for number in range(40)}
    faults = {(name,): "write 0 no-space" for name in list(tree)[::2]}
    pair = Pair(items(tree), MemoryDisk(faults=faults), seed=4).run()
    check_agreement(pair)
    assert sorted(results(pair).values()) == ["no-space"] * 20 + ["stored"] * 20


# -- any tree, any order, any failure ----------------------------------------------------------------------

NAMES = st.sampled_from([b"a", b"b", b"b.txt", b"c", b"\xc3\xa9", b"%", b"~-._", b"Z"])
SIZES = st.sampled_from([0, 1, 100, 4096, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 5])
TREES = st.recursive(
    SIZES.map(lambda size: NOISE[:size]) | SIZES.map(bytes),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
STAGES = ["look-up", "store", "write 0", "write 1", "sync", "publish", "finish"]


@st.composite
def jobs(draw: st.DrawFn) -> tuple[dict[bytes, Any], dict[Any, str], dict[Any, dict[str, Any]]]:
    """A tree, faults of the disk, faults of the source."""
    tree = draw(st.dictionaries(NAMES, TREES, max_size=4))
    paths = sorted(flat(tree))
    disk: dict[Any, str] = {}
    source: dict[Any, dict[str, Any]] = {}
    if paths:
        for path in draw(st.lists(st.sampled_from(paths), max_size=3)):
            stage = draw(st.sampled_from(STAGES))
            disk[path] = f"{stage} {draw(st.sampled_from(['no-space', 'exists', 'storage-failed']))}"
        for path in draw(st.lists(st.sampled_from(paths), max_size=2)):
            source[path] = {"fault": draw(st.sampled_from(["open", "read 0", "read 1", "close"]))}
    return tree, disk, source


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(job=jobs(), seed=st.integers(0, 2**32), lose=st.none() | st.floats(0, 1))
def test_any_job(job: Any, seed: int, lose: float | None) -> None:
    """Both ends always agree; what is stored is the source's; what failed, and only that, is mended by a second run."""
    tree, faults, source = job
    expected = flat(tree)
    disk, memory = MemoryDisk(faults=faults), {}
    if lose is not None:
        weight = sum(len(content) for content in expected.values() if content) + 500
        Pair(
            items(tree, source), disk, seed=seed, cut="random", memory=memory, lose=("client", int(lose * weight))
        ).run()
    pair = Pair(items(tree, source), disk, seed=seed + 1, cut="random", memory=memory).run()
    check_agreement(pair)
    outcome = results(pair)
    assert set(outcome) == set(expected)
    for path, status in outcome.items():
        if expected[path] is not None:
            assert (disk.files.get(path) == expected[path]) == (status in ("stored", "identical")), pair.explain()
    disk.faults.clear()
    last = Pair(items(tree), disk, seed=seed + 2).run()
    check_agreement(last)
    assert disk.files == {path: content for path, content in expected.items() if content is not None}, last.explain()
    for path, status in outcome.items():
        if expected[path] is not None and status in ("stored", "identical"):
            assert results(last)[path] == "identical"


# -- a hostile network -------------------------------------------------------------------------------------


def recorded() -> Pair:
    """A small session, always the same."""
    pair = Pair(items(SMALL), MemoryDisk(), orderly=True).run()
    assert pair.complete, pair.explain()
    return pair


@pytest.mark.case("A22")
def test_cut_short_is_never_a_success() -> None:
    """Wherever the connection ends, without all of it neither a receipt is made nor one believed."""
    whole = recorded()
    end = whole.client.sent.rindex(messages.encode(messages.Goodbye()))
    for count in range(end):
        disk = MemoryDisk()
        pair = Pair(items(SMALL), disk, orderly=True, lose=("client", count)).run()
        assert not pair.server.concluded, count
        assert pair.client.receipt is None, count
        assert not pair.complete, count
        assert {end.error.name for end in (pair.client, pair.server) if end.error} <= {"peer-silent"}, count
    for count in range(len(whole.server.sent)):
        pair = Pair(items(SMALL), MemoryDisk(), orderly=True, lose=("server", count)).run()
        assert pair.client.receipt is None, count


#: This many bits are tried with all that time does, drawn with this seed; the test below tries every one without.
FLIPS, FLIP_SEED = 150, 20


def _flips() -> list[tuple[str, int]]:
    whole = recorded()
    every = [
        (name, bit)
        for name, sent in (("client", whole.client.sent), ("server", whole.server.sent))
        for bit in range(8 * len(sent))
    ]
    return random.Random(FLIP_SEED).sample(every, FLIPS)


def _describe(disk: MemoryDisk) -> Any:
    return disk.files, set(disk.folders)


@pytest.mark.case("A21")
def test_no_flipped_bit_is_believed() -> None:
    """One bit wrong, anywhere: an error of the vocabulary, a failed or lost job, or one that came out as it should.

    TLS keeps this from happening; it is here for what no TLS keeps out: a peer that says anything.
    """
    whole = recorded()
    good = _describe(whole.server.disk)
    ends = {"error": 0, "lost": 0, "same": 0}
    for flip in _flips():
        disk = MemoryDisk()
        pair = Pair(items(SMALL), disk, orderly=True, flip=flip).run()
        for end in (pair.client, pair.server):
            assert end.error is None or end.error.name in KINDS, flip
        if pair.complete:
            ends["same"] += 1
            statuses = {entry.status for entry in pair.client.resolved}
            assert _describe(disk) == good or "failed" in statuses, flip
            assert pair.client.receipt is not None
        else:
            ends["error" if pair.client.error or pair.server.error else "lost"] += 1
        assert set(disk.files.values()) <= set(good[0].values()), flip
    assert min(ends.values()) > 0, ends


class _Replay:
    """One end of a recorded session, which hears the frames of the other again, each when its time has come."""

    def __init__(self, who: str) -> None:
        self.who = who
        pair = Pair(items(SMALL), MemoryDisk(), orderly=True)
        heard = {"client": 0, "server": 0}
        while not (pair.client.session.over and pair.server.session.over):
            for name, origin, target in (("client", pair.client, pair.server), ("server", pair.server, pair.client)):
                self._settle(origin)
                while heard[name] < len(origin.frames):
                    target.arrive(origin.frames[heard[name]])
                    heard[name] += 1
                    self._settle(target)
        assert pair.complete, pair.explain()
        self.frames = list((pair.server if who == "client" else pair.client).frames)
        self.files = pair.server.disk.files
        self.bits = 8 * sum(map(len, self.frames))

    def hear(self, flip: int, end_after: int | None = None) -> Any:
        """The end, after all frames with this bit flipped, or after so many bytes."""
        pair = Pair(items(SMALL) if self.who == "client" else [], MemoryDisk(), orderly=True)
        end: Any = getattr(pair, self.who)
        self._settle(end)
        place = 0
        for frame in self.frames:
            data = bytearray(frame)
            if place <= flip // 8 < place + len(frame):
                data[flip // 8 - place] ^= 1 << flip % 8
            if end_after is not None:
                data = data[: max(0, end_after - place)]
            place += len(frame)
            end.arrive(bytes(data))
            self._settle(end)
        return end

    @staticmethod
    def _settle(end: Any) -> None:
        for _ in range(100):
            if not end.strands:
                return
            end.work(next(iter(end.strands)))
        raise AssertionError("it does not come to rest")


@pytest.mark.parametrize("who", ["client", "server"])
def test_A21_every_bit_of_a_session(who: str) -> None:
    """Each bit flipped, one after the other: what is stored was sent, and what is signed or believed is true."""
    replay = _Replay(who)
    good = set(replay.files.values())
    believed = 0
    for flip in range(replay.bits):
        end = replay.hear(flip)
        assert end.error is None or end.error.name in KINDS, flip
        if who == "server":
            assert set(end.disk.files.values()) <= good, flip
            believed += end.concluded
            # what a receipt is made for is here, whatever it is called
            assert not end.concluded or sorted(end.disk.files.values()) == sorted(replay.files.values()), flip
        else:
            believed += end.receipt is not None
    whole = replay.hear(-1)
    assert whole.concluded if who == "server" else whole.receipt is not None
    assert 0 < believed < replay.bits / 2, believed  # names, dates and figures of progress may be anything


@pytest.mark.parametrize("who", ["client", "server"])
def test_A22_every_end_of_a_session(who: str) -> None:
    """Cut after each byte: no receipt is made or believed before it is complete, and no half file is there."""
    replay = _Replay(who)
    good = set(replay.files.values())
    goodbye = len(replay.frames[-1])
    for length in range(replay.bits // 8 - (goodbye if who == "server" else 0)):
        end = replay.hear(-1, length)
        assert end.error is None, length
        if who == "server":
            assert set(end.disk.files.values()) <= good, length
            assert not end.concluded, length
        else:
            assert end.receipt is None, length
