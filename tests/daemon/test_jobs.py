"""Running jobs of one daemon: how they end, and how two of the same peer come to terms."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from support.bounded import bounded, until
from support.hostile import data, entry
from support.receiving_end import ReceivingEnd, small_buffers
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from ftx import limits
from ftx.errors import kind
from ftx.wire.events import Accepted, Done, Event, Failed, Offered
from ftx.wire.messages import FolderEntry, Manifest, Offer, Refuse

MiB = limits.MiB


@pytest_twisted.async_yield_fixture
async def end(reactor: Any, short_tmp: Path) -> AsyncIterator[ReceivingEnd]:
    """A receiving end."""
    made = ReceivingEnd(reactor, short_tmp)
    yield made
    await made.stop()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Every line that is logged."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def names_of(end: ReceivingEnd) -> list[str]:
    """The calls that jobs have made, by name."""
    return [name for name, _ in end.store.calls]


@bounded(30)
async def test_many_offers_do_not_end_a_long_job(end: ReceivingEnd) -> None:
    """A key that offers much more often than pings are allowed: its job that runs is not bothered to death."""
    source = end.folder / "long"
    source.write_bytes(os.urandom(2 * MiB + 1))
    end.store.hold("write_block")
    long = Deferred.fromCoroutine(end.send(source))
    await until(lambda: "write_block" in names_of(end))
    assert not end.connections[0].session.paused, "it reads, and so is asked whether it is alive"
    running = bytes.fromhex(end.jobs.list("active")[0].job)

    def offer_again_and_again() -> set[int]:
        with end.hostile() as other:
            other.greet()
            answers = set()
            for _ in range(15 * limits.IDLE_FRAMES_PER_SECOND):
                other.send(Offer(running, 0, [], None, None, None, None))
                answers.add(other.until(Refuse).number)
            return answers

    assert await deferToThread(offer_again_and_again) == {kind("busy").number}
    assert end.jobs.counts.active == 1
    end.store.release()
    last = await long
    assert isinstance(last, Done)
    assert last.exit == 0


@pytest.mark.parametrize("let_go", [True, False], ids=["in time", "too late"])
@bounded(30)
async def test_a_file_that_another_job_is_at(let_go: bool, end: ReceivingEnd) -> None:
    """It is waited for, up to CLAIM_WAIT and looked at every CLAIM_LOOK seconds; then `busy` ends the job."""
    source = end.folder / "shared"
    source.write_bytes(os.urandom(2 * MiB + 1))
    end.store.hold("publish")
    first = Deferred.fromCoroutine(end.send(source))
    await until(lambda: "publish" in names_of(end))
    second = Deferred.fromCoroutine(end.send(source, settings={"retries": 0}))
    await until(lambda: names_of(end).count("look_up") > 3)
    if let_go:
        end.store.release()
    last = await second
    end.store.release()
    if let_go:
        assert isinstance(last, Done)
        assert (last.files_identical, last.bytes_wire) == (1, 0)
    else:
        assert isinstance(last, Failed)
        assert (last.error.name, last.exit, last.resumable) == ("busy", 6, True)
        looked = names_of(end).count("look_up") - 1
        assert looked <= limits.CLAIM_WAIT / limits.CLAIM_LOOK + 2
    assert isinstance(await first, Done)
    assert not list(end.inbox_path.glob("shared (*"))


@pytest.mark.case("E93")
@bounded(30)
async def test_what_has_arrived_is_stored(end: ReceivingEnd) -> None:
    """The connection is lost while batches wait behind a slow one: all of them are stored, then comes the end."""
    source = end.folder / "many"
    source.mkdir()
    count = 3 * limits.DISK_BATCH
    for number in range(count):
        (source / f"{number:04}").write_bytes(b"content of %d" % number)
    size = sum(len(b"content of %d" % number) for number in range(count))
    end.store.hold("store_whole")
    sending = Deferred.fromCoroutine(end.send(source, settings={"retries": 0}))
    await until(lambda: end.jobs.received_so_far() == size)
    assert names_of(end).count("store_whole") <= 2
    end.cut()
    last = await sending
    assert isinstance(last, Failed)
    assert end.jobs.counts.active == 1, "its disk work is not over"
    end.store.release()
    await until(lambda: end.jobs.counts.active == 0)
    calls = names_of(end)
    assert calls[-1] == "close"
    assert calls.count("store_whole") >= 3
    assert len(list((end.inbox_path / "many").iterdir())) == count
    done = await end.send(source)
    assert isinstance(done, Done)
    assert (done.files_identical, done.bytes_wire) == (count, 0)
    # nothing of the first job ran after its end
    assert names_of(end)[len(calls)] == "look_up"


@pytest.mark.case("F107", "K171")
@bounded(30)
async def test_the_same_command_right_after_a_kill(reactor: Any, end: ReceivingEnd) -> None:
    """The client is gone, which nobody has read yet since the disk is slow: the next one takes over at once."""
    source = end.folder / "large"
    content = os.urandom(8 * MiB)
    source.write_bytes(content)
    status = source.stat()
    end.store.hold("write_block")

    def begin_and_die() -> None:
        with end.hostile(seconds=20) as first:
            first.job(entry(0, b"large", size=len(content), mtime=status.st_mtime_ns, mode=0o644))
            first.hurry(2)
            for block in range(8):
                first.send(data(0, block, content[block * MiB : (block + 1) * MiB]))

    await deferToThread(begin_and_die)
    await until(lambda: end.connections[0].session.paused)
    assert end.jobs.counts.active == 1
    heard: list[Event] = []
    ended: list[Any] = []
    again = Deferred.fromCoroutine(end.send(source, on_event=heard.append))
    again.addBoth(ended.append)
    await until(lambda: any(isinstance(event, Offered) for event in heard))
    await until(lambda: end.connections[0].over or bool(ended))
    assert not any(isinstance(event, Accepted) for event in heard), "the old one's disk work is waited for"
    end.store.release()
    await until(lambda: bool(ended))
    assert isinstance(ended[0], Done)
    assert ended[0].exit == 0
    assert ended[0].bytes_wire < len(content), "what the dead one had sent counts"
    assert (end.inbox_path / "large").read_bytes() == content


@bounded(60)
async def test_a_sender_that_never_reads(reactor: Any, short_tmp: Path) -> None:
    """Its answers are not piled up: it is not listened to while they wait, and is dead when they wait for too long."""
    clock = Clock()
    ticking = LoopingCall(lambda: clock.advance(0.005))
    ticking.start(0.005)
    end = ReceivingEnd(reactor, short_tmp, clock=clock)
    # A file that is known under another name is answered with that name: 4 KiB come back for 20 bytes.
    count, into = 800, [name * 250 for name in "abcdefghijklmno"]
    source, taken = short_tmp / "many", end.inbox_path.joinpath(*into, "many")
    for folder, content in ((source, b"new"), (taken, b"old")):
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number:04}").write_bytes(content)
            os.utime(folder / f"{number:04}", ns=(1, 1))
    first = await end.send(source, into="/".join(into))
    assert isinstance(first, Done)
    assert first.files == count
    await until(lambda: end.jobs.counts.active == 0)  # its sender has the receipt before it is closed
    before = len(end.store.calls)
    small_buffers(end)
    files = [entry(1 + number, b"many", b"%04d" % number, size=3) for number in range(count)]

    def looked_up() -> int:
        return sum(len(arguments[0]) for name, arguments in list(end.store.calls)[before:] if name == "look_up")

    def talk_and_never_listen() -> None:
        with end.hostile(seconds=20, receive_buffer=4096) as deaf:
            deaf.greet()
            deaf.offer(*map(os.fsencode, into))
            deaf.send(Manifest([FolderEntry(0, [b"many"])], False))
            for start in range(0, count, 20):
                deaf.send(Manifest(files[start : start + 20], False))
                while looked_up() < start and not heard_enough.wait(0.002):
                    pass
            heard_enough.wait(50)

    heard_enough = threading.Event()
    talking = deferToThread(talk_and_never_listen)
    try:
        # dozens of turns of this thread, the peer's and the disk's: 15 s where ten programs want each processor
        await until(lambda: end.connections[-1].session.paused or looked_up() > count, seconds=45)
        assert looked_up() < count, "it has not heard of all of them"
        assert end.jobs.counts.active == 1
        clock.advance(limits.SILENCE)
        await until(lambda: end.jobs.counts.active == 0)
        error = end.jobs.list(None)[-1].error
        assert error is not None
        assert error.name == "peer-silent"
    finally:
        heard_enough.set()
        await talking
        await end.stop()
        ticking.stop()


@bounded(30)
async def test_what_is_said_of_ended_jobs(end: ReceivingEnd, logged: list[str]) -> None:
    """Files that failed, were there already, or got another name: in the log, in the list, in the counts."""
    source = end.folder / "t"
    (source / "folder").mkdir(parents=True)
    (source / "note").write_bytes(b"one")
    (source / "folder" / "taken").write_bytes(b"x")
    first = await end.send(source)
    assert isinstance(first, Done)
    await until(lambda: end.jobs.counts.active == 0)  # its sender has the receipt before it is closed
    (source / "note").write_bytes(b"another")
    (source / "new").write_bytes(b"y" * 2000)
    end.store.hold("write_block")
    (source / "large").write_bytes(os.urandom(2 * MiB))
    sending = Deferred.fromCoroutine(end.send(source))
    await until(lambda: "write_block" in names_of(end))
    [active] = end.jobs.list("active")
    assert (active.ended, active.files_failed) == (None, 0)
    end.store.release("no-space")
    second = await sending
    assert isinstance(second, Done)
    await until(lambda: end.jobs.counts.active == 0)

    one, two = end.jobs.list("done")
    assert (one.files_done, one.files_failed) == (2, 0)
    assert (two.files_done, two.files_failed) == (4, 1)
    assert one.ended is not None
    assert two.ended is not None
    assert one.started < one.ended < active.started == two.started < two.ended
    counts = end.jobs.counts
    assert (counts.done, counts.partial, counts.failed) == (2, 1, 0)
    said = [line.partition(": ")[2] for line in logged if " in " in line]
    assert said[0].startswith("2 files in 2 folders, 4 B in ")
    assert said[1].startswith("3 files in 2 folders, 2.0 KiB in ")
    assert said[1].endswith(", 1 identical, 1 under another name, 1 failed")
