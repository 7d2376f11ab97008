"""The sender against receivers that break the rules, and what it reads when: whole jobs are in test_pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.pair import JOB, offer

from ftx import limits
from ftx.core import events
from ftx.core.blocks import BlockSet, block_digest, file_digest
from ftx.core.sender import Sender, SenderState
from ftx.errors import FtxError, ProtocolError
from ftx.wire import messages
from ftx.wire.messages import (
    Accept,
    EntryEnd,
    EntryFailed,
    Failed,
    Identical,
    Manifest,
    Needs,
    ProgressMessage,
    Receipt,
    ReceiptBody,
    Refuse,
    Results,
    Skipped,
    Stored,
    WantAll,
    WantGroup,
)

MIB = limits.BLOCK
BLOCK = block_digest([b"hello"])
SMALL = file_digest(5, [BLOCK])
LARGE = b"L" * 32
Step = messages.Message | Callable[[Sender], Any]

ACCEPT = Accept(JOB, 2048, 4096, 2, 0)


def play(*steps: Step, sender: Sender | None = None) -> tuple[Sender, list[events.Effect]]:
    """A sender after these steps, and what the last one led to."""
    sender = sender or Sender(offer())
    effects: list[events.Effect] = []
    for step in steps:
        effects = sender.receive(step) if isinstance(step, messages.Message) else step(sender)
    return sender, effects


def announce(*sizes: int) -> Step:
    """Files of these sizes, named by their numbers."""

    def add(sender: Sender) -> list[events.Effect]:
        found = []
        for number, size in enumerate(sizes):
            found += sender.add_file((b"%04d" % number,), size, 0, 0o644, f"source {number}")
        return found + sender.flush_manifest()

    return add


def folder(sender: Sender) -> list[events.Effect]:
    """A folder, number 0."""
    return sender.add_folder((b"folder",))[1]


def work(sender: Sender) -> Any:
    """The next work is handed out."""
    return sender.next_work()


def read(number: int) -> Step:
    """A file of one block was read and sent."""
    return lambda sender: sender.wholes_read([(number, SMALL)])


def opened(number: int, blocks: int, *known: int) -> Step:
    """A larger file is open."""

    def tell(sender: Sender) -> list[events.Effect]:
        found = BlockSet(blocks)
        for block in known:
            found.add(block)
        sender.opened(number, found)
        return []

    return tell


def ends(sender: Sender) -> list[events.Effect]:
    """No more entries."""
    return sender.end_manifest()


def all_of(number: int) -> Needs:
    """Asks for a whole file."""
    return Needs([WantAll(number)])


def group(number: int, bitmap: bytes, index: int = 0, *, last: bool = True) -> Needs:
    """Asks for a group."""
    return Needs([WantGroup(number, index, bitmap, last)])


ONE = (ACCEPT, announce(5))
SENT = (*ONE, all_of(0), work, read(0))
THREE = (ACCEPT, announce(3 * MIB))
MANY = (ACCEPT, announce((limits.GROUP + 3) * MIB))
EMPTY = (ACCEPT, ends)
FIRST_GROUP = group(0, bytes(1024), last=False)

#: Name: steps that are in order, the step that is not, and the error it must lead to.
HOSTILE: dict[str, tuple[tuple[Step, ...], messages.Message, str]] = {
    "another job accepted": ((), msgspec.structs.replace(ACCEPT, job=bytes(16)), "protocol-error"),
    "accepted twice": ((ACCEPT,), ACCEPT, "wrong-state"),
    "refused after all": ((ACCEPT,), Refuse(JOB, 605), "wrong-state"),
    "wants before the accept": ((), all_of(0), "wrong-state"),
    "results before the accept": ((), Results([Skipped(0)]), "wrong-state"),
    "progress before the accept": ((), ProgressMessage(0, 0, 0), "wrong-state"),
    "a receipt before the end": (ONE, Receipt(b"", bytes(64)), "wrong-state"),
    "wants after the end": (EMPTY, all_of(0), "wrong-state"),
    "results after the end": (EMPTY, Results([Skipped(0)]), "wrong-state"),
    # wants
    "wants nothing that is there": (ONE, all_of(1), "protocol-error"),
    "wants a folder": ((ACCEPT, folder), all_of(0), "protocol-error"),
    "wants a file twice": ((*ONE, all_of(0)), all_of(0), "protocol-error"),
    "wants a file twice at once": (ONE, Needs([WantAll(0), WantAll(0)]), "protocol-error"),
    "wants a file that has its result": ((*ONE, Results([Skipped(0)])), all_of(0), "protocol-error"),
    "wants a group of a small file": (ONE, group(0, b"\x01"), "protocol-error"),
    "wants all after a group": ((*MANY, group(0, bytes(1024), last=False)), all_of(0), "protocol-error"),
    "wants a group after all": ((*THREE, all_of(0)), group(0, b"\x07"), "protocol-error"),
    "wants the second group first": (MANY, group(0, b"\x07", 1), "protocol-error"),
    "wants a group twice": ((*MANY, FIRST_GROUP), FIRST_GROUP, "protocol-error"),
    "says too early that a group is the last": (MANY, group(0, bytes(1024)), "protocol-error"),
    "does not say that a group is the last": (THREE, group(0, b"\x07", last=False), "protocol-error"),
    "wants a group that does not exist": (THREE, group(0, b"\x07", 1), "protocol-error"),
    "wants a block that does not exist": (THREE, group(0, b"\x08"), "protocol-error"),
    "sends too long a bitmap": (THREE, group(0, b"\x07\x00"), "protocol-error"),
    "sends too short a bitmap": (MANY, group(0, bytes(1023), last=False), "protocol-error"),
    # results
    "a result of nothing": (ONE, Results([Skipped(1)]), "protocol-error"),
    "a result twice": (ONE, Results([Skipped(0), Skipped(0)]), "protocol-error"),
    "stored before it was asked for": (ONE, Results([Stored(0, SMALL, None)]), "protocol-error"),
    "stored before it was sent": ((*ONE, all_of(0)), Results([Stored(0, SMALL, None)]), "protocol-error"),
    "stored while it is read": ((*ONE, all_of(0), work), Results([Stored(0, SMALL, None)]), "protocol-error"),
    "stored before it was closed": (
        (*THREE, all_of(0), work, opened(0, 3), work, work, work),
        Results([Stored(0, LARGE, None)]),
        "protocol-error",
    ),
    "stored with another digest": (SENT, Results([Stored(0, BLOCK, None)]), "digest-mismatch"),
    "stored without a digest": (SENT, Results([Stored(0, b"", None)]), "digest-mismatch"),
    "stored what the sender gave up": (
        (*ONE, all_of(0), work, lambda sender: sender.source_failed(0, "source-changed")),
        Results([Stored(0, SMALL, None)]),
        "digest-mismatch",
    ),
    "identical though asked for": ((*ONE, all_of(0)), Results([Identical(0, SMALL, None)]), "protocol-error"),
    "identical though sent": (SENT, Results([Identical(0, SMALL, None)]), "protocol-error"),
    "skipped though asked for": ((*ONE, all_of(0)), Results([Skipped(0)]), "protocol-error"),
    "a folder skipped": ((ACCEPT, folder), Results([Skipped(0)]), "protocol-error"),
    "a folder identical": ((ACCEPT, folder), Results([Identical(0, LARGE, None)]), "protocol-error"),
    "a folder with a digest": ((ACCEPT, folder), Results([Stored(0, LARGE, None)]), "protocol-error"),
    "failed twice while it is read": (
        (*ONE, all_of(0), work, Results([Failed(0, 606)])),
        Results([Failed(0, 606)]),
        "protocol-error",
    ),
    # what only a sender says
    "totals": (ONE, messages.Totals(0, 0, 0), "wrong-state"),
    "an end of an entry": (ONE, EntryEnd(0, 5, SMALL), "wrong-state"),
    "a manifest": (ONE, Manifest([], True), "wrong-state"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_receiver(name: str) -> None:
    """Each step out of order is that error, and no other exception."""
    before, last, error = HOSTILE[name]
    sender, _ = play(*before)
    with pytest.raises(ProtocolError) as caught:
        play(last, sender=sender)
    assert caught.value.name == error


# -- the receipt -------------------------------------------------------------------------------------------


def receipt(**changed: Any) -> Receipt:
    """The right receipt of a job of one small file, stored; or one with some fields changed."""
    sender, _ = play(*SENT, Results([Stored(0, SMALL, None)]))
    body = ReceiptBody(JOB, b"C" * 32, b"S" * 32, 1, 2, 1, 0, 0, 0, 0, 5, 0, sender.transcript.digest())
    return Receipt(messages.encode_receipt_body(msgspec.structs.replace(body, **changed)), bytes(64))


COMPLETE = (*SENT, Results([Stored(0, SMALL, None)]), ends)


def test_the_receipt() -> None:
    """It is compared, its signature handed on to be verified, and then the job is done."""
    sender, effects = play(*COMPLETE)
    assert effects[-1] == events.Send(messages.End(1, 0, 5, sender.transcript.digest()))
    assert sender.state is SenderState.ENDING
    [verify] = sender.receive(receipt())
    assert verify == events.VerifyReceipt(receipt().body, bytes(64))
    sender.receipt_verified()
    assert sender.state is SenderState.DONE
    assert not sender.repeated
    with pytest.raises(ProtocolError):
        sender.receive(receipt())


@pytest.mark.parametrize(
    "changed",
    [
        {"job": bytes(16)},
        {"files": 2},
        {"identical": 1},
        {"skipped": 1},
        {"folders": 1},
        {"failed": 1},
        {"bytes": 6},
        {"transcript": bytes(32)},
        {"durability": 1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_receipt_that_differs(changed: dict[str, Any]) -> None:
    """Every sum, the transcript, the job and the promise of durability."""
    sender, _ = play(*COMPLETE)
    with pytest.raises(ProtocolError) as caught:
        sender.receive(receipt(**changed))
    assert caught.value.name == "protocol-error"


def test_a_receipt_that_is_none() -> None:
    """Bytes that are no body."""
    sender, _ = play(*COMPLETE)
    with pytest.raises(ProtocolError) as caught:
        sender.receive(Receipt(b"\x91", bytes(64)))
    assert caught.value.name == "bad-message"


def test_a_repeated_offer() -> None:
    """The receipt at once: only for a job whose end went out before, and only with that end's account."""
    concluded = play(*COMPLETE)[0].concluded
    sender, [verify] = play(receipt(), sender=Sender(offer(), concluded))
    assert isinstance(verify, events.VerifyReceipt)
    assert sender.repeated
    assert (sender.transcript.counts.files, sender.transcript.counts.bytes) == (1, 5)
    for wrong in (receipt(job=bytes(16)), receipt(transcript=bytes(32)), receipt(files=2)):
        with pytest.raises(ProtocolError):
            play(wrong, sender=Sender(offer(), concluded))
    with pytest.raises(ProtocolError):
        play(receipt())


@pytest.mark.parametrize(
    ("number", "name"), [(605, "busy"), (606, "no-space"), (699, "refused"), (505, "not-authorised")]
)
def test_refused(number: int, name: str) -> None:
    """The reason in our words."""
    with pytest.raises(FtxError) as caught:
        play(Refuse(JOB, number))
    assert caught.value.name == name
    assert not isinstance(caught.value, ProtocolError)


# -- windows and frames ------------------------------------------------------------------------------------


def test_room() -> None:
    """As many as both windows allow, at most a batch; nothing before the accept and after the end."""
    sender = Sender(offer())
    assert sender.room() == 0
    play(Accept(JOB, 3, 5, 2, 0), announce(5, 5), sender=sender)
    assert sender.room() == 1
    play(all_of(0), sender=sender)
    assert sender.room() == 2
    play(lambda s: s.add_folder((b"f",))[1], lambda s: s.add_folder((b"f", b"g"))[1], sender=sender)
    assert sender.room() == 1, "five may be without a result"
    play(Results([Skipped(1)]), sender=sender)
    assert sender.room() == 2
    play(ends, sender=sender)
    assert sender.room() == 0
    wide, _ = play(Accept(JOB, 65_535, 65_535, 2, 0))
    assert wide.room() == limits.BATCH


def test_frames_stay_within_their_bounds() -> None:
    """Long paths make more frames, not larger ones; the last is marked, and empty if it must be."""
    sender, _ = play(Accept(JOB, 65_535, 65_535, 2, 0))
    effects: list[events.Effect] = []
    above: tuple[bytes, ...] = (b"d" * 255,) * 15
    for depth in range(1, 16):
        effects += sender.add_folder(above[:depth])[1]
    for number in range(1500):
        effects += sender.add_file((*above, b"%05d" % number + b"n" * 250), 2**63 - 1, -(2**63), 0o777, None)
    for number in range(14, -1, -1):
        effects += sender.end_folder(number, 0o777, 2**63 - 1)
    effects += sender.flush_manifest()
    effects += sender.end_manifest()
    frames = [effect.message for effect in effects if isinstance(effect, events.Send)]
    assert all(isinstance(one, Manifest) and len(one.entries) <= limits.BATCH for one in frames)
    sizes = [len(messages.encode(one)) - 5 for one in frames]
    assert max(sizes) <= limits.FRAME_BATCH
    assert min(sizes[:-2]) > limits.FRAME_BATCH * 0.9, "and they are not small"
    assert [one.last for one in frames if isinstance(one, Manifest)] == [False] * (len(frames) - 1) + [True]
    assert sum(len(one.entries) for one in frames if isinstance(one, Manifest)) == 1530


class Found(msgspec.Struct, frozen=True):
    """A file as a walk has found it."""

    path: tuple[bytes, ...]
    size: int
    mtime_ns: int = -(2**63)
    mode: int = 0o777


@pytest.mark.parametrize("length", [0, 250])
def test_files_that_are_announced_together(length: int) -> None:
    """They are announced as one by one: the same frames, the same room, and each is its own source."""
    above: tuple[bytes, ...] = (b"d" * 255,) * 15
    depth = 16 if length else 1  # frames are full of bytes, or of entries
    files = [Found((*above[: number % depth], b"%05d" % number + b"n" * length), number) for number in range(1500)]
    one, effects = play(Accept(JOB, 65_535, 65_535, 2, 0))
    for file in files:
        effects += one.add_file(file.path, file.size, file.mtime_ns, file.mode, file)
    many, together = play(Accept(JOB, 65_535, 65_535, 2, 0))
    for start in range(0, 1500, 700):
        together += many.add_files(files[start : start + 700])
    assert together + many.end_manifest() == effects + one.end_manifest()
    assert many.sources(range(1500)) == one.sources(range(1500)) == list(enumerate(files))
    assert many.add_files([]) == []
    full, _ = play(ACCEPT, lambda sender: sender.add_files(files + files[:548]))
    assert full.room() == 0


def test_totals() -> None:
    """Sent when they are known, but not before the accept and not after the last manifest frame."""
    counted = messages.Totals(1, 2, 3)
    sender = Sender(offer())
    assert sender.counted(1, 2, 3) == []
    assert sender.receive(ACCEPT) == [events.Send(counted)]
    sender, _ = play(ACCEPT)
    assert sender.counted(1, 2, 3) == [events.Send(counted)]
    sender, _ = play(*ONE, ends)
    assert sender.counted(1, 2, 3) == []


# -- what it reads -----------------------------------------------------------------------------------------


def test_small_files_are_read_in_batches() -> None:
    """In the order of the wants, bounded in number and bytes."""
    sender, _ = play(ACCEPT, announce(*[5] * 400), Needs([WantAll(number) for number in reversed(range(400))]))
    first, second = sender.next_work(), sender.next_work()
    assert first == events.ReadWhole(list(range(399, 399 - limits.DISK_BATCH, -1)))
    assert second == events.ReadWhole(list(range(399 - limits.DISK_BATCH, -1, -1)))
    assert sender.next_work() is None
    assert sender.source(7) == "source 7"
    sender, _ = play(ACCEPT, announce(*[MIB - 1] * 4), Needs([WantAll(number) for number in range(4)]))
    assert [sender.next_work() for _ in range(5)] == [events.ReadWhole([number]) for number in range(4)] + [None]


def test_blocks_that_are_read() -> None:
    """Those asked for are sent; of the others only those whose digest is not remembered are read."""
    sender, _ = play(*THREE[:1], announce(4 * MIB, 5), group(0, b"\x09"), all_of(1))
    assert sender.next_work() == events.OpenEntry(0)
    assert sender.next_work() is None, "first it must be open"
    play(opened(0, 4, 1, 3), sender=sender)
    found = [sender.next_work() for _ in range(5)]
    assert found == [
        events.ReadBlock(0, 0, True),
        events.ReadBlock(0, 2, False),
        events.ReadBlock(0, 3, True),
        events.CloseEntry(0),
        None,
    ]
    assert sender.closed(0, LARGE) == [events.Send(EntryEnd(0, 4 * MIB, LARGE))]
    assert sender.next_work() == events.ReadWhole([1])


def test_a_source_that_fails_several_times() -> None:
    """Everything read ahead may report the same failure; the receiver is told once."""
    sender, _ = play(*THREE, all_of(0), work, opened(0, 3), work, work)
    assert sender.source_failed(0, "source-changed") == [events.Send(EntryFailed(0, 303))]
    assert sender.source_failed(0, "source-changed") == []
    assert sender.next_work() is None
    play(Results([Failed(0, 303)]), sender=sender)
    assert sender.source_failed(0, "source-changed") == []


def close(messages_: list[events.Effect]) -> list[messages.Message]:
    """What is sent."""
    return [effect.message for effect in messages_ if isinstance(effect, events.Send)]


def test_a_file_that_the_receiver_gives_up() -> None:
    """At every moment: it is closed exactly once if it was asked for, and never if it was not."""
    failed = Results([Failed(0, 606)])
    cancelled = [EntryFailed(0, 614)]
    # not asked for
    sender, effects = play(*ONE, failed)
    assert close(effects) == []
    # asked for, not begun
    sender, effects = play(*ONE, all_of(0), failed)
    assert close(effects) == cancelled
    assert sender.next_work() is None
    # being read: the read closes it
    sender, effects = play(*ONE, all_of(0), work, failed)
    assert close(effects) == []
    assert close(sender.wholes_read([(0, SMALL)])) == []
    assert sender.idle
    # being read, and the read fails
    sender, _ = play(*ONE, all_of(0), work, failed)
    assert close(sender.source_failed(0, "source-vanished")) == [EntryFailed(0, 304)]
    assert sender.idle
    # sent
    sender, effects = play(*SENT, failed)
    assert close(effects) == []
    assert sender.idle
    # a larger one, open: nothing more is read
    sender, effects = play(*THREE, all_of(0), work, opened(0, 3), work, failed)
    assert close(effects) == []
    assert sender.next_work() == events.CloseEntry(0, complete=False)
    assert sender.next_work() is None
    assert close(sender.closed(0, b"")) == cancelled
    assert sender.idle
    # while it is being opened
    sender, _ = play(*THREE, all_of(0), work, failed, opened(0, 3))
    assert sender.next_work() == events.CloseEntry(0, complete=False)
    # in the middle of its wants
    sender, effects = play(*MANY, group(0, bytes(1024), last=False), failed)
    assert close(effects) == []
    assert sender.idle


def test_the_end_waits_for_everything() -> None:
    """Every entry has its result, every file that was asked for is closed, the last manifest is out; then, once."""
    sender, effects = play(*ONE, all_of(0), work, ends, Results([Failed(0, 606)]))
    assert close(effects) == []
    sent = close(sender.wholes_read([(0, SMALL)]))
    assert sent == [messages.End(0, 0, 0, sender.transcript.digest())]
    assert sender.end_manifest() == []
    sender, effects = play(ACCEPT, announce(5, 5), ends, Results([Skipped(0), Failed(1, 607)]))
    assert len([one for one in close(effects) if isinstance(one, messages.End)]) == 1


def test_unknown_reasons() -> None:
    """In the transcript the number that came, for people one that is known."""
    _, [resolved, *_] = play(*ONE, Results([Failed(0, 699)]))
    assert isinstance(resolved, events.Resolved)
    assert resolved.error == 601
    assert resolved.line.startswith(b"failed-699 5 - ")


def test_results_in_one_frame_are_those_one_by_one() -> None:
    """Whatever follows what: the same is told, in the same order, and the account is the same."""
    results: list[Any] = [
        Stored(0, b"", [b"another folder"]),
        *(Identical(number, BLOCK, None) for number in (3, 4)),
        *(Stored(number, SMALL, None) for number in (1, 2)),
        Skipped(5),
        Stored(6, SMALL, [b"other"]),
        Failed(7, 601),
        Identical(8, BLOCK, [b"moved", b"\xff"]),
    ]
    told = []
    for frames in ([results], [[result] for result in results]):
        sender, _ = play(ACCEPT, folder, announce(*[5] * 8))
        for number in (1, 2, 6):
            play(all_of(number), work, read(number), sender=sender)
        heard: list[events.Resolved] = []
        for frame in frames:
            for effect in sender.receive(Results(frame)):
                heard += effect.each() if isinstance(effect, events.There) else [effect]  # type: ignore[list-item]
        told.append((heard, sender.transcript.counts, sender.transcript.digest(), sender.present, sender.idle))
    assert told[0] == told[1]
    heard, counts, _, present, idle = told[0]
    assert [entry.status for entry in heard] == [
        *("stored", "identical", "identical", "stored", "stored", "skipped", "stored", "failed", "identical")
    ]
    assert (counts.files, counts.identical, counts.folders, counts.failed, present, idle) == (6, 3, 1, 1, 15, True)


@pytest.mark.parametrize("wrong", [Stored(2, b"x" * 32, None), Identical(2, SMALL, None), Stored(9, SMALL, None)])
def test_one_wrong_result_among_many(wrong: Any) -> None:
    """It is found as it would be alone."""
    sender, _ = play(ACCEPT, announce(5, 5, 5), *(step for n in range(3) for step in (all_of(n), work, read(n))))
    with pytest.raises(ProtocolError):
        sender.receive(Results([Stored(0, SMALL, None), wrong, Stored(1, SMALL, None)]))
