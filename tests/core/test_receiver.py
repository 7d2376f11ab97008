"""The receiver against senders that break the rules, and its timing: what a whole job shows is in test_pair."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from support.pair import offer

from ftx import limits
from ftx.core import events
from ftx.core.blocks import BlockSet
from ftx.core.receiver import Receiver, ReceiverState
from ftx.errors import ProtocolError
from ftx.wire import messages
from ftx.wire.frames import Encoding, Piece
from ftx.wire.messages import EntryEnd, EntryFailed, FileEntry, FolderEnd, FolderEntry, Manifest, Totals

MIB = limits.BLOCK
DIGEST = bytes(32)
Step = messages.Message | Piece | Callable[[Receiver], Any]


def file(number: int, name: bytes, size: int = 5) -> FileEntry:
    """A file at the top."""
    return FileEntry(number, [name], size, 0, 0o644)


def piece(
    entry: int, block: int, size: int, *, last: bool = True, encoding: Encoding = Encoding.RAW, at: bytes = b"x"
) -> Piece:
    """Part of a block."""
    content = at * size
    return Piece(entry, block, encoding, [memoryview(content)] if size else [], size, DIGEST if last else None)


def want(number: int, held: BlockSet | None = None) -> Step:
    """The disk wants a file."""
    return lambda receiver: receiver.want(number, held, 0.0)


def held(blocks: int, *there: int) -> BlockSet:
    """Some blocks of a file."""
    found = BlockSet(blocks)
    for block in there:
        found.add(block)
    return found


def play(*steps: Step, receiver: Receiver | None = None) -> tuple[Receiver, list[events.Effect]]:
    """A receiver after these steps, and what the last one led to."""
    receiver = receiver or Receiver(offer(), 0.0)
    effects: list[events.Effect] = []
    for step in steps:
        if isinstance(step, Piece):
            effects = receiver.piece(step)
        elif isinstance(step, messages.Message):
            effects = receiver.receive(step, 0.0)
        else:
            effects = step(receiver) or []
    return receiver, effects


A = Manifest([file(0, b"a")], False)
FOLDER = Manifest([FolderEntry(0, [b"a"]), FolderEnd(0, 0, 0)], True)
ONE = (Manifest([file(0, b"a")], True), want(0))
LARGE = (Manifest([file(0, b"a", 3 * MIB)], True), want(0))
TWO = (Manifest([file(0, b"a", 3 * MIB), file(1, b"b", 3 * MIB)], True), want(0), want(1))
FILLED = (*LARGE, piece(0, 0, MIB), piece(0, 1, MIB), piece(0, 2, MIB))


def fail(number: int) -> Step:
    """The disk gives up."""
    return lambda receiver: receiver.failed(number, "no-space")


#: The right end of a job without entries.
NO_END = messages.End(0, 0, 0, Receiver(offer(), 0.0).transcript.digest())
#: Name: steps that are in order, the step that is not, and the error it must lead to.
HOSTILE: dict[str, tuple[tuple[Step, ...], Step, str]] = {
    # the manifest
    "an empty manifest frame that is not the last": ((), Manifest([], False), "bad-message"),
    "a manifest after the last": ((Manifest([], True),), Manifest([file(0, b"a")], False), "wrong-state"),
    "a second last manifest": ((Manifest([], True),), Manifest([], True), "wrong-state"),
    "an open folder at the end": ((), Manifest([FolderEntry(0, [b"a"])], True), "bad-message"),
    "a folder end too many": ((), Manifest([FolderEnd(0, 0, 0)], False), "bad-message"),
    "a name twice": ((), Manifest([file(0, b"a"), file(1, b"a")], False), "bad-message"),
    "a name twice, in two frames": ((A,), Manifest([file(1, b"a")], False), "bad-message"),
    "a number out of order": ((), Manifest([file(1, b"a")], False), "bad-message"),
    # content
    "content before the manifest": ((), piece(0, 0, 5), "protocol-error"),
    "content that was not asked for": ((Manifest([file(0, b"a")], True),), piece(0, 0, 5), "protocol-error"),
    "content of an entry that does not exist": (ONE, piece(7, 0, 5), "protocol-error"),
    "content of a folder": ((FOLDER,), piece(0, 0, 0), "protocol-error"),
    "content twice": ((*ONE, piece(0, 0, 5)), piece(0, 0, 5), "protocol-error"),
    "a block twice": ((*LARGE, piece(0, 1, MIB)), piece(0, 1, MIB), "protocol-error"),
    "a block that is there": ((LARGE[0], want(0, held(3, 1))), piece(0, 1, MIB), "protocol-error"),
    "a block that does not exist": (LARGE, piece(0, 3, 1), "protocol-error"),
    "a block far beyond": (LARGE, piece(0, 2**64 - 1, 1), "protocol-error"),
    "block 1 of a small file": (ONE, piece(0, 1, 5), "protocol-error"),
    "a block too short": (LARGE, piece(0, 0, MIB - 1), "protocol-error"),
    "a block too long": (LARGE, piece(0, 0, MIB + 1), "protocol-error"),
    "a block too long before its end": (LARGE, piece(0, 0, MIB + 1, last=False), "protocol-error"),
    "a small file too short": (ONE, piece(0, 0, 4), "protocol-error"),
    "a small file too long": (ONE, piece(0, 0, 6), "protocol-error"),
    "another block between pieces": ((*LARGE, piece(0, 0, 9, last=False)), piece(0, 1, MIB), "protocol-error"),
    "another file between pieces": ((*TWO, piece(0, 0, 9, last=False)), piece(1, 0, MIB), "protocol-error"),
    "a zero run behind a piece": (
        (*LARGE, piece(0, 0, 9, last=False)),
        piece(0, 0, 0, encoding=Encoding.ZERO),
        "protocol-error",
    ),
    "crumbs": (
        (*LARGE, *(piece(0, 0, 1, last=False) for _ in range(limits.BLOCK_PIECES))),
        piece(0, 0, 1, last=False),
        "protocol-error",
    ),
    "crumbs that came together": (
        LARGE,
        Piece(0, 0, Encoding.RAW, [memoryview(b"x")], 1, None, limits.BLOCK_PIECES + 1),
        "protocol-error",
    ),
    # closing
    "an end before all blocks": ((*LARGE, piece(0, 0, MIB)), EntryEnd(0, 3 * MIB, DIGEST), "protocol-error"),
    "an end within a block": (
        (LARGE[0], want(0, held(3, 1, 2)), piece(0, 0, 9, last=False)),
        EntryEnd(0, 3 * MIB, DIGEST),
        "protocol-error",
    ),
    "an end with another size": (FILLED, EntryEnd(0, 3 * MIB + 1, DIGEST), "protocol-error"),
    "an end twice": ((*FILLED, EntryEnd(0, 3 * MIB, DIGEST)), EntryEnd(0, 3 * MIB, DIGEST), "protocol-error"),
    "content after the end": ((*FILLED, EntryEnd(0, 3 * MIB, DIGEST)), piece(0, 0, MIB), "protocol-error"),
    "a failure after the end": ((*FILLED, EntryEnd(0, 3 * MIB, DIGEST)), EntryFailed(0, 303), "protocol-error"),
    "a failure twice": ((*LARGE, EntryFailed(0, 303)), EntryFailed(0, 303), "protocol-error"),
    "an end of a small file": (ONE, EntryEnd(0, 5, DIGEST), "protocol-error"),
    "an end of a small file that failed": ((*ONE, fail(0)), EntryEnd(0, 5, DIGEST), "protocol-error"),
    "a failure of a small file that is here": ((*ONE, piece(0, 0, 5)), EntryFailed(0, 303), "protocol-error"),
    "an end of a file that was not asked for": ((LARGE[0],), EntryEnd(0, 3 * MIB, DIGEST), "protocol-error"),
    "a failure of a file that was not asked for": ((LARGE[0],), EntryFailed(0, 303), "protocol-error"),
    "an end of nothing": ((), EntryEnd(0, 0, DIGEST), "protocol-error"),
    # what comes for a file that failed is dropped, but not without bounds
    "an end within a block of a file that failed": (
        (*LARGE, piece(0, 0, 9, last=False), fail(0)),
        EntryEnd(0, 3 * MIB, DIGEST),
        "protocol-error",
    ),
    "too long a block of a file that failed": ((*LARGE, fail(0)), piece(0, 0, MIB + 1), "protocol-error"),
    "no such block of a file that failed": ((*LARGE, fail(0)), piece(0, 3, 1), "protocol-error"),
    "content after a failed file was closed": (
        (*LARGE, fail(0), EntryFailed(0, 614)),
        piece(0, 0, MIB),
        "protocol-error",
    ),
    # the end of the job
    "an end while entries come": ((), messages.End(0, 0, 0, DIGEST), "wrong-state"),
    "an end with a wrong transcript": ((Manifest([], True),), messages.End(0, 0, 0, DIGEST), "protocol-error"),
    "an end with files without results": (ONE, NO_END, "protocol-error"),
    # what only a receiver says
    "an accept": ((), messages.Accept(bytes(16), 1, 1, 0, 0), "wrong-state"),
    "a receipt": ((), messages.Receipt(b"", bytes(64)), "wrong-state"),
    "results": ((), messages.Results([messages.Skipped(0)]), "wrong-state"),
    "an offer": ((), offer(), "wrong-state"),
}  # fmt: skip


@pytest.mark.case("C65")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_sender(name: str) -> None:
    """Each step out of order is that error, and no other exception."""
    before, last, error = HOSTILE[name]
    receiver, _ = play(*before)
    with pytest.raises(ProtocolError) as caught:
        play(last, receiver=receiver)
    assert caught.value.name == error


@pytest.mark.parametrize(
    "message", [NO_END, Totals(0, 0, 0), Manifest([], True), EntryFailed(0, 303)], ids=lambda m: type(m).__name__
)
def test_nothing_after_the_end(message: messages.Message) -> None:
    """Once the receipt is being made, nothing may come."""
    receiver, effects = play(Manifest([], True), NO_END)
    assert [type(effect) for effect in effects] == [events.Conclude]
    assert receiver.state is ReceiverState.CONCLUDING
    with pytest.raises(ProtocolError, match="concluding"):
        play(message, receiver=receiver)
    with pytest.raises(ProtocolError, match="concluding"):
        play(piece(0, 0, 5), receiver=receiver)


@pytest.mark.parametrize("wrong", [{"files": 1}, {"folders": 1}, {"bytes": 1}, {"transcript": b"x" * 32}])
def test_an_account_that_differs(wrong: dict[str, Any]) -> None:
    """All four sums are compared."""
    fields = {"files": 0, "folders": 0, "bytes": 0, "transcript": NO_END.transcript} | wrong
    receiver, _ = play(Manifest([], True))
    with pytest.raises(ProtocolError, match="account"):
        play(messages.End(**fields), receiver=receiver)


# -- windows and ceilings ----------------------------------------------------------------------------------


def announce(receiver: Receiver, first: int, count: int) -> list[events.Effect]:
    """More files, in frames of 512."""
    effects: list[events.Effect] = []
    for start in range(first, first + count, limits.BATCH):
        numbers = range(start, min(start + limits.BATCH, first + count))
        effects += receiver.receive(Manifest([file(n, b"%06d" % n) for n in numbers], False), 0.0)
    return effects


def test_the_window_of_unanswered_files() -> None:
    """2,048 may be without an answer, one more may not."""
    receiver = Receiver(offer(), 0.0)
    announce(receiver, 0, limits.WINDOW_UNANSWERED)
    receiver.want(0, None, 0.0)
    announce(receiver, limits.WINDOW_UNANSWERED, 1)
    with pytest.raises(ProtocolError, match="window"):
        announce(receiver, limits.WINDOW_UNANSWERED + 1, 1)


def test_the_window_of_unacknowledged_entries() -> None:
    """4,096 may be without a result, folders counted, files that failed and are not closed not counted."""
    receiver = Receiver(offer(), 0.0)
    for start in range(0, limits.WINDOW_UNACKNOWLEDGED, 1024):
        announce(receiver, start, 1024)
        for number in range(start, start + 1024):
            receiver.want(number, None, 0.0)
    receiver.failed(0, "no-space")
    more = limits.WINDOW_UNACKNOWLEDGED
    receiver.receive(Manifest([FolderEntry(more, [b"x"])], False), 0.0)
    with pytest.raises(ProtocolError, match="window"):
        receiver.receive(Manifest([FolderEntry(more + 1, [b"x", b"y"])], False), 0.0)


def test_failed_files_that_are_never_closed() -> None:
    """A sender that leaves them open does not make us remember more and more."""
    receiver = Receiver(offer(), 0.0)

    def one_after_the_other() -> None:
        for number in range(2 * limits.WINDOW_UNACKNOWLEDGED):
            receiver.receive(Manifest([file(number, b"%06d" % number)], False), 0.0)
            receiver.want(number, None, 0.0)
            receiver.failed(number, "no-space")

    with pytest.raises(ProtocolError, match="close"):
        one_after_the_other()


@pytest.mark.parametrize(
    ("ceiling", "entries"),
    [
        ((1, None, None), [file(0, b"a"), file(1, b"b")]),
        ((None, 0, None), [FolderEntry(0, [b"a"])]),
        ((None, None, 9), [file(0, b"a"), file(1, b"b")]),
        ((0, 0, 0), [file(0, b"a", 0)]),
        ((None, None, 2**63 - 1), [file(0, b"a", 2**63 - 1), file(1, b"b", 1)]),
    ],
)
def test_over_the_offer(ceiling: tuple[Any, ...], entries: list[Any]) -> None:
    """What the offer named is a ceiling; at it all is well."""
    bounded = messages.Offer(bytes(16), 0, [], None, *ceiling)
    with pytest.raises(ProtocolError) as caught:
        play(Manifest(entries, False), receiver=Receiver(bounded, 0.0))
    assert caught.value.name == "over-offer"
    exact = messages.Offer(bytes(16), 0, [], None, 2, 0, 10)
    play(Manifest([file(0, b"a"), file(1, b"b")], True), receiver=Receiver(exact, 0.0))


# -- what it asks of the disk ------------------------------------------------------------------------------


def test_a_small_file() -> None:
    """Looked up, wanted, stored, and its result told, with the owner told too."""
    receiver, effects = play(Manifest([file(0, b"a")], True))
    assert effects == [events.LookUp([file(0, b"a")])]
    receiver.want(0, None, 0.0)
    assert receiver.flush(0.0) == [events.Send(messages.Needs([messages.WantAll(0)]))]
    [store] = receiver.piece(piece(0, 0, 3, last=False)) + receiver.piece(piece(0, 0, 2))
    assert isinstance(store, events.StoreWhole)
    assert (store.number, b"".join(store.chunks), store.length, store.digest) == (0, b"xxxxx", 5, DIGEST)
    [there] = receiver.stored([(0, (b"a (1)",), DIGEST)])
    assert isinstance(there, events.There)
    [resolved] = there.each()
    assert (resolved.status, resolved.stored_as) == ("stored", (b"a (1)",))
    [sent, progress] = receiver.flush(10.0)
    assert sent == events.Send(messages.Results([messages.Stored(0, DIGEST, [b"a (1)"])]))
    assert progress == events.Send(messages.ProgressMessage(5, 5, 0))


def test_many_are_wanted_as_each_would_be() -> None:
    """Small and large ones, together or one by one: the same is asked for, and the window is as free as then."""
    sizes = [5, 0, MIB, MIB + 1, 3 * MIB]
    files = [file(number, b"%d" % number, size) for number, size in enumerate(sizes)]
    asked = []
    for together in (True, False):
        receiver, _ = play(Manifest(list(files), False))
        if together:
            assert receiver.want_all(range(len(files)), 1.0) == []
        else:
            assert [receiver.want(number, None, 1.0) for number in range(len(files))] == [[]] * len(files)
        asked.append(receiver.flush(1.0))
        assert [one.missing and one.missing.count for one in receiver._files.values()] == [None, None, None, 2, 3]
        count = limits.WINDOW_UNANSWERED
        more = [file(number, b"z%05d" % number) for number in range(len(files), len(files) + count)]
        for start in range(0, count, limits.BATCH):
            receiver.receive(Manifest(more[start : start + limits.BATCH], False), 2.0)
    assert asked[0] == asked[1]
    receiver = Receiver(offer(kind=2), 0.0, features={"dry-run"})
    receiver.receive(Manifest(list(files), False), 0.0)
    assert len(receiver.want_all(range(len(files)), 1.0)) == len(files)


def test_a_small_file_of_zeros() -> None:
    """A zero run of a file of one block is its zeros."""
    _, [store] = play(*ONE, piece(0, 0, 0, encoding=Encoding.ZERO))
    assert isinstance(store, events.StoreWhole)
    assert b"".join(store.chunks) == bytes(5)


def test_groups_of_a_resumed_file() -> None:
    """Every group, in order, the last marked, in frames within their bound; bits of what is missing."""
    blocks = 70 * limits.GROUP + 3
    receiver = Receiver(offer(), 0.0)
    receiver.receive(Manifest([file(0, b"a", blocks * MIB)], True), 0.0)
    receiver.want(0, held(blocks, 0, limits.GROUP + 1), 0.0)
    wants: list[Any] = []
    for effect in receiver.flush(0.0):
        assert isinstance(effect, events.Send)
        assert len(messages.encode(effect.message)) <= limits.FRAME_BATCH
        if isinstance(effect.message, messages.Needs):
            wants += effect.message.wants
    assert [want.group for want in wants] == list(range(71))
    assert [want.last for want in wants] == [False] * 70 + [True]
    assert wants[0].bitmap == b"\xfe" + b"\xff" * 1023
    assert wants[1].bitmap == b"\xfd" + b"\xff" * 1023
    assert wants[70].bitmap == b"\x07"


def test_syncs() -> None:
    """A sync when enough is unsynced or the last is long ago; one at a time; none while nothing is new."""
    receiver, [write] = play(*LARGE, piece(0, 0, MIB))
    assert isinstance(write, events.WriteBlock)
    assert receiver.block_written(0, 0, True, 0.5) == []
    assert events.Sync(0) in receiver.tick(limits.SYNC_INTERVAL)
    assert events.Sync(0) not in receiver.tick(5.0), "one is under way"
    receiver.synced(0, MIB, 5.0)
    assert (receiver.verified, receiver.durable) == (MIB, MIB)
    assert events.Sync(0) not in receiver.tick(60.0), "nothing is new"
    many = limits.SYNC_BYTES // MIB
    receiver = Receiver(offer(), 0.0)
    play(Manifest([file(0, b"a", 100 * MIB)], True), want(0), receiver=receiver)
    for block in range(many):
        receiver.piece(piece(0, block, MIB))
        effects = receiver.block_written(0, block, True, 0.1)
        assert effects == ([events.Sync(0)] if block == many - 1 else [])


def test_publishing_waits_for_writes_and_syncs() -> None:
    """The file digest is compared when every block is on its way to being durable, and not before."""
    receiver, _ = play(*FILLED, EntryEnd(0, 3 * MIB, DIGEST))
    assert receiver.block_written(0, 2, True, 0.0) == []
    assert receiver.block_written(0, 0, True, 5.0) == [events.Sync(0)]
    assert receiver.block_written(0, 1, True, 5.0) == []
    assert receiver.synced(0, 2 * MIB, 5.0) == [events.Publish(0, DIGEST)]
    assert receiver.tick(99.0) != [events.Publish(0, DIGEST)], "once"


def test_a_failure_takes_back_what_was_counted() -> None:
    """Progress never counts what is lost; and late outcomes of the disk change nothing."""
    receiver, _ = play(LARGE[0], want(0, held(3, 2)), piece(0, 0, MIB), piece(0, 1, MIB))
    receiver.block_written(0, 0, True, 0.0)
    assert (receiver.verified, receiver.durable) == (2 * MIB, MIB)
    effects = receiver.block_written(0, 1, False, 0.0)
    assert effects[0] == events.Discard(0, True)
    assert (receiver.verified, receiver.durable) == (0, 0)
    assert receiver.block_written(0, 1, True, 0.0) == []
    assert receiver.synced(0, 3 * MIB, 0.0) == []
    assert receiver.failed(0, "no-space") == []
    assert play(EntryEnd(0, 3 * MIB, DIGEST), receiver=receiver)[1] == [], "it was on its way already"
    counts = receiver.transcript.counts
    play(
        lambda r: r.flush(0.0),
        messages.End(0, 0, 0, receiver.transcript.digest()),
        receiver=receiver,
    )
    assert (counts.failed, counts.files) == (1, 0)


@pytest.mark.parametrize(("number", "keep"), [(303, False), (302, True), (304, True), (399, True), (20_000, True)])
def test_a_source_that_fails(number: int, keep: bool) -> None:
    """What came of a file that changed is of no use, of others it may be. Unknown numbers keep a family."""
    receiver, effects = play(*LARGE, piece(0, 0, MIB), EntryFailed(0, number))
    assert effects[0] == events.Discard(0, keep)
    [resolved] = effects[1:]
    assert isinstance(resolved, events.Resolved)
    assert resolved.error == {399: 301, 20_000: 306}.get(number, number)
    result = messages.Results([messages.Failed(0, resolved.error)])
    assert receiver.flush(0.0) == [events.Send(messages.Needs([messages.WantAll(0)])), events.Send(result)]


def test_progress_is_neither_rare_nor_frequent() -> None:
    """At least once a second while something is not durable, at most four times a second, and not when all is said."""
    receiver, _ = play(*FILLED)
    sent = []
    for step in range(40):
        now = 0.1 * step
        if step < 3:
            receiver.block_written(0, step, True, now)
        sent += [now for e in receiver.tick(now) if isinstance(e, events.Send) and "Progress" in str(type(e.message))]
    for before, after in itertools.pairwise(sent):
        assert limits.PROGRESS_FASTEST <= after - before <= limits.PROGRESS_SLOWEST + 0.11
    assert sent[0] < 0.5
    assert sent[-1] > 2.9
    receiver, _ = play(Manifest([], True))
    assert receiver.tick(100.0) == []


def test_a_folder_that_cannot_be_made() -> None:
    """It fails at once; what is in it fails by itself; the folder above is finished without it."""
    entries = [FolderEntry(0, [b"a"]), FolderEntry(1, [b"a", b"b"]), FileEntry(2, [b"a", b"b", b"c"], 5, 0, 0)]
    receiver, _ = play(Manifest(entries, False))
    assert receiver.made(0) == []
    assert [type(e) for e in receiver.refuse(1, "exists")] == [events.Resolved]
    assert [type(e) for e in receiver.refuse(2, "exists")] == [events.Resolved]
    _, effects = play(Manifest([FolderEnd(1, 0, 0), FolderEnd(0, 0o700, 9)], True), receiver=receiver)
    assert effects == [events.FinishFolder(0, 0o700, 9)]


def test_zero_runs_take_no_memory() -> None:
    """A file of one block that is a zero run costs its sender a few bytes, and us no more: not a block for each."""
    count = 1000
    receiver, _ = play(Manifest([file(number, b"%04d" % number, MIB) for number in range(count)], True))
    for number in range(count):
        receiver.want(number, None, 0.0)
    run = memoryview(b"")
    tracemalloc.start()
    try:
        effects = [
            effect
            for number in range(count)
            for effect in receiver.piece(Piece(number, 0, Encoding.ZERO, [run], 0, DIGEST))
            if isinstance(effect, events.StoreWhole)
        ]
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()
    assert len(effects) == count
    assert all(b"".join(effect.chunks) == bytes(MIB) for effect in effects[::100])
